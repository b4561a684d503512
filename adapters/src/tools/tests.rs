//! Against a scripted server: the real protocol on a real socket, and every way in which it goes wrong.

use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::http::scripted::{Reply, Scripted, chunked, whole};

fn call() -> RemoteCall {
    RemoteCall {
        tool: "pay".to_owned(),
        arguments: json!({ "amount": 3 }),
        call_id: Uuid::from_u128(7),
        user_id: Uuid::from_u128(9),
    }
}

/// What comes of a call when this is the answer, and that it was sent once.
async fn answered(reply: Reply) -> Result<Value, EndpointError> {
    let server = Scripted::start(move |_, _| reply.clone()).await;
    let answer = HttpTool::new(&server.url).unwrap().call(&call()).await;
    assert_eq!(server.requests().len(), 1, "a call is sent once: {answer:?}");
    answer
}

fn json_reply(status: &str, body: &str) -> Reply {
    whole(status, "application/json", body.as_bytes())
}

#[tokio::test]
async fn a_call_is_one_post_with_its_key_and_the_result_is_the_answer() {
    let server = Scripted::start(|_, _| json_reply("200 OK", r#" {"paid": true} "#)).await;
    let url = server.url.replace("http://", "http://me:hush@");
    let tool = HttpTool::new(&format!("{url}/pay?token=quiet")).unwrap();
    assert_eq!(tool.call(&call()).await, Ok(json!({ "paid": true })));
    let requests = server.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /pay?token=quiet HTTP/1.1"), "{head}");
    let head = head.to_lowercase();
    for header in [
        format!("idempotency-key: {}", call().call_id),
        "content-type: application/json".to_owned(),
        "authorization: basic bwu6ahvzaa==".to_owned(),
    ] {
        assert!(head.contains(&header), "{header} is not in {head}");
    }
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), serde_json::to_value(call()).unwrap());
    let shown = format!("{tool:?}");
    assert!(!shown.contains("hush") && !shown.contains("quiet"), "{shown}");
}

#[tokio::test]
async fn an_answer_without_a_body_is_null_and_one_that_is_no_json_an_error() {
    assert_eq!(answered(whole("204 No Content", "text/plain", b"")).await, Ok(Value::Null));
    assert_eq!(answered(whole("200 OK", "text/html", b"<p>paid</p>")).await, Err(EndpointError::NotJson));
}

#[tokio::test]
async fn results_have_a_limit_however_they_come() {
    let limit = MAX_RESULT_BYTES;
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    assert!(answered(json_reply("200 OK", &text(limit))).await.is_ok());
    assert_eq!(answered(json_reply("200 OK", &text(limit + 1))).await, Err(EndpointError::TooLarge { limit }));
    // Nor does it go on for ever: this one has no end.
    let endless = chunked("application/json", &vec![vec![b' '; 4096]; limit / 4096 + 1]);
    assert_eq!(answered(endless).await, Err(EndpointError::TooLarge { limit }));
}

#[tokio::test]
async fn other_statuses_are_errors_in_the_tools_own_words_without_the_address() {
    let server = Scripted::start(|request, _| {
        let target = request.split(' ').nth(1).unwrap();
        json_reply("500 Oh", &format!("cannot POST {target}: {}", "no ".repeat(400)))
    })
    .await;
    let tool = HttpTool::new(&format!("{}/hook?token=quiet", server.url)).unwrap();
    let Err(EndpointError::Status { status: 500, message }) = tool.call(&call()).await else { panic!() };
    assert!(message.starts_with("cannot POST …: no no"), "{message}");
    assert_eq!(message.chars().count(), MESSAGE_CHARS);
    assert_eq!(server.requests().len(), 1);

    let elsewhere = b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
    let moved = answered(vec![elsewhere]).await;
    assert!(
        matches!(&moved, Err(EndpointError::Status { status: 307, message }) if message.contains("`url`")),
        "{moved:?}"
    );
}

#[tokio::test]
async fn who_breaks_off_may_have_run_it_and_who_cannot_be_reached_has_not() {
    let half = whole("200 OK", "application/json", b"[1, 2]")[0].clone();
    for broken in [vec![], vec![half, b"[1,".to_vec()], chunked("application/json", &["[1"])] {
        let answer = answered(broken).await;
        assert!(matches!(answer, Err(EndpointError::BrokeOff(_))), "{answer:?}");
    }
    let server = Scripted::start(|_, _| vec![]).await;
    let url = server.url.replace("http://", "http://me:hush@");
    drop(server);
    // The listener goes with its task.
    let tool = HttpTool::new(&url).unwrap();
    let mut answer = tool.call(&call()).await;
    for _ in 0..100 {
        if matches!(answer, Err(EndpointError::Unreachable(_))) {
            break;
        }
        tokio::task::yield_now().await;
        answer = tool.call(&call()).await;
    }
    let Err(error @ EndpointError::Unreachable(_)) = answer else { panic!("{answer:?}") };
    assert!(!error.to_string().contains("hush") && !error.to_string().contains("127.0.0.1"), "{error}");
}

#[test]
fn addresses_that_are_none_are_refused_without_being_shown() {
    for address in ["", "hush", "ftp://me:hush@host/", "http://", "http://me:hush@", "/hush"] {
        let error = HttpTool::new(address).unwrap_err();
        assert!(matches!(error, Error::Address) && !error.to_string().contains("hush"), "{address}: {error}");
    }
}
