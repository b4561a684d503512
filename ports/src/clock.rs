//! Time and chance, so that the core can be run under a simulated clock and a seeded generator.

use std::fmt::Debug;

use lmao_events::{NONCE_BYTES, Timestamp};
use uuid::Uuid;

/// The wall clock.
pub trait Clock: Debug + Send + Sync {
    /// Now. May jump; never used to measure durations.
    fn now(&self) -> Timestamp;
}

/// A cryptographically secure source of random numbers.
pub trait Entropy: Debug + Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// A fresh time-ordered id (UUIDv7, RFC 9562).
    fn id(&self, now: Timestamp) -> Uuid {
        let mut random = [0; 10];
        self.fill(&mut random);
        let millis = u64::try_from(now.0 / 1000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// A fresh nonce for a record's seal.
    fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        self.fill(&mut nonce);
        nonce
    }
}
