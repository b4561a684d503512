//! Requests and files that make no sense: each is refused in the API's one shape, with its stable reason, and nothing that
//! was there before is lost or hangs.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use lmao_adapters::sqlite::{MasterKey, SqliteVault};
use lmao_ports::Vault as _;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::{
    files::{files_below, pdf},
    support::{Client, Reply, Server, lmao_json},
};

const CHAT: &str = "/api/v1/chat/message";
const UPLOAD: &str = "/api/v1/documents/upload";
const SEARCH: &str = "/api/v1/documents/search";
const NOBODYS: &str = "01922f6b-0000-7000-8000-000000000000";

/// It was refused so, and the body is that of every refusal.
#[track_caller]
fn assert_refused(reply: &Reply, status: u16, reason: &str) {
    assert_eq!((reply.status, reply.reason()), (status, reason), "{}", reply.body);
    let error = &reply.body["error"];
    assert_eq!(error["code"], status, "the code is the status: {error}");
    for field in ["message", "request_id", "timestamp"] {
        assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "it has a {field}: {error}");
    }
}

async fn send(client: &Client, request: RequestBuilder) -> Reply {
    client.send(request).await.expect("the server answers")
}

/// What was there is there, and something new can be said.
async fn assert_unharmed(client: &Client, document: &Value) {
    let asked = client.chat(None, "When do cranes dance?", None).await.expect("an answer");
    assert_eq!(asked.body["metadata"]["citations"][0]["document_id"], *document, "{}", asked.body);
}

async fn upload_cranes(client: &Client) -> Value {
    let reply = client.upload("cranes.md", b"# Cranes\n\nCranes dance in spring.\n".to_vec(), None).await;
    let reply = reply.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.body["document_id"].clone()
}

async fn user(admin: &Client, url: &str, name: &str) -> Client {
    let account = json!({ "username": name, "email": format!("{name}@example.org"), "password": "correct horse" });
    let made = admin.post("/admin/users", &account, None).await.expect("an answer");
    assert!(made.is_success(), "{}", made.body);
    Client::login(url, name, "correct horse").await
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let document = upload_cranes(&admin).await;

    bodies(&admin).await;
    paths(&admin).await;
    what_belongs_to_others(&admin, &server.url, &document).await;
    tokens(&admin, &server.url, &data).await;
    forms(&admin, &server.url, &data).await;

    assert_unharmed(&admin, &document).await;
    let documents = admin.all("/api/v1/documents", "documents", None).await;
    assert_eq!(documents.len(), 1, "what was refused left nothing: {documents:?}");
    assert!(server.sigterm().await.success());
    lmao_json(&data, &["audit", "verify"], "off");
}

