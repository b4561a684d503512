//! Blobs: large payloads outside the log, named by their content.

use std::{
    fmt::{self, Debug},
    path::PathBuf,
    str::FromStr,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lmao_events::{BlobRef, Category, ParseError, StreamId};
use uuid::Uuid;

use crate::Unavailable;

/// The folder of one attempt to hand in a document: all blobs of that attempt lie in it and are deleted with it. It says
/// which document it is for, so that the document's stream can be asked whether it is still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Folder {
    /// The person.
    pub owner: Uuid,
    /// The document.
    pub document: Uuid,
    /// The attempt: an id that is never used again. `None` for documents of before there were attempts.
    pub attempt: Option<Uuid>,
}

impl Folder {
    /// The stream of its document.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        StreamId::new(Category::Document, self.document)
    }
}

/// `OWNER/DOCUMENT.ATTEMPT`, or `OWNER/DOCUMENT`.
impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.document)?;
        self.attempt.map_or(Ok(()), |attempt| write!(f, ".{attempt}"))
    }
}

/// The inverse of `Display`.
impl FromStr for Folder {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError { text: text.to_owned(), expected: "folder of blobs (OWNER/DOCUMENT.ATTEMPT)" };
        let id = |text: &str| text.parse().map_err(|_| error());
        let (owner, rest) = text.split_once('/').ok_or_else(error)?;
        let (document, attempt) = match rest.split_once('.') {
            Some((document, attempt)) => (document, Some(id(attempt)?)),
            None => (rest, None),
        };
        Ok(Self { owner: id(owner)?, document: id(document)?, attempt })
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

    /// The blobs of a folder, in any order; none if there is no such folder.
    async fn list(&self, folder: Folder) -> Result<Vec<BlobRef>, Unavailable>;

    /// The folders that there are, each once, in any order. One that comes or goes meanwhile may be among them or not.
    fn folders(&self) -> BoxStream<'_, Result<Folder, Unavailable>>;
}
