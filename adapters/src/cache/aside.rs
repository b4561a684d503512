//! Cache-aside: a value is taken from the cache or computed and remembered, by one caller at a time for each key.
//!
//! A cache that does not answer is passed over: callers that ask for the same key at the same time still share one
//! computation.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use lmao_ports::Cache;
use tokio::sync::OnceCell;

/// The computations that go on, each with those that wait for it.
type Flights = Mutex<HashMap<String, Arc<OnceCell<Bytes>>>>;

/// A cache that computes what it does not know.
#[derive(Debug)]
pub struct CacheAside {
    cache: Arc<dyn Cache>,
    flights: Flights,
}

impl CacheAside {
    /// In front of `cache`.
    #[must_use]
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache, flights: Flights::default() }
    }

    /// The value under `key`, else what `compute` gives, which is remembered for `ttl`. Callers that come meanwhile wait
    /// for it; if it fails or is cancelled, the next of them computes. There are as many computations at a time as keys
    /// are asked for: whoever calls limits that.
    ///
    /// # Errors
    /// Those of `compute`. A cache that fails is no error.
    pub async fn get_or_compute<E>(
        &self,
        key: &str,
        ttl: Duration,
        compute: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        if let Some(known) = self.known(key).await {
            return Ok(known);
        }
        let flight = Flight::join(&self.flights, key);
        let value = flight.cell.get_or_try_init(|| async {
            let value = compute.await?;
            if let Err(error) = self.cache.put(key, value.clone(), ttl).await {
                tracing::debug!(%error, "a computed value is not remembered");
            }
            Ok(value)
        });
        value.await.cloned()
    }

    async fn known(&self, key: &str) -> Option<Bytes> {
        self.cache.get(key).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the cache is passed over");
            None
        })
    }
}

/// One caller's part in a computation. The last one that leaves forgets it.
struct Flight<'a> {
    flights: &'a Flights,
    key: &'a str,
    cell: Arc<OnceCell<Bytes>>,
}

impl<'a> Flight<'a> {
    fn join(flights: &'a Flights, key: &'a str) -> Self {
        let cell = Arc::clone(lock(flights).entry(key.to_owned()).or_default());
        Self { flights, key, cell }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = lock(self.flights);
        // Who comes after a result asks the cache; a flight without one stays for those that still wait.
        let last = flights
            .get(self.key)
            .is_some_and(|cell| Arc::ptr_eq(cell, &self.cell) && (cell.initialized() || Arc::strong_count(cell) <= 2));
        if last {
            flights.remove(self.key);
        }
    }
}

fn lock(flights: &Flights) -> MutexGuard<'_, HashMap<String, Arc<OnceCell<Bytes>>>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicU32, Ordering},
    };

    use tokio::sync::Semaphore;

    use super::*;
    use crate::cache::MemoryCache;

    const TTL: Duration = Duration::from_secs(60);

    fn aside() -> Arc<CacheAside> {
        Arc::new(CacheAside::new(Arc::new(MemoryCache::new(1 << 20))))
    }

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_computation() {
        let (aside, runs, gate) = (aside(), Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (aside, runs, gate) = (Arc::clone(&aside), Arc::clone(&runs), Arc::clone(&gate));
                tokio::spawn(async move {
                    let compute = async {
                        runs.fetch_add(1, Ordering::SeqCst);
                        gate.acquire().await.unwrap().forget();
                        Ok::<_, Infallible>(Bytes::from_static(b"value"))
                    };
                    aside.get_or_compute("key", TTL, compute).await.unwrap()
                })
            })
            .collect();
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // More permits than one: a second computation would end, and be counted.
        gate.add_permits(20);
        for caller in callers {
            assert_eq!(caller.await.unwrap(), Bytes::from_static(b"value"));
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(lock(&aside.flights).is_empty());
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered_and_a_success_is() {
        let aside = aside();
        let failed = aside.get_or_compute("key", TTL, async { Err::<Bytes, _>("no") }).await;
        assert_eq!(failed, Err("no"));
        assert!(lock(&aside.flights).is_empty());
        for value in [&b"one"[..], b"two"] {
            let compute = async { Ok::<_, Infallible>(Bytes::from_static(value)) };
            assert_eq!(aside.get_or_compute("key", TTL, compute).await.unwrap(), Bytes::from_static(b"one"));
        }
    }

    #[tokio::test]
    async fn a_cancelled_computation_is_taken_over() {
        let aside = aside();
        let first = tokio::spawn({
            let aside = Arc::clone(&aside);
            async move { aside.get_or_compute("key", TTL, std::future::pending::<Result<Bytes, Infallible>>()).await }
        });
        while lock(&aside.flights).is_empty() {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let aside = Arc::clone(&aside);
            async move { aside.get_or_compute("key", TTL, async { Ok::<_, Infallible>(Bytes::new()) }).await }
        });
        tokio::task::yield_now().await;
        first.abort();
        assert_eq!(second.await.unwrap().unwrap(), Bytes::new());
        assert!(lock(&aside.flights).is_empty());
    }
}
