//! A session: one person's conversation. Its messages are answered one after the other, each by a workflow of its own.

mod decide;
mod events;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use decide::Session;
pub use events::{Event, MessageReceived, Opened, ReplyCompleted, ReplyFailed};

use crate::{Answer, EffectId, Failure, derive_id};

/// Messages of one session that may wait for their answers.
pub const MAX_OPEN_TURNS: usize = 8;
/// Bytes of all messages of one session that wait for their answers.
pub const MAX_OPEN_BYTES: usize = 256 * 1024;
/// Bytes of one message.
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;
/// Bytes of a message's `context`, as JSON.
pub const MAX_CONTEXT_BYTES: usize = 32 * 1024;

/// What can be asked of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Say something.
    SendMessage(SendMessage),
    /// Record the answer that a workflow gives. Said twice, it is recorded once.
    CompleteReply {
        /// The message that is answered.
        message_id: Uuid,
        /// The answer.
        answer: Box<Answer>,
        /// How many of the plan's tasks were carried out.
        tasks_completed: u32,
        /// From the message to the answer, in milliseconds.
        millis: u64,
    },
    /// Record that a workflow could not answer. Said twice, it is recorded once.
    FailReply {
        /// The message that stays without an answer.
        message_id: Uuid,
        /// Why.
        failure: Failure,
        /// From the message to the failure, in milliseconds.
        millis: u64,
    },
}

/// A message of the person who owns the session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SendMessage {
    /// Who says it.
    pub owner: Uuid,
    /// The message's id, new for each message.
    pub message_id: Uuid,
    /// What is said, 1 to [`MAX_MESSAGE_BYTES`] bytes.
    pub content: String,
    /// What the client wants the agent to know: a JSON object, at most [`MAX_CONTEXT_BYTES`].
    pub context: Value,
    /// Open the session first if it does not exist.
    pub open: bool,
}

/// A message that waits for its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The message's id.
    pub message_id: Uuid,
    /// What was said.
    pub content: String,
    /// What the client added.
    pub context: Value,
    /// The debt to have it answered.
    pub effect: EffectId,
}

/// The fold of a session's history. Bounded: it holds open turns only, never the conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Whose conversation this is; `None` before it is opened.
    pub owner: Option<Uuid>,
    /// Messages that wait for their answers, oldest first.
    pub turns: VecDeque<Turn>,
    /// Messages received so far.
    pub received: u64,
    /// The last message that was answered or failed: repeats of its outcome are recognised.
    pub last_closed: Option<Uuid>,
}

/// What a session owes: to have its oldest open message answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// The workflow to start; the same one however often this is tried.
    pub workflow_id: Uuid,
    /// The owner.
    pub owner: Uuid,
    /// The message.
    pub message_id: Uuid,
    /// What was said.
    pub content: String,
    /// What the client added.
    pub context: Value,
}

/// The workflow that answers a message.
#[must_use]
pub fn workflow_of(message_id: Uuid) -> Uuid {
    derive_id(message_id, "workflow")
}

/// The id of the message that answers a message.
#[must_use]
pub fn reply_of(message_id: Uuid) -> Uuid {
    derive_id(message_id, "reply")
}
