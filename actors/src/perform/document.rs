//! A document owes the steps from a file to something that can be found.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lmao_events::{
    Failure, StreamId, Version,
    document::{Command, Document, Effect, StepOutcome},
};
use lmao_ports::{Folder, ParkedStream, ProjectionError, STORAGE_UNAVAILABLE, Unavailable, Unparked};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::{
    EffectContext, Hands, Perform, Performed,
    starts::{MAX_STARTS, Start},
};

/// How long one wait for the search projection takes.
const INDEXED_WITHIN: Duration = Duration::from_secs(30);
/// Half of how long a file waits that was being read when a process ended; twice as long after each further end.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the blobs are waited for. After that it counts as an attempt that they do not answer.
const STORAGE_WITHIN: Duration = Duration::from_secs(60 * 60);
/// The pause before they are asked again: a quarter of the time that they have been away, within these bounds.
const STORAGE_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_STORAGE_PAUSE: Duration = Duration::from_secs(60);
/// Extractions and cuts at once.
const READERS: u32 = 2;

/// The hands of documents, with bounds on how many steps run at once.
#[derive(Debug)]
pub(crate) struct DocumentWorld {
    hands: Hands,
    /// [`READERS`] turns.
    reading: Semaphore,
    /// Batches that wait for the embedding model: two, so that it never idles.
    embedding: Semaphore,
    without_storage: WithoutStorage,
}

impl DocumentWorld {
    pub(crate) fn new(hands: Hands) -> Arc<Self> {
        Arc::new(Self {
            hands,
            reading: Semaphore::new(READERS as usize),
            embedding: Semaphore::new(2),
            without_storage: WithoutStorage::default(),
        })
    }

    /// A step's outcome; none when there is nothing to do but wait.
    async fn step(&self, context: &EffectContext, effect: Effect) -> Result<Option<StepOutcome>, Failure> {
        let steps = &self.hands.world.steps;
        let folder = |owner, attempt| Folder { owner, document: context.stream.id, attempt };
        match effect {
            Effect::Extract { file } => {
                let Some(_turn) = self.turn(context, Reading::Extracting).await? else { return Ok(None) };
                steps.extract(folder(file.owner, file.attempt), &file).await.map(StepOutcome::Extracted).map(Some)
            }
            Effect::Chunk { file, extracted } => {
                let Some(_turn) = self.turn(context, Reading::Chunking).await? else { return Ok(None) };
                let folder = folder(file.owner, file.attempt);
                steps.chunk(folder, &file, &extracted).await.map(StepOutcome::Chunked).map(Some)
            }
            Effect::Embed { owner, attempt, batch, chunks, model } => {
                // Never closed while the runtime lives. Its starts are not counted: what the model reads is bounded, and a model
                // that ends the process would have every document failed.
                let _permit = self.embedding.acquire().await;
                self.status(context, "embedding");
                steps.embed(folder(owner, attempt), batch, &chunks, model.as_deref()).await.map(Some)
            }
            Effect::AwaitIndexed => self.await_indexed(context).await,
            Effect::RemoveBlobs { owner, attempt } => {
                let removed = self.hands.world.blobs.delete(folder(owner, attempt)).await;
                removed.map_err(|error| Failure::passing(STORAGE_UNAVAILABLE, error.to_string()))?;
                Ok(Some(StepOutcome::BlobsRemoved))
            }
        }
    }

    /// A turn at reading what somebody handed in; none while the starts cannot be counted.
    async fn turn(&self, context: &EffectContext, reading: Reading) -> Result<Option<Turn<'_>>, Failure> {
        let turn = self.counted(context, reading).await.unwrap_or_else(|error| {
            tracing::warn!(stream = %context.stream, %error, "a document waits, since its starts cannot be counted");
            Ok(None)
        })?;
        if turn.is_some() {
            self.status(context, reading.status());
        }
        Ok(turn)
    }

    /// A file that was being read each time when the process ended is not read again; one that was so before is read alone,
    /// lest others be counted with it.
    async fn counted(
        &self,
        context: &EffectContext,
        reading: Reading,
    ) -> Result<Result<Option<Turn<'_>>, Failure>, Unavailable> {
        let starts = &self.hands.starts;
        let before = starts.without_end(context).await?;
        if before >= MAX_STARTS {
            return Ok(Err(reading.deadly(before)));
        }
        let turns = if before == 0 {
            1
        } else {
            // Whatever ends processes in a row, it seldom ends this one just when it begins anew; and should it be the file,
            // the others are served meanwhile.
            tokio::time::sleep(AGAIN * (1 << before)).await;
            READERS
        };
        // Never closed while the runtime lives.
        let permit = self.reading.acquire_many(turns).await.ok();
        Ok(Ok(Some(Turn { _start: starts.begin(context, before).await?, _permit: permit })))
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

/// Since when documents are without their data: that it is away is a wait, not a failure, but not without end. A process that
/// takes a document over begins to wait anew.
#[derive(Debug, Default)]
struct WithoutStorage(Mutex<HashMap<StreamId, Instant>>);

impl WithoutStorage {
    /// How long the document waits before it tries again; `None` once it has waited for long enough.
    fn pause(&self, document: StreamId) -> Option<Duration> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of one that somebody else took over meanwhile.
        since.retain(|_, since| since.elapsed() < STORAGE_WITHIN + 2 * LONGEST_STORAGE_PAUSE);
        let waited = since.entry(document).or_insert_with(Instant::now).elapsed();
        (waited < STORAGE_WITHIN).then(|| (waited / 4).clamp(STORAGE_PAUSE, LONGEST_STORAGE_PAUSE))
    }

    fn forget(&self, document: StreamId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&document);
    }
}

/// The steps that read what somebody handed in, however large and deep it is.
#[derive(Debug, Clone, Copy)]
enum Reading {
    Extracting,
    Chunking,
}

impl Reading {
    const fn status(self) -> &'static str {
        match self {
            Self::Extracting => "extracting",
            Self::Chunking => "chunking",
        }
    }

    fn deadly(self, times: u8) -> Failure {
        let doing = match self {
            Self::Extracting => "its text was extracted",
            Self::Chunking => "it was cut into passages",
        };
        let text = format!(
            "The server ended {times} times while {doing}, so it is left alone. The file is probably damaged, made to cause \
             harm or too large for this machine; save it anew or split it, or try again if the server ended for other reasons."
        );
        Failure::lasting("server_ended", text)
    }
}

/// A turn at reading.
#[derive(Debug)]
struct Turn<'a> {
    _start: Start,
    _permit: Option<SemaphorePermit<'a>>,
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
            Err(failure) if failure.reason == STORAGE_UNAVAILABLE => {
                if let Some(pause) = self.without_storage.pause(context.stream) {
                    tracing::warn!(stream = %context.stream, error = failure.message, "a document waits for its data");
                    return Performed::Later(pause);
                }
                StepOutcome::Failed(failure)
            }
            Err(failure) => StepOutcome::Failed(failure),
        };
        self.without_storage.forget(context.stream);
        Performed::Record(Command::RecordStep { effect: context.id, outcome, at: self.hands.clock.now() })
    }
}
