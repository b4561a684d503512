//! The plan that is made without a language model: retrieve, then synthesize.

use super::{Started, Task, TaskId, TaskKind};

/// Passages that an answer may draw on.
const PASSAGES: u32 = 12;

/// The tasks that answer this message. Pure, so that the plan is decided in the same commit as the start.
pub(super) fn plan(started: &Started) -> Vec<Task> {
    let retrieve = TaskKind::Retrieve { query: started.query.clone(), max_results: PASSAGES };
    vec![
        Task { id: TaskId(1), kind: retrieve, depends_on: vec![] },
        Task { id: TaskId(2), kind: TaskKind::Synthesize, depends_on: vec![TaskId(1)] },
    ]
}
