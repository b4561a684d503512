//! One scripted scenario, played to the embedded system and to the distributed one: what clients are told is the same, but for
//! ids, times, scores and positions.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    distributed::{PASSWORD, System},
    files::pdf,
    support::{Client, Reply, Server},
};

/// Fields whose values differ from run to run.
const VARIES: &[&str] = &[
    "id",
    "chunk_id",
    "document_id",
    "session_id",
    "message_id",
    "reply_id",
    "tool_call_id",
    "next",
    "plan_id",
    "user_id",
    "request_id",
    "score",
    "created_at",
    "uploaded_at",
    "processed_at",
    "last_activity",
    "execution_time",
    "processing_time",
    "access_token",
    "refresh_token",
    "timestamp",
    "parent_chunk_id",
    "began_at",
    "ended_at",
    "duration",
    "position",
    "published_at",
    "seconds",
];

/// What was answered, with what varies left out: that it is there stays.
fn told(name: &str, reply: &Reply) -> Value {
    let mut body = reply.body.clone();
    blur(&mut body);
    json!({ "step": name, "status": reply.status, "position": reply.position.is_some(), "body": body })
}

fn blur(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if VARIES.contains(&name.as_str()) && !value.is_null() {
                    *value = json!("…");
                } else {
                    blur(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blur),
        _ => {}
    }
}

/// The scenario: each step's answer.
async fn play(url: &str) -> Vec<Value> {
    let admin = Client::login(url, "admin", PASSWORD).await;
    let stranger = Client::new(url, "");
    let mut script = vec![];
    let mut step = |name: &str, reply: reqwest::Result<Reply>| -> Reply {
        let reply = reply.expect("an answer");
        script.push(told(name, &reply));
        reply
    };

    step("no token", stranger.get("/api/v1/documents").await);
    step(
        "a wrong password",
        stranger.post("/auth/login", &json!({ "username": "admin", "password": "no" }), None).await,
    );
    step("no such route", admin.get("/api/v1/nothing").await);
    let user = json!({ "username": "ada", "email": "ada@example.org", "password": "a long enough password" });
    step("a user", admin.post("/admin/users", &user, None).await);
    step("the same user", admin.post("/admin/users", &user, None).await);
    let ada = Client::login(url, "ada", "a long enough password").await;

    let tides = "Spring tides come twice a month, at the new and at the full moon.\n";
    let bees = "# Bees\n\n## Dance\n\nHoneybees tell each other where flowers are by a waggle dance on the comb.\n";
    let manual = pdf(&["The workshop opens at eight.", "To return a drill, bring the receipt to the counter."]);
    let uploaded = step("a text", ada.upload("tides.txt", tides.into(), Some("one")).await);
    step("a retry", ada.upload("tides.txt", tides.into(), Some("one")).await);
    step("a twin", ada.upload("tides-again.txt", tides.into(), None).await);
    step("the key of another body", ada.upload("bees.md", bees.into(), Some("one")).await);
    step("markdown", ada.upload("bees.md", bees.into(), None).await);
    step("a PDF", ada.upload("manual.pdf", manual, None).await);
    step("an empty file", ada.upload("empty.txt", vec![], None).await);
    let document = format!("/api/v1/documents/{}", uploaded.body["document_id"].as_str().expect("an id"));
    step("a document", ada.get(&document).await);
    step("somebody else's document", admin.get(&document).await);
    step("the documents", ada.get("/api/v1/documents").await);

    let search = "/api/v1/documents/search";
    for (name, body) in [
        ("a search", json!({ "query": "spring tides moon", "search_type": "keyword" })),
        ("a search for a phrase", json!({ "query": "\"waggle dance\"", "search_type": "keyword", "max_results": 3 })),
        (
            "a search among files",
            json!({ "query": "receipt", "search_type": "keyword", "filters": { "filename": "manual.pdf" } }),
        ),
        (
            "a search below a heading",
            json!({ "query": "dance", "search_type": "keyword", "filters": { "section": "Bees > Dance", "chunk_type": "prose" } }),
        ),
        (
            "a search of a time",
            json!({ "query": "tides", "search_type": "keyword", "filters": { "created": { "before": "2020-01-01" } } }),
        ),
        ("a search that makes no sense of pages", json!({ "query": "x", "filters": { "page": { "from": 0 } } })),
        ("a search for nothing", json!({ "query": "zeppelin", "search_type": "keyword" })),
        ("a search that makes no sense", json!({ "query": "x", "search_type": "clairvoyance" })),
    ] {
        step(name, ada.post(search, &body, None).await);
    }
    step(
        "somebody else's search",
        admin.post(search, &json!({ "query": "tides", "search_type": "keyword" }), None).await,
    );

    step("its passages", ada.get(&format!("{document}/chunks")).await);
    step("no such passage", ada.get(&format!("{document}/chunks/7")).await);
    step("its way", ada.get(&format!("{document}/trace")).await);
    step("somebody else's way", admin.get(&format!("{document}/trace")).await);

    let said = step("a question", ada.chat(None, "When do spring tides come?", Some("q")).await);
    step("its retry", ada.chat(None, "When do spring tides come?", Some("q")).await);
    let session = said.body["session_id"].as_str().expect("a session").to_owned();
    step("another question", ada.chat(Some(&session), "How do I return a drill?", None).await);
    step("what nobody knows", ada.chat(Some(&session), "Who won the zeppelin regatta?", None).await);
    step("somebody else's session", admin.chat(Some(&session), "Hello?", None).await);
    let messages = ada.request(Method::GET, &format!("/api/v1/sessions/{session}/messages"));
    step("the messages", ada.send(messages).await);

    step("the tools", ada.get("/api/v1/tools").await);
    let sum = json!({ "parameters": { "expression": "6 * 7" } });
    step("a tool", ada.post("/api/v1/tools/calculator/execute", &sum, None).await);
    step(
        "a tool that fails",
        ada.post("/api/v1/tools/calculator/execute", &json!({ "parameters": { "expression": "6 *" } }), None).await,
    );
    step("no such tool", ada.post("/api/v1/tools/oracle/execute", &json!({ "parameters": {} }), None).await);

    step("a deletion", ada.send(ada.request(Method::DELETE, &document)).await);
    step("what was deleted", ada.get(&document).await);
    step(
        "a search for it",
        ada.post(search, &json!({ "query": "spring tides moon", "search_type": "keyword" }), None).await,
    );
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_and_distributed_say_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let alone = Server::start_with(&folder.path().join("data"), &[("LMAO_ADMIN_PASSWORD", PASSWORD)]).await;
    let embedded = play(&alone.url).await;
    let system = System::new();
    let worker = system.node("worker", "worker").await;
    let projector = system.node("projector", "projector").await;
    let gateway = system.node("gateway", "gateway").await;
    system.admin(&gateway).await;
    let distributed = play(&gateway.url).await;
    let differ: Vec<String> = embedded
        .iter()
        .zip(&distributed)
        .filter(|(one, other)| one != other)
        .map(|(one, other)| format!("embedded:    {one}\ndistributed: {other}"))
        .collect();
    assert!(differ.is_empty(), "{} of {} answers differ:\n{}", differ.len(), embedded.len(), differ.join("\n"));
    for node in [gateway, worker, projector, alone] {
        assert!(node.sigterm().await.success());
    }
}
