//! What happened in a session, as it is stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Answer, Failure, event::event_set};

/// A conversation begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// Whose it is.
    pub owner: Uuid,
}

/// The owner said something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageReceived {
    /// The message's id.
    pub message_id: Uuid,
    /// What was said.
    pub content: String,
    /// What the client wants the agent to know.
    pub context: Value,
}

/// A message was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyCompleted {
    /// The message that is answered.
    pub message_id: Uuid,
    /// The answer.
    pub answer: Answer,
    /// How many of the plan's tasks were carried out.
    pub tasks_completed: u32,
    /// From the message to the answer, in milliseconds.
    pub millis: u64,
}

/// A message stays without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyFailed {
    /// The message.
    pub message_id: Uuid,
    /// Why.
    pub failure: Failure,
    /// From the message to the failure, in milliseconds.
    pub millis: u64,
}

event_set! {
    /// What can happen in a session.
    Session { Opened = 1, MessageReceived = 1, ReplyCompleted = 1, ReplyFailed = 1 } upcasters &[]
}
