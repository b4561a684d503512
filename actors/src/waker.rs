//! The waker: a checkpointed projection of the headers' `owes`. It knows which streams owe something without folding
//! any, and wakes them after a start and when their time comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use lmao_events::{Owes, Position, StreamId, Timestamp, Version};
use lmao_ports::{Filter, ReadError, Recorded, Unavailable};
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::Instant};

use crate::runtime::Stores;

const CHECKPOINT: &str = "wake/checkpoint";
/// How often what changed is saved.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// How long a stream may owe something now, without a live actor, before it is woken again.
const NUDGE_AFTER: Duration = Duration::from_secs(30);
/// Streams woken at once after a start.
const WAKE_BATCH: usize = 128;

/// What the waker does when a stream is due.
pub(crate) trait Wake: Send + Sync + 'static {
    fn wake(&self, stream: StreamId);
    fn is_live(&self, stream: StreamId) -> bool;
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Debt {
    version: Version,
    due: Option<Timestamp>,
    #[serde(skip, default = "Instant::now")]
    noted: Instant,
}

/// The debts of all streams, by bucket as they are saved.
#[derive(Debug, Default)]
struct Index {
    debts: BTreeMap<StreamId, Debt>,
    times: BTreeSet<(Timestamp, StreamId)>,
    dirty: BTreeSet<u8>,
    /// The position at which each bucket was saved last.
    saved: BTreeMap<u8, Position>,
    position: Position,
}

/// What the saved buckets add up to: written after them, so that it never promises more than they hold.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    log: uuid::Uuid,
    position: Position,
    saved: BTreeMap<u8, Position>,
}

/// A saved bucket.
#[derive(Debug, Serialize, Deserialize)]
struct Bucket {
    at: Position,
    debts: Vec<(StreamId, Debt)>,
}

impl Index {
    async fn load(stores: &Stores) -> Result<Self, Unavailable> {
        let mut index = Self::default();
        let Some(checkpoint) = stores.snapshots.get(CHECKPOINT).await? else { return Ok(index) };
        // Anything unreadable or incomplete means starting from the log's beginning: slower, never wrong.
        let Ok(checkpoint) = rmp_serde::from_slice::<Checkpoint>(&checkpoint) else { return Ok(index) };
        if checkpoint.log != stores.log.id() || !still_there(stores, checkpoint.position).await {
            return Ok(index);
        }
        for (bucket, saved) in &checkpoint.saved {
            let bytes = stores.snapshots.get(&bucket_key(*bucket)).await?.unwrap_or_default();
            match rmp_serde::from_slice::<Bucket>(&bytes) {
                // One that is ahead does no harm: what is replayed onto it is recognised by its version.
                Ok(found) if found.at >= *saved => index.add(found.debts),
                _ => return Ok(Self::default()),
            }
        }
        index.position = checkpoint.position;
        index.saved = checkpoint.saved;
        Ok(index)
    }

    fn add(&mut self, debts: Vec<(StreamId, Debt)>) {
        for (stream, debt) in debts {
            self.times.extend(debt.due.map(|time| (time, stream)));
            self.debts.insert(stream, debt);
        }
    }

    fn take(&mut self, recorded: &Recorded) {
        self.position = recorded.position;
        let header = recorded.record.header();
        let due = match header.owes {
            Owes::Nothing => None,
            Owes::Now => Some(None),
            Owes::At(time) => Some(Some(time)),
        };
        let known = self.debts.get(&header.stream).copied();
        if known.is_some_and(|known| known.version >= header.version) || (known.is_none() && due.is_none()) {
            return;
        }
        if let Some(Debt { due: Some(time), .. }) = known {
            self.times.remove(&(time, header.stream));
        }
        self.dirty.insert(header.stream.bucket());
        match due {
            None => {
                self.debts.remove(&header.stream);
            }
            Some(due) => {
                self.times.extend(due.map(|time| (time, header.stream)));
                self.debts.insert(header.stream, Debt { version: header.version, due, noted: Instant::now() });
            }
        }
    }

