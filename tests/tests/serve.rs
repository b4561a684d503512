//! The server's life: it starts, serves, says no in its own words, and ends when asked.

use std::os::unix::fs::PermissionsExt as _;

use reqwest::Method;

use crate::support::{Client, Server};

#[tokio::test]
async fn a_server_starts_serves_and_ends_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let mode = data.join("admin-password").metadata().expect("it is kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may read the first password");

    let stranger = Client::new(&server.url, "").get("/api/v1/documents").await.expect("an answer");
    assert_eq!((stranger.status, stranger.reason()), (401, "missing_token"));

    let admin = server.admin().await;
    let uploaded = admin.upload("cranes.md", b"# Cranes\n\nCranes dance in spring.\n".to_vec(), None).await;
    let uploaded = uploaded.expect("an answer");
    assert_eq!((uploaded.status, &uploaded.body["status"]), (200, &"success".into()), "{}", uploaded.body);
    let asked = admin.chat(None, "When do cranes dance?", None).await.expect("an answer");
    assert!(asked.is_success(), "{}", asked.body);
    assert_eq!(asked.body["metadata"]["citations"][0]["document_id"], uploaded.body["document_id"]);

    let session = asked.body["session_id"].as_str().expect("a session");
    let messages = format!("/api/v1/sessions/{session}/messages");
    let said = admin.all(&messages, "messages", asked.position.as_deref()).await;
    assert_eq!(said.len(), 2, "a message and its answer: {said:?}");

    let forged = Client::new(&server.url, &format!("{}x", admin.token()));
    let refused = forged.send(forged.request(Method::GET, &messages)).await.expect("an answer");
    assert_eq!((refused.status, refused.reason()), (401, "invalid_token"));

    assert!(server.sigterm().await.success(), "a server that is asked to end ends well");
    let again = Server::start(&data).await;
    let document = admin.at(&again.url).get("/api/v1/documents").await.expect("an answer");
    assert_eq!(document.body["documents"][0]["status"], "ready", "tokens and documents outlive the server");
    again.kill9();
}

#[tokio::test]
async fn a_language_model_that_fails_is_seen_by_whoever_runs_the_system() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    // Port 9 discards what it gets, where anybody listens at all.
    let model = [("LMAO_LLM__BASE_URL", "http://127.0.0.1:9/v1"), ("LMAO_LLM__MODEL", "parrot")];
    let server = Server::start_with(&data, &model).await;
    let admin = server.admin().await;
    let llm = async || {
        let health = admin.get("/health").await.expect("an answer").body;
        let parts = health["components"].as_array().expect("parts").clone();
        parts.into_iter().find(|part| part["name"] == "llm").expect("it is one of them")
    };
    let unasked = llm().await;
    assert_eq!((&unasked["state"], &unasked["message"]), (&"ok".into(), &"parrot".into()), "{unasked}");

    let asked = admin.chat(None, "When do cranes dance?", None).await.expect("an answer");
    assert!(!asked.is_success(), "{}", asked.body);
    let failing = llm().await;
    assert_eq!(failing["state"], "degraded", "{failing}");
    assert!(failing["message"].as_str().is_some_and(|text| text.contains("no connection")), "{failing}");
    server.says("the language model failed").await;
}
