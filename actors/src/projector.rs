//! Projectors: each feeds one projection from the log, in batches, and sets aside what it cannot take in.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::BoxStream};
use lmao_events::{Category, Position};
use lmao_ports::{Committed, Journal, ParkedStream, Projection, ProjectionError, ReadError, Unreadable};
use tokio::{sync::watch, task::JoinHandle};

use crate::OpenedLog;

/// Commits of one batch.
const BATCH: usize = 500;
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

    /// Ends it after the batch that it is in.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a projector ended badly");
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
        let (stop, mut stopped) = watch::channel(false);
        let reported = Arc::clone(&status);
        let task = tokio::spawn(async move {
            let mut pause = PAUSE;
            loop {
                let outcome = tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => return,
                    outcome = self.feed(&reported, &mut pause) => outcome,
                };
                let error = outcome.err().unwrap_or_else(|| "the subscription ended".to_owned());
                tracing::error!(projection = self.projection.name(), error, "a projector pauses");
                reported.lock().unwrap_or_else(PoisonError::into_inner).error = Some(error);
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => return,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                }
            }
        });
        ProjectorHandle { status, stop, task }
    }

    async fn feed(&self, status: &Mutex<ProjectorStatus>, pause: &mut Duration) -> Result<(), String> {
        let checkpoint = self.projection.checkpoint().await.map_err(|error| error.to_string())?;
        let mut commits = self.log.follow_only(checkpoint, self.wanted);
        while let Some(first) = commits.next().await {
            let (batch, damage) = waiting(first, &mut commits);
            if let Some(last) = batch.last() {
                take_in(self.projection.as_ref(), &batch).await.map_err(|error| describe(&error))?;
                *status.lock().unwrap_or_else(PoisonError::into_inner) =
                    ProjectorStatus { position: last.position, error: None };
                *pause = PAUSE;
            }
            if let Some(error) = damage {
                return Err(describe(&error));
            }
        }
        Ok(())
    }
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
    let tail = log.tail().await.map_err(|error| describe(&error))?;
    let mut reached = projection.checkpoint().await.map_err(|error| describe(&error))?;
    let mut commits = log.follow_only(reached, wanted);
    while reached < tail {
        let Some(first) = commits.next().await else { return Err("the log ended early".to_owned()) };
        let (batch, damage) = waiting(first, &mut commits);
        if let Some(last) = batch.last() {
            take_in(projection, &batch).await.map_err(|error| describe(&error))?;
            reached = last.position;
            progress(reached, tail);
        }
        if let Some(error) = damage {
            return Err(describe(&error));
        }
    }
    Ok(reached)
}

/// A batch of what is there already, and the damage that ended it.
fn waiting(
    first: Result<Committed, ReadError>,
    commits: &mut BoxStream<'static, Result<Committed, ReadError>>,
) -> (Vec<Committed>, Option<ReadError>) {
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(commit) = next.take() {
        match commit {
            Ok(commit) => batch.push(commit),
            Err(error) => return (batch, Some(error)),
        }
        if batch.len() < BATCH {
            next = commits.next().now_or_never().flatten();
        }
    }
    (batch, None)
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
