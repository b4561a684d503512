//! Following the log at leisure: for those whom nobody waits for, so that not every commit wakes each of them.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream, stream::BoxStream};
use lmao_events::Position;
use lmao_ports::{EventLog, Filter, ReadError, Recorded};

/// Records of one batch.
const BATCH: usize = 512;
/// How long the log is left alone while less than a batch is left of it.
const REST: Duration = Duration::from_millis(100);

/// Batches after which the log's end is looked for again by whoever was near it.
const LOOK_EVERY: u32 = 10;

/// All records after `after`, as [`EventLog::subscribe`] delivers them, in batches of at least one: without a pause up to less
/// than a batch before the log's end, and from then on what has gathered meanwhile. However fast the log grows, its end is
/// seldom asked for.
#[must_use]
pub fn at_leisure(log: Arc<dyn EventLog>, after: Position) -> BoxStream<'static, Vec<Result<Recorded, ReadError>>> {
    let batches = log.subscribe(after, Filter::All).ready_chunks(BATCH);
    stream::unfold((log, batches, NearEnd::default()), |(log, mut batches, mut near)| async move {
        if near.is_known() {
            tokio::time::sleep(REST).await;
        }
        let batch = batches.next().await?;
        let reached = batch.iter().rev().find_map(|recorded| Some(recorded.as_ref().ok()?.position));
        near.reached(reached, batch.len(), BATCH, async || log.tail().await).await;
        Some((batch, (log, batches, near)))
    })
    .boxed()
}

/// Whether one who takes the log in by batches is less than a batch before its end.
#[derive(Debug, Default)]
pub(crate) struct NearEnd {
    /// Batches for which that holds without another look.
    known_for: u32,
}

impl NearEnd {
    /// Whether it was so after the last batch.
    pub(crate) fn is_known(&self) -> bool {
        self.known_for > 0
    }

    /// A batch of so many, of at most `most`, has come to this position; whether the log's end is near. One who has not come
    /// anywhere is taken for near.
    pub(crate) async fn reached(
        &mut self,
        position: Option<Position>,
        count: usize,
        most: usize,
        tail: impl AsyncFnOnce() -> Result<Position, ReadError>,
    ) -> bool {
        self.known_for = match self.known_for {
            // Who was near and finds less than a batch is near still, unless it comes in smaller pieces than the log grows.
            2.. if count < most => self.known_for - 1,
            _ => {
                let left = |tail: Position| position.map_or(0, |position| tail.0.saturating_sub(position.0));
                let is_near = tail().await.is_ok_and(|tail| left(tail) < most as u64);
                if is_near { LOOK_EVERY } else { 0 }
            }
        };
        self.is_known()
    }
}
