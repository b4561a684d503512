//! A document owes the steps from a file to something that can be found.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lmao_events::{
    Failure, Version,
    document::{Command, Document, Effect, StepOutcome},
};
use lmao_ports::{Folder, ParkedStream, ProjectionError, Unparked};
use tokio::sync::Semaphore;

use super::{EffectContext, Hands, Perform, Performed};

/// How long one wait for the search projection takes.
const INDEXED_WITHIN: Duration = Duration::from_secs(30);

/// The hands of documents, with bounds on how many steps run at once.
#[derive(Debug)]
pub(crate) struct DocumentWorld {
    hands: Hands,
    /// Extractions and cuts at once.
    reading: Semaphore,
    /// Batches that wait for the embedding model: two, so that it never idles.
    embedding: Semaphore,
}

impl DocumentWorld {
    pub(crate) fn new(hands: Hands) -> Arc<Self> {
        Arc::new(Self { hands, reading: Semaphore::new(2), embedding: Semaphore::new(2) })
    }

    /// A step's outcome; none when there is nothing to do but wait.
    async fn step(&self, context: &EffectContext, effect: Effect) -> Result<Option<StepOutcome>, Failure> {
        let steps = &self.hands.world.steps;
        let folder = |owner, attempt| Folder { owner, document: context.stream.id, attempt };
        match effect {
            Effect::Extract { file } => {
                // Never closed while the runtime lives; so below.
                let _permit = self.reading.acquire().await;
                self.status(context, "extracting");
                steps.extract(folder(file.owner, file.attempt), &file).await.map(StepOutcome::Extracted).map(Some)
            }
            Effect::Chunk { file, extracted } => {
                let _permit = self.reading.acquire().await;
                self.status(context, "chunking");
                let folder = folder(file.owner, file.attempt);
                steps.chunk(folder, &file, &extracted).await.map(StepOutcome::Chunked).map(Some)
            }
            Effect::Embed { owner, attempt, batch, chunks, model } => {
                let _permit = self.embedding.acquire().await;
                self.status(context, "embedding");
                steps.embed(folder(owner, attempt), batch, &chunks, model.as_deref()).await.map(Some)
            }
            Effect::AwaitIndexed => self.await_indexed(context).await,
            Effect::RemoveBlobs { owner, attempt } => {
                let removed = self.hands.world.blobs.delete(folder(owner, attempt)).await;
                removed.map_err(|error| Failure::passing("blobs_unavailable", error.to_string()))?;
                Ok(Some(StepOutcome::BlobsRemoved))
            }
        }
    }

    /// The search projection may be far behind: that is a wait, not a failure.
    async fn await_indexed(&self, context: &EffectContext) -> Result<Option<StepOutcome>, Failure> {
        let search = &self.hands.world.search;
        let passed = search.wait_for(context.head.position, INDEXED_WITHIN).await;
        let parked = search.parked().await.map_err(|error| unavailable(&error))?;
        if let Some(parked) = parked.into_iter().find(|parked| parked.stream == context.stream) {
            return Err(Failure::lasting("not_indexable", parked.reason));
        }
        if passed && !search.holds(context.stream).await.map_err(|error| unavailable(&error))? {
            self.take_in_again(context).await?;
        }
        Ok(passed.then_some(StepOutcome::Indexed))
    }

    /// Passed, not parked and not there: its parking was lost, with a `snapshots.db` that somebody deleted, say.
    async fn take_in_again(&self, context: &EffectContext) -> Result<(), Failure> {
        let (search, stream) = (&self.hands.world.search, context.stream);
        let reason = "it was left out of the index, and why is not known any more".to_owned();
        let parked = ParkedStream { stream, version: Version(1), position: context.head.position, reason };
        search.park(&parked).await.map_err(|error| unavailable(&error))?;
        match search.unpark(stream, &*self.hands.journal).await.map_err(|error| unavailable(&error))? {
            Unparked::Again(parked) => Err(Failure::lasting("not_indexable", parked.reason)),
            Unparked::TakenIn | Unparked::NotParked => Ok(()),
        }
    }

    fn status(&self, context: &EffectContext, state: &str) {
        self.hands.text_frame(context.stream, context.stream.id, state, state);
    }
}

fn unavailable(error: &ProjectionError) -> Failure {
    Failure::passing("search_unavailable", error.to_string())
}

#[async_trait]
impl Perform<Document> for DocumentWorld {
    async fn perform(&self, context: EffectContext, effect: Effect) -> Performed<Document> {
        let outcome = match self.step(&context, effect).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => return Performed::Later(Duration::from_secs(1)),
            Err(failure) => StepOutcome::Failed(failure),
        };
        Performed::Record(Command::RecordStep { effect: context.id, outcome, at: self.hands.clock.now() })
    }
}
