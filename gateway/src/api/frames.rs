//! What goes over a chat socket, in both directions. Pure: from events and live frames to frames of the wire.

use lmao_events::{
    AnyEvent,
    session::{Event, MessageReceived, ReplyCompleted, workflow_of},
};
use lmao_ports::Frame;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::chat::ChatMetadata;
use crate::{body::parse, error::ApiError, turn};

/// What a client sends.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields, expecting = "an object")]
pub(super) enum Sent {
    /// Something to answer.
    Message {
        content: String,
        #[serde(default)]
        context: Option<Map<String, Value>>,
    },
}

impl Sent {
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        parse(text.as_bytes()).map_err(|error| {
            let text = format!(r#"a frame is {{"type": "message", "content": "…"}}; {}"#, error.message);
            ApiError { reason: "bad_frame".into(), message: text, ..error }
        })
    }
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Shown {
    #[serde(rename = "type")]
    kind: &'static str,
    content: String,
    metadata: Map<String, Value>,
}

impl Shown {
    fn new(kind: &'static str, content: impl Into<String>, metadata: Value) -> Self {
        let metadata = match metadata {
            Value::Object(metadata) => metadata,
            _ => Map::new(),
        };
        Self { kind, content: content.into(), metadata }
    }

    /// The first frame: which session this is.
    pub(super) fn connected(session: Uuid) -> Self {
        let metadata = json!({ "state": "connected", "session_id": session });
        Self::new("status", "connected", metadata)
    }

    pub(super) fn error(error: &ApiError) -> Self {
        let mut metadata = error.all_details();
        metadata.insert("code".to_owned(), error.status.as_u16().into());
        Self { kind: "error", content: error.message.clone(), metadata }
    }

    /// What an event of the session shows, if anything.
    pub(super) fn of_event(session: Uuid, event: &AnyEvent) -> Option<Self> {
        let AnyEvent::Session(event) = event else { return None };
        match event {
            Event::Opened(_) => None,
            Event::MessageReceived(MessageReceived { message_id, .. }) => {
                let metadata = json!({
                    "state": "received", "session_id": session,
                    "message_id": message_id, "plan_id": workflow_of(*message_id),
                });
                Some(Self::new("status", "the message was received", metadata))
            }
            Event::ReplyCompleted(reply) => Some(Self::answer(session, reply.clone())),
            Event::ReplyFailed(failed) => Some(Self::error(&turn::failed(session, failed.clone()))),
        }
    }

    fn answer(session: Uuid, reply: ReplyCompleted) -> Self {
        let (text, metadata) = ChatMetadata::of(reply);
        let mut metadata = serde_json::to_value(metadata).unwrap_or_default();
        metadata["session_id"] = json!(session);
        metadata["partial"] = json!(false);
        Self::new("message", text, metadata)
    }

    /// What a live frame shows, if anything.
    pub(super) fn of_live(session: Uuid, frame: Frame) -> Option<Self> {
        match frame {
            Frame::Token { message_id, n, text } => {
                let metadata = json!({ "partial": true, "n": n, "session_id": session, "message_id": message_id });
                Some(Self::new("message", text, metadata))
            }
            Frame::Status { of, state, text } => {
                let metadata = json!({ "state": state, "session_id": session, "message_id": of });
                Some(Self::new("status", text, metadata))
            }
            Frame::Committed { .. } => None,
        }
    }

    /// The frame as text, with the position that the client has seen when it has seen this.
    pub(super) fn at(mut self, position: String) -> String {
        self.metadata.insert("position".to_owned(), position.into());
        serde_json::to_string(&self).unwrap_or_default()
    }
}

/// The message that a live frame is about.
pub(super) const fn about(frame: &Frame) -> Option<Uuid> {
    match frame {
        Frame::Token { message_id, .. } => Some(*message_id),
        Frame::Status { of, .. } => Some(*of),
        Frame::Committed { .. } => None,
    }
}

/// The message that an event closes.
pub(super) const fn closed(event: &AnyEvent) -> Option<Uuid> {
    match event {
        AnyEvent::Session(Event::ReplyCompleted(reply)) => Some(reply.message_id),
        AnyEvent::Session(Event::ReplyFailed(reply)) => Some(reply.message_id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lmao_events::Answer;

    use super::*;

    #[test]
    fn frames_have_the_three_types_of_the_spec() {
        let (session, message_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let shown =
            |shown: Option<Shown>| -> Value { serde_json::from_str(&shown.unwrap().at("log:7".to_owned())).unwrap() };
        let token = Frame::Token { message_id, n: 3, text: "wor".to_owned() };
        assert_eq!(about(&token), Some(message_id));
        let token = shown(Shown::of_live(session, token));
        assert_eq!((&token["type"], &token["content"]), (&json!("message"), &json!("wor")));
        assert_eq!(token["metadata"]["partial"], true);
        assert_eq!(token["metadata"]["position"], "log:7");

        let answer = Answer {
            text: "word".to_owned(),
            citations: vec![],
            model: "extractive".to_owned(),
            usage: None,
            grounded: false,
            notices: vec![],
        };
        let reply = ReplyCompleted { message_id, answer, tasks_completed: 2, millis: 1500 };
        let event = AnyEvent::Session(reply.into());
        assert_eq!(closed(&event), Some(message_id));
        let answer = shown(Shown::of_event(session, &event));
        assert_eq!((&answer["type"], &answer["content"]), (&json!("message"), &json!("word")));
        assert_eq!(answer["metadata"]["partial"], false);
        assert_eq!(answer["metadata"]["execution_time"], 1.5);
        assert_eq!(answer["metadata"]["citations"], json!([]));
    }

    #[test]
    fn a_frame_that_is_none_says_what_one_is() {
        for bad in [
            "",
            "hello",
            "[]",
            "{}",
            r#"{"type":"message"}"#,
            r#"{"type":"shout","content":"x"}"#,
            r#"{"type":"message","content":"x","contxt":{}}"#,
        ] {
            let error = Sent::parse(bad).unwrap_err();
            assert_eq!(error.reason, "bad_frame", "{bad}");
            let shown = Shown::error(&error);
            assert_eq!((shown.kind, &shown.metadata["reason"]), ("error", &json!("bad_frame")));
        }
        let Sent::Message { content, context } = Sent::parse(r#"{"type":"message","content":"x"}"#).unwrap();
        assert_eq!((content.as_str(), context), ("x", None));
    }
}
