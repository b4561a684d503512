//! A circuit breaker: after some failures in a row a server is left alone for a moment, and whoever wants it is told so at once
//! instead of waiting for it.
//!
//! Closed, every call is let through. After [`MAX_FAILURES`] in a row it opens for a pause of [`FIRST_PAUSE`]; then it is
//! half open: one call is let through for each further pause, the others are not. The first answer closes it, a failure
//! doubles the pause up to [`LONGEST_PAUSE`], or what is given. Pauses are jittered, so that nodes that lost a server together do not come back
//! together. Only what says nothing about the request counts as a failure: no connection, no answer.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rand::RngExt as _;

/// Failures in a row that open it.
pub(crate) const MAX_FAILURES: u32 = 3;
/// How long it stays open at first.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How long it stays open at most, once trials keep failing.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How a server stands, as far as those who asked it know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It answers, or nobody has found otherwise.
    Up,
    /// It does not answer.
    Down {
        /// What the last failure was, for people.
        why: String,
    },
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    /// A call was let through since, and has not ended.
    on_trial: bool,
    why: String,
}

/// The failures in a row, and until when nothing is tried.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: Mutex<State>,
    longest: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::pausing_at_most(LONGEST_PAUSE)
    }
}

impl Breaker {
    /// One that tries again after this pause at the latest.
    pub(crate) fn pausing_at_most(longest: Duration) -> Self {
        Self { state: Mutex::default(), longest }
    }

    /// Whether a call may be tried now. Half open, it may for the one who asks first.
    pub(crate) fn permits(&self) -> bool {
        self.permits_at(Instant::now())
    }

    /// Whether calls are refused or on trial.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    /// A call was answered, be it with an error.
    pub(crate) fn answered(&self) {
        let mut state = self.lock();
        // The usual case costs no write.
        if state.failures > 0 || state.open.is_some() {
            *state = State::default();
        }
    }

    /// A call was not answered: `why`, for people.
    pub(crate) fn failed(&self, why: &str) {
        self.failed_at(Instant::now(), why);
    }

    /// How the server stands.
    pub(crate) fn standing(&self) -> Standing {
        match &self.lock().open {
            None => Standing::Up,
            Some(open) => Standing::Down { why: open.why.clone() },
        }
    }

    fn permits_at(&self, now: Instant) -> bool {
        match &mut self.lock().open {
            None => true,
            Some(open) if now < open.until => false,
            Some(open) => {
                // Should this trial come to no end, another follows.
                open.until = now + open.pause;
                open.on_trial = true;
                true
            }
        }
    }

    fn failed_at(&self, now: Instant, why: &str) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures < MAX_FAILURES {
            return;
        }
        let Some(open) = &mut state.open else {
            let until = now + jittered(FIRST_PAUSE);
            state.open = Some(Open { until, pause: FIRST_PAUSE, on_trial: false, why: why.to_owned() });
            return;
        };
        why.clone_into(&mut open.why);
        // Calls that were under way when it opened say nothing new.
        if std::mem::take(&mut open.on_trial) {
            open.pause = (open.pause * 2).min(self.longest);
            open.until = now + jittered(open.pause);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between three quarters of it and all of it.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..MAX_FAILURES {
            assert!(breaker.permits_at(now) && breaker.standing() == Standing::Up);
            breaker.failed_at(now, "gone");
        }
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..MAX_FAILURES {
            breaker.failed_at(now, "gone");
        }
        breaker.answered();
        for _ in 1..MAX_FAILURES {
            breaker.failed_at(now, "gone");
            assert!(breaker.permits_at(now), "an answer in between starts the count anew");
        }
        breaker.failed_at(now, "gone");
        assert!(!breaker.permits_at(now) && breaker.is_open());
        assert_eq!(breaker.standing(), Standing::Down { why: "gone".to_owned() });
    }

    #[test]
    fn half_open_it_lets_one_through_and_an_answer_closes_it() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + FIRST_PAUSE;
        assert!(breaker.permits_at(later), "one is tried");
        assert!(!breaker.permits_at(later), "the next is not");
        assert!(breaker.permits_at(later + FIRST_PAUSE), "unless the trial never ended");
        breaker.answered();
        assert!(breaker.permits_at(later) && breaker.permits_at(later));
        assert_eq!(breaker.standing(), Standing::Up);
    }

    #[test]
    fn pauses_grow_with_failed_trials_alone_and_have_an_end() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for _ in 0..10 {
            breaker.failed_at(now, "a call that was under way");
        }
        now += FIRST_PAUSE;
        assert!(breaker.permits_at(now), "stragglers do not prolong it");
        breaker.failed_at(now, "gone");
        assert!(!breaker.permits_at(now + FIRST_PAUSE), "the pause has grown");
        for _ in 0..10 {
            now += LONGEST_PAUSE;
            assert!(breaker.permits_at(now));
            breaker.failed_at(now, "gone");
        }
    }
}
