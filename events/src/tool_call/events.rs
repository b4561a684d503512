//! What happened to a tool call, as it is stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Failure, Timestamp, event::event_set};

/// A tool is to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Requested {
    /// Who asked.
    pub owner: Uuid,
    /// In which session, if in any.
    pub session_id: Option<Uuid>,
    /// The tool's name.
    pub tool: String,
    /// Its parameters: a JSON object.
    pub parameters: Value,
    /// Whether running it twice does no harm.
    pub repeatable: bool,
    /// How long it may run, in milliseconds.
    pub timeout_millis: u64,
}

/// An attempt that may not be repeated begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptStarted {
    /// Its random id.
    pub attempt: Uuid,
    /// The latest moment at which it may still be running.
    pub deadline: Timestamp,
}

/// An attempt of a repeatable tool failed for a passing reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptFailed {
    /// Why.
    pub failure: Failure,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// The call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finished {
    /// How.
    pub outcome: Outcome,
    /// How long it ran, in milliseconds.
    pub millis: u64,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a result: any JSON.
    Success(Value),
    /// The tool said no.
    Error(Failure),
    /// It ran too long and was stopped.
    Timeout(Failure),
    /// Nobody knows whether it ran.
    Uncertain(Failure),
}

event_set! {
    /// What can happen to a tool call.
    ToolCall { Requested = 1, AttemptStarted = 1, AttemptFailed = 1, Finished = 1 } upcasters &[]
}
