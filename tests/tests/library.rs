//! What a person has: conversations, and files that come back as they went in.

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::{
    files::pdf,
    support::{Client, Server, lmao_json},
};

/// A file's content: status, media type, disposition, tag, bytes.
async fn content(client: &Client, id: &str, known: Option<&str>) -> (u16, [String; 3], Vec<u8>) {
    let mut request = client.request(Method::GET, &format!("/api/v1/documents/{id}/content"));
    if let Some(known) = known {
        request = request.header(header::IF_NONE_MATCH, known);
    }
    let response = request.send().await.expect("an answer");
    let said = [header::CONTENT_TYPE, header::CONTENT_DISPOSITION, header::ETAG].map(|name| {
        let value = response.headers().get(name).map(|value| value.to_str().expect("ASCII"));
        value.unwrap_or_default().to_owned()
    });
    (response.status().as_u16(), said, response.bytes().await.expect("a body").to_vec())
}

/// Hands a file in; its id, whether it can be read or not.
async fn hand_in(client: &Client, name: &str, bytes: &[u8]) -> (String, Value) {
    let reply = client.upload(name, bytes.to_vec(), None).await.expect("an answer");
    let id = [&reply.body["document_id"], &reply.body["error"]["details"]["document_id"]];
    let id = id.iter().find_map(|id| id.as_str()).unwrap_or_else(|| panic!("{}", reply.body));
    (id.to_owned(), reply.body.clone())
}

#[tokio::test]
async fn a_file_comes_back_as_it_went_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let printed = pdf(&["The owl sleeps in the belfry."]);
    let latin1 = b"Gr\xfc\xdfe aus dem Turm, sagt die Eule.".repeat(200_000);
    let broken = b"%PDF-1.7 and no more".to_vec();
    for (name, bytes, kind) in [
        ("owl.pdf", &printed, "application/pdf"),
        ("Größe \"1\".txt", &latin1, "text/plain"),
        ("broken.pdf", &broken, "application/octet-stream"),
    ] {
        let (id, _) = hand_in(&admin, name, bytes).await;
        let (status, [media, disposition, tag], back) = content(&admin, &id, None).await;
        assert_eq!((status, media.as_str()), (200, kind), "{name}");
        assert!(back == *bytes, "{name}: {} bytes came back of {}", back.len(), bytes.len());
        assert!(disposition.starts_with("attachment; filename="), "{disposition}");
        let listed = admin.get(&format!("/api/v1/documents/{id}")).await.expect("an answer").body;
        assert_eq!(tag, format!("\"{}\"", listed["content_hash"].as_str().expect("a hash")));
        let (status, [_, _, same], back) = content(&admin, &id, Some(&tag)).await;
        assert_eq!((status, same, back.len()), (304, tag, 0), "{name}");
    }

    let account = json!({ "username": "bob", "email": "bob@example.org", "password": "a long enough password" });
    let made = admin.post("/admin/users", &account, None).await.expect("an answer");
    assert!(made.is_success(), "{}", made.body);
    let bob = Client::login(&server.url, "bob", "a long enough password").await;
    let (id, _) = hand_in(&admin, "owl.pdf", &printed).await;
    for id in [id.as_str(), "00000000-0000-0000-0000-000000000000", "7"] {
        let reply = bob.get(&format!("/api/v1/documents/{id}/content")).await.expect("an answer");
        assert_eq!((reply.status, reply.reason()), (404, "document_not_found"), "{id}");
    }
    let gone = admin.send(admin.request(Method::DELETE, &format!("/api/v1/documents/{id}"))).await.expect("an answer");
    assert_eq!(gone.status, 204);
    assert_eq!(content(&admin, &id, None).await.0, 404, "deleted");
}

#[tokio::test]
async fn a_refusal_says_only_what_helps_and_no_format_is_guessed() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data")).await;
    let admin = server.admin().await;
    let image = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0".to_vec();
    for (name, bytes) in [("picture.pdf", image), ("broken.pdf", b"%PDF-1.7 and no more".to_vec())] {
        let (id, refused) = hand_in(&admin, name, &bytes).await;
        let (error, retryable) = (&refused["error"], &refused["error"]["details"]["retryable"]);
        assert_eq!(retryable, false, "{refused}");
        assert!(!error["message"].as_str().expect("a text").contains("try it again"), "{refused}");
        let listed = admin.get(&format!("/api/v1/documents/{id}")).await.expect("an answer").body;
        assert_eq!((&listed["status"], &listed["file_type"]), (&json!("failed"), &Value::Null), "{listed}");
    }
    let (id, _) = hand_in(&admin, "owl.txt", b"# Owls\n\nThe owl sleeps in the belfry.").await;
    let listed = admin.get(&format!("/api/v1/documents/{id}")).await.expect("an answer").body;
    assert!(listed["file_type"].is_string(), "{listed}");
}

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
