//! Projectors: each feeds one projection from the log, in batches, and sets aside what it cannot take in. While nobody waits
//! for a projection, commits gather: a batch of one costs as much as a batch of many.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::BoxStream};
use lmao_events::{Category, Position};
use lmao_ports::{Committed, Journal, ParkedStream, Projection, ProjectionError, ReadError, Span, Unreadable};
use tokio::{
    sync::watch,
    task::{JoinHandle, unconstrained},
    time::{Instant, MissedTickBehavior},
};

use crate::{OpenedLog, leisure::NearEnd, metrics};

/// Commits of a batch whose traces are told of it.
const MAX_TRACED: usize = 64;
/// How long commits gather near the log's end while nobody waits for them.
const GATHER: Duration = Duration::from_millis(50);
/// As many times as long gathers what moves a projection's checkpoint and nothing else.
const PASSING: u32 = 5;
/// How often a checkpoint that is known in memory only is written down.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// How long the batch in hand may take once the projector is to end: it may wait for something that takes long, a model that
/// is being downloaded, say.
const GRACE: Duration = Duration::from_secs(2);
/// How long ending takes at most, the checkpoint's saving included.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Pauses between tries while a store cannot be used.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How a projector is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectorStatus {
    /// The position that the projection has reached.
    pub position: Position,
    /// What keeps it from going on, while something does.
    pub error: Option<String>,
}

/// A projection and the log it is fed from.
#[derive(Debug, Clone)]
pub struct Projector {
    projection: Arc<dyn Projection>,
    log: OpenedLog,
    wanted: fn(Category) -> bool,
}

/// A projector that runs.
#[derive(Debug)]
pub struct ProjectorHandle {
    status: Arc<Mutex<ProjectorStatus>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ProjectorHandle {
    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> ProjectorStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it after the batch that it is in, with its checkpoint saved. A batch that takes too long is broken off, and the
    /// checkpoint saved all the same: the next start takes the batch in.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let ended = match tokio::time::timeout(END_WITHIN, &mut self.task).await {
            Ok(ended) => ended,
            Err(_) => {
                self.task.abort();
                self.task.await
            }
        };
        match ended {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => {
                tracing::info!("a projector was broken off; the next start takes in what is left");
            }
            Err(error) => tracing::error!(%error, "a projector ended badly"),
        }
    }
}

impl Projector {
    /// A projector of the events of those categories that `wanted` names.
    #[must_use]
    pub fn new(projection: Arc<dyn Projection>, log: OpenedLog, wanted: fn(Category) -> bool) -> Self {
        Self { projection, log, wanted }
    }

    /// Feeds the projection, without end.
    #[must_use]
    pub fn spawn(self) -> ProjectorHandle {
        let status = Arc::new(Mutex::new(ProjectorStatus::default()));
        let (stop, stopped) = watch::channel(false);
        let reported = Arc::clone(&status);
        let task = tokio::spawn(async move {
            let overdue = overdue(stopped.clone());
            // A batch that is dropped half-way was not taken in.
            tokio::select! {
                () = self.run(&reported, stopped) => {}
                () = overdue => {
                    let projection = self.projection.name();
                    tracing::info!(projection, "a batch is broken off; the next start takes it in");
                }
            }
            if let Err(error) = self.projection.save().await {
                tracing::warn!(
                    projection = self.projection.name(),
                    error = describe(&error),
                    "its checkpoint is not saved"
                );
            }
        });
        ProjectorHandle { status, stop, task }
    }

