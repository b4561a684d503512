//! What is sent again, and what is not: a client of a server that gives the answers of a list.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

/// Gives each request the next of `answers` and closes the connection; returns what it was sent, head by head.
async fn server(answers: &[(u16, &str)]) -> (Client, JoinHandle<Vec<String>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<String> = answers
        .iter()
        .map(|(status, body)| {
            let length = body.len();
            format!(
                "HTTP/1.1 {status} X\r\nRetry-After: 0\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        })
        .collect();
    let asked = tokio::spawn(async move {
        let mut heads = vec![];
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            // What is closed with something unread is reset, and the answer with it.
            let _ = stream.read_to_end(&mut vec![]).await;
            heads.push(String::from_utf8(request).unwrap());
        }
        heads
    });
    (Client::new(&base, Credentials::Token("t".to_owned())).unwrap(), asked)
}

fn key(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.to_lowercase().starts_with("idempotency-key: ").then(|| &line[17..]))
}

const BUSY: &str = r#"{"error": {"message": "busy", "details": {"reason": "session_busy"}}}"#;
const UNKNOWN: &str = r#"{"error": {"message": "who knows", "details": {"reason": "outcome_unknown"}}}"#;
const RECORDED: &str = r#"{"error": {"message": "it failed", "details": {"reason": "llm_failed", "message_id": "7"}}}"#;

#[tokio::test]
async fn what_may_have_been_done_is_sent_again_under_the_same_key() {
    let (client, asked) = server(&[(503, UNKNOWN), (503, BUSY), (502, ""), (200, "{}")]).await;
    client.post::<Value>("/message", &json!({})).await.unwrap();
    let heads = asked.await.unwrap();
    let keys: Vec<_> = heads.iter().map(|head| key(head).unwrap()).collect();
    assert_eq!((keys.len(), keys[0]), (4, keys[3]));
}

#[tokio::test]
async fn without_a_key_it_is_sent_again_only_when_it_was_turned_away() {
    for (answer, code) in [((503, UNKNOWN), Code::Failed), ((504, ""), Code::Unreachable)] {
        let (client, asked) = server(&[(503, BUSY), answer]).await;
        let stop = client.send(async || Ok(client.request(Method::POST, "/retry", &[]))).await.err().unwrap();
        assert_eq!(stop.code, code);
        assert!(asked.await.unwrap().iter().all(|head| key(head).is_none()));
    }
}

#[tokio::test]
async fn a_failure_that_is_kept_is_told_at_once() {
    let (client, asked) = server(&[(503, RECORDED)]).await;
    let stop = client.post::<Value>("/message", &json!({})).await.err().unwrap();
    assert_eq!((stop.code, stop.to_string().as_str()), (Code::Failed, "it failed"));
    asked.await.unwrap();
}

#[tokio::test]
async fn a_server_that_stays_busy_has_answered() {
    let busy = vec![(503, BUSY); MAX_RETRIES as usize + 1];
    let (client, asked) = server(&busy).await;
    let stop = client.get::<Value>("/documents", &[]).await.err().unwrap();
    assert_eq!(stop.code, Code::Failed);
    asked.await.unwrap();
}

/// Gives the tokens `1`, `2` and so on.
struct Counting(std::sync::atomic::AtomicU32);

#[async_trait]
impl Issuer for Counting {
    async fn issue(&self) -> Result<String, Stop> {
        Ok((self.0.fetch_add(1, Ordering::Relaxed) + 1).to_string())
    }
}

#[tokio::test]
async fn a_token_that_ran_out_is_issued_anew() {
    const EXPIRED: &str = r#"{"error": {"message": "expired", "details": {"reason": "token_expired"}}}"#;
    let (mut client, asked) = server(&[(200, "{}"), (401, EXPIRED), (200, "{}")]).await;
    client.credentials = Credentials::Issued(Arc::new(Counting(0.into())));
    for _ in 0..2 {
        client.get::<Value>("/documents", &[]).await.unwrap();
    }
    let token = |head: &String| head.lines().find_map(|line| line.split_once("Bearer ")).unwrap().1.to_owned();
    let tokens: Vec<_> = asked.await.unwrap().iter().map(token).collect();
    assert_eq!(tokens, ["1", "1", "2"]);
}

#[tokio::test]
async fn too_many_requests_are_no_refusal_and_say_how_long_to_wait() {
    const MANY: &str = r#"{"error": {"message": "too many", "details": {"reason": "rate_limited"}}}"#;
    let (client, asked) = server(&vec![(429, MANY); MAX_RETRIES as usize + 1]).await;
    let stop = client.get::<Value>("/documents", &[]).await.err().unwrap();
    assert_eq!((stop.code, stop.short_wait()), (Code::Failed, Some(Duration::ZERO)));
    asked.await.unwrap();
}
