//! A tool call: one run of one tool, at most once unless the tool may be repeated.
//!
//! A tool that may not run twice is recorded as started, with a random attempt id and a deadline, before it runs. After a
//! crash nobody knows whether it ran: once the deadline and a margin have passed it becomes *uncertain*, and is never
//! silently repeated.

mod decide;
mod events;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use decide::ToolCall;
pub use events::{AttemptFailed, AttemptStarted, Event, Finished, Outcome, Requested};

use crate::{EffectId, Failure, Timestamp};

/// How often a repeatable tool is tried.
pub const MAX_ATTEMPTS: u32 = 3;
/// How long after its deadline an attempt without an outcome becomes uncertain.
pub const UNCERTAIN_AFTER: Duration = Duration::from_secs(5);
/// Bytes of a call's parameters, as JSON.
pub const MAX_PARAMETERS_BYTES: usize = 128 * 1024;
/// Bytes of a call's result, as JSON. MessagePack takes up to 2.25 times that (`0.5,` becomes nine bytes), and a result
/// has to fit one record.
pub const MAX_RESULT_BYTES: usize = 192 * 1024;
/// Bytes of a tool's name.
pub const MAX_TOOL_NAME_BYTES: usize = 255;

/// What can be asked of a tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Run this tool. Said twice, it is requested once.
    Request(Requested),
    /// Record that an attempt begins: only after this is confirmed may it run.
    BeginAttempt {
        /// The debt that is worked on.
        effect: EffectId,
        /// The attempt's random id.
        attempt: Uuid,
        /// The latest moment at which it may still be running.
        deadline: Timestamp,
    },
    /// Record how it ended.
    RecordOutcome {
        /// The debt that was worked on; an outcome of another one is ignored.
        effect: EffectId,
        /// How.
        outcome: Outcome,
        /// How long it ran, in milliseconds.
        millis: u64,
        /// When.
        at: Timestamp,
    },
}

/// The fold of a tool call's history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What was asked for; `None` before.
    pub requested: Option<Requested>,
    /// Where it stands.
    pub phase: Phase,
    /// Failed attempts so far.
    pub failures: u32,
}

/// Where a tool call stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// There is none.
    #[default]
    Absent,
    /// It is to be run, at this time or now.
    Waiting {
        /// The debt to run it.
        effect: EffectId,
        /// When to try again; now if `None`.
        retry_at: Option<Timestamp>,
    },
    /// An attempt that may not be repeated has begun.
    Started {
        /// The debt to run it.
        effect: EffectId,
        /// The debt to give it up.
        expiry: EffectId,
        /// The attempt.
        attempt: Uuid,
        /// Its deadline.
        deadline: Timestamp,
    },
    /// It ended.
    Finished(Outcome),
}

/// What a tool call owes.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Run a tool that may be repeated.
    Run(Requested),
    /// Record the beginning of an attempt, of a tool that may not.
    Begin(Requested),
    /// Run the attempt, if it was this process that began it.
    RunAttempt {
        /// What was asked for.
        requested: Requested,
        /// Which attempt.
        attempt: Uuid,
        /// The latest moment at which it may begin.
        deadline: Timestamp,
    },
    /// Say that nobody knows whether the attempt ran.
    GiveUp,
}

impl State {
    /// How it ended, if it has.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }
}

/// The outcome of an attempt that nobody saw end.
#[must_use]
pub fn uncertain() -> Outcome {
    Outcome::Uncertain(Failure::lasting(
        "outcome_unknown",
        "the process ended while the tool ran; it may or may not have taken effect, and was not repeated",
    ))
}
