//! The event log: the only truth.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use lmao_events::{Category, Hash, Head, Position, Record, StreamId, Version};
use uuid::Uuid;

use crate::Unavailable;

/// A record and the place it has in this log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its position: greater than that of every record appended before it.
    pub position: Position,
    /// Its hash, computed once.
    pub hash: Hash,
    /// The record.
    pub record: Arc<Record>,
}

impl Recorded {
    /// The head of the stream when this record is its last.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { version: self.record.header().version, position: self.position, hash: self.hash }
    }
}

/// Why an append did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another record stands at the expected version + 1: load again and decide again.
    #[error("the stream has moved on")]
    Conflict,
    /// Nobody knows whether the record is stored. Ask again with the same bytes; never report it as failed.
    #[error("the outcome of the append is unknown")]
    Unknown(#[source] Unavailable),
    /// Nothing was stored.
    #[error("nothing was stored")]
    Unavailable(#[source] Unavailable),
}

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log cannot be read now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Stored bytes are not what was written.
    #[error("the log is damaged at position {position}: {message}")]
    Damaged {
        /// Where.
        position: Position,
        /// How.
        message: String,
    },
}

/// Which records a subscription delivers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// Those of one category.
    Category(Category),
    /// Those of one stream.
    Stream(StreamId),
}

impl Filter {
    /// Whether a record of `stream` is delivered.
    #[must_use]
    pub fn matches(&self, stream: &StreamId) -> bool {
        match self {
            Self::All => true,
            Self::Category(category) => stream.category == *category,
            Self::Stream(wanted) => stream == wanted,
        }
    }
}

/// The append-only log of records.
///
/// `append` is the fence of the whole system: of two records for one version of a stream exactly one is accepted. A
/// successful append is durable: it survives `kill -9` and a power cut. Nothing is ever changed or removed.
#[async_trait]
pub trait EventLog: Debug + Send + Sync {
    /// The log's own id, made with it. Positions mean something within one log only.
    fn id(&self) -> Uuid;

    /// Stores `record` if its stream still ends at `expected` (version and hash; the position is not compared) and returns
    /// the new head. The record's header must continue `expected`: version + 1, `prev` = its hash.
    ///
    /// Repeating an append whose outcome was unknown with the same bytes returns the same head when it had succeeded.
    /// Not cancel-safe: after a cancelled call the outcome is unknown.
    async fn append(&self, expected: &Head, record: Arc<Record>) -> Result<Head, AppendError>;

    /// The records of one stream from version `from` on (1 is the first), in order. A stream that does not exist has none.
    fn read(&self, stream: &StreamId, from: Version) -> BoxStream<'static, Result<Recorded, ReadError>>;

    /// As [`EventLog::read`] from the version of `head` on, its own record included. A position that is not of this log does
    /// no harm; one that is may save looking for the place.
    fn read_from(&self, stream: &StreamId, head: &Head) -> BoxStream<'static, Result<Recorded, ReadError>> {
        self.read(stream, head.version.max(Version(1)))
    }

    /// The last record of a stream.
    async fn last(&self, stream: &StreamId) -> Result<Option<Recorded>, ReadError>;

    /// All records after `after` that pass `filter`, in the order of positions: first those stored, then, without end,
    /// those that follow. Every stream's records come in the order of versions, none missing, none twice.
    fn subscribe(&self, after: Position, filter: Filter) -> BoxStream<'static, Result<Recorded, ReadError>>;

    /// The position of the last record; 0 for an empty log.
    async fn tail(&self) -> Result<Position, ReadError>;
}
