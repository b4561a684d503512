//! Blobs: large payloads outside the log, named by their content.

use std::{fmt::Debug, path::PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use lmao_events::{BlobRef, StreamId};
use uuid::Uuid;

use crate::Unavailable;

/// The folder that a stream's blobs lie in and are deleted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Folder {
    /// The person.
    pub owner: Uuid,
    /// The document or other stream.
    pub of: Uuid,
}

impl Folder {
    /// The folder of a person's stream.
    #[must_use]
    pub const fn new(owner: Uuid, stream: StreamId) -> Self {
        Self { owner, of: stream.id }
    }
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.of)
    }
}

/// A blob on its way in: written piece by piece, in no folder yet. Dropped without [`PendingBlob::keep`], it is gone.
#[async_trait]
pub trait PendingBlob: Debug + Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), Unavailable>;

    /// What has been written so far: hash and size.
    fn blob(&self) -> BlobRef;

    /// Makes it durable under `folder`. Fine if it exists there.
    async fn keep(self: Box<Self>, folder: Folder) -> Result<BlobRef, Unavailable>;
}

/// A store of blobs. What is kept is durable before the call returns, and whole or absent, never half.
#[async_trait]
pub trait Blobs: Debug + Send + Sync {
    /// Begins a blob whose folder is not known yet; used to stream uploads without holding them in memory.
    async fn begin(&self) -> Result<Box<dyn PendingBlob>, Unavailable>;

    /// Stores bytes in one call.
    async fn put(&self, folder: Folder, bytes: Bytes) -> Result<BlobRef, Unavailable>;

    /// The bytes; `None` when there is no such blob. Bytes that do not have the blob's hash are an error.
    async fn get(&self, folder: Folder, blob: &BlobRef) -> Result<Option<Bytes>, Unavailable>;

    /// A local file with the blob's bytes, for tools that read files; `None` when there is no such blob. Valid until the
    /// folder is deleted.
    async fn local(&self, folder: Folder, blob: &BlobRef) -> Result<Option<PathBuf>, Unavailable>;

    /// Deletes a folder with all its blobs; fine if there is none.
    async fn delete(&self, folder: Folder) -> Result<(), Unavailable>;
}