async fn bodies(admin: &Client) {
    let raw =
        |body: &str| admin.request(Method::POST, CHAT).header("content-type", "application/json").body(body.to_owned());
    let search = |body: Value| admin.request(Method::POST, SEARCH).json(&body);
    let chat = |body: Value| admin.request(Method::POST, CHAT).json(&body);
    let cases = [
        (raw(r#"{"message": "x"#), 400, "malformed_json"),
        (raw(""), 400, "malformed_json"),
        (raw("\u{0}\u{1}"), 400, "malformed_json"),
        (raw(&format!("{{\"message\": \"hi\", \"context\": {{\"a\": {}", "[".repeat(20_000))), 400, "malformed_json"),
        (raw("[]"), 422, "bad_body"),
        (chat(json!({ "message": 7 })), 422, "bad_body"),
        (chat(json!({})), 422, "bad_body"),
        (chat(json!({ "message": "hi", "context": "none" })), 422, "bad_body"),
        (chat(json!({ "message": " \n " })), 422, "empty_message"),
        (chat(json!({ "message": "a".repeat(1 << 20) })), 413, "body_too_large"),
        (chat(json!({ "message": "a".repeat(200 << 10) })), 413, "message_too_large"),
        (chat(json!({ "message": "hi", "session_id": NOBODYS })), 404, "session_not_found"),
        (chat(json!({ "message": "hi", "session_id": "no session's id" })), 404, "session_not_found"),
        (search(json!({ "query": ["a"] })), 422, "bad_body"),
        (search(json!({ "query": "a", "max_results": "many" })), 422, "bad_body"),
        (search(json!({ "query": "a", "max_results": 0 })), 422, "bad_search"),
        (search(json!({ "query": "a", "max_result": 1 })), 422, "bad_body"),
        (search(json!({ "query": "a", "filter": { "tag": "blue" } })), 422, "bad_body"),
        (search(json!({ "query": "a", "filters": { "file_type": 7 } })), 422, "bad_search"),
        (search(json!({ "query": "a", "search_type": "psychic" })), 422, "bad_body"),
        (search(json!({ "query": "a", "search_type": "semantic" })), 503, "semantic_off"),
    ];
    for (request, status, reason) in cases {
        let reply = send(admin, request).await;
        assert_refused(&reply, status, reason);
    }
    let latin = admin.request(Method::POST, CHAT).header("content-type", "application/json");
    assert_refused(&send(admin, latin.body(b"{\"message\": \"caf\xe9\"}".to_vec())).await, 400, "malformed_json");
}

async fn paths(admin: &Client) {
    let plain = admin.request(Method::POST, CHAT).header("content-type", "text/plain").body("hi");
    let tool = |name: &str, parameters: Value| {
        admin.request(Method::POST, &format!("/api/v1/tools/{name}/execute")).json(&json!({ "parameters": parameters }))
    };
    let cases = [
        (admin.request(Method::PUT, CHAT), 405, "method_not_allowed"),
        (admin.request(Method::DELETE, "/health"), 405, "method_not_allowed"),
        (admin.request(Method::GET, "/api/v1/nothing"), 404, "not_found"),
        (plain, 415, "unsupported_media_type"),
        (admin.request(Method::GET, &format!("/api/v1/documents/{NOBODYS}")), 404, "document_not_found"),
        (admin.request(Method::DELETE, &format!("/api/v1/documents/{NOBODYS}")), 404, "document_not_found"),
        (admin.request(Method::GET, &format!("/api/v1/sessions/{NOBODYS}/messages")), 404, "session_not_found"),
        (admin.request(Method::GET, "/api/v1/documents?limit=many"), 400, "bad_parameter"),
        (admin.request(Method::GET, "/api/v1/documents?tag=blue"), 400, "bad_parameter"),
        (admin.request(Method::GET, "/api/v1/documents?cursor=zzz"), 400, "bad_parameter"),
        (admin.request(Method::GET, "/api/v1/documents").header("LMAO-Position", "nowhere"), 400, "bad_position"),
        (tool("telepathy", json!({})), 404, "unknown_tool"),
        (tool("calculator", json!({ "expression": 7 })), 422, "bad_parameters"),
    ];
    for (request, status, reason) in cases {
        let reply = send(admin, request).await;
        assert_refused(&reply, status, reason);
    }
    let refused = admin.request(Method::PUT, CHAT).send().await.expect("an answer");
    assert_eq!(refused.headers()["allow"], "POST", "405 says what is allowed");
}

async fn what_belongs_to_others(admin: &Client, url: &str, document: &Value) {
    let ann = user(admin, url, "ann").await;
    let asked = admin.chat(None, "When do cranes dance?", None).await.expect("an answer");
    let session = asked.body["session_id"].as_str().expect("a session");
    let document = document.as_str().expect("an id");
    let cases = [
        (Method::GET, format!("/api/v1/sessions/{session}/messages"), 404, "session_not_found"),
        (Method::GET, format!("/api/v1/documents/{document}"), 404, "document_not_found"),
        (Method::DELETE, format!("/api/v1/documents/{document}"), 404, "document_not_found"),
        (Method::POST, format!("/api/v1/documents/{document}/retry"), 404, "document_not_found"),
        (Method::GET, "/admin/events".to_owned(), 403, "forbidden"),
    ];
    for (method, path, status, reason) in cases {
        let reply = send(&ann, ann.request(method, &path)).await;
        assert_refused(&reply, status, reason);
    }
    assert_refused(&ann.chat(Some(session), "hi", None).await.expect("an answer"), 404, "session_not_found");
    let found = ann.post(SEARCH, &json!({ "query": "cranes" }), None).await.expect("an answer");
    assert_eq!(found.body["total_results"], 0, "another's documents are not found: {}", found.body);
}

async fn tokens(admin: &Client, url: &str, data: &Path) {
    let key = MasterKey::load_or_create(&data.join("master.key")).await.expect("the master key");
    let vault = SqliteVault::open(&data.join("vault.db"), &key).await.expect("the vault");
    let signing = vault.get("system/jwt").await.expect("the vault can be read").expect("a signing key").0;
    let good = jsonwebtoken::dangerous::insecure_decode::<Value>(admin.token()).expect("claims").claims;
    let sign = |claims: &Value, algorithm: Algorithm, key: &[u8]| {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(key)).expect("a token")
    };
    let with = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        claims
    };
    let again = Client::new(url, &sign(&good, Algorithm::HS256, &signing));
    assert_eq!(again.get("/api/v1/documents").await.expect("an answer").status, 200, "the key is the server's");

    let payload = admin.token().split('.').nth(1).expect("a payload");
    // {"alg":"none","typ":"JWT"}
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
    let cases = [
        (String::new(), "missing_token"),
        (sign(&with("exp", json!(1_700_000_000)), Algorithm::HS256, &signing), "token_expired"),
        (sign(&good, Algorithm::HS256, &[7; 32]), "invalid_token"),
        (sign(&good, Algorithm::HS512, &signing), "invalid_token"),
        (sign(&with("type", json!("refresh")), Algorithm::HS256, &signing), "invalid_token"),
        (none, "invalid_token"),
        ("nonsense".to_owned(), "invalid_token"),
    ];
    for (token, reason) in cases {
        let reply = Client::new(url, &token).get("/api/v1/documents").await.expect("an answer");
        assert_refused(&reply, 401, reason);
    }
    // A good token of an account that is not there is answered in some way, and breaks nothing.
    let ghost = Client::new(url, &sign(&with("sub", json!(NOBODYS)), Algorithm::HS256, &signing));
    let documents = ghost.get("/api/v1/documents").await.expect("an answer");
    assert!(documents.status < 500, "{}", documents.body);
}

