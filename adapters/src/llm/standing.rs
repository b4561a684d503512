//! How an endpoint stands, by its last request: for whoever runs the system, who sees neither the questions nor their answers.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::Standing;

/// A line in the log at most so often: each message may fail, and there may be many.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct State {
    /// Why the last request failed, if it did.
    why: Option<String>,
    /// When a failure was logged last.
    told: Option<Instant>,
    /// Failures since then.
    untold: u64,
}

/// What became of the last request.
#[derive(Debug, Default)]
pub(super) struct LastRequest(Mutex<State>);

impl LastRequest {
    /// It was answered in full.
    pub(super) fn answered(&self, model: &str) {
        let mut state = self.lock();
        if state.why.take().is_some() && state.untold == 0 {
            drop(state);
            tracing::info!(model, "the language model answers again");
        }
    }

    /// It failed: `why`, for people, without secrets.
    pub(super) fn failed(&self, model: &str, why: &str) {
        if let Some(untold) = self.failed_at(Instant::now(), why) {
            tracing::warn!(model, why, untold, "the language model failed");
        }
    }

    /// How it stands.
    pub(super) fn standing(&self) -> Standing {
        self.lock().why.clone().map_or(Standing::Up, |why| Standing::Down { why })
    }

    /// The failures that were not logged before this one, if this one is to be.
    fn failed_at(&self, now: Instant, why: &str) -> Option<u64> {
        let mut state = self.lock();
        state.why = Some(why.to_owned());
        if state.told.is_some_and(|told| now.duration_since(told) < LINE_EVERY) {
            state.untold += 1;
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_failures_are_one_line() {
        let (last, now) = (LastRequest::default(), Instant::now());
        assert_eq!(last.failed_at(now, "gone"), Some(0));
        assert_eq!(last.failed_at(now + LINE_EVERY / 2, "bad key"), None);
        assert_eq!(last.standing(), Standing::Down { why: "bad key".to_owned() }, "what is not logged is known");
        last.answered("m");
        assert_eq!(last.standing(), Standing::Up);
        assert_eq!(last.failed_at(now + LINE_EVERY / 2, "gone"), None);
        assert_eq!(last.failed_at(now + LINE_EVERY, "gone"), Some(2));
    }
}
