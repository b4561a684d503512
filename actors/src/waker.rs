//! The waker: knows which streams owe something without folding any, and wakes those that this process works for: after a
//! start or a takeover, when their time comes, and when their actor ended without anybody noticing.

mod index;
mod line;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lmao_events::StreamId;
use lmao_ports::{ReadError, Unavailable};
use tokio::{
    sync::{oneshot, watch},
    time::{Interval, MissedTickBehavior},
};

use self::{index::Index, line::Line};
use crate::{at_leisure, metrics, placement::Buckets, runtime::Stores};

/// How often what changed is saved, and overlooked streams are looked for.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Pauses between tries while the log cannot be read.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Who is woken.
pub(crate) trait Wake: Send + Sync + 'static {
    /// Tells a stream's actor that something may be due.
    fn wake(&self, stream: StreamId);
    /// Whether a stream has an actor.
    fn is_live(&self, stream: StreamId) -> bool;
}

/// Runs for the buckets that are `owned` until `stop`, then saves.
pub(crate) async fn run(
    stores: Arc<Stores>,
    wake: Arc<dyn Wake>,
    owned: watch::Receiver<Buckets>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut waker = Waker::new(Arc::clone(&stores), wake, owned);
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
    owned: watch::Receiver<Buckets>,
    index: Index,
    line: Line,
    save: Interval,
}

/// Why the log is followed no longer.
enum Interrupted {
    /// By other buckets to work for.
    Moved,
    /// By what cannot be read.
    Unreadable(ReadError),
}

impl Waker {
    fn new(stores: Arc<Stores>, wake: Arc<dyn Wake>, mut owned: watch::Receiver<Buckets>) -> Self {
        let mut save = tokio::time::interval(SAVE_EVERY);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        owned.mark_changed();
        Self { stores, wake, owned, index: Index::default(), line: Line::default(), save }
    }

    /// Follows the log and wakes, without end. Cancelled anywhere, the index is what was taken in so far.
    async fn work(&mut self) {
        let mut pause = PAUSE;
        loop {
            let before = self.index.position;
            match self.follow().await {
                Interrupted::Moved => {}
                // What its stream owes nobody can say: the stream's actor is parked when it loads it, and the audit names it.
                Interrupted::Unreadable(ReadError::Damaged { position, message }) => {
                    tracing::error!(%position, message, "a record is passed over: it cannot be read");
                    self.index.pass_over(position);
                }
                Interrupted::Unreadable(ReadError::Unavailable(error)) => {
                    if self.index.position > before {
                        pause = PAUSE;
                    }
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the waker cannot read the log; trying again"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Follows the log until it cannot be read, or for other buckets.
    async fn follow(&mut self) -> Interrupted {
        if let Err(error) = self.take_over().await {
            return Interrupted::Unreadable(error);
        }
        if self.index.is_empty() {
            return Self::moved(&mut self.owned).await;
        }
        let mut batches = at_leisure(Arc::clone(&self.stores.log), self.index.position);
        loop {
            self.wake_who_is_due();
            let next = self.next().unwrap_or(Duration::MAX / 4);
            tokio::select! {
                biased;
                moved = Self::moved(&mut self.owned) => return moved,
                _ = self.save.tick() => {
                    self.line.join(self.index.overlooked(self.wake.as_ref()));
                    self.index.keep(&self.stores).await;
                }
                batch = batches.next() => {
                    for recorded in batch.unwrap_or_else(|| vec![Err(ended())]) {
                        match recorded {
                            Ok(recorded) => self.index.take(&recorded),
                            Err(error) => return Interrupted::Unreadable(error),
                        }
                    }
                }
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// Waits for other buckets.
    async fn moved(owned: &mut watch::Receiver<Buckets>) -> Interrupted {
        if owned.changed().await.is_err() {
            // Nobody assigns buckets any more: those owned stay, until the stop.
            std::future::pending::<()>().await;
        }
        owned.mark_changed();
        Interrupted::Moved
    }

    /// Makes the index hold the buckets that are owned, each from where it was saved.
    async fn take_over(&mut self) -> Result<(), ReadError> {
        if !self.owned.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let owned = *self.owned.borrow_and_update();
        let begun = self.index.change(&self.stores, owned).await;
        if begun.is_err() {
            self.owned.mark_changed();
        }
        begun
    }

    fn wake_who_is_due(&mut self) {
        self.line.join(self.index.settled());
        self.line.join(self.index.due(self.stores.clock.now()));
        self.line.advance(&self.index, self.wake.as_ref());
        metrics::in_line(self.line.len());
    }

    /// How long there is nothing to do, unless the log grows.
    fn next(&self) -> Option<Duration> {
        let timer = self.index.next().map(|time| time.since(self.stores.clock.now()));
        timer.into_iter().chain(self.line.next()).min()
    }
}

fn ended() -> ReadError {
    Unavailable::plain("log", "the subscription ended").into()
}
