//! A cache in memory, on moka: bounded by bytes, every entry with its own expiry.
//!
//! It knows nothing of what it holds. Values, counters and token buckets live in caches of their own, because a counter
//! must not be forgotten to make room for values, nor live longer when it is used.

mod aside;
mod counts;
mod fallback;
mod searches;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use lmao_ports::{Admission, Cache, Quota, RateLimiter, Unavailable};
use moka::{Expiry, future::Cache as Moka};

pub use aside::CacheAside;
pub use counts::Counts;
pub use fallback::LocalFallback;
pub use searches::RememberedSearches;

/// Counters, and buckets, that are known at a time; beyond that the least used are forgotten.
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

/// Tokens, and when they were that many.
#[derive(Debug, Clone)]
struct Bucket {
    level: Arc<Mutex<(f64, Instant)>>,
    memory: Duration,
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

impl Expiry<String, Bucket> for Ttl {
    fn expire_after_create(&self, _: &String, bucket: &Bucket, _: Instant) -> Option<Duration> {
        Some(bucket.memory)
    }

    fn expire_after_read(
        &self,
        _: &String,
        bucket: &Bucket,
        _: Instant,
        _: Option<Duration>,
        _: Instant,
    ) -> Option<Duration> {
        Some(bucket.memory)
    }
}

/// [`Cache`] and [`RateLimiter`] within one process.
#[derive(Debug, Clone)]
pub struct MemoryCache {
    values: Moka<String, Value>,
    counters: Moka<String, Counter>,
    buckets: Moka<String, Bucket>,
    counts: Arc<Counts>,
}

impl MemoryCache {
    /// Holds at most about `max_bytes` of keys and values (and 100,000 counters and as many buckets beside them).
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
            buckets: Moka::builder().max_capacity(MAX_COUNTERS).expire_after(Ttl).build(),
            counts: Arc::new(Counts::new("memory")),
        }
    }

    /// How often a value was known, and was not.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable> {
        let known = self.values.get(key).await.map(|value| value.bytes);
        self.counts.asked(known.is_some());
        Ok(known)
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

#[async_trait]
impl RateLimiter for MemoryCache {
    async fn take(&self, key: &str, quota: Quota) -> Result<Admission, Unavailable> {
        let burst = f64::from(quota.burst());
        let full = || Bucket { level: Arc::new(Mutex::new((burst, Instant::now()))), memory: quota.memory() };
        let bucket = self.buckets.entry_by_ref(key).or_insert_with(async { full() }).await.into_value();
        let mut level = bucket.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (tokens, since) = *level;
        let refill = quota.refill().as_secs_f64();
        let tokens = burst.min(tokens + now.duration_since(since).as_secs_f64() / refill);
        let taken = if tokens >= 1.0 { 1.0 } else { 0.0 };
        *level = (tokens - taken, now);
        Ok(admission(tokens, taken > 0.0, refill))
    }
}

/// The answer of a bucket that held `tokens`.
#[expect(clippy::cast_possible_truncation, reason = "tokens are between 0 and the burst, a u32")]
fn admission(tokens: f64, taken: bool, refill: f64) -> Admission {
    if taken {
        return Admission::Admitted { remaining: (tokens - 1.0) as u32 };
    }
    let wait = Duration::from_secs_f64((1.0 - tokens) * refill);
    Admission::Refused { retry_after: wait.max(Duration::from_millis(1)) }
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
    async fn keeps_the_rate_limiters_promises() {
        conformance::rate::all(async || Arc::new(MemoryCache::new(1 << 20)) as Arc<dyn RateLimiter>).await;
    }

    #[tokio::test]
    async fn hits_and_misses_are_counted() {
        let cache = MemoryCache::new(1 << 20);
        cache.put("known", Bytes::new(), Duration::from_secs(60)).await.unwrap();
        for key in ["known", "unknown", "known"] {
            cache.get(key).await.unwrap();
        }
        assert_eq!((cache.counts().hits(), cache.counts().misses()), (2, 1));
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
