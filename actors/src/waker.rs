//! The waker: knows which streams owe something without folding any, and wakes them after a start, when their time comes,
//! and when their actor ended without anybody noticing.

mod index;
mod line;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lmao_events::{Position, StreamId};
use lmao_ports::{ReadError, Unavailable};
use tokio::{
    sync::oneshot,
    time::{Interval, MissedTickBehavior},
};

use self::{index::Index, line::Line};
use crate::{at_leisure, runtime::Stores};

/// How often what changed is saved, and overlooked streams are looked for.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Pauses between tries while the log cannot be read.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Who is woken.
pub(crate) trait Wake: Send + Sync + 'static {
    /// Tells a stream's actor that something may be due.
    fn wake(&self, stream: StreamId);
    /// Whether a stream has an actor.
    fn is_live(&self, stream: StreamId) -> bool;
}

/// Runs until `stop`, then saves.
pub(crate) async fn run(stores: Arc<Stores>, wake: Arc<dyn Wake>, mut stop: oneshot::Receiver<()>) {
    let mut waker = tokio::select! {
        biased;
        _ = &mut stop => return,
        waker = Waker::open(Arc::clone(&stores), wake) => waker,
    };
    tokio::select! {
        biased;
        _ = &mut stop => {}
        () = waker.work() => {}
    }
    waker.index.keep(&stores).await;
}

struct Waker {
    stores: Arc<Stores>,
    wake: Arc<dyn Wake>,
    index: Index,
    line: Line,
    /// The log's end at the start, until that is reached: before, a debt may turn out to be settled.
    begins_at: Option<Position>,
    save: Interval,
}

impl Waker {
    /// With the saved index. Tries until the stores answer.
    async fn open(stores: Arc<Stores>, wake: Arc<dyn Wake>) -> Self {
        let mut pause = PAUSE;
        let (index, end) = loop {
            match opened(&stores).await {
                Ok(opened) => break opened,
                Err(error) => unreadable(&error, &mut pause).await,
            }
        };
        let mut save = tokio::time::interval(SAVE_EVERY);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { stores, wake, index, line: Line::default(), begins_at: Some(end), save }
    }

    /// Follows the log and wakes, without end. Cancelled anywhere, the index is what was taken in so far.
    async fn work(&mut self) {
        let mut pause = PAUSE;
        loop {
            let before = self.index.position;
            match self.follow().await {
                // What its stream owes nobody can say: the stream's actor is parked when it loads it, and the audit names it.
                ReadError::Damaged { position, message } => {
                    tracing::error!(%position, message, "a record is passed over: it cannot be read");
                    self.index.pass_over(position);
                }
                ReadError::Unavailable(error) => {
                    if self.index.position > before {
                        pause = PAUSE;
                    }
                    unreadable(&error, &mut pause).await;
                }
            }
        }
    }

    /// Follows the log until it cannot be read: why.
    async fn follow(&mut self) -> ReadError {
        let mut batches = at_leisure(Arc::clone(&self.stores.log), self.index.position);
        loop {
            self.wake_who_is_due();
            let next = self.next().unwrap_or(Duration::MAX / 4);
            tokio::select! {
                biased;
                _ = self.save.tick() => {
                    if self.begins_at.is_none() {
                        self.line.join(self.index.overlooked(self.wake.as_ref()));
                    }
                    self.index.keep(&self.stores).await;
                }
                batch = batches.next() => {
                    for recorded in batch.unwrap_or_else(|| vec![Err(ended())]) {
                        match recorded {
                            Ok(recorded) => self.index.take(&recorded),
                            Err(error) => return error,
                        }
                    }
                }
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    fn wake_who_is_due(&mut self) {
        if self.begins_at.is_some_and(|end| self.index.position < end) {
            return;
        }
        if self.begins_at.take().is_some() {
            let owing = self.index.owing_now();
            tracing::info!(now = owing.len(), later = self.index.later(), "streams that owe something");
            self.line.join(owing);
        }
        self.line.join(self.index.due(self.stores.clock.now()));
        self.line.advance(&self.index, self.wake.as_ref());
    }

    /// How long there is nothing to do, unless the log grows.
    fn next(&self) -> Option<Duration> {
        if self.begins_at.is_some() {
            return None;
        }
        let timer = self.index.next().map(|time| time.since(self.stores.clock.now()));
        timer.into_iter().chain(self.line.next()).min()
    }
}

/// The saved index, and where the log ends.
async fn opened(stores: &Stores) -> Result<(Index, Position), Unavailable> {
    let end = stores.log.tail().await.map_err(|error| Unavailable::new("log", "its end is not known", error))?;
    Ok((Index::load(stores, end).await?, end))
}

fn ended() -> ReadError {
    Unavailable::plain("log", "the subscription ended").into()
}

async fn unreadable(error: &Unavailable, pause: &mut Duration) {
    tracing::error!(error = error as &dyn std::error::Error, "the waker cannot read the log; trying again");
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}