async fn forms(admin: &Client, url: &str, data: &Path) {
    assert_refused(&admin.upload("empty.txt", vec![], None).await.expect("an answer"), 422, "empty_file");
    let form = |body: &'static str| {
        let request = admin.request(Method::POST, UPLOAD).header("content-type", "multipart/form-data; boundary=x");
        request.body(body)
    };
    let nothing = admin.request(Method::POST, UPLOAD).header("content-length", 0);
    let cases = [
        (nothing, 415, "unsupported_media_type"),
        (form(""), 400, "bad_multipart"),
        (form("--x--\r\n"), 422, "file_missing"),
        (
            form("--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nhalf a"),
            400,
            "bad_multipart",
        ),
    ];
    for (request, status, reason) in cases {
        let reply = send(admin, request).await;
        assert_refused(&reply, status, reason);
    }

    // 2 GB are refused by their announcement, before a byte of them is sent.
    let head = format!(
        "POST {UPLOAD} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n\
         content-type: multipart/form-data; boundary=x\r\n",
        admin.token()
    );
    let address = url.strip_prefix("http://").expect("an address");
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    socket.write_all(format!("{head}content-length: 2147483648\r\n\r\n").as_bytes()).await.expect("it is read");
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 413");

    // One that breaks off leaves nothing behind.
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    let part = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n";
    let piece = "cranes ".repeat(10_000);
    let body = format!("{:x}\r\n{part}\r\n{:x}\r\n{piece}\r\n", part.len(), piece.len());
    socket.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n{body}").as_bytes()).await.expect("it is read");
    socket.shutdown().await.expect("a connection can be closed");
    drop(socket);
    let begun = Instant::now();
    while !files_below(&data.join("blobs/incoming")).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "half a file lies in blobs/incoming for ever");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn files_that_cannot_be_read_end_with_their_reason_and_odd_ones_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let document = upload_cranes(&admin).await;

    let whole = pdf(&["Storks nest on chimneys.", "Herons nest in trees."]);
    let encrypted = include_bytes!("../../retrieval/tests/fixtures/user-password.pdf").to_vec();
    let bad = [
        ("encrypted.pdf", encrypted, vec!["encrypted_pdf"]),
        ("cut.pdf", whole[..200].to_vec(), vec!["damaged_pdf", "no_text"]),
        ("cut-late.pdf", whole[..whole.len() / 3].to_vec(), vec!["damaged_pdf", "no_text"]),
        (
            "noise.bin",
            (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
            vec!["unsupported_format"],
        ),
        ("blank.txt", b" \n\t\n ".to_vec(), vec!["no_text"]),
    ];
    for (name, bytes, reasons) in bad {
        let reply = admin.upload(name, bytes, None).await.expect("an answer");
        assert!(reasons.contains(&reply.reason()), "{name}: {}", reply.body);
        assert_refused(&reply, 422, reply.reason());
        let id = reply.body["error"]["details"]["document_id"].as_str().expect("it is kept as failed");
        let kept = admin.get(&format!("/api/v1/documents/{id}")).await.expect("an answer").body;
        assert_eq!(
            (&kept["status"], kept["metadata"]["failure"]["reason"].as_str()),
            (&json!("failed"), Some(reply.reason()))
        );
        let deleted = send(&admin, admin.request(Method::DELETE, &format!("/api/v1/documents/{id}"))).await;
        assert_eq!(deleted.status, 204, "{}", deleted.body);
    }

    let deep =
        format!("<html><body>{}The deepest bird is a grebe.{}", "<div>".repeat(100_000), "</div>".repeat(100_000));
    let odd = [
        ("really-a.txt", whole, "chimneys"),
        ("really-text.pdf", b"Plovers run along the shore.".to_vec(), "plovers"),
        ("latin.txt", b"The caf\xe9 \xff\xfe of the ibis, \xc3\x28 and its marshes.".to_vec(), "ibis"),
        ("deep.html", deep.into_bytes(), "grebe"),
    ];
    for (name, bytes, word) in odd {
        let reply = admin.upload(name, bytes, None).await.expect("an answer");
        assert_eq!((reply.status, &reply.body["status"]), (200, &json!("success")), "{name}: {}", reply.body);
        let found = admin.post(SEARCH, &json!({ "query": word }), None).await.expect("an answer");
        assert_eq!(found.body["results"][0]["metadata"]["filename"], name, "{}", found.body);
    }

    assert_unharmed(&admin, &document).await;
    assert!(server.sigterm().await.success());
    lmao_json(&data, &["audit", "verify"], "off");
}

