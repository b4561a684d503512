//! The wake index: a projection of the headers' `owes`, checkpointed bucket by bucket, so that a bucket can be handed over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use lmao_events::{Owes, Position, StreamId, Timestamp, Version};
use lmao_ports::{ReadError, Recorded, Unavailable};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Wake;
use crate::{placement::Buckets, runtime::Stores};

/// How long a stream may owe something, without a live actor, before it is woken again.
const OVERLOOKED_AFTER: Duration = Duration::from_secs(30);
/// How many positions a bucket as saved may be behind: whoever takes it over reads at most these, and what was appended since
/// it was last looked at.
const BEHIND: u64 = 1000;
/// Buckets that are loaded or saved at once.
const AT_ONCE: usize = 8;
/// Bytes of a saved bucket: what the store takes. A bucket with more debts, some 25,000, is not saved.
const MAX_BYTES: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy)]
struct Debt {
    version: Version,
    due: Option<Timestamp>,
    noted: Instant,
}

/// The debts of the streams in the buckets that this process works for.
#[derive(Debug, Default)]
pub(super) struct Index {
    buckets: BTreeMap<u8, Bucket>,
    /// Buckets whose debts may turn out to be settled: what was appended before they were gained is not all taken in.
    unsettled: BTreeSet<u8>,
    /// Of the settled buckets.
    times: BTreeSet<(Timestamp, StreamId)>,
    pub(super) position: Position,
}

/// The debts of one bucket.
#[derive(Debug, Default)]
struct Bucket {
    debts: BTreeMap<StreamId, Debt>,
    /// What it holds: everything up to here, or up to the index's position if that is further.
    at: Position,
    /// The position at which it was saved last.
    saved: Position,
    /// Where the log ended when it was gained.
    end: Position,
}

/// A saved bucket: its debts, as stream, version and time, after everything up to `at`. Whoever saved it last, it is true of its
/// position.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    log: uuid::Uuid,
    at: Position,
    debts: Vec<(serde_bytes::ByteArray<17>, Version, Option<Timestamp>)>,
}

impl Index {
    /// Lets go of the buckets that are not `owned`, and begins with those that are new where they were saved.
    ///
    /// # Errors
    /// When log or snapshots cannot be read; may be called again.
    pub(super) async fn change(&mut self, stores: &Stores, owned: Buckets) -> Result<(), ReadError> {
        let lost: Vec<u8> = self.buckets.keys().copied().filter(|bucket| !owned.contains(*bucket)).collect();
        if !lost.is_empty() {
            self.keep(stores).await;
        }
        for bucket in lost {
            self.forget(bucket);
        }
        let gained: Vec<u8> = owned.iter().filter(|bucket| !self.buckets.contains_key(bucket)).collect();
        if gained.is_empty() {
            return Ok(());
        }
        let end = stores.log.tail().await?;
        let loading: Vec<_> = gained.iter().map(|bucket| Bucket::load(stores, *bucket, end)).collect();
        let loaded: Vec<_> = stream::iter(loading).buffered(AT_ONCE).try_collect().await?;
        for bucket in self.buckets.values_mut() {
            bucket.at = bucket.at.max(self.position);
        }
        self.unsettled.extend(&gained);
        self.buckets.extend(gained.into_iter().zip(loaded));
        self.position = self.buckets.values().map(|bucket| bucket.at).min().unwrap_or_default();
        Ok(())
    }

    fn forget(&mut self, bucket: u8) {
        let Some(forgotten) = self.buckets.remove(&bucket) else { return };
        self.unsettled.remove(&bucket);
        for (stream, debt) in forgotten.debts {
            if let Some(time) = debt.due {
                self.times.remove(&(time, stream));
            }
        }
    }

    /// Whether there is nothing to follow the log for.
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Takes in the next record.
    pub(super) fn take(&mut self, recorded: &Recorded) {
        self.position = recorded.position;
        let header = recorded.record.header();
        let number = header.stream.bucket();
        let Some(bucket) = self.buckets.get_mut(&number) else { return };
        if recorded.position <= bucket.at {
            return;
        }
        let due = match header.owes {
            Owes::Nothing => None,
            Owes::Now => Some(None),
            Owes::At(time) => Some(Some(time)),
        };
        let known = bucket.debts.get(&header.stream).copied();
        if known.is_some_and(|known| known.version >= header.version) || (known.is_none() && due.is_none()) {
            return;
        }
        if let Some(Debt { due: Some(time), .. }) = known {
            self.times.remove(&(time, header.stream));
        }
        let Some(due) = due else {
            bucket.debts.remove(&header.stream);
            return;
        };
        if !self.unsettled.contains(&number) {
            self.times.extend(due.map(|time| (time, header.stream)));
        }
        bucket.debts.insert(header.stream, Debt { version: header.version, due, noted: Instant::now() });
    }

