//! The one writer: takes all appends that wait, stores them in one transaction, then answers them.
//!
//! The disk's sync is what an append costs; shared by all that wait, it is cheap. Each append is checked against the head of
//! its stream on its own, so that a conflict fails nobody else. The unique index stays the fence: should another process
//! write this file in spite of the lock, it refuses what memory would have allowed.

use std::{collections::HashMap, sync::Arc};

use lmao_events::{Hash, Head, Position, Record, StreamId, Version};
use lmao_ports::{AppendError, Recorded, Unavailable};
use sqlx::{Arguments as _, Row as _, SqliteConnection, sqlite::SqliteArguments};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    heads::Heads,
    rows::{APPEND, HEADS},
};
use crate::sqlite::{
    error::{Outcome, explain, outcome},
    file::File,
    ladder::MAX_ROWS,
};

/// Bytes of records in one transaction.
const MAX_GROUP_BYTES: usize = 8 * 1024 * 1024;

/// One append that waits.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) expected: Head,
    pub(super) record: Arc<Record>,
    pub(super) hash: Hash,
    pub(super) reply: oneshot::Sender<Result<Head, AppendError>>,
}

/// What is to become of one append, in the order of the group.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// It is to be stored, and becomes this head.
    Store(Head),
    /// It stands already, here; or will once its group is stored.
    Stands(Head),
    /// Another record stands in its place.
    Conflict,
}

#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    connection: SqliteConnection,
    shared: Arc<Shared>,
    heads: Heads,
    /// The log's last position, as this writer knows it; `None` after a failure, until it is read again.
    last: Option<Position>,
}

impl Writer {
    pub(super) fn new(file: File, connection: SqliteConnection, shared: Arc<Shared>) -> Self {
        let last = Some(shared.tail.end());
        Self { file, connection, shared, heads: Heads::default(), last }
    }

