//! The search index as a projection: published documents go in, deleted ones go out, the checkpoint with them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use lmao_events::{AnyEvent, Category, Position, StreamId, Version, document::Event, document::Published};
use lmao_ports::{
    Committed, Digest, Folder, IndexError, Ingestion, Journal, Missed, ModelManifest, ParkedStream, Progress,
    Projection, ProjectionError, SearchIndex, SemanticState, Semantics, Snapshots, Space, Unavailable, Unparked,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::OpenedLog;

const PARKED: &str = "search/parked/";

/// Where the manifest of the model is kept whose vectors the index took last in a space: a rebuild needs it also while that
/// model is turned off, and it is in no event.
const fn model_key(space: Space) -> &'static str {
    match space {
        Space::General => "search/model",
        Space::Domain => "search/model/domain",
    }
}

/// How often the index is asked how far it is, while somebody waits for what another process feeds.
const POLL: Duration = Duration::from_millis(50);

/// Who feeds an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feeder {
    /// This process, and nobody else.
    Here,
    /// This process or another.
    Somewhere,
}

/// Feeds a search index.
#[derive(Debug)]
pub struct SearchProjection {
    feeder: Feeder,
    index: Arc<dyn SearchIndex>,
    steps: Arc<dyn Ingestion>,
    semantics: Arc<dyn Semantics>,
    log: OpenedLog,
    snapshots: Arc<dyn Snapshots>,
    progress: Progress,
    /// One at a time changes the index: the checkpoint stands still while a stream is taken in again.
    turn: Mutex<()>,
    /// One asks the index for all who wait.
    asking: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct ParkedEntry {
    version: Version,
    position: Position,
    reason: String,
}

impl SearchProjection {
    /// A projection into `index`, at the index's own checkpoint. Parked streams and the model are remembered in `snapshots`.
    /// An index that is away is no error: whoever feeds it, and whoever waits for it, asks for the checkpoint again.
    ///
    /// # Errors
    /// What the index says, and what the snapshots say.
    pub async fn open(
        index: Arc<dyn SearchIndex>,
        steps: Arc<dyn Ingestion>,
        semantics: Arc<dyn Semantics>,
        log: OpenedLog,
        snapshots: Arc<dyn Snapshots>,
        feeder: Feeder,
    ) -> Result<Self, IndexError> {
        let known = async {
            let held = [
                (Space::General, index.model(Space::General).await?),
                (Space::Domain, index.model(Space::Domain).await?),
            ];
            Ok((index.checkpoint().await?, held))
        };
        let (checkpoint, held) = match known.await {
            Err(IndexError::Unavailable(error)) if feeder == Feeder::Somewhere => {
                tracing::warn!(error = &error as &dyn std::error::Error, "how far the index is, is not known yet");
                (Position(0), Space::ALL.map(|space| (space, None)))
            }
            known => known?,
        };
        for (space, held) in held {
            if let Some(held) = held {
                remember(&*snapshots, space, &held).await?;
            }
        }
        let progress = Progress::at(checkpoint);
        let (turn, asking) = (Mutex::default(), Mutex::default());
        Ok(Self { feeder, index, steps, semantics, log, snapshots, progress, turn, asking })
    }

    /// Which categories it needs opened.
    #[must_use]
    pub fn wants(category: Category) -> bool {
        category == Category::Document
    }

