//! A cache in memory, on moka: bounded by bytes, every entry with its own expiry.
//!
//! It knows nothing of what it holds. Values and counters live in two caches, because a counter must not be forgotten to
//! make room for values, nor live longer when it is used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use lmao_ports::{Cache, Unavailable};
use moka::{Expiry, future::Cache as Moka};

/// Counters that are known at a time; beyond that the least used are forgotten.
const MAX_COUNTERS: u64 = 100_000;
/// What moka and the key's allocation cost beside key and value, roughly, in bytes.
const OVERHEAD: usize = 128;

#[derive(Debug, Clone)]
struct Value {
    bytes: Bytes,
    ttl: Duration,
}

#[derive(Debug, Clone)]
struct Counter {
    count: Arc<AtomicU64>,
    ttl: Duration,
}

struct Ttl;

impl Expiry<String, Value> for Ttl {
    fn expire_after_create(&self, _: &String, value: &Value, _: Instant) -> Option<Duration> {
        Some(value.ttl)
    }

    fn expire_after_update(&self, _: &String, value: &Value, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(value.ttl)
    }
}

impl Expiry<String, Counter> for Ttl {
    fn expire_after_create(&self, _: &String, counter: &Counter, _: Instant) -> Option<Duration> {
        Some(counter.ttl)
    }
}

/// [`Cache`] within one process.
#[derive(Debug, Clone)]
pub struct MemoryCache {
    values: Moka<String, Value>,
    counters: Moka<String, Counter>,
}

impl MemoryCache {
    /// Holds at most about `max_bytes` of keys and values (and 100,000 counters beside them).
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        let weight = |key: &String, value: &Value| u32::try_from(key.len() + value.bytes.len() + OVERHEAD);
        Self {
            values: Moka::builder()
                .max_capacity(max_bytes)
                .weigher(move |key, value| weight(key, value).unwrap_or(u32::MAX))
                .expire_after(Ttl)
                .support_invalidation_closures()
                .build(),
            counters: Moka::builder()
                .max_capacity(MAX_COUNTERS)
                .expire_after(Ttl)
                .support_invalidation_closures()
                .build(),
        }
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable> {
        Ok(self.values.get(key).await.map(|value| value.bytes))
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), Unavailable> {
        self.values.insert(key.to_owned(), Value { bytes: value, ttl }).await;
        Ok(())
    }

    async fn put_new(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool, Unavailable> {
        let entry = self.values.entry_by_ref(key).or_insert(Value { bytes: value, ttl }).await;
        Ok(entry.is_fresh())
    }

    async fn invalidate(&self, prefix: &str) -> Result<(), Unavailable> {
        let refused =
            |error| Unavailable::new("cache", "keys could not be invalidated; they expire by themselves", error);
        let wanted = prefix.to_owned();
        self.values.invalidate_entries_if(move |key, _| key.starts_with(&wanted)).map_err(refused)?;
        let wanted = prefix.to_owned();
        self.counters.invalidate_entries_if(move |key, _| key.starts_with(&wanted)).map_err(refused)?;
        Ok(())
    }

    async fn count(&self, key: &str, ttl: Duration) -> Result<u64, Unavailable> {
        let entry = self.counters.entry_by_ref(key).or_insert(Counter { count: Arc::default(), ttl }).await;
        Ok(entry.into_value().count.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[cfg(test)]
mod tests {
    use lmao_ports::conformance;

    use super::*;

    #[tokio::test]
    async fn keeps_the_ports_promises() {
        conformance::cache::all(async || Arc::new(MemoryCache::new(1 << 20)) as Arc<dyn Cache>).await;
    }

    #[tokio::test]
    async fn is_bounded_by_bytes() {
        let cache = MemoryCache::new(100_000);
        for n in 0..1_000 {
            cache.put(&n.to_string(), Bytes::from(vec![0; 1_000]), Duration::from_secs(60)).await.unwrap();
        }
        cache.values.run_pending_tasks().await;
        assert!(cache.values.weighted_size() <= 100_000);
        cache.put("huge", Bytes::from(vec![0; 200_000]), Duration::from_secs(60)).await.unwrap();
        cache.values.run_pending_tasks().await;
        assert_eq!(cache.get("huge").await.unwrap(), None, "what never fits is not kept");
    }
}
