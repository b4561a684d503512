//! What happened in a workflow, as it is stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Answer, Failure, Timestamp, Version, event::event_set};

/// A task's number within its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TaskId(pub u16);

/// A message is to be answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// Who asked.
    pub owner: Uuid,
    /// In which session.
    pub session_id: Uuid,
    /// Which message.
    pub message_id: Uuid,
    /// The session's version that holds the message: the conversation before it is the history to consider.
    pub asked_at: Version,
    /// What was said.
    pub query: String,
    /// What the client added.
    pub context: Value,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// What is to be done.
    pub kind: TaskKind,
    /// The tasks whose results it needs.
    pub depends_on: Vec<TaskId>,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TaskKind {
    /// Search the owner's documents.
    Retrieve {
        /// What for.
        query: String,
        /// Passages wanted at most.
        max_results: u32,
    },
    /// Write the answer from what the earlier tasks found.
    Synthesize,
}

/// The plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    /// Its tasks, each after those it depends on.
    pub tasks: Vec<Task>,
}

/// A task was carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskCompleted {
    /// Which.
    pub task: TaskId,
    /// What it led to.
    pub result: TaskResult,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// What a task led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TaskResult {
    /// Passages, best first.
    Retrieved {
        /// Which; their texts are in the documents.
        passages: Vec<PassageRef>,
        /// What the reader should know: a leg that was off.
        notices: Vec<String>,
    },
    /// The answer, which stands in its own event.
    Synthesized,
}

/// A passage that was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PassageRef {
    /// The document.
    pub document_id: Uuid,
    /// The passage.
    pub chunk_id: Uuid,
    /// Its score; comparable within one search only.
    pub score: f32,
}

/// A task failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskFailed {
    /// Which.
    pub task: TaskId,
    /// Why.
    pub failure: Failure,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// The answer is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnswerSynthesized {
    /// The answer.
    pub answer: Answer,
}

/// There will be no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowFailed {
    /// The task that failed for good.
    pub task: TaskId,
    /// Why.
    pub failure: Failure,
}

/// The session has the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyDelivered {}

event_set! {
    /// What can happen in a workflow.
    Workflow {
        Started = 1,
        Planned = 1,
        TaskCompleted = 1,
        TaskFailed = 1,
        AnswerSynthesized = 1,
        WorkflowFailed = 1,
        ReplyDelivered = 1,
    } upcasters &[]
}
