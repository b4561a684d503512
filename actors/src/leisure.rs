//! Following the log at leisure: for those whom nobody waits for, so that not every commit wakes each of them.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream, stream::BoxStream};
use lmao_events::Position;
use lmao_ports::{EventLog, Filter, ReadError, Recorded};

/// Records of one batch.
const BATCH: usize = 512;
/// How long the log is left alone once its end was reached.
const REST: Duration = Duration::from_millis(100);

/// All records after `after`, as [`EventLog::subscribe`] delivers them, in batches of at least one: without a pause up to the
/// log's end, and from then on what has gathered meanwhile.
#[must_use]
pub fn at_leisure(log: Arc<dyn EventLog>, after: Position) -> BoxStream<'static, Vec<Result<Recorded, ReadError>>> {
    let batches = log.subscribe(after, Filter::All).ready_chunks(BATCH);
    stream::unfold((log, batches, false), |(log, mut batches, is_at_end)| async move {
        if is_at_end {
            tokio::time::sleep(REST).await;
        }
        let batch = batches.next().await?;
        let reached = batch.iter().rev().find_map(|recorded| Some(recorded.as_ref().ok()?.position));
        let is_at_end = log.tail().await.is_ok_and(|tail| reached.is_none_or(|reached| reached >= tail));
        Some((batch, (log, batches, is_at_end)))
    })
    .boxed()
}
