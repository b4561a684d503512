//! Taking in documents, one step after the other.

use std::fmt::Debug;

use async_trait::async_trait;
use lmao_events::{BlobRef, Failure, document};

use crate::{Folder, IndexedDocument};

/// The reason of a step that failed since the blobs could not be read or written now.
pub const STORAGE_UNAVAILABLE: &str = "storage_unavailable";

/// The steps from a file to what a search index takes. Each reads blobs of `folder` and writes blobs there; what it led to
/// is an event that somebody else records. A step may be dropped at any await, and repeated at any time.
#[async_trait]
pub trait Ingestion: Debug + Send + Sync {
    /// File to text. What the file is, is told by its content.
    ///
    /// # Errors
    /// Lasting: `no_text`, `unsupported_format`, `encrypted_pdf`, `encrypted_file`, `damaged_pdf`, `damaged_file`, `document_too_large`,
    /// `extraction_timeout`, `extraction_crashed`, `missing_blob`. Passing: `storage_unavailable`,
    /// `extraction_unavailable`.
    async fn extract(&self, folder: Folder, file: &document::Uploaded) -> Result<document::Extracted, Failure>;

    /// Text to passages, in batches of [`document::BATCH_CHUNKS`], each a blob of [`ChunkRecord`](crate::ChunkRecord)s.
    ///
    /// # Errors
    /// Lasting: `document_too_large` above [`document::MAX_CHUNKS`] passages, `missing_blob`. Passing:
    /// `storage_unavailable`.
    async fn chunk(
        &self,
        folder: Folder,
        file: &document::Uploaded,
        extracted: &document::Extracted,
    ) -> Result<document::Chunked, Failure>;

    /// A batch of passages to vectors: `Embedded` by the model in use, or `EmbeddingSkipped` when there is none. Waits
    /// while the model is being loaded. A model other than that of the batches before is no error here: the document
    /// begins anew with it.
    ///
    /// # Errors
    /// Passing: `embedding_failed`, `storage_unavailable`. Lasting: `missing_blob`.
    async fn embed(
        &self,
        folder: Folder,
        batch: u32,
        chunks: &BlobRef,
        model: Option<&str>,
    ) -> Result<document::StepOutcome, Failure>;

    /// A published document as the search index takes it: the passages and vectors of all batches.
    ///
    /// # Errors
    /// Lasting: `missing_blob`, also when a blob does not fit the others. Passing: `storage_unavailable`.
    async fn load(&self, folder: Folder, published: &document::Published) -> Result<IndexedDocument, Failure>;
}
