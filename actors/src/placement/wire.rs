//! What nodes ask one another, as bytes: MessagePack by field name, so that two builds understand each other while they
//! differ by a field.

use std::{fmt, time::Duration};

use bytes::Bytes;
use lmao_events::{AnyCommand, Rejection, StreamId};
use lmao_ports::{CommandError, CommandMeta, Receipt, Unavailable};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::shell::Admission;

/// A request with the time that its sender waits for an answer: a duration, since no two clocks agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) within_millis: u64,
    pub(crate) request: Request,
}

/// What a node is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Have this decided.
    Send { stream: StreamId, command: Box<AnyCommand>, meta: CommandMeta, admission: Admission },
    /// Let this stream try again.
    Unpark { stream: StreamId },
    /// Name the streams that are set aside.
    Parked,
}

impl Request {
    /// Whether asking twice does no more than asking once: clients' commands with a key are remembered by it, those of
    /// effects are recognised by what they say.
    pub(crate) fn is_repeatable(&self) -> bool {
        match self {
            Self::Send { meta, admission, .. } => meta.command.is_some() || *admission == Admission::Internal,
            Self::Unpark { .. } | Self::Parked => true,
        }
    }
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The command was carried out.
    Done(Receipt),
    /// The stream may try again.
    Unparked,
    /// The streams that are set aside.
    Parked(Vec<(StreamId, String)>),
    /// It was not.
    Failed(Failed),
    /// Nothing happened: the stream's bucket is another node's.
    NotMine,
    /// Nothing happened: the request is not one that this build knows.
    NotUnderstood(String),
}

/// [`CommandError`] on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Failed {
    Rejected(Rejection),
    KeyReused,
    Overloaded { retry_after_millis: u64 },
    Unknown,
    Erased,
    Parked { stream: StreamId, reason: String },
    Unavailable { store: String, message: String, causes: Vec<String> },
    ShuttingDown,
}

/// Milliseconds as they are sent.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// As bytes.
pub(crate) fn encode(message: &impl Serialize) -> Bytes {
    // What cannot be encoded is not understood: an empty message is none.
    rmp_serde::to_vec_named(message).unwrap_or_default().into()
}

/// From bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

impl From<CommandError> for Failed {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Rejected(rejection) => Self::Rejected(rejection),
            CommandError::KeyReused => Self::KeyReused,
            CommandError::Overloaded { retry_after } => Self::Overloaded { retry_after_millis: millis(retry_after) },
            CommandError::Unknown => Self::Unknown,
            CommandError::Erased => Self::Erased,
            CommandError::Parked { stream, reason } => Self::Parked { stream, reason },
            CommandError::Unavailable(unavailable) => unavailable.into(),
            CommandError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<Unavailable> for Failed {
    fn from(error: Unavailable) -> Self {
        let Unavailable { store, message, source } = error;
        let source = source.as_deref().map(|source| source as &dyn std::error::Error);
        let causes = std::iter::successors(source, |cause| cause.source()).map(ToString::to_string).collect();
        Self::Unavailable { store: store.to_owned(), message, causes }
    }
}

impl From<Failed> for CommandError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Rejected(rejection) => Self::Rejected(rejection),
            Failed::KeyReused => Self::KeyReused,
            Failed::Overloaded { retry_after_millis } => {
                Self::Overloaded { retry_after: Duration::from_millis(retry_after_millis) }
            }
            Failed::Unknown => Self::Unknown,
            Failed::Erased => Self::Erased,
            Failed::Parked { stream, reason } => Self::Parked { stream, reason },
            Failed::Unavailable { store, message, causes } => unavailable(&store, message, causes).into(),
            Failed::ShuttingDown => Self::ShuttingDown,
        }
    }
}

/// The names that stores have; a newer build may know others.
const STORES: &[&str] = &[
    "actors",
    "blobs",
    "cache",
    "log",
    "log.db",
    "nats",
    "placement",
    "read.db",
    "search index",
    "snapshots",
    "snapshots.db",
    "vault",
    "vault.db",
];

fn unavailable(store: &str, message: String, causes: Vec<String>) -> Unavailable {
    let (store, message) = match STORES.iter().find(|known| **known == store) {
        Some(known) => (*known, message),
        None => ("owner", format!("{store}: {message}")),
    };
    let source = causes.into_iter().rev().fold(None, |source, text| Some(Box::new(Cause { text, source })));
    Unavailable { store, message, source: source.map(|cause| cause as _) }
}

