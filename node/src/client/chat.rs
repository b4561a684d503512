//! A conversation over the WebSocket of the API: one question, its answer piece by piece.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _, http::HeaderValue},
};
use uuid::Uuid;

use super::Client;
use crate::exit::{Code, Stop};

/// A server that says nothing for so long, not even a ping, is gone.
const SILENCE: Duration = Duration::from_secs(180);
const CONNECT: Duration = Duration::from_secs(10);

/// An open conversation.
pub(crate) struct Chat {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ChatEvent {
    /// What it is doing.
    Status(String),
    /// A piece of the answer; `begins_anew` when what was written before is void.
    Piece {
        /// The text.
        text: String,
        /// The attempt before it was given up.
        begins_anew: bool,
    },
    /// The whole answer, with the metadata of the API.
    Answer {
        /// The text.
        text: String,
        /// Citations, session and more.
        metadata: Value,
    },
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    metadata: Value,
}

impl Chat {
    /// Opens `session`, or a new one.
    ///
    /// # Errors
    /// As of any request.
    pub(crate) async fn open(client: &Client, session: Option<Uuid>) -> Result<Self, Stop> {
        let Some(host) = client.base().strip_prefix("http://") else {
            return Err(Stop::new(Code::Failed, "answers are streamed over http:// only in this build"));
        };
        let session = session.map_or_else(|| "new".to_owned(), |id| id.to_string());
        let broken = |error| connecting(client.base(), error);
        let mut request = format!("ws://{host}/api/v1/chat/ws/{session}").into_client_request().map_err(broken)?;
        let token = HeaderValue::from_str(&format!("Bearer {}", client.token().await?))
            .map_err(|error| Stop::new(Code::Refused, "the token has characters that no token has").because(error))?;
        request.headers_mut().insert("Authorization", token);
        match tokio::time::timeout(CONNECT, connect_async(request)).await {
            Ok(Ok((socket, _))) => Ok(Self { socket }),
            Ok(Err(error)) => Err(connecting(client.base(), error)),
            Err(_) => {
                Err(Stop::new(Code::Unreachable, format!("the server at {} did not answer in time", client.base())))
            }
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// [`Code::Unreachable`] when the connection broke.
    pub(crate) async fn ask(&mut self, question: &str) -> Result<(), Stop> {
        let message = json!({ "type": "message", "content": question }).to_string();
        self.socket.send(Message::text(message)).await.map_err(broke)
    }

    /// What the server says next.
    ///
    /// # Errors
    /// [`Code::Failed`] with the server's own error, [`Code::Unreachable`] when the connection broke or stayed silent.
    pub(crate) async fn next(&mut self) -> Result<ChatEvent, Stop> {
        loop {
            let message = tokio::time::timeout(SILENCE, self.socket.next())
                .await
                .map_err(|_| Stop::new(Code::Unreachable, format!("the server has said nothing for {SILENCE:?}")))?;
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_))) | None => {
                    return Err(Stop::new(
                        Code::Unreachable,
                        "the server closed the connection before the answer was complete",
                    )
                    .hint("the answer may still come: look at the session's messages"));
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(broke(error)),
            };
            let frame: Frame =
                serde_json::from_str(&text).map_err(|error| super::error::not_ours("the server", error))?;
            if let Some(event) = understood(frame)? {
                return Ok(event);
            }
        }
    }
}

fn understood(frame: Frame) -> Result<Option<ChatEvent>, Stop> {
    let Frame { kind, content, metadata } = frame;
    Ok(match kind.as_str() {
        "status" => Some(ChatEvent::Status(content)),
        "message" if metadata["partial"] == true => {
            Some(ChatEvent::Piece { text: content, begins_anew: metadata["n"] == 0 })
        }
        "message" => Some(ChatEvent::Answer { text: content, metadata }),
        "error" => return Err(refused(&content, &metadata)),
        // A newer server may have more to say.
        _ => None,
    })
}

/// A frame says the same as an answer's body, and no header with it.
fn refused(message: &str, metadata: &Value) -> Stop {
    let status = metadata["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let status = status.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // So much time brings one more request.
    let wait = metadata["limit_per_minute"].as_u64().map(|limit| Duration::from_secs(60_u64.div_ceil(limit.max(1))));
    let body = json!({ "error": { "message": message, "details": metadata } });
    super::error::refusal(status, wait, body.to_string().as_bytes())
}

fn connecting(base: &str, error: tungstenite::Error) -> Stop {
    if let tungstenite::Error::Http(response) = &error {
        let wait = super::error::wait(response.headers());
        return super::error::refusal(response.status(), wait, response.body().as_deref().unwrap_or_default());
    }
    Stop::new(Code::Unreachable, format!("no server answers at {base}"))
        .because(error)
        .hint("start one with `lmao serve`, or name another with --server or --data")
}

fn broke(error: tungstenite::Error) -> Stop {
    Stop::new(Code::Unreachable, "the connection to the server broke").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<ChatEvent>, Stop> {
        understood(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn frames_are_told_apart() {
        let piece = read(r#"{"type":"message","content":"Hel","metadata":{"partial":true,"n":0}}"#).unwrap();
        assert_eq!(piece, Some(ChatEvent::Piece { text: "Hel".into(), begins_anew: true }));
        let piece = read(r#"{"type":"message","content":"lo","metadata":{"partial":true,"n":1}}"#).unwrap();
        assert_eq!(piece, Some(ChatEvent::Piece { text: "lo".into(), begins_anew: false }));
        let whole = read(r#"{"type":"message","content":"Hello","metadata":{"citations":[]}}"#).unwrap();
        assert_eq!(whole, Some(ChatEvent::Answer { text: "Hello".into(), metadata: json!({"citations": []}) }));
        let status = read(r#"{"type":"status","content":"searching"}"#).unwrap();
        assert_eq!(status, Some(ChatEvent::Status("searching".into())));
        assert_eq!(read(r#"{"type":"later"}"#).unwrap(), None);
        let error = read(r#"{"type":"error","content":"no","metadata":{"code":404}}"#).unwrap_err();
        assert_eq!((error.code, error.to_string()), (Code::Refused, "no".to_owned()));
        let busy = r#"{"type":"error","content":"later","metadata":{"code":429,"reason":"rate_limited","limit_per_minute":25}}"#;
        let busy = read(busy).unwrap_err();
        assert_eq!((busy.code, busy.short_wait()), (Code::Failed, Some(Duration::from_secs(3))));
    }
}
