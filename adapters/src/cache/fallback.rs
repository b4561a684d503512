//! Local limits and values while the shared store does not answer.
//!
//! Limits then hold for each process on its own, and what one process remembers the others do not know. That is weaker, and
//! correct: a cache may forget at any time.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use lmao_ports::{Admission, Cache, Quota, RateLimiter, Unavailable};

use super::MemoryCache;

/// A shared store, with one in this process that stands in for it.
#[derive(Debug)]
pub struct LocalFallback<S> {
    shared: Arc<S>,
    local: MemoryCache,
}

impl<S> LocalFallback<S> {
    /// `local` answers whenever `shared` does not.
    #[must_use]
    pub fn new(shared: Arc<S>, local: MemoryCache) -> Self {
        Self { shared, local }
    }
}

fn passed_over(error: &Unavailable) {
    tracing::debug!(%error, "the shared cache is passed over");
}

#[async_trait]
impl<S: Cache> Cache for LocalFallback<S> {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable> {
        match self.shared.get(key).await {
            Err(error) => {
                passed_over(&error);
                self.local.get(key).await
            }
            known => known,
        }
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), Unavailable> {
        match self.shared.put(key, value.clone(), ttl).await {
            Err(error) => {
                passed_over(&error);
                self.local.put(key, value, ttl).await
            }
            stored => stored,
        }
    }

    async fn put_new(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool, Unavailable> {
        match self.shared.put_new(key, value.clone(), ttl).await {
            Err(error) => {
                passed_over(&error);
                self.local.put_new(key, value, ttl).await
            }
            stored => stored,
        }
    }

    /// Both, and an error if the shared one may still hold what is to be forgotten.
    async fn invalidate(&self, prefix: &str) -> Result<(), Unavailable> {
        self.local.invalidate(prefix).await?;
        self.shared.invalidate(prefix).await
    }

    async fn count(&self, key: &str, ttl: Duration) -> Result<u64, Unavailable> {
        match self.shared.count(key, ttl).await {
            Err(error) => {
                passed_over(&error);
                self.local.count(key, ttl).await
            }
            counted => counted,
        }
    }
}

#[async_trait]
impl<S: RateLimiter> RateLimiter for LocalFallback<S> {
    async fn take(&self, key: &str, quota: Quota) -> Result<Admission, Unavailable> {
        match self.shared.take(key, quota).await {
            Err(error) => {
                passed_over(&error);
                self.local.take(key, quota).await
            }
            answer => answer,
        }
    }
}
