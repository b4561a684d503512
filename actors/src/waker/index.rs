//! The wake index: a checkpointed projection of the headers' `owes`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use lmao_events::{Owes, Position, StreamId, Timestamp, Version};
use lmao_ports::{Recorded, Unavailable};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Wake;
use crate::runtime::Stores;

const CHECKPOINT: &str = "wake/checkpoint";
/// How long a stream may owe something, without a live actor, before it is woken again.
const OVERLOOKED_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Debt {
    version: Version,
    due: Option<Timestamp>,
    #[serde(skip, default = "Instant::now")]
    noted: Instant,
}

/// The debts of all streams, by bucket as they are saved.
#[derive(Debug, Default)]
pub(super) struct Index {
    debts: BTreeMap<StreamId, Debt>,
    times: BTreeSet<(Timestamp, StreamId)>,
    dirty: BTreeSet<u8>,
    /// The position at which each bucket was saved last.
    saved: BTreeMap<u8, Position>,
    /// The position that the checkpoint names.
    kept: Position,
    pub(super) position: Position,
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
    /// The index as it was saved. One that is ahead of the log's `end` was made of another log.
    pub(super) async fn load(stores: &Stores, end: Position) -> Result<Self, Unavailable> {
        let mut index = Self::default();
        let Some(checkpoint) = stores.snapshots.get(CHECKPOINT).await? else { return Ok(index) };
        // Anything unreadable or incomplete means starting from the log's beginning: slower, never wrong.
        let Ok(checkpoint) = rmp_serde::from_slice::<Checkpoint>(&checkpoint) else { return Ok(index) };
        if checkpoint.log != stores.log.id() || checkpoint.position > end {
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
        index.kept = checkpoint.position;
        index.saved = checkpoint.saved;
        Ok(index)
    }

    fn add(&mut self, debts: Vec<(StreamId, Debt)>) {
        for (stream, debt) in debts {
            self.times.extend(debt.due.map(|time| (time, stream)));
            self.debts.insert(stream, debt);
        }
    }

    /// Takes in the next record.
    pub(super) fn take(&mut self, recorded: &Recorded) {
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

    /// Goes on behind a record that cannot be read.
    pub(super) fn pass_over(&mut self, position: Position) {
        self.position = self.position.max(position);
    }

    /// Whether a stream owes anything, now or later.
    pub(super) fn owes(&self, stream: &StreamId) -> bool {
        self.debts.contains_key(stream)
    }

    /// The streams that owe something now.
    pub(super) fn owing_now(&self) -> Vec<StreamId> {
        self.debts.iter().filter(|(_, debt)| debt.due.is_none()).map(|(stream, _)| *stream).collect()
    }

    /// How many owe something at a time that has not come.
    pub(super) fn later(&self) -> usize {
        self.times.len()
    }

    /// The next time at which something is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.times.first().map(|(time, _)| *time)
    }

    /// The streams whose time has come; each is named once.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<StreamId> {
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

    /// The streams that have owed something for a while and have no actor.
    pub(super) fn overlooked(&mut self, wake: &dyn Wake) -> Vec<StreamId> {
        let mut overlooked = Vec::new();
        for (stream, debt) in &mut self.debts {
            let is_due = debt.due.is_none_or(|time| !self.times.contains(&(time, *stream)));
            if is_due && debt.noted.elapsed() >= OVERLOOKED_AFTER && !wake.is_live(*stream) {
                debt.noted = Instant::now();
                overlooked.push(*stream);
            }
        }
        overlooked
    }

    /// Saves what changed, if anything did. What cannot be saved now is saved later.
    pub(super) async fn keep(&mut self, stores: &Stores) {
        if self.kept == self.position {
            return;
        }
        if let Err(error) = self.save(stores).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the wake index was not saved");
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
        let checkpoint = Checkpoint { log: stores.log.id(), position: at, saved: self.saved.clone() };
        let bytes = rmp_serde::to_vec(&checkpoint).unwrap_or_default();
        stores.snapshots.put(CHECKPOINT, Bytes::from(bytes)).await?;
        self.dirty.clear();
        self.kept = at;
        Ok(())
    }
}

fn bucket_key(bucket: u8) -> String {
    format!("wake/bucket/{bucket:03}")
}

#[cfg(test)]
impl Index {
    /// Of streams that owe something now.
    pub(super) fn owing(streams: &[StreamId]) -> Self {
        let debt = Debt { version: Version(1), due: None, noted: Instant::now() };
        Self { debts: streams.iter().map(|stream| (*stream, debt)).collect(), ..Self::default() }
    }
}
