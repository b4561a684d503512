//! How often somebody may do something.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

use crate::Unavailable;

/// A token bucket: full at first, each admission takes a token, tokens come back one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    burst: u32,
    refill: Duration,
}

impl Quota {
    /// The slowest refill.
    pub const MAX_REFILL: Duration = Duration::from_secs(3600);

    /// `burst` admissions at once (at least 1, at most 1,000,000), then one for each `refill` (1 ms to 1 h).
    #[must_use]
    pub fn new(burst: u32, refill: Duration) -> Self {
        Self { burst: burst.clamp(1, 1_000_000), refill: refill.clamp(Duration::from_millis(1), Self::MAX_REFILL) }
    }

    /// `n` admissions at once, and `n` in each minute after that.
    #[must_use]
    pub fn per_minute(n: u32) -> Self {
        Self::new(n, Duration::from_secs(60) / n.max(1))
    }

    /// Tokens of a full bucket.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// The time in which one token comes back.
    #[must_use]
    pub fn refill(self) -> Duration {
        self.refill
    }

    /// The time after which a bucket that nobody took from is full, at least a minute. Forgetting it then changes nothing.
    #[must_use]
    pub fn memory(self) -> Duration {
        self.refill.saturating_mul(self.burst).max(Duration::from_secs(60))
    }
}

/// The answer to one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Go on; so many more would be admitted now.
    Admitted {
        /// Whole tokens that are left.
        remaining: u32,
    },
    /// Not now; asking costs nothing.
    Refused {
        /// When the next token is there; never zero.
        retry_after: Duration,
    },
}

/// Token buckets by key, shared by all who use the same store.
#[async_trait]
pub trait RateLimiter: Debug + Send + Sync {
    /// Takes a token from the bucket `key`, by custom `USER:ENDPOINT`. A bucket that is not known is full. The quota may
    /// change from call to call; tokens over the new burst are lost.
    ///
    /// # Errors
    /// The store does not answer in time. Whether a token was taken is then not known.
    async fn take(&self, key: &str, quota: Quota) -> Result<Admission, Unavailable>;
}
