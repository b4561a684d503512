//! The event log on SQLite: WAL, `synchronous=FULL`, one writer that stores everything that waits in one transaction.
//!
//! Positions are 1, 2, 3 … without gaps. A record's bytes, its hash and its place are checked against each other whenever it
//! is read. Another process may read the file while this one writes it.

mod read;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use lmao_events::{Head, MAX_RECORD_BYTES, Position, Record, StreamId, Version};
use lmao_ports::{AppendError, EventLog, Filter, ReadError, Recorded, Unavailable};
use sqlx::{Connection as _, SqliteConnection, SqlitePool, sqlite::SqliteSynchronous};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::file::{File, Store};
use tail::Tail;
use writer::{Append, Queue};

const STORE: Store = Store {
    name: "log.db",
    schema: include_str!("../../../../migrations/sqlite/log.sql"),
    version: 1,
    when_damaged: "restore the data directory from a backup",
};

/// How a log is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// By the one process that appends; makes the file if there is none.
    ReadWrite,
    /// Beside that process, or without one.
    ReadOnly,
}

/// The event log in one file. Clones share it; the writer ends with the last of them.
#[derive(Debug, Clone)]
pub struct SqliteLog {
    shared: Arc<Shared>,
    /// `None` when the log is only read.
    queue: Option<Arc<Queue>>,
}

/// What readers, subscribers and the writer share.
#[derive(Debug)]
struct Shared {
    id: Uuid,
    access: Access,
    readers: SqlitePool,
    tail: Tail,
}

impl SqliteLog {
    /// Opens the log at `path`.
    ///
    /// # Errors
    /// [`Unavailable`]: it cannot be opened, is damaged, or was written by a newer build.
    pub async fn open(path: &Path, access: Access) -> Result<Self, Unavailable> {
        match access {
            Access::ReadWrite => Self::open_to_write(File::wal(&STORE, path, SqliteSynchronous::Full)).await,
            Access::ReadOnly => Self::open_to_read(File::read_only(&STORE, path)).await,
        }
    }

    async fn open_to_write(file: File) -> Result<Self, Unavailable> {
        let mut connection = file.connect().await?;
        file.prepare(&mut connection).await?;
        let shared = Arc::new(shared(&file, &mut connection, Access::ReadWrite).await?);
        let queue = Queue::open(&file, Arc::clone(&shared))?;
        connection.close().await.map_err(|error| file.cannot_open(error))?;
        Ok(Self { shared, queue: Some(Arc::new(queue)) })
    }

    async fn open_to_read(file: File) -> Result<Self, Unavailable> {
        file.must_exist()?;
        let mut connection = file.connect().await?;
        if file.version(&mut connection).await? == 0 {
            return Err(Unavailable::plain(STORE.name, format!("{} is no event log", file.path.display())));
        }
        let shared = Arc::new(shared(&file, &mut connection, Access::ReadOnly).await?);
        Ok(Self { shared, queue: None })
    }
}

async fn shared(file: &File, connection: &mut SqliteConnection, access: Access) -> Result<Shared, Unavailable> {
    let id = log_id(connection, access).await.map_err(|error| file.cannot_open(error))?;
    let end = last_position(connection).await.map_err(|error| file.cannot_open(error))?;
    Ok(Shared { id, access, readers: file.readers(), tail: Tail::new(end) })
}

async fn last_position(connection: &mut SqliteConnection) -> sqlx::Result<Position> {
    let last: Option<i64> = sqlx::query_scalar("SELECT max(position) FROM log").fetch_one(connection).await?;
    Ok(Position(last.unwrap_or(0).cast_unsigned()))
}

/// The log's id, made when the log is first opened.
async fn log_id(connection: &mut SqliteConnection, access: Access) -> sqlx::Result<Uuid> {
    if access == Access::ReadWrite {
        sqlx::query("INSERT INTO meta (key, value) VALUES ('log_id', ?) ON CONFLICT DO NOTHING")
            .bind(Uuid::new_v4().as_bytes().to_vec())
            .execute(&mut *connection)
            .await?;
    }
    let id: Vec<u8> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'log_id'").fetch_one(connection).await?;
    Uuid::from_slice(&id).map_err(|error| sqlx::Error::Decode(error.into()))
}

#[async_trait]
impl EventLog for SqliteLog {
    fn id(&self) -> Uuid {
        self.shared.id
    }

    async fn append(&self, expected: &Head, record: Arc<Record>) -> Result<Head, AppendError> {
        let Some(queue) = &self.queue else {
            return Err(AppendError::Unavailable(Unavailable::plain(
                STORE.name,
                "the log was opened for reading only",
            )));
        };
        check(expected, &record)?;
        let (reply, answer) = oneshot::channel();
        let append = Append { expected: *expected, hash: record.hash(), record, reply };
        let ended = || Unavailable::plain(STORE.name, "the log's writer has ended");
        if !queue.send(append).await {
            return Err(AppendError::Unavailable(ended()));
        }
        answer.await.map_err(|_| AppendError::Unknown(ended()))?
    }

    fn read(&self, stream: &StreamId, from: Version) -> BoxStream<'static, Result<Recorded, ReadError>> {
        read::stream(Arc::clone(&self.shared), *stream, from)
    }

    async fn last(&self, stream: &StreamId) -> Result<Option<Recorded>, ReadError> {
        read::last(&self.shared, stream).await
    }

    fn subscribe(&self, after: Position, filter: Filter) -> BoxStream<'static, Result<Recorded, ReadError>> {
        read::subscribe(Arc::clone(&self.shared), after, filter)
    }

    async fn tail(&self) -> Result<Position, ReadError> {
        // Whoever asks how the log is has to learn that nothing is stored any more.
        if self.queue.as_ref().is_some_and(|queue| queue.has_ended()) {
            return Err(Unavailable::plain(STORE.name, "the log's writer has ended: start the server again").into());
        }
        self.shared.end().await
    }
}

/// What no stream could hold is refused before it waits.
fn check(expected: &Head, record: &Record) -> Result<(), AppendError> {
    let header = record.header();
    let refused = |message: String| Err(AppendError::Unavailable(Unavailable::plain(STORE.name, message)));
    if header.version != expected.version.next() || header.prev != expected.hash {
        return refused(format!("the record does not continue {} at version {}", header.stream, expected.version));
    }
    if record.bytes().len() > MAX_RECORD_BYTES {
        return refused(format!("a record of {} bytes is over the limit of {MAX_RECORD_BYTES}", record.bytes().len()));
    }
    Ok(())
}
