//! Commands: the one way to ask the core to do something.

use std::{borrow::Cow, fmt::Debug, time::Duration};

use async_trait::async_trait;
use lmao_events::{AnyCommand, CommandRef, Head, Rejection, StreamId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Span, Unavailable};

/// Who asks, and on what behalf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandMeta {
    /// The person; `None` for the system.
    pub who: Option<Uuid>,
    /// The client's idempotency key with the hash of its request, if it sent one.
    pub command: Option<CommandRef>,
    /// What this follows from: the request, or the commit whose effect this is.
    pub causation: Uuid,
    /// The request at the beginning of the chain.
    pub correlation: Uuid,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl CommandMeta {
    /// The same, as what is done within `span`: it goes on with that trace. Unchanged where there is no span.
    #[must_use]
    pub fn within(&self, span: &Span) -> Cow<'_, Self> {
        match span.traceparent() {
            Some(traceparent) => Cow::Owned(Self { traceparent: Some(traceparent), ..self.clone() }),
            None => Cow::Borrowed(self),
        }
    }
}

/// A command was carried out, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The stream's head after it.
    pub head: Head,
    /// It had been carried out before: this is the first outcome again.
    pub repeated: bool,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The decider refused it; nothing happened.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The same idempotency key came with another request.
    #[error("this Idempotency-Key was used with another request")]
    KeyReused,
    /// Too many wait already.
    #[error("too many requests wait; try again in {retry_after:?}")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// Nobody knows whether it was carried out: ask again with the same idempotency key.
    #[error("the outcome is unknown; retry with the same Idempotency-Key")]
    Unknown,
    /// The stream's person was erased.
    #[error("what this belonged to was erased")]
    Erased,
    /// The stream keeps failing and is set aside until an operator retries it.
    #[error("{stream} is parked: {reason}")]
    Parked {
        /// The stream.
        stream: StreamId,
        /// Why.
        reason: String,
    },
    /// A store that it needs cannot be used; nothing happened.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The process is ending.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Sends commands to whoever owns their stream.
#[async_trait]
pub trait Commands: Debug + Send + Sync {
    /// Has `command` decided by `stream` and its events stored.
    ///
    /// A cancelled call may still be carried out.
    async fn send(&self, stream: StreamId, command: AnyCommand, meta: CommandMeta) -> Result<Receipt, CommandError>;

    /// Streams that keep failing and were set aside, with the reason.
    async fn parked(&self) -> Result<Vec<(StreamId, String)>, Unavailable>;

    /// Lets a parked stream try again.
    async fn unpark(&self, stream: StreamId) -> Result<(), Unavailable>;
}
