//! Waiting for what a stream comes to: subscribe first, then send, then read the log. Live frames are hints; the log decides.

use std::{ops::ControlFlow, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use lmao_events::{AnyEvent, Head, Position, StreamId, Version};
use lmao_ports::{Committed, Frame};
use tokio::time::Instant;

use crate::{
    app::App,
    error::{ApiError, erased},
};

/// How often the log is read when no hint comes.
pub(crate) const UNHINTED: Duration = Duration::from_millis(500);

/// A reader of one stream's future.
pub(crate) struct Watch {
    stream: StreamId,
    frames: BoxStream<'static, Frame>,
    /// The next version to read.
    next: Version,
    /// The position of the last commit that is known here.
    pub(crate) seen: Position,
    /// Nothing can be there to read before the next hint.
    current: bool,
}

/// An event that was waited for, and its commit.
#[derive(Debug)]
pub(crate) struct Found<T> {
    pub(crate) what: T,
    pub(crate) commit: Committed,
}

impl Watch {
    /// Subscribes. What is committed from now on is not missed.
    pub(crate) async fn open(app: &App, stream: StreamId) -> Self {
        let frames = app.state.live.subscribe(stream).await;
        Self { stream, frames, next: Version(1), seen: Position(0), current: false }
    }

    /// Begins behind this head, which was just written.
    pub(crate) fn after(&mut self, head: Head) {
        self.next = head.version.next();
        self.seen = head.position;
        self.current = true;
    }

    /// Begins at this version, which was written before.
    pub(crate) fn from(&mut self, version: Version) {
        self.next = Version(version.0.max(1));
        self.seen = Position(0);
        self.current = false;
    }

    /// The first commit for which `pick` has an answer, or `None` at `deadline`. While the log cannot be read there is none
    /// either: what was accepted goes on, and nobody is told that it failed.
    pub(crate) async fn until<T>(
        &mut self,
        app: &App,
        deadline: Instant,
        mut pick: impl FnMut(&[AnyEvent]) -> Option<T>,
    ) -> Result<Option<Found<T>>, ApiError> {
        let mut found = None;
        loop {
            let read = self.read(app, |commit, events| match pick(events) {
                Some(what) => {
                    found = Some(Found { what, commit: commit.clone() });
                    ControlFlow::Break(())
                }
                None => ControlFlow::Continue(()),
            });
            match read.await {
                Err(error) if error.is_absence() => return Ok(found),
                read => read?,
            }
            if found.is_some() || !self.pause(deadline).await {
                return Ok(found);
            }
        }
    }

    /// Shows `look` every commit that it has not seen, up to the log's present end or until it breaks.
    pub(crate) async fn read(
        &mut self,
        app: &App,
        mut look: impl FnMut(&Committed, &[AnyEvent]) -> ControlFlow<()>,
    ) -> Result<(), ApiError> {
        if self.current {
            return Ok(());
        }
        let mut commits = app.state.journal.read(self.stream, self.next);
        while let Some(commit) = commits.next().await {
            let commit = commit?;
            self.next = commit.header.version.next();
            self.seen = commit.position;
            if look(&commit, commit.events.as_deref().map_err(|_| erased())?).is_break() {
                return Ok(());
            }
        }
        self.current = true;
        Ok(())
    }

    /// Waits until there may be more to read; `false` when `deadline` has passed.
    pub(crate) async fn pause(&mut self, deadline: Instant) -> bool {
        if Instant::now() >= deadline {
            return false;
        }
        self.doubt();
        let patience = deadline.min(Instant::now() + UNHINTED);
        tokio::time::timeout_at(patience, self.hint()).await.ok();
        true
    }

    /// The next live frame. One that says that there is more to read makes the next read look.
    pub(crate) async fn frame(&mut self) -> Frame {
        match self.frames.next().await {
            Some(frame) => {
                self.current &= !self.is_hint(&frame);
                frame
            }
            // Nobody publishes any more: the clock decides.
            None => std::future::pending().await,
        }
    }

    /// Whether a frame says that there is more to read.
    pub(crate) fn is_hint(&self, frame: &Frame) -> bool {
        matches!(frame, Frame::Committed { position } if *position > self.seen)
    }

    /// Makes the next read look, hinted or not.
    pub(crate) fn doubt(&mut self) {
        self.current = false;
    }

    /// Resolves when the stream has a commit that was not read.
    async fn hint(&mut self) {
        loop {
            let frame = self.frame().await;
            if self.is_hint(&frame) {
                return;
            }
        }
    }
}
