//! The main job as users have it: real files go in, by the command line or over HTTP; questions are asked; answers come with
//! their right sources, and all of it outlives the process.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use futures::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    files::pdf,
    support::{Client, Server, lmao, lmao_json},
};

const SEARCH: &str = "/api/v1/documents/search";
const MODEL_PATIENCE: Duration = Duration::from_secs(300);
const FRAME_PATIENCE: Duration = Duration::from_secs(60);

/// A server with the embedding model; `None`, said aloud, where none can be had.
pub(crate) async fn start_with_model(test: &str, data: &Path) -> Option<Server> {
    let server = Server::start_with(data, &[("LMAO_MODELS", "auto")]).await;
    let anybody = Client::new(&server.url, "");
    let begun = Instant::now();
    loop {
        let health = anybody.get("/health").await.expect("an answer").body;
        let parts = health["components"].as_array().expect("parts");
        let leg = parts.iter().find(|part| part["name"] == "semantic_leg").expect("it is listed");
        match leg["state"].as_str() {
            Some("ok") => return Some(server),
            Some("starting") => tokio::time::sleep(Duration::from_millis(100)).await,
            _ => {
                println!("left out: {test}: no embedding model can be had: {}", leg["message"]);
                return None;
            }
        }
        assert!(begun.elapsed() < MODEL_PATIENCE, "the model is neither loaded nor given up: {leg}");
    }
}

/// A small library of one file of each kind, each on a matter of its own.
fn library(folder: &Path) {
    // Pages that fill passages of their own.
    let page = |number: usize, last: &str| {
        let drill = |n: usize| format!("Drill {n} of room {number} is lent to members for {} days.\n", n * 3);
        (1..45).map(drill).chain([last.to_owned()]).collect::<String>()
    };
    let manual = pdf(&[
        &page(1, "The workshop opens at eight and closes at five."),
        &page(2, "To return a drill, bring the receipt to the counter within thirty days."),
        &page(3, "Batteries are recycled in the yellow bin behind the shed."),
    ]);
    let html = "<html><head><title>Bees</title></head><body><nav>Home</nav><h1>Bees</h1><p>Honeybees tell each other \
                where flowers are by a waggle dance on the comb.</p></body></html>";
    let markdown = "# Sourdough\n\n## Feeding\n\nThe starter is fed with rye flour every twelve hours.\n\n## Baking\n\n\
                    Bake the loaf at 230 degrees until the crust crackles.\n";
    let code = "/// Converts a temperature from Celsius to Fahrenheit.\npub fn fahrenheit(celsius: f64) -> f64 {\n    \
                celsius * 9.0 / 5.0 + 32.0\n}\n";
    fs::create_dir_all(folder.join("deeper")).expect("folders can be made");
    let files: [(&str, &[u8]); 5] = [
        ("manual.pdf", &manual),
        ("bees.html", html.as_bytes()),
        ("deeper/sourdough.md", markdown.as_bytes()),
        ("deeper/convert.rs", code.as_bytes()),
        ("tides.txt", b"Spring tides come twice a month, at the new and at the full moon.\n"),
    ];
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("files can be written");
    }
}

/// The first citation of an answer: its file and its page or section.
fn source(metadata: &Value) -> (String, Value, Value) {
    let first = &metadata["citations"][0];
    let file = first["filename"].as_str().unwrap_or_else(|| panic!("nothing is cited: {metadata}"));
    let name = Path::new(file).file_name().expect("a name").to_string_lossy().into_owned();
    (name, first["page_number"].clone(), first["section"].clone())
}

