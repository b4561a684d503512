//! The embedded search index: BM25 by tantivy, nearest neighbours by scans of sketches and int8 codes and rescoring in f32, in
//! one directory.
//!
//! ```text
//! DIR/text/                     tantivy: terms of passages; its commit payload is the one source of truth
//! DIR/rows/journal-N, text-N    documents put and deleted; their passages
//! DIR/rows/codes-M, sketches-M, floats-M
//!                               their vectors of one space, one row for a passage that has one
//! ```
//!
//! The files in `rows/` only grow. A commit appends the journal of what was put and deleted, syncs all files and the
//! directory, and only then commits tantivy with a payload that names the files, their lengths and the journal's hash. So
//! there is one atomic step, tantivy's replacement of `meta.json`: before it, a restart cuts off what the payload does not
//! name; after it, everything named is on disk. A journal was chosen over rewriting a table of documents with every commit
//! (which costs O(documents) each time) and over deriving rows from tantivy (whose document numbers change in merges). When
//! more than half is dead, the next commit names new files that hold the living.
//!
//! Text and passages' fields lie in `text-N`, not in tantivy's compressed store: both legs and the digest read them by
//! position, and a replayed keyword part can be rebuilt from them alone.
//!
//! `put` and `delete` write to `rows/` and stage; tantivy sees the changes at `commit`. If that fails (a full disk), tantivy's
//! writer is dropped, the staged changes stay, and the next commit does it all again. A commit without changes moves the
//! checkpoint in memory, and `save` writes it down: after a crash the checkpoint may be older than the one last shown, but
//! everything in between changed nothing here, so replaying it is harmless.
//!
//! An index of an older format is erased when it is opened: it is empty then, and comes back from the log.
//!
//! This module knows tantivy and files. It does not know where documents come from.

mod bits;
mod commit;
mod engine;
mod error;
mod query;
mod store;
mod text;
mod vectors;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use lmao_events::Position;
use lmao_ports::{
    Digest, IndexError, IndexedDocument, KeywordQuery, LegHit, ModelManifest, SearchFilter, SearchIndex, Space,
    Unavailable,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use self::engine::Engine;

/// [`SearchIndex`] in a directory, for one process at a time.
#[derive(Debug, Clone)]
pub struct EmbeddedIndex {
    engine: Arc<Engine>,
    /// Queries that run at once: more than there are processors only makes each slower. The others wait in line, bounded by
    /// the callers.
    queries: Arc<Semaphore>,
}

impl EmbeddedIndex {
    /// Opens the index in `dir`, creating it if it is missing. What was not committed is gone.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] when files are missing, cut or altered: [`EmbeddedIndex::erase`] it and replay the log.
    /// [`IndexError::Unavailable`] when another process has it open, a newer version wrote it, or the disk refuses.
    pub async fn open(dir: &Path) -> Result<Self, IndexError> {
        let dir = dir.to_owned();
        let engine = blocking(move || Engine::open(&dir)).await?;
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self { engine: Arc::new(engine), queries: Arc::new(Semaphore::new(processors)) })
    }

    /// Removes an index that does not open any more, so that it can be rebuilt. It must not be open. Safe to repeat.
    ///
    /// # Errors
    /// [`IndexError::Unavailable`] when the disk refuses.
    pub async fn erase(dir: &Path) -> Result<(), IndexError> {
        let dir = dir.to_owned();
        blocking(move || engine::erase(&dir)).await
    }

    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let engine = Arc::clone(&self.engine);
        blocking(move || work(&engine)).await
    }

    async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        // Never closed; were it, the query would only go without its turn. Moved into the work, so that a caller who gives
        // up does not let more queries run than there is room for.
        let turn = Arc::clone(&self.queries).acquire_owned().await.ok();
        self.change(move |engine| {
            let _turn = turn;
            work(engine)
        })
        .await
    }
}

/// Runs work that reads and writes files off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|stopped| {
        let message =
            "an operation stopped half-way; nothing committed is lost, restart the server if it happens again";
        Err(Unavailable::new(error::STORE, message, stopped).into())
    })
}

#[async_trait]
impl SearchIndex for EmbeddedIndex {
    // Only what is visible in memory, and nobody works under its lock: nothing for another thread.
    async fn checkpoint(&self) -> Result<Position, IndexError> {
        Ok(self.engine.checkpoint())
    }

    async fn computed_from(&self, log: Uuid) -> Result<Uuid, IndexError> {
        self.change(move |engine| engine.computed_from(log)).await
    }

    async fn model(&self, space: Space) -> Result<Option<ModelManifest>, IndexError> {
        self.engine.model(space)
    }

    async fn use_model(&self, space: Space, manifest: &ModelManifest) -> Result<(), IndexError> {
        let manifest = manifest.clone();
        self.change(move |engine| engine.use_model(space, manifest)).await
    }

    async fn put(&self, document: IndexedDocument) -> Result<(), IndexError> {
        self.change(move |engine| engine.put(&document)).await
    }

    async fn delete(&self, document_id: Uuid) -> Result<(), IndexError> {
        self.change(move |engine| engine.delete(document_id)).await
    }

    async fn commit(&self, checkpoint: Position) -> Result<(), IndexError> {
        if self.engine.advanced(checkpoint) {
            return Ok(());
        }
        self.change(move |engine| engine.commit(checkpoint)).await
    }

    async fn save(&self) -> Result<(), IndexError> {
        self.change(Engine::save).await
    }

    async fn reset(&self) -> Result<(), IndexError> {
        self.change(Engine::reset).await
    }

    async fn keyword(&self, query: &KeywordQuery, filter: &SearchFilter, k: usize) -> Result<Vec<LegHit>, IndexError> {
        if !self.engine.has_documents_of(&filter.owner)? {
            return Ok(vec![]);
        }
        let (query, filter) = (query.clone(), filter.clone());
        self.query(move |engine| engine.keyword(&query, &filter, k)).await
    }

    async fn nearest(
        &self,
        space: Space,
        vector: &[f32],
        filter: &SearchFilter,
        k: usize,
    ) -> Result<Vec<LegHit>, IndexError> {
        let (vector, filter) = (vector.to_vec(), filter.clone());
        self.query(move |engine| engine.nearest(space, &vector, &filter, k)).await
    }

    async fn vectors(&self, space: Space, wanted: &[(Uuid, u32)]) -> Result<Vec<Option<Vec<f32>>>, IndexError> {
        let wanted = wanted.to_vec();
        self.query(move |engine| engine.vectors(space, &wanted)).await
    }

    async fn chunks(&self, wanted: &[(Uuid, u32)]) -> Result<Vec<LegHit>, IndexError> {
        let wanted = wanted.to_vec();
        self.query(move |engine| engine.chunks(&wanted)).await
    }

    async fn holds(&self, document_id: Uuid) -> Result<bool, IndexError> {
        self.engine.holds(&document_id)
    }

    async fn count(&self) -> Result<u64, IndexError> {
        self.engine.passages()
    }

    async fn without_vectors(&self) -> Result<u64, IndexError> {
        self.engine.without_vectors()
    }

    async fn digest(&self) -> Result<Digest, IndexError> {
        self.query(Engine::digest).await
    }
}

#[cfg(test)]
mod tests;
