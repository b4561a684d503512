//! Tool calls.

use lmao_events::{
    Timestamp,
    tool_call::{Event, Finished, Outcome},
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{At, Changes};

/// A new call: id, session, tool, parameters, when.
#[derive(Debug, Serialize)]
pub(crate) struct ExecutionRecord(
    pub(crate) Uuid,
    pub(crate) Option<Uuid>,
    pub(crate) String,
    pub(crate) Value,
    pub(crate) Timestamp,
);

/// The end of a call: id, status, result, milliseconds, what went wrong.
#[derive(Debug, Serialize)]
pub(crate) struct FinishedExecution(
    pub(crate) Uuid,
    pub(crate) &'static str,
    pub(crate) Option<Value>,
    pub(crate) u64,
    pub(crate) Option<String>,
);

pub(super) fn take(changes: &mut Changes, at: At, event: &Event) {
    match event {
        Event::Requested(requested) => changes.executions.push(ExecutionRecord(
            at.id,
            requested.session_id,
            requested.tool.clone(),
            requested.parameters.clone(),
            at.time,
        )),
        Event::Finished(finished) => changes.finished.push(end(at, finished)),
        // A call runs until it ends, however many attempts that takes.
        Event::AttemptStarted(_) | Event::AttemptFailed(_) => {}
    }
}

fn end(at: At, Finished { outcome, millis }: &Finished) -> FinishedExecution {
    let (status, result, error) = match outcome {
        Outcome::Success(result) => ("success", Some(result.clone()), None),
        Outcome::Error(failure) => ("error", None, Some(failure)),
        Outcome::Timeout(failure) => ("timeout", None, Some(failure)),
        Outcome::Uncertain(failure) => ("uncertain", None, Some(failure)),
    };
    FinishedExecution(at.id, status, result, *millis, error.map(|failure| failure.message.clone()))
}
