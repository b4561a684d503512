//! Retrieval alone, in a folder that is gone afterwards: the real steps of ingestion, the real index, the real search, and no
//! log, no accounts, no server.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use lmao_adapters::{
    blobs::FileBlobs,
    clock::SystemClock,
    index::EmbeddedIndex,
    models::{Models, Progress, default_cache_dir},
    sqlite::SqliteEmbeddingCache,
};
use lmao_events::{
    Decider as _, Place, Position, Version,
    document::{Command, Document, Effect, Event, Published, State, StepOutcome, Uploaded},
};
use lmao_ports::{Blobs, Clock as _, Folder, Ingestion, Llm, Retriever, SearchIndex, SemanticState, Semantics, Space};
use serde_json::json;
use uuid::Uuid;

use super::parts::{ingest, language_model, model_config, retriever};
use crate::config::Config;

/// Bytes of vectors that are remembered from one use to the next.
const REMEMBERED: u64 = 2 * 1024 * 1024 * 1024;
/// Steps of one document: what is beyond is a step that leads nowhere.
const MAX_STEPS: usize = 5000;

/// An index of its own, and what fills and searches it.
pub(crate) struct Scratch {
    /// The models: loaded when they are first waited for.
    pub models: Arc<Models>,
    /// Searching.
    pub retriever: Arc<dyn Retriever>,
    steps: Arc<dyn Ingestion>,
    index: Arc<dyn SearchIndex>,
    blobs: Arc<dyn Blobs>,
    owner: Uuid,
    /// The last field: removed when everything in it is closed.
    _folder: tempfile::TempDir,
}

impl Scratch {
    /// An empty one, with the models of the configuration. Vectors are remembered beside the models, apart from those of any
    /// data directory, so that measuring does not crowd those out.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub(crate) async fn open(config: &Config, progress: Arc<dyn Progress>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("lmao-").tempdir().context("no folder can be made to work in")?;
        let cache = default_cache_dir().unwrap_or_else(|| folder.path().to_owned());
        std::fs::create_dir_all(&cache).with_context(|| format!("{} cannot be made", cache.display()))?;
        let models = Models::new(model_config(config, folder.path()), progress);
        let semantics: Arc<dyn Semantics> = Arc::clone(&models) as _;
        let blobs: Arc<dyn Blobs> = Arc::new(FileBlobs::open(&folder.path().join("blobs"), Uuid::nil()).await?);
        let index: Arc<dyn SearchIndex> = Arc::new(EmbeddedIndex::open(&folder.path().join("search")).await?);
        let vectors = SqliteEmbeddingCache::open(&cache.join("scratch-vectors.db"), REMEMBERED).await?;
        let steps: Arc<dyn Ingestion> = Arc::new(ingest(&blobs, &semantics, Arc::new(vectors))?);
        let llm = language_model(&config.llm)?.map(|endpoint| endpoint as Arc<dyn Llm>);
        let retriever = retriever(&index, &models, llm.as_ref().filter(|_| config.llm.rewrite_questions));
        Ok(Self { models, retriever, steps, index, blobs, owner: Uuid::from_u128(1), _folder: folder })
    }

    /// Whose the documents are.
    pub(crate) fn owner(&self) -> Uuid {
        self.owner
    }

    /// Waits for the models, and tells the index of those that are there.
    ///
    /// # Errors
    /// What the index says.
    pub(crate) async fn settle(&self) -> anyhow::Result<Vec<(Space, SemanticState)>> {
        let mut states = vec![];
        for space in Space::ALL {
            let state = self.models.settled(space).await;
            if let SemanticState::Ready(embedder) = &state {
                self.index.use_model(space, embedder.manifest()).await?;
            }
            states.push((space, state));
        }
        Ok(states)
    }

    /// Takes a file in as the system does, step by step, as far as the index.
    ///
    /// # Errors
    /// When the file cannot be taken in, or a store cannot be used.
    pub(crate) async fn take_in(&self, id: Uuid, filename: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let folder = Folder { owner: self.owner, document: id, attempt: None };
        let content = self.blobs.put(folder, bytes.into()).await?;
        let uploaded =
            Uploaded { owner: self.owner, filename: filename.to_owned(), content, metadata: json!({}), attempt: None };
        let published = self.published(folder, uploaded).await.with_context(|| filename.to_owned())?;
        let document = self.steps.load(folder, &published).await.map_err(|failure| anyhow::anyhow!(failure.message))?;
        Ok(self.index.put(document).await?)
    }

    /// Makes visible what was taken in.
    ///
    /// # Errors
    /// What the index says.
    pub(crate) async fn commit(&self, position: u64) -> anyhow::Result<()> {
        Ok(self.index.commit(Position(position)).await?)
    }

    /// Passages that can be found.
    ///
    /// # Errors
    /// What the index says.
    pub(crate) async fn count(&self) -> anyhow::Result<u64> {
        Ok(self.index.count().await?)
    }

    /// The document's own decider says what comes next.
    async fn published(&self, folder: Folder, uploaded: Uploaded) -> anyhow::Result<Published> {
        let mut state = State::default();
        let mut command = Command::Upload(uploaded);
        for version in 1..=MAX_STEPS {
            let at = SystemClock.now();
            for (index, event) in (0..).zip(Document::decide(&state, command)?) {
                let place = Place { version: Version(version as u64), index, time: at };
                state = Document::evolve(state, &event, place)?;
                match event {
                    Event::Published(published) => return Ok(published),
                    Event::Failed(failed) => bail!(failed.failure.message),
                    _ => {}
                }
            }
            let Some(owed) = Document::pending(&state).into_iter().next() else { break };
            let outcome = match owed.effect {
                Effect::Extract { file } => self.steps.extract(folder, &file).await.map(StepOutcome::Extracted),
                Effect::Chunk { file, extracted } => {
                    self.steps.chunk(folder, &file, &extracted).await.map(StepOutcome::Chunked)
                }
                Effect::Embed { batch, chunks, model, .. } => {
                    self.steps.embed(folder, batch, &chunks, model.as_deref()).await
                }
                Effect::AwaitIndexed | Effect::RemoveBlobs { .. } => break,
            };
            let outcome = outcome.unwrap_or_else(StepOutcome::Failed);
            command = Command::RecordStep { effect: owed.id, outcome, at };
        }
        bail!("it was not taken in to its end")
    }
}