    /// Goes on behind a record that cannot be read.
    pub(super) fn pass_over(&mut self, position: Position) {
        self.position = self.position.max(position);
    }

    /// Whether a stream owes anything, now or later.
    pub(super) fn owes(&self, stream: &StreamId) -> bool {
        self.buckets.get(&stream.bucket()).is_some_and(|bucket| bucket.debts.contains_key(stream))
    }

    /// The streams that owe something now, of those buckets that have been followed to where the log ended when they were
    /// gained; each bucket once.
    pub(super) fn settled(&mut self) -> Vec<StreamId> {
        let position = self.position;
        let settled: Vec<u8> = self
            .unsettled
            .extract_if(.., |bucket| {
                self.buckets.get(bucket).is_none_or(|bucket| bucket.end <= bucket.at.max(position))
            })
            .collect();
        let mut owing = Vec::new();
        let mut later = 0;
        for bucket in settled.iter().filter_map(|bucket| self.buckets.get(bucket)) {
            for (stream, debt) in &bucket.debts {
                match debt.due {
                    None => owing.push(*stream),
                    Some(time) => {
                        later += 1;
                        self.times.insert((time, *stream));
                    }
                }
            }
        }
        if !settled.is_empty() {
            tracing::info!(buckets = settled.len(), now = owing.len(), later, "streams that owe something");
        }
        owing
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
        let settled = self.buckets.iter_mut().filter(|(bucket, _)| !self.unsettled.contains(bucket));
        for (stream, debt) in settled.flat_map(|(_, bucket)| &mut bucket.debts) {
            let is_due = debt.due.is_none_or(|time| !self.times.contains(&(time, *stream)));
            if is_due && debt.noted.elapsed() >= OVERLOOKED_AFTER && !wake.is_live(*stream) {
                debt.noted = Instant::now();
                overlooked.push(*stream);
            }
        }
        overlooked
    }

    /// Saves the buckets that are too far behind as saved. What cannot be saved now is saved later.
    pub(super) async fn keep(&mut self, stores: &Stores) {
        let position = self.position;
        let mut saving = Vec::new();
        for (number, bucket) in &mut self.buckets {
            if bucket.at.max(position).0 >= bucket.saved.0 + BEHIND {
                saving.push(bucket.save(stores, *number, position));
            }
        }
        let saved: Vec<_> = stream::iter(saving).buffered(AT_ONCE).collect().await;
        if let Some(error) = saved.into_iter().find_map(Result::err) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the wake index was not saved");
        }
    }
}

impl Bucket {
    /// A bucket as it was saved. One that cannot be read begins with the log: slower, never wrong. So does one that is ahead of
    /// the log's `end`: it was made of another log.
    async fn load(stores: &Stores, number: u8, end: Position) -> Result<Self, ReadError> {
        let bytes = stores.snapshots.get(&bucket_key(number)).await?.unwrap_or_default();
        let mut bucket = Self { end, ..Self::default() };
        let Ok(saved) = rmp_serde::from_slice::<Saved>(&bytes) else { return Ok(bucket) };
        // Whoever had it may have saved it after the end was asked for.
        if saved.at > end {
            bucket.end = stores.log.tail().await?;
        }
        if saved.log != stores.log.id() || saved.at > bucket.end {
            return Ok(bucket);
        }
        bucket.at = saved.at;
        bucket.saved = saved.at;
        let debts = saved.debts.into_iter().filter_map(|(key, version, due)| {
            Some((StreamId::from_key(&*key)?, Debt { version, due, noted: Instant::now() }))
        });
        bucket.debts = debts.collect();
        Ok(bucket)
    }

    async fn save(&mut self, stores: &Stores, number: u8, position: Position) -> Result<(), Unavailable> {
        let at = self.at.max(position);
        let debts = self.debts.iter().map(|(stream, debt)| (stream.key().into(), debt.version, debt.due));
        let saved = Saved { log: stores.log.id(), at, debts: debts.collect() };
        let bytes = rmp_serde::to_vec(&saved).unwrap_or_default();
        if bytes.len() > MAX_BYTES {
            let text = format!("bucket {number} has too many debts to be saved: {}", self.debts.len());
            return Err(Unavailable::plain("snapshots", text));
        }
        stores.snapshots.put(&bucket_key(number), Bytes::from(bytes)).await?;
        self.saved = at;
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
        let mut index = Self::default();
        for stream in streams {
            index.buckets.entry(stream.bucket()).or_default().debts.insert(*stream, debt);
        }
        index
    }
}
