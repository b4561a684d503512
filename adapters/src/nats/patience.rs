//! How long an operation is tried again: a growing pause with jitter, a deadline, and an earlier one while there is no connection.

use std::time::Duration;

use tokio::time::Instant;

use super::Nats;

/// The limits of one operation.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From its beginning to its answer.
    pub deadline: Duration,
    /// How long one attempt waits for its answer.
    pub attempt: Duration,
    /// How long a connection may be lost before it gives up, as long as nothing was sent.
    pub away: Duration,
}

impl Default for Limits {
    /// Ten seconds cover the election of a leader; a server that is away is noticed within one.
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), attempt: Duration::from_secs(2), away: Duration::from_millis(1000) }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What is left of an operation's limits.
#[derive(Debug)]
pub(super) struct Patience {
    limits: Limits,
    begun: Instant,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, begun: Instant::now(), pause: FIRST_PAUSE }
    }

    /// How long the next attempt may take.
    pub(super) fn attempt(&self) -> Duration {
        // At least a little: an operation whose deadline has come is tried once more rather than never.
        self.limits.attempt.min(self.left()).max(FIRST_PAUSE)
    }

    fn left(&self) -> Duration {
        self.limits.deadline.saturating_sub(self.begun.elapsed())
    }

    /// Waits; whether there is time for another attempt.
    pub(super) async fn again(&mut self) -> bool {
        if self.left().is_zero() {
            return false;
        }
        let jittered = self.pause.mul_f64(rand::random_range(0.5..1.0));
        tokio::time::sleep(jittered.min(self.left())).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }

    /// Waits for a connection to a server that answers; whether there is one. Who comes when it has been lost for the time
    /// already does not wait. Nothing is handed to the client before: it would send it whenever it is connected again, long
    /// after the caller was told that nothing happened.
    pub(super) async fn connected(&self, nats: &Nats) -> bool {
        let most = self.limits.away.min(self.left());
        let begun = Instant::now();
        loop {
            let away = nats.away_for();
            if away.is_zero() {
                return nats.breaker().permits();
            }
            if away >= self.limits.away || begun.elapsed() >= most {
                return false;
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }
}