    /// Serves appends until nobody can send any more.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Append>) {
        let mut waiting = Vec::new();
        while queue.recv_many(&mut waiting, MAX_ROWS).await > 0 {
            while !waiting.is_empty() {
                let group: Vec<Append> = waiting.drain(..group_size(&waiting)).collect();
                self.store(group).await;
            }
            // Those who were answered may have more: together it costs one sync.
            tokio::task::yield_now().await;
        }
    }

    async fn store(&mut self, group: Vec<Append>) {
        let mut verdicts = match self.decide(&group).await {
            Ok(verdicts) => verdicts,
            Err(error) => return self.fail(group, error, Outcome::NotStored),
        };
        let Err(mut error) = self.write(&group, &verdicts).await else { return self.answer(group, &verdicts) };
        if outcome(&error) == Outcome::Refused {
            // Somebody else has written this file. Decide once more on what stands there now.
            self.recover().await;
            verdicts = match self.decide(&group).await {
                Ok(verdicts) => verdicts,
                Err(error) => return self.fail(group, error, Outcome::NotStored),
            };
            match self.write(&group, &verdicts).await {
                Ok(()) => return self.answer(group, &verdicts),
                Err(again) => error = again,
            }
        }
        tracing::error!(error = &error as &dyn std::error::Error, records = group.len(), "appending to the log failed");
        self.recover().await;
        match outcome(&error) {
            Outcome::Unknown => self.settle(group, error).await,
            outcome => self.fail(group, error, outcome),
        }
    }

    /// Answers what reading can answer of a group that may have been stored. What is not there now may yet turn up after a
    /// crash, unless it is appended again: that is left to those who asked.
    async fn settle(&mut self, group: Vec<Append>, error: sqlx::Error) {
        let Ok(verdicts) = self.decide(&group).await else { return self.fail(group, error, Outcome::Unknown) };
        let end = self.last.unwrap_or_default();
        let mut unknown = Vec::new();
        for (append, verdict) in group.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Stands(head) if head.position <= end => drop(append.reply.send(Ok(head))),
                Verdict::Conflict => drop(append.reply.send(Err(AppendError::Conflict))),
                Verdict::Stands(_) | Verdict::Store(_) => unknown.push(append),
            }
        }
        self.fail(unknown, error, Outcome::Unknown);
    }

    /// Decides on each append in turn, those before it in the group taken as stored.
    async fn decide(&mut self, group: &[Append]) -> sqlx::Result<Vec<Verdict>> {
        if self.last.is_none() {
            self.resume().await?;
        }
        self.look_up(group).await?;
        let mut next = self.last.unwrap_or_default();
        let mut added: HashMap<(StreamId, Version), Head> = HashMap::new();
        let mut verdicts = Vec::with_capacity(group.len());
        for append in group {
            let header = append.record.header();
            let head = self.heads.get(&header.stream).unwrap_or_default();
            let stands = |head: Head| if head.hash == append.hash { Verdict::Stands(head) } else { Verdict::Conflict };
            verdicts.push(if let Some(before) = added.get(&(header.stream, header.version)) {
                stands(*before)
            } else if continues(&added, header.stream, head, &append.expected) {
                next.0 += 1;
                let head = Head { version: header.version, position: next, hash: append.hash };
                added.insert((header.stream, header.version), head);
                Verdict::Store(head)
            } else if header.version == head.version {
                stands(head)
            } else if header.version < head.version {
                self.stored_at(header.stream, header.version).await?.map_or(Verdict::Conflict, stands)
            } else {
                Verdict::Conflict
            });
        }
        Ok(verdicts)
    }

    /// Reads the heads of the streams that are not known.
    async fn look_up(&mut self, group: &[Append]) -> sqlx::Result<()> {
        let mut unknown: Vec<StreamId> = group.iter().map(|append| append.record.header().stream).collect();
        unknown.retain(|stream| self.heads.get(stream).is_none());
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut query = sqlx::query(HEADS.with_room_for(unknown.len()));
        for stream in &unknown {
            query = query.bind(stream.key().to_vec());
        }
        for row in query.fetch_all(&mut self.connection).await? {
            let stream = StreamId::from_key(row.try_get(0)?);
            let stream = stream.ok_or_else(|| sqlx::Error::Decode("a stream's key is not one".into()))?;
            self.heads.put(stream, head_of(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)?);
        }
        for stream in unknown {
            if self.heads.get(&stream).is_none() {
                self.heads.put(stream, Head::default());
            }
        }
        Ok(())
    }

    async fn stored_at(&mut self, stream: StreamId, version: Version) -> sqlx::Result<Option<Head>> {
        let row: Option<(i64, i64, Vec<u8>)> =
            sqlx::query_as("SELECT version, position, hash FROM log WHERE stream = ? AND version = ?")
                .bind(stream.key().to_vec())
                .bind(version.0.cast_signed())
                .fetch_optional(&mut self.connection)
                .await?;
        row.map(|(version, position, hash)| head_of(version, position, &hash)).transpose()
    }

    async fn write(&mut self, group: &[Append], verdicts: &[Verdict]) -> sqlx::Result<()> {
        let mut arguments = SqliteArguments::default();
        let mut rows = 0;
        for (append, verdict) in group.iter().zip(verdicts) {
            let Verdict::Store(head) = verdict else { continue };
            rows += 1;
            let stream = append.record.header().stream.key().to_vec();
            bind(&mut arguments, head.position.0.cast_signed())?;
            bind(&mut arguments, stream)?;
            bind(&mut arguments, head.version.0.cast_signed())?;
            bind(&mut arguments, head.hash.0.to_vec())?;
            bind(&mut arguments, append.record.bytes().to_vec())?;
        }
        if rows > 0 {
            sqlx::query_with(APPEND.with_room_for(rows), arguments).execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// The group is stored: subscribers get it, then those who asked.
    fn answer(&mut self, group: Vec<Append>, verdicts: &[Verdict]) {
        let mut stored = Vec::with_capacity(group.len());
        for (append, verdict) in group.iter().zip(verdicts) {
            if let Verdict::Store(head) = verdict {
                self.heads.put(append.record.header().stream, *head);
                self.last = Some(head.position);
                stored.push(Recorded { position: head.position, hash: head.hash, record: Arc::clone(&append.record) });
            }
        }
        self.shared.tail.push(stored);
        for (append, verdict) in group.into_iter().zip(verdicts) {
            let answer = match verdict {
                Verdict::Store(head) | Verdict::Stands(head) => Ok(*head),
                Verdict::Conflict => Err(AppendError::Conflict),
            };
            // Who no longer waits will ask again.
            let _ = append.reply.send(answer);
        }
    }

    fn fail(&self, group: Vec<Append>, error: sqlx::Error, outcome: Outcome) {
        let (store, error) = (self.file.store, Arc::new(error));
        for append in group {
            let reason = Unavailable::new(store.name, explain(store, &error), Arc::clone(&error));
            let _ = append.reply.send(Err(match outcome {
                Outcome::Unknown => AppendError::Unknown(reason),
                Outcome::Refused | Outcome::NotStored => AppendError::Unavailable(reason),
            }));
        }
    }

    /// After a failure: closes the transaction that may be open and believes nothing any more.
    async fn recover(&mut self) {
        // Fails when SQLite has rolled back already.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await;
        self.heads.forget();
        self.last = None;
    }

    /// Reads where the log ends, over a new connection if the old one is gone.
    async fn resume(&mut self) -> sqlx::Result<()> {
        let last = match last_position(&mut self.connection).await {
            Err(sqlx::Error::WorkerCrashed) => {
                self.connection =
                    self.file.connect().await.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
                last_position(&mut self.connection).await?
            }
            other => other?,
        };
        self.last = Some(last);
        if last != self.shared.tail.end() {
            self.shared.tail.jump(last);
        }
        Ok(())
    }
}

/// Whether a stream with this stored head, and with what the group adds to it, ends as expected.
fn continues(added: &HashMap<(StreamId, Version), Head>, stream: StreamId, stored: Head, expected: &Head) -> bool {
    let head = added.get(&(stream, expected.version)).copied().unwrap_or(stored);
    head.version == expected.version && head.hash == expected.hash
}

fn bind<'q, T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
    arguments: &mut SqliteArguments,
    value: T,
) -> sqlx::Result<()> {
    arguments.add(value).map_err(sqlx::Error::Encode)
}

fn head_of(version: i64, position: i64, hash: &[u8]) -> sqlx::Result<Head> {
    let hash = hash.try_into().map_err(|_| sqlx::Error::Decode("a stored hash has not 32 bytes".into()))?;
    Ok(Head {
        version: Version(version.cast_unsigned()),
        position: Position(position.cast_unsigned()),
        hash: Hash(hash),
    })
}

pub(super) async fn last_position(connection: &mut SqliteConnection) -> sqlx::Result<Position> {
    let last: Option<i64> = sqlx::query_scalar("SELECT max(position) FROM log").fetch_one(connection).await?;
    Ok(Position(last.unwrap_or(0).cast_unsigned()))
}

/// How many of these go into one transaction: at least one, together at most [`MAX_GROUP_BYTES`].
fn group_size(waiting: &[Append]) -> usize {
    let mut bytes = 0;
    let fits = waiting.iter().take_while(|append| {
        bytes += append.record.bytes().len();
        bytes <= MAX_GROUP_BYTES
    });
    fits.count().max(1)
}