#[test]
fn the_command_line_does_it_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, files) = (folder.path().join("data"), folder.path().join("library"));
    library(&files);
    let path = files.to_str().expect("UTF-8");

    let taken = lmao_json(&data, &["ingest", path], "off");
    assert_eq!((&taken["ready"], &taken["duplicate"], &taken["failed"]), (&json!(5), &json!(0), &json!([])), "{taken}");
    let taken = lmao_json(&data, &["ingest", path], "off");
    assert_eq!((&taken["ready"], &taken["duplicate"]), (&json!(0), &json!(5)), "{taken}");

    let asked = lmao_json(&data, &["ask", "How do I return a drill?"], "off");
    let (file, page, _) = source(&asked["metadata"]);
    assert_eq!((file.as_str(), page), ("manual.pdf", json!(2)), "{asked}");
    assert!(asked["response"].as_str().expect("text").contains("receipt"), "{asked}");
    let session = asked["session_id"].as_str().expect("a session");
    let asked = lmao_json(&data, &["ask", "--session", session, "How often is the starter fed?"], "off");
    let (file, _, section) = source(&asked["metadata"]);
    assert_eq!(file, "sourdough.md", "{asked}");
    assert!(section.as_str().is_some_and(|section| section.contains("Feeding")), "{asked}");
    assert_eq!(asked["session_id"], session, "it is the same conversation");

    let found = lmao_json(&data, &["search", "--type", "keyword", "celsius fahrenheit"], "off");
    assert!(found["results"][0]["metadata"]["filename"].as_str().expect("a hit").ends_with("convert.rs"), "{found}");
    let nothing = lmao_json(&data, &["ask", "Who won the zeppelin regatta?"], "off");
    assert_eq!(nothing["metadata"]["grounded"], false, "it says when it knows nothing: {nothing}");
    lmao_json(&data, &["audit", "verify"], "off");

    let printed = lmao(&["ask", "How do I return a drill?", "--data"]).arg(&data).output().expect("it runs");
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    for part in ["[1]", "Sources", "manual.pdf", "2"] {
        assert!(printed.contains(part), "{part:?} is missing: {printed}");
    }
}

async fn files_found(client: &Client, query: &str, how: &str) -> Vec<String> {
    let reply = client.post(SEARCH, &json!({ "query": query, "search_type": how }), None).await.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.body);
    let results = reply.body["results"].as_array().expect("a list").iter();
    let name = |result: &Value| {
        let file = result["metadata"]["filename"].as_str().expect("a file").to_owned();
        file.rsplit('/').next().unwrap_or_default().to_owned()
    };
    results.map(name).collect()
}

#[tokio::test]
async fn a_running_server_answers_by_meaning_with_the_right_sources() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, files) = (folder.path().join("data"), folder.path().join("library"));
    let Some(server) = start_with_model("answers by meaning", &data).await else { return };
    library(&files);
    // The command finds the server by the lock file and does not open the directory beside it.
    let taken = lmao_json(&data, &["ingest", files.to_str().expect("UTF-8")], "off");
    assert_eq!((&taken["ready"], &taken["failed"]), (&json!(5), &json!([])), "{taken}");

    let admin = server.admin().await;
    let questions = [
        ("How do I return a drill that I bought?", "manual.pdf"),
        ("How do insects tell where to find nectar?", "bees.html"),
        ("How hot must the oven be for bread?", "sourdough.md"),
        ("How often are there spring tides?", "tides.txt"),
    ];
    for (question, file) in questions {
        assert_eq!(files_found(&admin, question, "semantic").await[0], file, "{question}");
        assert_eq!(files_found(&admin, question, "hybrid").await[0], file, "{question}");
        let asked = admin.chat(None, question, None).await.expect("an answer");
        assert_eq!(asked.body["metadata"]["grounded"], true, "{question}: {}", asked.body);
        assert_eq!(source(&asked.body["metadata"]).0, file, "{question}: {}", asked.body);
    }
    assert_eq!(files_found(&admin, "waggle", "keyword").await, ["bees.html"]);

    let said = lmao_json(&data, &["ask", "How do insects tell where to find nectar?"], "off");
    assert_eq!(source(&said["metadata"]).0, "bees.html", "{said}");

    let bees = admin.all("/api/v1/documents", "documents", None).await;
    let bees =
        bees.iter().find(|document| document["filename"].as_str().is_some_and(|name| name.ends_with("bees.html")));
    let bees = bees.expect("it is listed")["document_id"].as_str().expect("an id").to_owned();
    let deleted = admin.send(admin.request(Method::DELETE, &format!("/api/v1/documents/{bees}"))).await;
    assert_eq!(deleted.expect("an answer").status, 204);
    for how in ["hybrid", "semantic", "keyword"] {
        let left = files_found(&admin, "waggle dance of honeybees", how).await;
        assert!(!left.contains(&"bees.html".to_owned()), "{how} finds what was deleted: {left:?}");
    }
    assert!(server.sigterm().await.success());
    lmao_json(&data, &["audit", "verify"], "off");
}