    async fn save(&mut self, stores: &Stores) -> Result<(), Unavailable> {
        let mut buckets: BTreeMap<u8, Vec<(StreamId, Debt)>> = self.dirty.iter().map(|b| (*b, vec![])).collect();
        for (stream, debt) in &self.debts {
            if let Some(bucket) = buckets.get_mut(&stream.bucket()) {
                bucket.push((*stream, *debt));
            }
        }
        let at = self.position;
        for (bucket, debts) in buckets {
            let bytes = rmp_serde::to_vec(&Bucket { at, debts }).unwrap_or_default();
            stores.snapshots.put(&bucket_key(bucket), Bytes::from(bytes)).await?;
            self.saved.insert(bucket, at);
        }
        let checkpoint = Checkpoint { log: stores.log.id(), position: self.position, saved: self.saved.clone() };
        let bytes = rmp_serde::to_vec(&checkpoint).unwrap_or_default();
        stores.snapshots.put(CHECKPOINT, Bytes::from(bytes)).await?;
        self.dirty.clear();
        Ok(())
    }

    /// The streams whose time has come.
    fn due(&mut self, now: Timestamp) -> Vec<StreamId> {
        let mut due = Vec::new();
        while let Some((time, stream)) = self.times.first().copied() {
            if time > now {
                break;
            }
            self.times.pop_first();
            due.push(stream);
        }
        due
    }
}

fn bucket_key(bucket: u8) -> String {
    format!("wake/bucket/{bucket:03}")
}

/// Whether the log still holds what the saved index was made of: a log that was replaced by an older copy does not.
async fn still_there(stores: &Stores, position: Position) -> bool {
    stores.log.tail().await.is_ok_and(|tail| tail >= position)
}

/// Runs until `stop`, then saves. `caught_up` is told once every stream that owes something has been woken.
pub(crate) async fn run(
    stores: Arc<Stores>,
    wake: Arc<dyn Wake>,
    caught_up: oneshot::Sender<()>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut caught_up = Some(caught_up);
    loop {
        match follow(&stores, wake.as_ref(), &mut caught_up, &mut stop).await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the waker cannot read the log; trying again"
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn follow(
    stores: &Stores,
    wake: &dyn Wake,
    caught_up: &mut Option<oneshot::Sender<()>>,
    stop: &mut oneshot::Receiver<()>,
) -> Result<(), ReadError> {
    let mut index = Index::load(stores).await?;
    let tail = stores.log.tail().await?;
    let mut records = stores.log.subscribe(index.position, Filter::All);
    while index.position < tail {
        tokio::select! {
            biased;
            _ = &mut *stop => return Ok(()),
            recorded = records.next() => match recorded {
                Some(recorded) => index.take(&recorded?),
                None => return Err(Unavailable::plain("log", "the subscription ended").into()),
            },
        }
    }
    wake_all(&index, wake).await;
    if let Some(caught_up) = caught_up.take() {
        let _ = caught_up.send(());
    }
    let mut save = tokio::time::interval(SAVE_EVERY);
    loop {
        let next = index.times.first().map(|(time, _)| time.since(stores.clock.now()));
        tokio::select! {
            biased;
            _ = &mut *stop => break,
            recorded = records.next() => match recorded {
                Some(recorded) => index.take(&recorded?),
                None => return Err(Unavailable::plain("log", "the subscription ended").into()),
            },
            () = tokio::time::sleep(next.unwrap_or(Duration::MAX / 4)), if next.is_some() => {
                for stream in index.due(stores.clock.now()) {
                    wake.wake(stream);
                }
            }
            _ = save.tick() => {
                nudge(&mut index, wake);
                keep(&mut index, stores).await;
            }
        }
    }
    keep(&mut index, stores).await;
    Ok(())
}

async fn wake_all(index: &Index, wake: &dyn Wake) {
    let mut owing: Vec<_> =
        index.debts.iter().filter(|(_, debt)| debt.due.is_none()).map(|(stream, _)| *stream).collect();
    owing.sort_unstable();
    tracing::info!(now = owing.len(), later = index.times.len(), "streams that owe something");
    for batch in owing.chunks(WAKE_BATCH) {
        batch.iter().for_each(|stream| wake.wake(*stream));
        tokio::task::yield_now().await;
    }
}

/// Wakes streams that owe something, whose actors ended without anybody noticing.
fn nudge(index: &mut Index, wake: &dyn Wake) {
    for (stream, debt) in &mut index.debts {
        let overdue = debt.due.is_none() || !index.times.contains(&(debt.due.unwrap_or_default(), *stream));
        if overdue && debt.noted.elapsed() >= NUDGE_AFTER && !wake.is_live(*stream) {
            debt.noted = Instant::now();
            wake.wake(*stream);
        }
    }
}

async fn keep(index: &mut Index, stores: &Stores) {
    if let Err(error) = index.save(stores).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the wake index was not saved");
    }
}
