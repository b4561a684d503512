//! Snapshots: states and indexes that can be computed again. Losing them costs time, never truth.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Unavailable;

/// A small key-value store. Keys are ASCII, at most 200 bytes, parts separated by `/`; values at most 1 MiB.
#[async_trait]
pub trait Snapshots: Debug + Send + Sync {
    /// The last value stored under `key`.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable>;

    /// Stores a value; the last one wins. May be lost in a power cut, but never half-written.
    async fn put(&self, key: &str, value: Bytes) -> Result<(), Unavailable>;

    /// As [`Snapshots::put`], and once it returns no power cut takes it, nor whatever was put or deleted before. For what a
    /// durable checkpoint is about to pass.
    async fn put_durable(&self, key: &str, value: Bytes) -> Result<(), Unavailable>;

    /// Forgets a value; fine if there is none.
    async fn delete(&self, key: &str) -> Result<(), Unavailable>;

    /// All pairs whose key begins with `prefix`, in the order of keys.
    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, Unavailable>;
}