async fn user(admin: &Client, url: &str, name: &str) -> Client {
    let account = json!({ "username": name, "email": format!("{name}@example.org"), "password": "correct horse" });
    let made = admin.post("/admin/users", &account, Some(name)).await.expect("an answer");
    assert!(made.is_success(), "{}", made.body);
    Client::login(url, name, "correct horse").await
}

#[tokio::test]
async fn users_are_apart_retries_happen_once_and_a_restart_keeps_it_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let (ann, bob) = (user(&admin, &server.url, "ann").await, user(&admin, &server.url, "bob").await);
    let secret = b"The owl sleeps in the belfry.".to_vec();

    // The same file of two people are two documents; of one person, one.
    let first = ann.upload("owl.txt", secret.clone(), Some("u1")).await.expect("an answer").body;
    let retry = ann.upload("owl.txt", secret.clone(), Some("u1")).await.expect("an answer").body;
    assert_eq!((&first["document_id"], &first["duplicate"]), (&retry["document_id"], &retry["duplicate"]));
    let copy = ann.upload("copy.txt", secret.clone(), None).await.expect("an answer").body;
    assert_eq!((&copy["document_id"], &copy["duplicate"]), (&first["document_id"], &json!(true)));
    assert!(files_found(&bob, "owl belfry", "keyword").await.is_empty(), "bob sees nothing of ann's");
    let bobs = bob.upload("owl.txt", secret, None).await.expect("an answer").body;
    assert_eq!(bobs["duplicate"], false, "{bobs}");
    assert_ne!(bobs["document_id"], first["document_id"]);

    // A retry gets the first outcome; the same key with something else is refused.
    let asked = ann.chat(None, "Where does the owl sleep?", Some("m1")).await.expect("an answer");
    let again = ann.chat(None, "Where does the owl sleep?", Some("m1")).await.expect("an answer");
    for field in ["session_id", "response"] {
        assert_eq!(asked.body[field], again.body[field], "{} then {}", asked.body, again.body);
    }
    assert_eq!(asked.body["metadata"]["message_id"], again.body["metadata"]["message_id"]);
    let other = ann.chat(None, "Something else?", Some("m1")).await.expect("an answer");
    assert_eq!((other.status, other.reason()), (422, "idempotency_key_reused"));
    let bobs_own = bob.chat(None, "Something else?", Some("m1")).await.expect("an answer");
    assert!(bobs_own.is_success(), "a key is its user's: {}", bobs_own.body);

    let tool = "/api/v1/tools/calculator/execute";
    let sum = json!({ "parameters": { "expression": "6*7" } });
    let once = ann.post(tool, &sum, Some("t1")).await.expect("an answer").body;
    let twice = ann.post(tool, &sum, Some("t1")).await.expect("an answer").body;
    assert_eq!(once["status"], "success", "{once}");
    assert_eq!(once, twice, "a tool is not called again for a retry");

    let session = asked.body["session_id"].as_str().expect("a session").to_owned();
    let messages = format!("/api/v1/sessions/{session}/messages");
    let before = ann.all(&messages, "messages", again.position.as_deref()).await;
    assert_eq!(before.len(), 2, "one question, one answer: {before:?}");
    assert!(server.sigterm().await.success());

    let digests = lmao_json(&data, &["projections", "digest"], "off");
    lmao_json(&data, &["projections", "rebuild"], "off");
    let rebuilt = lmao_json(&data, &["projections", "digest"], "off");
    for (one, other) in digests.as_array().expect("rows").iter().zip(rebuilt.as_array().expect("rows")) {
        assert_eq!(one["digest"], other["digest"], "what ran equals what is rebuilt");
    }
    let server = Server::start(&data).await;
    let (ann, bob) = (ann.at(&server.url), bob.at(&server.url));
    assert_eq!(ann.all(&messages, "messages", None).await, before, "a restart changes nothing");
    assert_eq!(files_found(&ann, "owl belfry", "keyword").await, ["owl.txt"]);
    let late = ann.chat(None, "Where does the owl sleep?", Some("m1")).await.expect("an answer");
    assert_eq!(late.body["session_id"], session, "keys outlive the process: {}", late.body);
    let refused = bob.get(&messages).await.expect("an answer");
    assert_eq!((refused.status, refused.reason()), (404, "session_not_found"));
    assert!(server.sigterm().await.success());
    lmao_json(&data, &["audit", "verify"], "off");
}

