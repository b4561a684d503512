//! Hits and misses of a cache: as metrics, and for whoever asks the process itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::looked_up;

/// Hits and misses of one cache, counted in its metrics too (`lmao.cache.hits`, `lmao.cache.misses`).
#[derive(Debug)]
pub struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    cache: &'static str,
}

impl Counts {
    /// From zero; `cache` names it in metrics.
    #[must_use]
    pub const fn new(cache: &'static str) -> Self {
        Self { hits: AtomicU64::new(0), misses: AtomicU64::new(0), cache }
    }

    pub(crate) fn asked(&self, known: bool) {
        let count = if known { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        looked_up(self.cache, 1, usize::from(known));
    }

    /// Values that were known.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Values that were not known.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }
}
