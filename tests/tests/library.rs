//! What a person has: conversations.

use serde_json::json;

use crate::support::{Server, lmao_json};

#[tokio::test]
async fn conversations_are_listed_by_their_titles() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let mut last = None;
    for question in ["Where does the owl sleep?", "Who rings the bell?", "What is the tower made of?"] {
        let reply = admin.chat(None, question, None).await.expect("an answer");
        assert!(reply.is_success(), "{}", reply.body);
        last = reply.position;
    }
    let sessions = admin.all("/api/v1/sessions", "sessions", last.as_deref()).await;
    let titles: Vec<_> = sessions.iter().map(|session| session["title"].as_str().expect("a title")).collect();
    assert_eq!(titles, ["What is the tower made of?", "Who rings the bell?", "Where does the owl sleep?"]);
    assert!(sessions.iter().all(|session| session["messages"] == 2), "{sessions:?}");
    let page = admin.get("/api/v1/sessions?limit=2").await.expect("an answer").body;
    assert_eq!((page["sessions"].as_array().map(Vec::len), &page["total"]), (Some(2), &json!(3)), "{page}");
    let bad = admin.get("/api/v1/sessions?limit=0").await.expect("an answer");
    assert_eq!((bad.status, bad.reason()), (400, "bad_parameter"));
    let listed = lmao_json(&data, &["sessions", "--max", "2"], "off");
    assert_eq!(listed, json!(sessions[..2]));
}