    /// Feeds the projection until it is told to stop.
    async fn run(&self, status: &Mutex<ProjectorStatus>, mut stopped: watch::Receiver<bool>) {
        let mut pause = PAUSE;
        while let Err(error) = self.feed(status, &mut pause, &mut stopped).await {
            tracing::error!(projection = self.projection.name(), error, "a projector pauses");
            status.lock().unwrap_or_else(PoisonError::into_inner).error = Some(error);
            tokio::select! {
                biased;
                () = told(&mut stopped) => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// Follows the log until `stopped`, or until something is in the way: what.
    async fn feed(
        &self,
        status: &Mutex<ProjectorStatus>,
        pause: &mut Duration,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), String> {
        belongs(self.projection.as_ref(), &self.log).await?;
        let checkpoint = self.projection.checkpoint().await.map_err(|error| describe(&error))?;
        let tail = self.log.tail().await.map_err(|error| describe(&error))?;
        if checkpoint > tail {
            let name = self.projection.name();
            return Err(format!(
                "{name} is at position {checkpoint} and the log ends at {tail}: it was computed from another log, or the log is \
                 not whole; restore the log, or run `lmao projections rebuild {name}`"
            ));
        }
        let mut commits = self.log.follow_only(checkpoint, self.wanted);
        let (most, mut near) = (self.projection.batch(), NearEnd::default());
        let mut save = tokio::time::interval_at(Instant::now() + SAVE_EVERY, SAVE_EVERY);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                biased;
                () = told(stopped) => return Ok(()),
                _ = save.tick() => {
                    self.projection.save().await.map_err(|error| describe(&error))?;
                    continue;
                }
                first = commits.next() => first.ok_or("the subscription ended")?,
            };
            let mut batch = Batch::of(first);
            batch.fill(&mut commits, most);
            if !batch.is_full(most)
                && near.reached(batch.end(), batch.commits.len(), most, async || self.log.tail().await).await
            {
                self.gather(&mut batch, &mut commits, stopped).await;
            }
            if let Some(position) = batch.end() {
                let spans = batch.spans(self.projection.name(), self.wanted);
                take_in(self.projection.as_ref(), &batch.commits).await.map_err(|error| describe(&error))?;
                drop(spans);
                metrics::projected(self.projection.name(), batch.commits.len());
                *status.lock().unwrap_or_else(PoisonError::into_inner) = ProjectorStatus { position, error: None };
                *pause = PAUSE;
            }
            if let Some(damage) = batch.damage {
                return Err(describe(&damage));
            }
        }
    }

    /// Lets more come together until somebody waits for it, or the time is over: a short one once there is something that the
    /// projection wants.
    async fn gather(
        &self,
        batch: &mut Batch,
        commits: &mut BoxStream<'static, Result<Committed, ReadError>>,
        stopped: &mut watch::Receiver<bool>,
    ) {
        let most = self.projection.batch();
        for _ in 0..PASSING {
            let is_over = tokio::select! {
                biased;
                () = told(stopped) => true,
                () = self.projection.awaited() => true,
                () = tokio::time::sleep(GATHER) => false,
            };
            batch.fill(commits, most);
            if is_over || batch.is_full(most) || batch.has_any(self.wanted) {
                return;
            }
        }
    }
}

/// Refuses a projection of another log: what it shows and what is taken in would be mixed.
async fn belongs(projection: &dyn Projection, log: &OpenedLog) -> Result<(), String> {
    let ours = log.log_id();
    let of = projection.computed_from(ours).await.map_err(|error| describe(&error))?;
    if of == ours {
        return Ok(());
    }
    let name = projection.name();
    Err(format!(
        "{name} was computed from the log {of}, and this is the log {ours}: name the store that belongs to this log, or run \
         `lmao projections rebuild {name}`"
    ))
}

/// Waits until the projector ought to have ended.
async fn overdue(mut stopped: watch::Receiver<bool>) {
    told(&mut stopped).await;
    tokio::time::sleep(GRACE).await;
}

/// Waits until the projector is to end, or nobody can tell it so any more.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Brings a projection up to the log's present tail, without following it further; `progress` is told each position.
///
/// # Errors
/// What kept it from getting there, for people.
pub async fn catch_up(
    projection: &dyn Projection,
    log: &OpenedLog,
    wanted: fn(Category) -> bool,
    mut progress: impl FnMut(Position, Position),
) -> Result<Position, String> {
    belongs(projection, log).await?;
    let tail = log.tail().await.map_err(|error| describe(&error))?;
    let mut reached = projection.checkpoint().await.map_err(|error| describe(&error))?;
    let mut commits = log.follow_only(reached, wanted);
    while reached < tail {
        let Some(first) = commits.next().await else { return Err("the log ended early".to_owned()) };
        let mut batch = Batch::of(first);
        batch.fill(&mut commits, projection.batch());
        if let Some(end) = batch.end() {
            take_in(projection, &batch.commits).await.map_err(|error| describe(&error))?;
            reached = end;
            progress(reached, tail);
        }
        if let Some(damage) = batch.damage {
            return Err(describe(&damage));
        }
    }
    projection.save().await.map_err(|error| describe(&error))?;
    Ok(reached)
}

/// Commits that are taken in together, and the damage that ended them.
#[derive(Default)]
struct Batch {
    commits: Vec<Committed>,
    damage: Option<ReadError>,
}

impl Batch {
    fn of(first: Result<Committed, ReadError>) -> Self {
        let mut batch = Self::default();
        batch.add(first);
        batch
    }

