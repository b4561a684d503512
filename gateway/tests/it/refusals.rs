//! Every refusal has one form, and every limit holds.

use std::{sync::atomic::Ordering, time::Duration};

use lmao_events::{Rejection, RejectionKind};
use lmao_gateway::{Limits, Rates};
use lmao_ports::{CommandError, HealthState, Unavailable};
use poem::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    ports::{document, message},
    world::{Got, PASSWORD, World, login, send},
};

const CHAT: &str = "/api/v1/chat/message";
const SEARCH: &str = "/api/v1/documents/search";

#[tokio::test]
async fn the_framework_refuses_in_our_words() {
    let world = World::new().await;
    let (client, token) = (world.client(), world.ann().await);
    let got = send(client.put(CHAT), &token).await;
    assert_eq!((got.refusal(), got.header("allow")), ((405, "method_not_allowed"), "POST"));
    let got = send(client.patch("/api/v1/documents/7"), &token).await;
    assert_eq!(got.refusal(), (405, "method_not_allowed"));
    assert!(["GET, DELETE", "DELETE, GET"].contains(&got.header("allow")), "{}", got.header("allow"));
    assert_eq!(send(client.get("/nowhere"), &token).await.refusal(), (404, "not_found"));
    assert_eq!(send(client.post(CHAT).body("message=x"), &token).await.refusal(), (415, "unsupported_media_type"));
    let json = |text: &'static str| client.post(CHAT).content_type("application/json").body(text);
    assert_eq!(send(json(r#"{"message": "#), &token).await.refusal(), (400, "malformed_json"));
    assert_eq!(send(json(""), &token).await.refusal(), (400, "malformed_json"));
    assert_eq!(send(json(r#"{"message": 5}"#), &token).await.refusal(), (422, "bad_body"));
    assert_eq!(send(json(r#"{"message": "x", "context": []}"#), &token).await.refusal(), (422, "bad_body"));
    let got = send(client.get("/api/v1/documents").query("limit", &"many"), &token).await;
    assert_eq!((got.refusal(), &got.body["error"]["details"]["parameter"]), ((400, "bad_parameter"), &json!("limit")));
    assert!(!got.body.to_string().contains("parse"), "{}", got.body);
    let got = send(client.get("/api/v1/documents").query("limit", &201), &token).await;
    assert_eq!(got.refusal(), (400, "bad_parameter"));
    let got = send(client.get("/api/v1/documents").query("status", &"lost"), &token).await;
    assert_eq!(got.refusal(), (400, "bad_parameter"));
    assert_eq!(send(client.get("/api/v1/chat/ws/new"), &token).await.refusal(), (426, "websocket_expected"));
}

#[tokio::test]
async fn what_is_misspelt_is_refused() {
    let world = World::new().await;
    let (client, ann, admin) = (world.client(), world.ann().await, world.admin().await);
    for (path, body, known) in [
        ("/auth/login", json!({ "username": "a", "password": "b", "user": "c" }), "`password`"),
        (CHAT, json!({ "message": "x", "contxt": {} }), "`context`"),
        (SEARCH, json!({ "query": "x", "filter": { "tag": "a" } }), "`filters`"),
        (SEARCH, json!({ "query": "x", "max_result": 1 }), "`max_results`"),
        ("/api/v1/tools/calculator/execute", json!({ "parameter": {} }), "`parameters`"),
        ("/admin/users", json!({ "username": "a", "email": "b", "password": "c", "roles": [] }), "`role`"),
        ("/admin/parked/retry", json!({ "stream": "x", "force": true }), "`stream`"),
    ] {
        let got = send(client.post(path).body_json(&body), &admin).await;
        assert_eq!(got.refusal(), (422, "bad_body"), "{path}");
        assert!(got.body["error"]["message"].as_str().unwrap().contains(known), "{got:?}");
    }
    for (path, name, known) in [
        ("/api/v1/documents?tag=asn1&filename=zzz", "tag", "this path takes status, limit, cursor"),
        ("/api/v1/documents?%6Cimits=7", "limits", "limit"),
        ("/api/v1/tools?limit=7", "limit", "this path takes none"),
        ("/admin/events?stream=session&from=7", "from", "after"),
        ("/api/v1/chat/ws/new?session=7", "session", "after, access_token"),
    ] {
        let got = send(client.get(path), &admin).await;
        assert_eq!(got.refusal(), (400, "bad_parameter"), "{path}");
        assert_eq!(got.body["error"]["details"]["parameter"], name);
        assert!(got.body["error"]["message"].as_str().unwrap().contains(known), "{got:?}");
    }
    assert_eq!(send(client.get("/api/v1/documents?%6Cimit=7"), &ann).await.status, 200);
    assert_eq!(send(client.get("/nowhere?limit=7"), &ann).await.refusal(), (404, "not_found"));
}

#[tokio::test]
async fn a_cursor_leads_on_in_its_own_list_only() {
    let world = World::new().await;
    let (client, ann) = (world.client(), world.ann().await);
    let [one, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
    for n in 0..5 {
        world.tables.documents.lock().unwrap().push(document(Uuid::from_u128(n), ""));
        world.tables.messages.lock().unwrap().extend([message(one), message(other)]);
    }
    let page =
        async |path: &str, cursor: &str| send(client.get(path).query("limit", &2).query("cursor", &cursor), &ann).await;
    let lists = ["/api/v1/documents".to_owned()]
        .into_iter()
        .chain([one, other].map(|session| format!("/api/v1/sessions/{session}/messages")));
    let lists: Vec<String> = lists.collect();
    let mut cursors = vec![];
    for path in &lists {
        let first = page(path, "").await;
        let cursor = first.body["next"].as_str().expect("a cursor").to_owned();
        let second = page(path, &cursor).await;
        let third = page(path, second.body["next"].as_str().expect("a cursor")).await;
        assert_eq!((third.status.as_u16(), &third.body["next"], &third.body["total"]), (200, &Value::Null, &json!(5)));
        cursors.push(cursor);
    }
    for (n, path) in lists.iter().enumerate() {
        let (mine, rest) = (&cursors[n], cursors[n].split_once('-').unwrap().1);
        let (before, after) = (&cursors[(n + 1) % 3], &cursors[(n + 2) % 3]);
        for bad in ["zzz", "-", "1", rest, &format!("{mine}0"), &format!("{mine} "), before, after] {
            let got = page(path, bad).await;
            let parameter = got.body["error"]["details"]["parameter"].clone();
            assert_eq!((got.refusal(), parameter), ((400, "bad_parameter"), json!("cursor")), "{path} {bad:?}");
        }
    }
}

#[tokio::test]
async fn a_body_is_an_object() {
    let world = World::new().await;
    let (client, ann) = (world.client(), world.ann().await);
    for body in [json!(["what is a bucket", "", {}]), json!("x"), json!(7), json!(null)] {
        for path in [CHAT, SEARCH] {
            let got = send(client.post(path).body_json(&body), &ann).await;
            assert_eq!(got.refusal(), (422, "bad_body"), "{body}");
            let message = got.body["error"]["message"].as_str().unwrap();
            assert!(message.contains("object") && !message.contains("struct"), "{message}");
        }
    }
    let broken = client.post(CHAT).content_type("application/json").body(r#"["x", "#);
    assert_eq!(send(broken, &ann).await.refusal(), (400, "malformed_json"));
}

#[tokio::test]
async fn a_panic_is_an_answer_like_any_other() {
    let world = World::new().await;
    let (client, token) = (world.client(), world.ann().await);
    let got = send(client.post(SEARCH).body_json(&json!({ "query": "panic" })), &token).await;
    assert_eq!(got.refusal(), (500, "internal"));
    assert!(!got.body.to_string().contains("asked to"), "what went wrong stays in the server's log");
    assert_eq!(send(client.post(SEARCH).body_json(&json!({ "query": "fine" })), &token).await.status, 200);
}

#[tokio::test]
async fn what_ports_report_becomes_a_status() {
    let world = World::new().await;
    let (client, token) = (world.client(), world.ann().await);
    type Refused = fn() -> CommandError;
    let refusals: [(Refused, (u16, &str)); 8] = [
        (|| CommandError::Rejected(Rejection::new(RejectionKind::NotFound, "gone", "gone")), (404, "gone")),
        (|| CommandError::Rejected(Rejection::new(RejectionKind::Busy, "session_busy", "busy")), (503, "session_busy")),
        (|| CommandError::Overloaded { retry_after: Duration::from_secs(3) }, (503, "overloaded")),
        (|| CommandError::Unknown, (503, "outcome_unknown")),
        (|| CommandError::Erased, (410, "erased")),
        (|| CommandError::KeyReused, (422, "idempotency_key_reused")),
        (|| CommandError::Unavailable(Unavailable::plain("log.db", "the disk is full")), (503, "unavailable")),
        (|| CommandError::ShuttingDown, (503, "shutting_down")),
    ];
    for (refuse, refusal) in refusals {
        *world.core.refuse.lock().unwrap() = Some(refuse);
        let got = send(client.post(CHAT).body_json(&json!({ "message": "x" })), &token).await;
        assert_eq!(got.refusal(), refusal);
        assert_eq!(got.headers.contains_key("retry-after"), refusal.0 == 503, "{refusal:?}");
    }
    for (query, refusal) in
        [("invalid", (422, "bad_search")), ("semantic", (503, "semantic_off")), (" ", (422, "bad_search"))]
    {
        let got = send(client.post(SEARCH).body_json(&json!({ "query": query })), &token).await;
        assert_eq!(got.refusal(), refusal);
    }
    for body in [json!({ "query": "x", "max_results": 0 }), json!({ "query": "x", "max_results": 101 })] {
        assert_eq!(send(client.post(SEARCH).body_json(&body), &token).await.refusal(), (422, "bad_search"));
    }
    for body in
        [json!({ "query": "x", "search_type": "psychic" }), json!({ "query": "x", "filters": { "owner": "me" } })]
    {
        assert_eq!(send(client.post(SEARCH).body_json(&body), &token).await.refusal(), (422, "bad_body"));
    }
}

#[tokio::test]
async fn a_message_and_a_body_have_a_size() {
    let world = World::new().await;
    let (client, token) = (world.client(), world.ann().await);
    let message = |bytes: usize| json!({ "message": "x".repeat(bytes) });
    assert_eq!(send(client.post(CHAT).body_json(&message(128 * 1024)), &token).await.status, 200);
    let got = send(client.post(CHAT).body_json(&message(128 * 1024 + 1)), &token).await;
    assert_eq!(got.refusal(), (413, "message_too_large"));
    let got = send(client.post(CHAT).body_json(&message(1_000_000)), &token).await;
    assert_eq!(got.refusal(), (413, "message_too_large"));
    let got = send(client.post(CHAT).body_json(&message(2_000_000)), &token).await;
    assert_eq!(got.refusal(), (413, "body_too_large"));
    let context = json!({ "message": "x", "context": { "k": 1, "more": "x".repeat(32 * 1024) } });
    assert_eq!(send(client.post(CHAT).body_json(&context), &token).await.refusal(), (413, "context_too_large"));
    assert_eq!(
        send(client.post(CHAT).body_json(&json!({ "message": " " })), &token).await.refusal(),
        (422, "empty_message")
    );
}

#[tokio::test]
async fn a_full_server_says_so_and_stays_healthy() {
    let world = World::with(Limits { requests: 0, ..Limits::default() }).await;
    let (client, token) = (world.client(), world.ann().await);
    let got = send(client.get("/api/v1/tools"), &token).await;
    assert_eq!((got.refusal(), got.header("retry-after")), ((503, "overloaded"), "1"));
    assert_eq!(client.get("/health").send().await.0.status(), 200);
}

#[tokio::test]
async fn health_tells_degraded_from_failed() {
    let world = World::new().await;
    let client = world.client();
    for (state, status) in
        [(HealthState::Ok, 200), (HealthState::Starting, 200), (HealthState::Degraded, 200), (HealthState::Failed, 503)]
    {
        *world.health.0.lock().unwrap() = state;
        let got = Got::from(client.get("/health").send().await).await;
        assert_eq!((got.status.as_u16(), &got.body["status"]), (status, &json!(state)));
        assert_eq!(got.body["components"][0]["name"], "log");
        assert_eq!(client.get("/health/ready").send().await.0.status().as_u16(), status);
        assert_eq!(client.get("/health/live").send().await.0.status(), 200);
    }
}

#[tokio::test]
async fn reads_wait_for_what_was_written() {
    let world = World::new().await;
    let (client, token) = (world.client(), world.ann().await);
    let written = send(client.post(CHAT).body_json(&json!({ "message": "x" })), &token).await;
    let position = written.header("lmao-position").to_owned();
    let read = |position: String| send(client.get("/api/v1/documents").header("lmao-position", position), &token);
    assert_eq!(read(position.clone()).await.status, 200);
    assert_eq!(read("7".to_owned()).await.refusal(), (400, "bad_position"));
    assert_eq!(read(format!("{}:7", Uuid::from_u128(9))).await.refusal(), (400, "position_of_another_log"));
    world.tables.behind.store(true, Ordering::SeqCst);
    assert_eq!(read(position).await.refusal(), (503, "not_caught_up"));
    assert_eq!(send(client.get("/api/v1/documents"), &token).await.status, 200);
}

#[tokio::test]
async fn requests_keep_their_ids_and_replies_their_headers() {
    let world = World::new().await;
    let (client, token) = (world.client(), world.ann().await);
    let got = send(client.get("/nowhere").header("x-request-id", "job-17"), &token).await;
    assert_eq!((got.refusal().0, got.header("x-request-id")), (404, "job-17"));
    let got = send(client.get("/api/v1/tools").header("x-request-id", "no good"), &token).await;
    assert!(got.header("x-request-id").parse::<Uuid>().is_ok());
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    assert_eq!(got.header("cache-control"), "no-store");
    let page = client.get("/docs").header("accept-encoding", "gzip").send().await;
    page.assert_header("content-encoding", "gzip");
    let page = client.get("/docs").send().await.0.into_body().into_string().await.unwrap();
    assert!(page.contains("SwaggerUIBundle") && !page.contains("src=\"http") && !page.contains("href=\"http"));
}

#[tokio::test]
async fn the_log_is_for_administrators() {
    let world = World::new().await;
    let (client, ann, admin) = (world.client(), world.ann().await, world.admin().await);
    let said = send(client.post(CHAT).body_json(&json!({ "message": "x" })), &ann).await;
    let session = said.body["session_id"].as_str().unwrap();
    let lines = async |query: &str| -> Vec<Value> {
        let request = client.get(format!("/admin/events?{query}")).header("authorization", format!("Bearer {admin}"));
        let response = request.send().await;
        response.assert_content_type("application/x-ndjson");
        let text = response.0.into_body().into_string().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines("").await;
    assert_eq!(all.len(), 3);
    assert_eq!(all[0]["events"][1]["type"], "MessageReceived");
    assert_eq!(all[0]["events"][1]["data"]["content"], "x");
    assert_eq!(lines(&format!("stream=session/{session}")).await.len(), 2);
    assert_eq!(lines("stream=workflow").await.len(), 1);
    assert_eq!(lines("after=1&limit=1").await[0]["position"], 2);
    assert_eq!(lines("after=3").await.len(), 0);
    for bad in ["stream=sessions", "stream=session/7", "after=x", "limit=0"] {
        let got = send(client.get(format!("/admin/events?{bad}")), &admin).await;
        assert_eq!(got.refusal(), (400, "bad_parameter"), "{bad}");
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let rates = Rates { requests: 3, documents: 2, logins: 2, all: 6 };
    let world = World::with(Limits { rates, ..Limits::default() }).await;
    let (client, ann, bob) = (world.client(), world.ann().await, world.bob().await);
    let list = "/api/v1/documents";
    for left in ["2", "1", "0"] {
        let got = send(client.get(list), &ann).await;
        let headers = ["ratelimit-limit", "ratelimit-remaining"].map(|name| got.header(name));
        assert_eq!((got.status, headers), (StatusCode::OK, ["3", left]));
    }
    let got = send(client.get(list), &ann).await;
    assert_eq!(got.refusal(), (429, "rate_limited"));
    let headers =
        ["retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"].map(|name| got.header(name));
    assert_eq!(headers, ["20", "3", "0", "20"]);
    assert_eq!(got.body["error"]["details"]["scope"], "requests");

    // What changes documents is counted apart, and so is everybody else.
    let got = send(client.delete(format!("{list}/{}", Uuid::from_u128(7))), &ann).await;
    assert_eq!((got.refusal().0, got.header("ratelimit-remaining")), (404, "1"));
    assert_eq!(send(client.get(list), &bob).await.status, StatusCode::OK);

    // The sixth is the last for all.
    assert_eq!(send(client.get(list), &bob).await.status, StatusCode::OK);
    let got = send(client.get(list), &bob).await;
    assert_eq!(got.refusal(), (429, "rate_limited"));
    assert_eq!(got.body["error"]["details"]["scope"], "all");

    // Whoever is locked out can still log in, and ask how the server is.
    for name in ["ann", "ann", "bob"] {
        let got = Got::from(client.post("/auth/login").body_json(&login(name, PASSWORD)).send().await).await;
        assert_eq!(got.refusal(), (401, "invalid_credentials"));
    }
    let got = Got::from(client.post("/auth/login").body_json(&login("Ann", PASSWORD)).send().await).await;
    assert_eq!((got.refusal(), got.header("retry-after")), ((429, "rate_limited"), "30"));
    for _ in 0..10 {
        assert_eq!(client.get("/health/live").send().await.0.status(), StatusCode::OK);
    }
}
