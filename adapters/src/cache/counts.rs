//! Hits and misses of a cache: as metrics, and for whoever asks the process itself.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::{KeyValue, global, metrics::Counter};

/// How often a value was known, and was not. Also the counters `lmao.cache.hits` and `lmao.cache.misses`, with the
/// attribute `lmao.cache`.
#[derive(Debug)]
pub struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    hit: Counter<u64>,
    miss: Counter<u64>,
    cache: KeyValue,
}

impl Counts {
    /// From zero; `cache` names it in metrics. The meter is the one that is installed now.
    #[must_use]
    pub fn new(cache: &'static str) -> Self {
        let meter = global::meter("lmao");
        Self {
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            hit: meter.u64_counter("lmao.cache.hits").with_description("values that the cache knew").build(),
            miss: meter.u64_counter("lmao.cache.misses").with_description("values that it did not know").build(),
            cache: KeyValue::new("lmao.cache", cache),
        }
    }

    pub(crate) fn asked(&self, known: bool) {
        let (count, metric) = if known { (&self.hits, &self.hit) } else { (&self.misses, &self.miss) };
        count.fetch_add(1, Ordering::Relaxed);
        metric.add(1, std::slice::from_ref(&self.cache));
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
