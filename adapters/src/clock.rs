//! The machine's clock and its source of random numbers. The one place where either is read.

use lmao_events::Timestamp;
use lmao_ports::{Clock, Entropy};
use rand::Rng as _;

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the adapter that everyone else is to use")]
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock set before 1970 reads as 1970.
        let micros = since_epoch.map_or(0, |elapsed| elapsed.as_micros());
        Timestamp(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// A generator of each thread's own (ChaCha12), seeded and reseeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_new_and_ordered_by_time() {
        let (earlier, later) = (Timestamp(1_700_000_000_000_000), Timestamp(1_700_000_000_001_000));
        let first = OsEntropy.id(earlier);
        assert_ne!(first, OsEntropy.id(earlier));
        assert!(first < OsEntropy.id(later));
        assert_ne!(OsEntropy.nonce(), OsEntropy.nonce());
        assert!(SystemClock.now() > earlier);
    }
}
