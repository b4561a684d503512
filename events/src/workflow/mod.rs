//! A workflow: the planned answer to one message. `plan -> tasks -> answer -> delivery`.
//!
//! Tasks that may be repeated and feed one another are run as one chain, and their outcomes recorded in one commit: a
//! crash in between repeats them, which costs less than a disk sync for each.

mod decide;
mod events;
mod plan;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use decide::Workflow;
pub use events::{
    AnswerSynthesized, Event, PassageRef, Planned, ReplyDelivered, Started, Task, TaskCompleted, TaskFailed, TaskId,
    TaskKind, TaskResult, WorkflowFailed,
};

use crate::{Answer, EffectId, Failure, Timestamp};

/// How often a task is tried before the workflow gives up.
pub const MAX_ATTEMPTS: u32 = 3;
/// Bytes of an answer with its citations, as JSON: it is recorded by the workflow and by the session.
pub const MAX_ANSWER_BYTES: usize = 192 * 1024;
/// Bytes of the results of all tasks of one run, as JSON: they are one commit with the answer.
pub const MAX_RESULTS_BYTES: usize = 192 * 1024;

/// What can be asked of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Answer this message. Said twice, it is started once.
    Start(Started),
    /// Record what a run of tasks led to.
    RecordRun {
        /// The debt that was worked on; an outcome of another one is ignored.
        effect: EffectId,
        /// The tasks that were carried out, in order.
        completed: Vec<TaskCompleted>,
        /// How the run ended.
        end: RunEnd,
        /// When.
        at: Timestamp,
    },
    /// Record that the session has the outcome.
    RecordDelivery,
}

/// How a run of tasks ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RunEnd {
    /// With the answer.
    Answered(Box<Answer>),
    /// Without one.
    Failed {
        /// The task that failed, or a finished one whose findings could not be had again.
        task: TaskId,
        /// Why.
        failure: Failure,
    },
}

/// The fold of a workflow's history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Nothing has happened yet.
    #[default]
    New,
    /// Tasks remain.
    Running(Box<Running>),
    /// The outcome is known.
    Ended(Box<Ended>),
}

/// A workflow with tasks that remain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// What it was started with.
    pub started: Started,
    /// When.
    pub since: Timestamp,
    /// The plan; empty until it is made.
    pub tasks: Vec<Task>,
    /// What has been carried out.
    pub completed: Vec<TaskCompleted>,
    /// Failures of the task that is next.
    pub failures: u32,
    /// The debt to go on.
    pub effect: EffectId,
    /// When to go on; now if `None`.
    pub retry_at: Option<Timestamp>,
}

/// A workflow whose outcome is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// What it was started with.
    pub started: Started,
    /// The outcome.
    pub outcome: Outcome,
    /// How many tasks were carried out.
    pub tasks_completed: u32,
    /// From the start to the outcome, in milliseconds.
    pub millis: u64,
    /// The debt to tell the session; `None` once it has the outcome.
    pub delivery: Option<EffectId>,
}

/// What a workflow led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// An answer.
    Answered(Answer),
    /// Nothing.
    Failed(Failure),
}

/// What a workflow owes.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Carry out these tasks, in this order; all may be repeated.
    Run {
        /// What the workflow was started with.
        started: Box<Started>,
        /// The tasks that remain.
        tasks: Vec<Task>,
        /// What earlier tasks led to.
        completed: Vec<TaskCompleted>,
    },
    /// Tell the session.
    Deliver(Box<Ended>),
}

/// A JSON object with nothing in it: the context of a message that has none.
#[must_use]
pub fn no_context() -> Value {
    Value::Object(serde_json::Map::new())
}
