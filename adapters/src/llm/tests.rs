//! Against a scripted server: the real protocol on a real socket, and every way in which it goes wrong.

use std::sync::{Arc, Mutex};

use lmao_events::TokenUsage;
use lmao_ports::ChatRole;
use serde_json::{Value, json};

use super::*;
use crate::http::scripted::{Reply, Scripted, chunked, end, whole};

const KEY: &str = "sk-very-secret";
const SSE: &str = "text/event-stream; charset=utf-8";

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn piece(text: &str) -> String {
    event(
        &json!({"id": "c1", "model": "tiny-2", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}),
    )
}

fn stop() -> String {
    event(&json!({"model": "tiny-2", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
}

fn stream(events: &[String]) -> Reply {
    let mut reply = chunked(SSE, events);
    reply.push(end());
    reply
}

fn llm(server: &Scripted) -> OpenAi {
    OpenAi::new(format!("{}/v1/", server.url), "tiny", Some(KEY.to_owned())).unwrap()
}

/// Asks a question; the outcome, and the pieces that came on the way.
async fn ask(llm: &OpenAi) -> (Result<Completion, LlmError>, Vec<String>) {
    let pieces = Arc::new(Mutex::new(vec![]));
    let sink = {
        let pieces = Arc::clone(&pieces);
        Box::new(move |piece: &str| pieces.lock().unwrap().push(piece.to_owned()))
    };
    let messages = vec![
        ChatMessage { role: ChatRole::System, content: "Be brief.".to_owned() },
        ChatMessage { role: ChatRole::User, content: "Größe?".to_owned() },
    ];
    let outcome = llm.complete(messages, 64, sink).await;
    let pieces = pieces.lock().unwrap().clone();
    (outcome, pieces)
}

async fn ask_of(
    reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static,
) -> (Result<Completion, LlmError>, Vec<String>) {
    let server = Scripted::start(reply).await;
    ask(&llm(&server)).await
}

fn passing(outcome: Result<Completion, LlmError>) -> String {
    match outcome {
        Err(LlmError::Passing(message)) => message,
        other => panic!("expected a passing failure, got {other:?}"),
    }
}

fn refused(outcome: Result<Completion, LlmError>) -> String {
    match outcome {
        Err(LlmError::Refused(message)) => message,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_stream_comes_in_pieces_and_ends_whole() {
    let usage =
        event(&json!({"model": "tiny-2", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}));
    let server = Scripted::start(move |_, _| {
        let events = [
            ": keep-alive\n\n".to_owned(),
            piece("Grö"),
            piece("ße"),
            stop(),
            usage.clone(),
            "data: [DONE]\n\n".to_owned(),
        ];
        stream(&events)
    })
    .await;
    let (outcome, pieces) = ask(&llm(&server)).await;
    let expected = Completion {
        text: "Größe".to_owned(),
        model: "tiny-2".to_owned(),
        usage: Some(TokenUsage { prompt: 9, completion: 3 }),
    };
    assert_eq!(outcome.unwrap(), expected);
    assert_eq!(pieces, ["Grö", "ße"]);

    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains(&format!("authorization: bearer {KEY}")), "{head}");
    let expected = json!({
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Größe?"}],
        "max_tokens": 64,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
}

#[tokio::test]
async fn events_may_be_cut_anywhere() {
    let text = [piece("Grö"), piece("ße"), stop(), "data: [DONE]\n\n".to_owned()].concat();
    let bytes: Vec<_> = text.into_bytes().into_iter().map(|byte| vec![byte]).collect();
    let (outcome, _) = ask_of(move |_, _| {
        let mut reply = chunked(SSE, &bytes);
        reply.push(end());
        reply
    })
    .await;
    assert_eq!(outcome.unwrap().text, "Größe");
}

#[tokio::test]
async fn a_stream_that_stops_is_not_an_answer() {
    let cut = |reply: Reply| ask_of(move |_, _| reply.clone());
    let message = passing(cut(chunked(SSE, &[piece("half")])).await.0);
    assert!(message.contains("broke"), "{message}");
    let message = passing(cut(stream(&[piece("half")])).await.0);
    assert_eq!(message, "it broke off after 4 bytes");
    // Said to be complete, though its author had not finished.
    let message = passing(cut(stream(&[piece("half"), "data: [DONE]\n\n".to_owned()])).await.0);
    assert_eq!(message, "it broke off after 4 bytes");
}

#[tokio::test]
async fn a_stream_without_done_is_whole_when_it_says_why_it_ended() {
    let (outcome, _) = ask_of(|_, _| stream(&[piece("all"), stop()])).await;
    assert_eq!(outcome.unwrap().text, "all");
}

#[tokio::test]
async fn malformed_and_failing_streams_are_passing_failures() {
    let (outcome, pieces) = ask_of(|_, _| stream(&[piece("a"), "data: {\"choices\": [\n\n".to_owned()])).await;
    assert!(passing(outcome).contains("no chunk"));
    assert_eq!(pieces, ["a"]);
    let error = event(&json!({"error": {"message": "the engine fell over", "code": 500}}));
    let (outcome, _) = ask_of(move |_, _| stream(&[piece("a"), error.clone()])).await;
    assert_eq!(passing(outcome), "the engine fell over");
    let (outcome, _) = ask_of(|_, _| {
        let mut reply = chunked(SSE, &[b"data: \xff\xfe\n\n"]);
        reply.push(end());
        reply
    })
    .await;
    assert!(passing(outcome).contains("no valid event stream"));
}

#[tokio::test]
async fn statuses_are_told_apart_and_the_key_is_never_repeated() {
    let answer = |status: &'static str, message: &'static str| {
        let body = json!({"error": {"message": message}}).to_string();
        ask_of(move |_, _| whole(status, "application/json", body.as_bytes()))
    };
    let (outcome, _) = answer("401 Unauthorized", "Incorrect API key provided: sk-very-secret.").await;
    let message = refused(outcome);
    assert_eq!(message, "it answers 401 Unauthorized: Incorrect API key provided: ….");
    assert!(refused(answer("404 Not Found", "no such model").await.0).contains("no such model"));
    assert!(passing(answer("429 Too Many Requests", "slow down").await.0).contains("slow down"));
    assert!(passing(answer("503 Service Unavailable", "loading").await.0).contains("loading"));
    let (outcome, _) = ask_of(|_, _| whole("502 Bad Gateway", "text/html", b"<h1>no upstream</h1>")).await;
    assert!(passing(outcome).contains("no upstream"));
    let (outcome, _) =
        ask_of(|_, _| vec![b"HTTP/1.1 301 Moved\r\nLocation: /v2\r\nContent-Length: 0\r\n\r\n".to_vec()]).await;
    assert!(refused(outcome).contains("llm.base_url"));
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_a_passing_failure() {
    let server = Scripted::start(|_, _| vec![]).await;
    let llm = llm(&server);
    assert!(passing(ask(&llm).await.0).contains("the connection broke"));
    drop(server);
    let message = passing(ask(&OpenAi::new("http://127.0.0.1:1/v1", "tiny", None).unwrap()).await.0);
    assert!(message.contains("no connection"), "{message}");
}

#[tokio::test]
async fn an_endpoint_that_does_not_stream_answers_at_once() {
    let body = json!({
        "model": "tiny-2", "error": null,
        "choices": [{"message": {"role": "assistant", "content": "All of it."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 5},
    });
    let (outcome, pieces) = ask_of(move |_, _| whole("200 OK", "application/json", body.to_string().as_bytes())).await;
    let completion = outcome.unwrap();
    assert_eq!((completion.text.as_str(), pieces.as_slice()), ("All of it.", ["All of it.".to_owned()].as_slice()));
    assert_eq!(completion.usage, Some(TokenUsage { prompt: 4, completion: 5 }));
    let (outcome, _) = ask_of(|_, _| whole("200 OK", "text/html", b"<html>a login page</html>")).await;
    assert!(passing(outcome).contains("no chat completion"));
}

#[tokio::test]
async fn older_and_newer_dialects_are_found_once_each() {
    let server = Scripted::start(|request, _| {
        let refuse = |message: &str| {
            whole("400 Bad Request", "application/json", json!({"error": {"message": message}}).to_string().as_bytes())
        };
        if request.contains("\"max_tokens\"") {
            refuse("Unsupported parameter: use 'max_completion_tokens' instead")
        } else if request.contains("stream_options") {
            refuse("stream_options: extra fields not permitted")
        } else {
            stream(&[piece("ok"), stop()])
        }
    })
    .await;
    assert_eq!(ask(&llm(&server)).await.0.unwrap().text, "ok");
    assert_eq!(server.requests().len(), 3);
    // One that names them whatever it gets is not asked for ever.
    let server = Scripted::start(|_, _| {
        whole("400 Bad Request", "application/json", br#"{"error": "stream_options max_completion_tokens"}"#)
    })
    .await;
    refused(ask(&llm(&server)).await.0);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn what_never_ends_is_cut() {
    let (outcome, pieces) = ask_of(|_, _| {
        let long = piece(&"x".repeat(100_000));
        stream(&vec![long; 20])
    })
    .await;
    assert!(refused(outcome).contains("more than"));
    assert_eq!(pieces.len(), 10);
    // One line without an end, and a body without one.
    let (outcome, _) = ask_of(|_, _| chunked(SSE, &vec!["x".repeat(100_000); 20])).await;
    assert!(refused(outcome).contains("more than"));
    let (outcome, _) = ask_of(|_, _| chunked("application/json", &vec![" ".repeat(100_000); 20])).await;
    assert!(refused(outcome).contains("more than"));
}

#[tokio::test]
async fn the_last_request_says_how_it_stands() {
    let server = Scripted::start(|_, n| match n {
        0 => whole("500 Internal Server Error", "application/json", br#"{"error": "out of memory"}"#),
        1 => whole("401 Unauthorized", "application/json", format!(r#"{{"error": "no such key: {KEY}"}}"#).as_bytes()),
        2 => stream(&[piece("ok"), stop()]),
        _ => stream(&[piece("and th")]),
    })
    .await;
    let llm = llm(&server);
    assert_eq!(llm.standing(), Standing::Up, "nobody has asked it yet");
    for why in [Some("out of memory"), Some("no such key: …"), None, Some("it broke off after 6 bytes")] {
        let _ = ask(&llm).await;
        match (llm.standing(), why) {
            (Standing::Down { why: said }, Some(why)) => assert!(said.contains(why), "{said}"),
            (Standing::Up, None) => {}
            other => panic!("{other:?}"),
        }
    }
    drop(server);
    let _ = ask(&llm).await;
    assert!(matches!(llm.standing(), Standing::Down { why } if why.contains("no connection")));
}

#[tokio::test]
async fn nothing_written_is_a_refusal() {
    let (outcome, _) = ask_of(|_, _| stream(&[stop()])).await;
    assert_eq!(refused(outcome), "it wrote nothing");
}

#[test]
fn nonsense_is_refused_before_anything_is_sent() {
    let new = |url: &str, model: &str, key: Option<&str>| OpenAi::new(url, model, key.map(str::to_owned));
    assert!(matches!(new("localhost:8080", "m", None), Err(Error::BaseUrl(_))));
    assert!(matches!(new("file:///etc/passwd", "m", None), Err(Error::BaseUrl(_))));
    assert!(matches!(new("http://host/v1", " ", None), Err(Error::Model)));
    assert!(matches!(new("http://host/v1", "m", Some("a\nb")), Err(Error::ApiKey)));
    let llm = new("http://user:hidden@host/v1", "m", Some(KEY)).unwrap();
    let shown = format!("{llm:?}");
    assert!(!shown.contains(KEY) && !shown.contains("hidden"), "{shown}");
}