/// A chat socket.
struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(client: &Client, url: &str, session: &str, after: Option<&str>) -> Self {
        let after = after.map(|position| format!("?after={position}")).unwrap_or_default();
        let url = format!("{}/api/v1/chat/ws/{session}{after}", url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("an address");
        let token = format!("Bearer {}", client.token()).parse().expect("a header");
        request.headers_mut().insert("authorization", token);
        Self(connect_async(request).await.expect("it connects").0)
    }

    async fn say(&mut self, text: &str) {
        self.send(&json!({ "type": "message", "content": text }).to_string()).await;
    }

    async fn send(&mut self, frame: &str) {
        self.0.send(Message::text(frame)).await.expect("it is sent");
    }

    async fn next(&mut self) -> Value {
        loop {
            let frame = timeout(FRAME_PATIENCE, self.0.next()).await.expect("a frame comes").expect("it is open");
            if let Message::Text(text) = frame.expect("it is whole") {
                return serde_json::from_str(&text).expect("frames are JSON");
            }
        }
    }

    /// All frames up to the whole answer.
    async fn until_answered(&mut self) -> Vec<Value> {
        let mut frames = vec![];
        loop {
            let frame = self.next().await;
            assert_ne!(frame["type"], "error", "{frame}");
            let is_whole = frame["type"] == "message" && frame["metadata"]["partial"] == false;
            frames.push(frame);
            if is_whole {
                return frames;
            }
        }
    }
}

#[tokio::test]
async fn a_socket_streams_the_answer_and_tells_later_what_was_missed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let owl = admin.upload("owl.txt", b"The owl sleeps in the belfry.".to_vec(), None).await.expect("an answer");
    assert_eq!(owl.status, 200, "{}", owl.body);

    let mut socket = Socket::open(&admin, &server.url, "new", None).await;
    let hello = socket.next().await;
    assert_eq!((&hello["type"], &hello["metadata"]["state"]), (&json!("status"), &json!("connected")));
    let session = hello["metadata"]["session_id"].as_str().expect("the first frame names it").to_owned();

    socket.send("{ no frame").await;
    let refused = socket.next().await;
    assert_eq!((&refused["type"], &refused["metadata"]["code"]), (&json!("error"), &json!(400)), "{refused}");

    socket.say("Where does the owl sleep?").await;
    let frames = socket.until_answered().await;
    let whole = frames.last().expect("the answer");
    let pieces: Vec<&Value> = frames.iter().filter(|frame| frame["metadata"]["partial"] == true).collect();
    assert!(!pieces.is_empty(), "it streams: {frames:?}");
    let joined: String = pieces.iter().filter_map(|piece| piece["content"].as_str()).collect();
    assert_eq!(joined, whole["content"].as_str().expect("text"), "the pieces are the answer");
    assert_eq!(whole["metadata"]["citations"][0]["document_id"], owl.body["document_id"]);
    let position = whole["metadata"]["position"].as_str().expect("every frame has one").to_owned();
    drop(socket);

    // While nobody listens, the conversation goes on elsewhere, and the server starts anew.
    let missed = admin.chat(Some(&session), "And where is the belfry?", None).await.expect("an answer");
    assert!(missed.is_success(), "{}", missed.body);
    assert!(server.sigterm().await.success());
    let server = Server::start(&data).await;
    let mut socket = Socket::open(&admin, &server.url, &session, Some(&position)).await;
    let frames = socket.until_answered().await;
    let caught_up = frames.last().expect("the answer");
    assert_eq!(caught_up["content"], missed.body["response"], "what was missed comes first");
    assert_eq!(caught_up["metadata"]["message_id"], missed.body["metadata"]["message_id"]);
    let answers = frames.iter().filter(|frame| frame["metadata"]["message_id"] == whole["metadata"]["message_id"]);
    assert_eq!(answers.count(), 0, "what was seen does not come again: {frames:?}");
    socket.say("Where does the owl sleep?").await;
    socket.until_answered().await;

    let stranger = user(&admin.at(&server.url), &server.url, "eve").await;
    let url = format!("{}/api/v1/chat/ws/{session}", server.url.replacen("http", "ws", 1));
    let mut request = url.into_client_request().expect("an address");
    request.headers_mut().insert("authorization", format!("Bearer {}", stranger.token()).parse().expect("a header"));
    let refused = connect_async(request).await.expect_err("another's session");
    assert!(refused.to_string().contains("404"), "{refused}");
}
