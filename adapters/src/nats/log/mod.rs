//! The event log on JetStream: a message for each record, on the subject of its stream, and the server's expectation of a
//! subject's last sequence as the fence.
//!
//! A record's bytes are the message as they are, with their hash in a header; its position is the message's sequence. Records
//! are checked whenever they are read. What this process knows of the ends of streams saves looking; it is never trusted
//! against the server.

mod append;
#[cfg(test)]
mod faults;
mod feed;
mod read;
mod subscribe;
#[cfg(test)]
mod tests;
mod written;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use futures::stream::BoxStream;
use lmao_events::{Hash, Head, Position, Record, StreamId, Version};
use lmao_ports::{AppendError, EventLog, Filter, ReadError, Recorded, Unavailable};
use uuid::Uuid;

use self::{feed::Feed, written::Written};
use super::{
    Limits, Nats, STORE,
    migrate::{self, Definition, LOG_ID},
    stream::{Stored, Stream},
};
use crate::heads::Heads;

/// The header with the record's hash, in hexadecimal digits.
const HASH: &str = "Lmao-Hash";

/// The event log. Clones share it.
#[derive(Debug, Clone)]
pub struct NatsLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: Uuid,
    stream: Stream,
    heads: Mutex<Heads>,
    written: Mutex<Written>,
    feed: Mutex<Weak<Feed>>,
}

impl NatsLog {
    /// Opens the log that [`super::migrate`] made, with the usual limits.
    ///
    /// # Errors
    /// [`Unavailable`]: it cannot be reached, or was not made.
    pub async fn open(nats: &Nats) -> Result<Self, Unavailable> {
        Self::open_with(nats, Limits::default()).await
    }

    /// Opens the log with these limits for each append and each read.
    ///
    /// # Errors
    /// As [`NatsLog::open`].
    pub async fn open_with(nats: &Nats, limits: Limits) -> Result<Self, Unavailable> {
        let config = migrate::existing(nats, Definition::Events).await?;
        let id = config.get("metadata").and_then(|metadata| metadata.get(LOG_ID)?.as_str()?.parse().ok());
        let id = id.ok_or_else(|| Unavailable::plain(STORE, "the log has no id: run `lmao migrate` first"))?;
        let stream = Stream::open(nats, Definition::Events, limits).await?;
        let (heads, written, feed) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { id, stream, heads, written, feed }) })
    }
}

impl Shared {
    fn subject(&self, stream: &StreamId) -> String {
        self.stream.subject(&format!("{}.{}.{}", stream.category, stream.bucket(), stream.id))
    }

    /// Where the stream ended when it was last seen.
    fn known(&self, stream: &StreamId) -> Option<Head> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).get(stream)
    }

    /// The stream ends there, or did.
    fn learn(&self, stream: &StreamId, head: Head) {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.get(stream).is_none_or(|known| known.version < head.version) {
            heads.put(*stream, head);
        }
    }

    /// This record was stored at the end of its stream.
    fn wrote(&self, head: Head, record: Arc<Record>) {
        self.learn(&record.header().stream, head);
        self.written().add(Recorded { position: head.position, hash: head.hash, record });
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message as the record that it must be.
    fn verified(&self, stored: Stored) -> Result<Recorded, ReadError> {
        let position = Position(stored.sequence);
        let damaged = |message: String| ReadError::Damaged { position, message };
        let hash = Hash::of(&stored.payload);
        if stored.headers.get(HASH).is_none_or(|kept| kept.as_str() != hash.to_string()) {
            return Err(damaged("the record's bytes do not have the hash stored with them".to_owned()));
        }
        let record = Record::parse(stored.payload.into()).map_err(|error| damaged(error.to_string()))?;
        let header = record.header();
        if self.subject(&header.stream) != stored.subject {
            let message = format!("{} version {} stands in another record's place", header.stream, header.version);
            return Err(damaged(message));
        }
        Ok(Recorded { position, hash, record: Arc::new(record) })
    }
}

#[async_trait]
impl EventLog for NatsLog {
    fn id(&self) -> Uuid {
        self.shared.id
    }

    async fn append(&self, expected: &Head, record: Arc<Record>) -> Result<Head, AppendError> {
        let head = append::append(&self.shared, expected, &record).await?;
        self.shared.wrote(head, record);
        Ok(head)
    }

    fn read(&self, stream: &StreamId, from: Version) -> BoxStream<'static, Result<Recorded, ReadError>> {
        read::stream(Arc::clone(&self.shared), *stream, from.max(Version(1)), None)
    }

    fn read_from(&self, stream: &StreamId, head: &Head) -> BoxStream<'static, Result<Recorded, ReadError>> {
        read::stream(Arc::clone(&self.shared), *stream, head.version.max(Version(1)), Some(head.position))
    }

    async fn last(&self, stream: &StreamId) -> Result<Option<Recorded>, ReadError> {
        let Some(stored) = self.shared.stream.last(&self.shared.subject(stream)).await? else { return Ok(None) };
        let last = self.shared.verified(stored)?;
        self.shared.learn(stream, last.head());
        Ok(Some(last))
    }

    fn subscribe(&self, after: Position, filter: Filter) -> BoxStream<'static, Result<Recorded, ReadError>> {
        subscribe::subscribe(Arc::clone(&self.shared), after, filter)
    }

    async fn tail(&self) -> Result<Position, ReadError> {
        Ok(Position(self.shared.stream.end().await?))
    }
}