    async fn take(&self, commit: &Committed) -> Result<(), ProjectionError> {
        let Ok(events) = &commit.events else { return Ok(()) };
        let stream = commit.header.stream;
        for event in events {
            match event {
                AnyEvent::Document(Event::Published(published)) => self.publish(commit, published).await?,
                AnyEvent::Document(Event::Deleted(_)) => self.index.delete(stream.id).await.map_err(unavailable)?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn publish(&self, commit: &Committed, published: &Published) -> Result<(), ProjectionError> {
        let (stream, version) = (commit.header.stream, commit.header.version);
        let poisoned = |message: String| ProjectionError::Poisoned { stream, version, message };
        let folder = Folder { owner: published.owner, document: stream.id, attempt: published.attempt };
        let mut document = match self.steps.load(folder, published).await {
            Ok(document) => document,
            Err(failure) if failure.retryable => {
                return Err(Unavailable::plain("blobs", failure.message).into());
            }
            // Of a document that was deleted, or published again, the blobs may be gone: a later event speaks for it.
            Err(_) if self.superseded(stream, version).await? => return Ok(()),
            Err(failure) => return Err(poisoned(failure.message)),
        };
        for (space, model) in [(Space::General, &published.model), (Space::Domain, &published.domain_model)] {
            // A space without vectors says nothing of its model.
            if document.vectors.of(space).is_empty() {
                continue;
            }
            let declared = match model {
                Some(model) => self.declare_model(space, model).await?,
                None => false,
            };
            if !declared {
                let name = space.name();
                tracing::warn!(document = %stream.id, space = name, "its vectors are left out: their model is not in use");
                document.vectors.of_mut(space).clear();
            }
        }
        self.index.put(document).await.map_err(|error| match error {
            IndexError::Invalid(message) => poisoned(message),
            error => unavailable(error),
        })
    }

    /// Tells the index whose vectors it gets in a space, when it has none there yet. False when it takes none of this model;
    /// what the passages say can be found all the same.
    async fn declare_model(&self, space: Space, model: &str) -> Result<bool, ProjectionError> {
        let held = self.index.model(space).await.map_err(unavailable)?;
        if held.is_some_and(|held| held.id == model) {
            return Ok(true);
        }
        let in_use = match self.semantics.settled(space).await {
            SemanticState::Ready(embedder) => Some(embedder.manifest().clone()),
            // Turned off, and perhaps back soon: then vectors are those of the model that was in use last.
            SemanticState::Off(_) | SemanticState::Loading(_) => remembered(&*self.snapshots, space).await?,
        };
        let Some(in_use) = in_use.filter(|in_use| in_use.id == model) else { return Ok(false) };
        match self.index.use_model(space, &in_use).await {
            Ok(()) => remember(&*self.snapshots, space, &in_use).await?,
            Err(IndexError::OtherModel { .. }) => return Ok(false),
            Err(error) => return Err(unavailable(error)),
        }
        Ok(true)
    }

    /// What happens to a stream that was set aside: only its deletion still matters, and ends that; whether it did.
    async fn pass_by(&self, commit: &Committed) -> Result<bool, ProjectionError> {
        let Ok(events) = &commit.events else { return Ok(false) };
        if events.iter().any(|event| matches!(event, AnyEvent::Document(Event::Deleted(_)))) {
            let stream = commit.header.stream;
            self.index.delete(stream.id).await.map_err(unavailable)?;
            self.snapshots.delete(&format!("{PARKED}{stream}")).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Remembers that a stream is set aside, in place of what was remembered of it before.
    async fn set_aside(&self, parked: &ParkedStream) -> Result<(), ProjectionError> {
        let ParkedStream { stream, version, position, reason } = parked.clone();
        let bytes = rmp_serde::to_vec(&ParkedEntry { version, position, reason }).unwrap_or_default();
        // The index's checkpoint is durable: the parking that it passes has to be before.
        Ok(self.snapshots.put_durable(&format!("{PARKED}{stream}"), Bytes::from(bytes)).await?)
    }

    async fn parked_of(&self, stream: StreamId) -> Result<Option<ParkedStream>, ProjectionError> {
        Ok(self.parked().await?.into_iter().find(|parked| parked.stream == stream))
    }

    /// Asks the index how far it is, without end.
    async fn ask<T>(&self) -> T {
        let _asking = self.asking.lock().await;
        loop {
            // Away, it is asked again; whoever waits has a limit of its own.
            if let Ok(checkpoint) = self.index.checkpoint().await {
                self.progress.rise(checkpoint);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn superseded(&self, stream: StreamId, version: Version) -> Result<bool, ProjectionError> {
        let mut later = self.log.read(stream, version.next());
        while let Some(commit) = later.next().await {
            let commit =
                commit.map_err(|error| Unavailable::new("log", "a document's history cannot be read", error))?;
            let Ok(events) = commit.events else { return Ok(true) };
            if events.iter().any(|event| matches!(event, AnyEvent::Document(Event::Published(_) | Event::Deleted(_)))) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[async_trait]
impl Projection for SearchProjection {
    fn name(&self) -> &'static str {
        "search"
    }

    async fn computed_from(&self, log: Uuid) -> Result<Uuid, ProjectionError> {
        self.index.computed_from(log).await.map_err(unavailable)
    }

    async fn checkpoint(&self) -> Result<Position, ProjectionError> {
        self.index.checkpoint().await.map_err(unavailable)
    }

    async fn apply(&self, batch: &[Committed]) -> Result<(), ProjectionError> {
        let _turn = self.turn.lock().await;
        let checkpoint = self.checkpoint().await?;
        let Some(last) = batch.last().filter(|last| last.position > checkpoint) else { return Ok(()) };
        let mut parked = if batch.iter().any(|commit| Self::wants(commit.header.stream.category)) {
            self.parked().await?
        } else {
            vec![]
        };
        for commit in batch.iter().filter(|commit| commit.position > checkpoint) {
            let aside = parked
                .iter()
                .any(|parked| parked.stream == commit.header.stream && parked.version <= commit.header.version);
            if aside {
                if self.pass_by(commit).await? {
                    parked.retain(|parked| parked.stream != commit.header.stream);
                }
            } else {
                self.take(commit).await?;
            }
        }
        self.index.commit(last.position).await.map_err(unavailable)?;
        self.progress.reach(last.position);
        Ok(())
    }

    async fn save(&self) -> Result<(), ProjectionError> {
        self.index.save().await.map_err(unavailable)
    }

    async fn park(&self, parked: &ParkedStream) -> Result<(), ProjectionError> {
        // Of a stream that is set aside already, what was left out begins where it was set aside first.
        if self.parked_of(parked.stream).await?.is_some() {
            return Ok(());
        }
        self.set_aside(parked).await
    }

    async fn parked(&self) -> Result<Vec<ParkedStream>, ProjectionError> {
        let mut parked = Vec::new();
        for (key, bytes) in self.snapshots.scan(PARKED).await? {
            let stream = key.strip_prefix(PARKED).and_then(|stream| stream.parse().ok());
            let entry = rmp_serde::from_slice::<ParkedEntry>(&bytes).ok();
            if let (Some(stream), Some(ParkedEntry { version, position, reason })) = (stream, entry) {
                parked.push(ParkedStream { stream, version, position, reason });
            }
        }
        Ok(parked)
    }

    async fn holds(&self, stream: StreamId) -> Result<bool, ProjectionError> {
        self.index.holds(stream.id).await.map_err(unavailable)
    }

    async fn unpark(&self, stream: StreamId, log: &dyn Journal) -> Result<Unparked, ProjectionError> {
        let _turn = self.turn.lock().await;
        let Some(parked) = self.parked_of(stream).await? else { return Ok(Unparked::NotParked) };
        let checkpoint = self.checkpoint().await?;
        let mut missed = Missed::read(log, stream, parked.version, checkpoint).await?;
        let mut misfit = None;
        for commit in &missed.commits {
            match self.take(commit).await {
                Ok(()) => {}
                Err(ProjectionError::Poisoned { version, message, .. }) => {
                    misfit = Some((version, message));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some((version, message)) = misfit {
            missed.cut(version, message);
        }
        self.index.commit(checkpoint).await.map_err(unavailable)?;
        // Last: whoever dies before this takes the same in once more, which changes nothing.
        match missed.again {
            None => {
                self.snapshots.delete(&format!("{PARKED}{stream}")).await?;
                Ok(Unparked::TakenIn)
            }
            Some(again) => {
                self.set_aside(&again).await?;
                Ok(Unparked::Again(again))
            }
        }
    }

    async fn reset(&self) -> Result<(), ProjectionError> {
        let _turn = self.turn.lock().await;
        for (key, _) in self.snapshots.scan(PARKED).await? {
            self.snapshots.delete(&key).await?;
        }
        self.index.reset().await.map_err(unavailable)?;
        self.progress.reach(Position(0));
        Ok(())
    }

    async fn digest(&self) -> Result<Digest, ProjectionError> {
        self.index.digest().await.map_err(unavailable)
    }

    async fn wait_for(&self, position: Position, at_most: Duration) -> bool {
        let reached = self.progress.wait_for(position, at_most);
        match self.feeder {
            Feeder::Here => reached.await,
            Feeder::Somewhere => tokio::select! {
                reached = reached => reached,
                never = self.ask() => never,
            },
        }
    }

    async fn awaited(&self) {
        self.progress.awaited().await;
    }
}

async fn remember(snapshots: &dyn Snapshots, space: Space, model: &ModelManifest) -> Result<(), Unavailable> {
    snapshots.put_durable(model_key(space), Bytes::from(rmp_serde::to_vec_named(model).unwrap_or_default())).await
}

async fn remembered(snapshots: &dyn Snapshots, space: Space) -> Result<Option<ModelManifest>, Unavailable> {
    let bytes = snapshots.get(model_key(space)).await?;
    Ok(bytes.and_then(|bytes| rmp_serde::from_slice(&bytes).ok()))
}

fn unavailable(error: IndexError) -> ProjectionError {
    match error {
        IndexError::Unavailable(error) => error.into(),
        error => Unavailable::new("search index", "it does not take in the log", error).into(),
    }
}