/// What a driver said on another node.
#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use lmao_events::{
        Answer, BlobRef, Category, Citation, CommandRef, ContentHash, EffectId, Failure, Hash, Head, Position,
        RejectionKind, Timestamp, TokenUsage, Version, claim, document, session, tool_call, user, workflow,
    };
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn answer() -> Answer {
        let citation = Citation {
            n: 1,
            document_id: id(1),
            chunk_id: id(2),
            filename: "ä.md".to_owned(),
            page_number: Some(3),
            section: None,
            quote: "q".to_owned(),
            start: 1,
            end: u64::from(u32::MAX) + 1,
            score: 0.1,
        };
        Answer {
            text: "[1]".to_owned(),
            citations: vec![citation],
            model: "m".to_owned(),
            usage: Some(TokenUsage { prompt: 1, completion: 2 }),
            grounded: true,
            notices: vec![],
        }
    }

    fn commands() -> Vec<AnyCommand> {
        let context = json!({"a": [1, -2, 0.5, null, true, "x", u64::MAX], "b": {}});
        let failure = Failure::passing("r", "m");
        let effect = EffectId { version: Version(4), index: 7 };
        let started = workflow::Started {
            owner: id(1),
            session_id: id(2),
            message_id: id(3),
            asked_at: Version(9),
            query: "why".to_owned(),
            context: context.clone(),
        };
        let message = session::SendMessage {
            owner: id(1),
            message_id: id(2),
            content: "c".into(),
            context: context.clone(),
            open: true,
        };
        let uploaded = document::Uploaded {
            owner: id(1),
            filename: "f".to_owned(),
            content: BlobRef { sha256: ContentHash([9; 32]), size: 5 },
            metadata: context.clone(),
            attempt: Some(id(4)),
        };
        let requested = tool_call::Requested {
            owner: id(1),
            session_id: Some(id(2)),
            tool: "t".to_owned(),
            parameters: context,
            repeatable: false,
            timeout_millis: 30,
        };
        let registered =
            user::Registered { id: id(1), username: "u".into(), email: "e".into(), role: user::Role::User };
        let task = workflow::TaskCompleted {
            task: workflow::TaskId(1),
            result: workflow::TaskResult::Retrieved { passages: vec![], notices: vec!["n".to_owned()] },
            millis: 2,
        };
        let at = Timestamp(1_700_000_000_000_000);
        vec![
            session::Command::SendMessage(message).into(),
            session::Command::CompleteReply {
                message_id: id(1),
                answer: Box::new(answer()),
                tasks_completed: 2,
                millis: 3,
            }
            .into(),
            session::Command::FailReply { message_id: id(1), failure: failure.clone(), millis: 3 }.into(),
            workflow::Command::Start(started).into(),
            workflow::Command::RecordRun {
                effect,
                completed: vec![task],
                end: workflow::RunEnd::Answered(Box::new(answer())),
                at,
            }
            .into(),
            workflow::Command::RecordDelivery.into(),
            document::Command::Upload(uploaded).into(),
            document::Command::RecordStep { effect, outcome: document::StepOutcome::Failed(failure), at }.into(),
            document::Command::RecordStep { effect, outcome: document::StepOutcome::Indexed, at }.into(),
            document::Command::Reembed { model: "m".to_owned(), domain: Some("d".to_owned()) }.into(),
            document::Command::Delete { owner: id(1) }.into(),
            tool_call::Command::Request(requested).into(),
            tool_call::Command::RecordOutcome {
                effect,
                outcome: tool_call::Outcome::Success(json!({"n": 1.5})),
                millis: 1,
                at,
            }
            .into(),
            user::Command::Register(registered).into(),
            user::Command::RecordClaim { effect, granted: true }.into(),
            claim::Command::Claim { holder: id(1) }.into(),
            claim::Command::Release { holder: id(1) }.into(),
        ]
    }

    #[test]
    fn every_command_arrives_as_it_was_sent() {
        for (command, admission) in
            commands().into_iter().zip([Admission::Gated, Admission::Internal].into_iter().cycle())
        {
            let meta = CommandMeta {
                who: Some(id(1)),
                command: (admission == Admission::Gated).then(|| CommandRef { id: id(2), body: Hash::of(b"body") }),
                causation: id(3),
                correlation: id(4),
                traceparent: Some("00-…".to_owned()),
            };
            let stream = StreamId::new(command.category(), id(5));
            let request = Request::Send { stream, command: Box::new(command), meta, admission };
            let envelope = Envelope { within_millis: 25_000, request };
            assert_eq!(decode::<Envelope>(&encode(&envelope)).unwrap(), envelope);
        }
    }

    #[test]
    fn every_error_arrives_as_it_was_sent() {
        let stream = StreamId::new(Category::Session, id(1));
        let cause = Cause {
            text: "outer".to_owned(),
            source: Some(Box::new(Cause { text: "inner".to_owned(), source: None })),
        };
        let errors = [
            CommandError::Rejected(Rejection::new(RejectionKind::Busy, "r", "m")),
            CommandError::KeyReused,
            CommandError::Overloaded { retry_after: Duration::from_millis(1500) },
            CommandError::Unknown,
            CommandError::Erased,
            CommandError::Parked { stream, reason: "why".to_owned() },
            CommandError::Unavailable(Unavailable::new("log", "full", cause)),
            CommandError::ShuttingDown,
        ];
        for error in errors {
            let said = format!("{error:?}");
            let told: CommandError = decode::<Failed>(&encode(&Failed::from(error))).unwrap().into();
            assert_eq!(format!("{told:?}"), said);
        }
    }

    #[test]
    fn a_store_that_this_build_does_not_know_is_named_in_the_text() {
        let failed = Failed::Unavailable { store: "tape".to_owned(), message: "torn".to_owned(), causes: vec![] };
        assert_eq!(CommandError::from(failed).to_string(), "owner: tape: torn");
    }

    #[test]
    fn every_reply_arrives_as_it_was_sent() {
        let head = Head { version: Version(3), position: Position(9), hash: Hash::of(b"x") };
        let stream = StreamId::new(Category::Session, id(1));
        for reply in [
            Reply::Done(Receipt { head, repeated: true }),
            Reply::Unparked,
            Reply::Parked(vec![(stream, "why".to_owned())]),
            Reply::NotMine,
            Reply::NotUnderstood("?".to_owned()),
        ] {
            assert_eq!(decode::<Reply>(&encode(&reply)).unwrap(), reply);
        }
    }
}