/// Plain sentences, each other than all before.
fn long_text(bytes: usize) -> Vec<u8> {
    let words: Vec<&str> =
        "the river runs through a wide valley where farmers grow barley and wheat under old trees that \
                            shade stone houses while children walk home from school along quiet water"
            .split_whitespace()
            .collect();
    let mut text = String::with_capacity(bytes + 1024);
    let mut seed = 1_u32;
    while text.len() < bytes {
        for _ in 0..80 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(words[(seed >> 16) as usize % words.len()]);
            text.push(' ');
        }
        text.push_str("indeed.\n\n");
    }
    text.into_bytes()
}

#[tokio::test]
async fn a_text_of_50_mb_is_taken_in_while_the_server_goes_on_and_can_be_cancelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let document = upload_cranes(&admin).await;

    let form = reqwest::multipart::Form::new()
        .part("file", reqwest::multipart::Part::bytes(long_text(50 << 20)).file_name("long.txt"));
    let request = admin.request(Method::POST, &format!("{UPLOAD}?wait=0")).multipart(form);
    let accepted = send(&admin, request).await;
    assert_eq!((accepted.status, &accepted.body["status"]), (202, &json!("processing")), "{}", accepted.body);
    let path = format!("/api/v1/documents/{}", accepted.body["document_id"].as_str().expect("an id"));

    let mut seen: Vec<String> = vec![];
    let begun = Instant::now();
    while !seen.iter().any(|status| status == "chunking") {
        assert!(begun.elapsed() < Duration::from_secs(60), "no progress is seen: {seen:?}");
        let asked = Instant::now();
        let now = admin.get(&path).await.expect("an answer").body;
        let status = now["status"].as_str().expect("a status").to_owned();
        assert_ne!(status, "failed", "{now}");
        if seen.last() != Some(&status) {
            seen.push(status);
        }
        assert_unharmed(&admin, &document).await;
        let health = admin.get("/health").await.expect("an answer");
        assert_eq!(health.status, 200);
        assert!(asked.elapsed() < Duration::from_secs(15), "the server hangs while it takes in a file");
        sleep(Duration::from_millis(50)).await;
    }

    let deleted = send(&admin, admin.request(Method::DELETE, &path)).await;
    assert_eq!(deleted.status, 204, "{}", deleted.body);
    assert_refused(&admin.get(&path).await.expect("an answer"), 404, "document_not_found");
    let begun = Instant::now();
    let large = || {
        files_below(&data.join("blobs"))
            .iter()
            .filter(|file| file.metadata().is_ok_and(|file| file.len() > 1 << 20))
            .count()
    };
    while large() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "what was cancelled keeps its files");
        sleep(Duration::from_millis(50)).await;
    }
    assert_unharmed(&admin, &document).await;
    let found = admin.post(SEARCH, &json!({ "query": "barley" }), None).await.expect("an answer");
    assert_eq!(found.body["total_results"], 0, "nothing of it is found: {}", found.body);
    assert!(server.sigterm().await.success());
    lmao_json(&data, &["audit", "verify"], "off");
}
