//! A circuit breaker: after some calls in a row that got no answer, none is tried for a moment.
//!
//! It keeps a server that hangs from adding its time limit to every request. A call that failed for another reason got an answer.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Calls without an answer that open it.
pub(super) const MAX_FAILURES: u32 = 3;
/// How long it stays open; then calls are tried again, and the first without an answer opens it anew.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

/// The failures in a row, and until when nothing is tried.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

impl Breaker {
    /// Whether a call may be tried at `now`.
    pub(super) fn permits(&self, now: Instant) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.open_until.is_none_or(|until| now >= until)
    }

    pub(super) fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    pub(super) fn unanswered(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures >= MAX_FAILURES {
            state.open_until = now.checked_add(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_closes_with_an_answer() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..MAX_FAILURES {
            breaker.unanswered(now);
            assert!(breaker.permits(now));
        }
        breaker.answered();
        for _ in 0..MAX_FAILURES {
            assert!(breaker.permits(now), "an answer in between starts the count anew");
            breaker.unanswered(now);
        }
        assert!(!breaker.permits(now));
        let later = now + PAUSE;
        assert!(breaker.permits(later));
        breaker.unanswered(later);
        assert!(!breaker.permits(later), "one more failure is enough");
        breaker.answered();
        assert!(breaker.permits(later));
    }
}
