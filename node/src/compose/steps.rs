//! The steps of ingestion, as the core wants them done.

use async_trait::async_trait;
use lmao_actors::DocumentSteps;
use lmao_events::{BlobRef, Failure, document};
use lmao_ports::{Folder, IndexedDocument};
use lmao_retrieval::ingest::Ingest;
use uuid::Uuid;

/// Done by the retrieval pipeline.
#[derive(Debug)]
pub(crate) struct Steps(pub Ingest);

#[async_trait]
impl DocumentSteps for Steps {
    async fn extract(&self, folder: Folder, file: &document::Uploaded) -> Result<document::Extracted, Failure> {
        self.0.extract(folder, file).await
    }

    async fn chunk(
        &self,
        folder: Folder,
        document_id: Uuid,
        file: &document::Uploaded,
        extracted: &document::Extracted,
    ) -> Result<document::Chunked, Failure> {
        self.0.chunk(folder, document_id, file, extracted).await
    }

    async fn embed(
        &self,
        folder: Folder,
        batch: u32,
        chunks: &BlobRef,
        model: Option<&str>,
    ) -> Result<document::StepOutcome, Failure> {
        self.0.embed(folder, batch, chunks, model).await
    }

    async fn load(
        &self,
        folder: Folder,
        document_id: Uuid,
        published: &document::Published,
    ) -> Result<IndexedDocument, Failure> {
        self.0.load(folder, document_id, published).await
    }
}
