//! What becomes of a document that was handed in, read from its history. Shared by upload and retry; knows no file.

use std::ops::ControlFlow;

use futures::StreamExt;
use lmao_events::{
    AnyEvent, Failure, StreamId, Timestamp, Version,
    document::{Event, Uploaded},
};
use lmao_ports::Committed;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    app::App,
    error::{ApiError, erased},
    watch::{Found, Watch},
};

/// An upload as the log has it.
#[derive(Debug)]
pub(crate) struct Known {
    /// What was handed in.
    pub(crate) uploaded: Uploaded,
    /// What caused it: the command's id, when it came with an idempotency key.
    pub(crate) causation: Uuid,
    /// When.
    pub(crate) at: Timestamp,
}

/// Where a document's stream stands.
#[derive(Debug)]
pub(crate) enum Standing {
    /// There is no document, and nothing of an earlier one is left.
    Absent,
    /// An earlier one was deleted, and its blobs are not gone yet.
    BeingDeleted,
    /// There is one.
    Present(Box<Known>),
}

/// How far a document has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It can be found.
    Ready { chunks: u32 },
    /// It cannot.
    Failed(Failure),
    /// It was deleted meanwhile.
    Deleted,
}

/// Reads where a document's stream stands.
pub(crate) async fn standing(app: &App, stream: StreamId) -> Result<Standing, ApiError> {
    let mut standing = Standing::Absent;
    let mut commits = app.state.journal.read(stream, Version(1));
    while let Some(commit) = commits.next().await {
        let Committed { header, events, .. } = commit?;
        for event in events.map_err(|_| erased())? {
            let AnyEvent::Document(event) = event else { continue };
            match event {
                Event::Uploaded(uploaded) => {
                    let (causation, at) = (header.causation, header.time);
                    standing = Standing::Present(Box::new(Known { uploaded, causation, at }));
                }
                Event::Deleted(_) => standing = Standing::BeingDeleted,
                Event::BlobsRemoved(_) => standing = Standing::Absent,
                _ => {}
            }
        }
    }
    Ok(standing)
}

/// What is known of a document's way so far.
#[derive(Debug, Default)]
struct Way {
    chunks: u32,
    end: Option<Found<Progress>>,
}

/// Waits until the document is ready, failed or deleted; `None` when that takes longer than until `deadline`, or the log cannot
/// be read meanwhile: what was accepted goes on.
pub(crate) async fn outcome(
    app: &App,
    watch: &mut Watch,
    deadline: Instant,
) -> Result<Option<Found<Progress>>, ApiError> {
    let mut way = Way::default();
    loop {
        // History is read to its present end: a failure may have been followed by another try.
        let read = watch.read(app, |commit, events| {
            events.iter().for_each(|event| way.go(commit, event));
            ControlFlow::Continue(())
        });
        match read.await {
            Err(error) if error.is_absence() => return Ok(way.end),
            read => read?,
        }
        if way.end.is_some() || !watch.pause(deadline).await {
            return Ok(way.end);
        }
    }
}

impl Way {
    fn go(&mut self, commit: &Committed, event: &AnyEvent) {
        let AnyEvent::Document(event) = event else { return };
        let end = match event {
            Event::Chunked(chunked) => return self.chunks = chunked.chunks,
            Event::Published(published) => return self.chunks = published.chunks,
            Event::Indexed(_) => Progress::Ready { chunks: self.chunks },
            Event::Failed(failed) => Progress::Failed(failed.failure.clone()),
            Event::Deleted(_) => Progress::Deleted,
            Event::Uploaded(_) | Event::RetryRequested(_) | Event::ReembedRequested(_) => return self.end = None,
            _ => return,
        };
        self.end = Some(Found { what: end, commit: commit.clone() });
    }
}
