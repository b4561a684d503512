//! Caches: what may be forgotten at any time.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::Unavailable;

/// A cache with expiry, and counters that expire.
#[async_trait]
pub trait Cache: Debug + Send + Sync {
    /// The value under `key`, if it is still known.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable>;

    /// Remembers a value for at most `ttl`.
    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), Unavailable>;

    /// Remembers a value for at most `ttl` unless one is known; whether it was stored.
    async fn put_new(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool, Unavailable>;

    /// Forgets all keys that begin with `prefix`.
    async fn invalidate(&self, prefix: &str) -> Result<(), Unavailable>;

    /// Adds 1 to a counter that is forgotten `ttl` after its first use; the new value.
    async fn count(&self, key: &str, ttl: Duration) -> Result<u64, Unavailable>;
}

/// What an embedding depends on: BLAKE3 of model id, quantization, prefix and text.
pub type EmbeddingKey = [u8; 32];

/// Vectors that were computed before. Survives restarts; bounded; may lose entries at any time.
#[async_trait]
pub trait EmbeddingCache: Debug + Send + Sync {
    /// The known vectors, in the order of `keys`.
    async fn get(&self, keys: &[EmbeddingKey]) -> Result<Vec<Option<Vec<f32>>>, Unavailable>;

    /// Remembers vectors.
    async fn put(&self, entries: &[(EmbeddingKey, Vec<f32>)]) -> Result<(), Unavailable>;
}