    fn add(&mut self, next: Result<Committed, ReadError>) {
        match next {
            Ok(commit) => self.commits.push(commit),
            Err(damage) => self.damage = Some(damage),
        }
    }

    /// Takes what is there already, until there are so many.
    fn fill(&mut self, commits: &mut BoxStream<'static, Result<Committed, ReadError>>, most: usize) {
        while !self.is_full(most) {
            // A task's budget would end a batch at some hundred.
            let Some(next) = unconstrained(commits.next()).now_or_never().flatten() else { return };
            self.add(next);
        }
    }

    /// Whether nothing may be added.
    fn is_full(&self, most: usize) -> bool {
        self.damage.is_some() || self.commits.len() >= most
    }

    /// Whether some commit is wanted.
    fn has_any(&self, wanted: fn(Category) -> bool) -> bool {
        self.commits.iter().any(|commit| wanted(commit.header.stream.category))
    }

    /// A span for each wanted commit of this batch, in the trace of what it came from.
    fn spans(&self, projection: &str, wanted: fn(Category) -> bool) -> Vec<Span> {
        // With so many commits at once it catches up, and nobody waits for it.
        if self.commits.len() > MAX_TRACED {
            return vec![];
        }
        let commits = self.commits.iter().filter(|commit| wanted(commit.header.stream.category)).map(|commit| {
            let span = Span::of(commit.header.traceparent.as_deref(), || format!("project {projection}").into());
            span.set_with("lmao.stream", || commit.header.stream.to_string());
            span.set("lmao.version", commit.header.version.0.cast_signed());
            span
        });
        commits.collect()
    }

    /// The last position.
    fn end(&self) -> Option<Position> {
        self.commits.last().map(|commit| commit.position)
    }
}

/// Applies a batch; a stream that cannot be read or taken in is set aside and the rest applied.
async fn take_in(projection: &dyn Projection, batch: &[Committed]) -> Result<(), ProjectionError> {
    for commit in batch {
        if let Err(Unreadable::Damaged(how)) = &commit.events {
            let (stream, version) = (commit.header.stream, commit.header.version);
            tracing::error!(projection = projection.name(), %stream, %version, how, "a stream is set aside");
            let reason = format!("version {version} cannot be read: {how}");
            projection.park(&ParkedStream { stream, version, position: commit.position, reason }).await?;
        }
    }
    loop {
        let (stream, version, message) = match projection.apply(batch).await {
            Err(ProjectionError::Poisoned { stream, version, message }) => (stream, version, message),
            outcome => return outcome,
        };
        let position = batch
            .iter()
            .find(|commit| commit.header.stream == stream && commit.header.version == version)
            .map_or(Position(0), |commit| commit.position);
        tracing::error!(projection = projection.name(), %stream, %version, message, "a stream is set aside");
        projection.park(&ParkedStream { stream, version, position, reason: message }).await?;
    }
}

/// An error with everything behind it, on one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
