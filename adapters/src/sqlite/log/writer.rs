//! The one writer: takes all appends that wait, stores them in one transaction, then answers them.
//!
//! The disk's sync is what an append costs; shared by all that wait, it is cheap. It is a thread of its own, beside the
//! runtime: an append crosses to it once and back once. Each append is checked against the head of its stream on its own,
//! so that a conflict fails nobody else. The unique index stays the fence: should another process write this file in spite
//! of the lock, it refuses what memory would have allowed.

use std::{io, sync::Arc, thread};

use lmao_events::{Hash, Head, Position, Record, StreamId, Version};
use lmao_ports::{AppendError, Recorded, Unavailable};
use rusqlite::{Connection, OptionalExtension as _, Row};
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use crate::{
    heads::Heads,
    sqlite::{
        error::{Outcome, explain, outcome},
        file::{File, Store},
    },
};

/// Appends that wait for the writer, and at most as many in one transaction; more wait before they are queued.
const QUEUE: usize = 1024;
/// Bytes of records in one transaction.
const MAX_GROUP_BYTES: usize = 8 * 1024 * 1024;

const APPEND: &str = "INSERT INTO log (position, stream, version, hash, record) VALUES (?, ?, ?, ?, ?)";
const HEAD: &str = "SELECT version, position, hash FROM log WHERE stream = ? ORDER BY version DESC LIMIT 1";
const STORED_AT: &str = "SELECT version, position, hash FROM log WHERE stream = ? AND version = ?";

/// One append that waits.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) expected: Head,
    pub(super) record: Arc<Record>,
    pub(super) hash: Hash,
    pub(super) reply: oneshot::Sender<Result<Head, AppendError>>,
}

/// The way to the writer. When the last of those who share it lets go, what waits is stored and the file is closed.
#[derive(Debug)]
pub(super) struct Queue {
    /// `None` only while it is dropped.
    appends: Option<mpsc::Sender<Append>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Queue {
    /// Starts the writer of a file that is ready to be written.
    pub(super) fn open(file: &File, shared: Arc<Shared>) -> Result<Self, Unavailable> {
        let writer = Writer {
            store: file.store,
            connection: file.connect_blocking()?,
            last: Some(shared.tail.end()),
            shared,
            heads: Heads::default(),
        };
        let (appends, queue) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new().name("lmao-log".to_owned()).spawn(move || writer.run(queue));
        let thread = thread
            .map_err(|error: io::Error| Unavailable::new(file.store.name, "its writer cannot be started", error))?;
        Ok(Self { appends: Some(appends), thread: Some(thread) })
    }

    /// Whether the writer is gone: it has panicked.
    pub(super) fn has_ended(&self) -> bool {
        self.appends.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// Hands an append to the writer; `false` when it has ended.
    pub(super) async fn send(&self, append: Append) -> bool {
        match &self.appends {
            Some(appends) => appends.send(append).await.is_ok(),
            None => false,
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.appends = None;
        // Nobody waits for an append any more: at most one group is on its way to the disk.
        if let Some(Err(_)) = self.thread.take().map(thread::JoinHandle::join) {
            tracing::error!("the log's writer had panicked");
        }
    }
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
struct Writer {
    store: &'static Store,
    connection: Connection,
    shared: Arc<Shared>,
    /// Where streams end, those in the group under way as if it were stored: forgotten when it is not.
    heads: Heads,
    /// The log's last position, as this writer knows it; `None` after a failure, until it is read again.
    last: Option<Position>,
}

impl Writer {
    /// Serves appends until nobody can send any more.
    fn run(mut self, mut queue: mpsc::Receiver<Append>) {
        let mut waiting = Vec::with_capacity(QUEUE);
        while queue.blocking_recv_many(&mut waiting, QUEUE) > 0 {
            while !waiting.is_empty() {
                let group: Vec<Append> = waiting.drain(..group_size(&waiting)).collect();
                self.store(group);
            }
        }
    }

    fn store(&mut self, group: Vec<Append>) {
        let mut stored = self.decide_and_write(&group);
        if matches!(&stored, Err(error) if outcome(error) == Outcome::Refused) {
            // Somebody else has written this file. Decide once more on what stands there now.
            self.recover();
            stored = self.decide_and_write(&group);
        }
        let error = match stored {
            Ok(verdicts) => return self.answer(group, &verdicts),
            Err(error) => error,
        };
        tracing::error!(error = &error as &dyn std::error::Error, records = group.len(), "appending to the log failed");
        self.recover();
        match outcome(&error) {
            Outcome::Unknown => self.settle(group, error),
            outcome => self.fail(group, error, outcome),
        }
    }

    /// Answers what reading can answer of a group that may have been stored. What is not there now may yet turn up after a
    /// crash, unless it is appended again: that is left to those who asked.
    fn settle(&mut self, group: Vec<Append>, error: rusqlite::Error) {
        let Ok(verdicts) = self.decide(&group) else { return self.fail(group, error, Outcome::Unknown) };
        let end = self.last.unwrap_or_default();
        // What was decided is not written.
        self.recover();
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

    fn decide_and_write(&mut self, group: &[Append]) -> rusqlite::Result<Vec<Verdict>> {
        let verdicts = self.decide(group)?;
        self.write(group, &verdicts)?;
        Ok(verdicts)
    }

    /// Decides on each append in turn, those before it in the group taken as stored.
    fn decide(&mut self, group: &[Append]) -> rusqlite::Result<Vec<Verdict>> {
        let mut last = self.end()?;
        let mut verdicts = Vec::with_capacity(group.len());
        for append in group {
            let header = append.record.header();
            let head = self.head(header.stream)?;
            let stands = |head: Head| if head.hash == append.hash { Verdict::Stands(head) } else { Verdict::Conflict };
            verdicts.push(if append.expected.version == head.version && append.expected.hash == head.hash {
                last.0 += 1;
                let head = Head { version: header.version, position: last, hash: append.hash };
                self.heads.put(header.stream, head);
                Verdict::Store(head)
            } else if header.version == head.version {
                stands(head)
            } else if header.version < head.version {
                let added = added(group, &verdicts, header.stream, header.version);
                let found = added.map_or_else(|| self.stored_at(header.stream, header.version), |head| Ok(Some(head)));
                found?.map_or(Verdict::Conflict, stands)
            } else {
                Verdict::Conflict
            });
        }
        Ok(verdicts)
    }

    /// Where a stream ends.
    fn head(&mut self, stream: StreamId) -> rusqlite::Result<Head> {
        if let Some(head) = self.heads.get(&stream) {
            return Ok(head);
        }
        let head = self.connection.prepare_cached(HEAD)?.query_row([&stream.key()], head_of).optional()?;
        let head = head.unwrap_or_default();
        self.heads.put(stream, head);
        Ok(head)
    }

    fn stored_at(&self, stream: StreamId, Version(version): Version) -> rusqlite::Result<Option<Head>> {
        let mut statement = self.connection.prepare_cached(STORED_AT)?;
        statement.query_row((&stream.key(), version.cast_signed()), head_of).optional()
    }

    /// One transaction: all that is to be stored, or nothing.
    fn write(&self, group: &[Append], verdicts: &[Verdict]) -> rusqlite::Result<()> {
        let stores = |verdict: &Verdict| matches!(verdict, Verdict::Store(_));
        if !verdicts.iter().any(stores) {
            return Ok(());
        }
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut insert = self.connection.prepare_cached(APPEND)?;
        for (append, verdict) in group.iter().zip(verdicts) {
            let Verdict::Store(head) = verdict else { continue };
            insert.execute((
                head.position.0.cast_signed(),
                &append.record.header().stream.key(),
                head.version.0.cast_signed(),
                &head.hash.0,
                append.record.bytes(),
            ))?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// The group is stored: subscribers get it, then those who asked.
    fn answer(&mut self, group: Vec<Append>, verdicts: &[Verdict]) {
        let mut stored = Vec::with_capacity(group.len());
        for (append, verdict) in group.iter().zip(verdicts) {
            if let Verdict::Store(head) = verdict {
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

    fn fail(&self, group: Vec<Append>, error: rusqlite::Error, outcome: Outcome) {
        let (store, error) = (self.store, Arc::new(error));
        for append in group {
            let reason = Unavailable::new(store.name, explain(store, error.as_ref()), Arc::clone(&error));
            let _ = append.reply.send(Err(match outcome {
                Outcome::Unknown => AppendError::Unknown(reason),
                Outcome::Refused | Outcome::NotStored => AppendError::Unavailable(reason),
            }));
        }
    }

    /// After a failure: closes the transaction that may be open and believes nothing any more.
    fn recover(&mut self) {
        // Fails when SQLite has rolled back already.
        let _ = self.connection.execute_batch("ROLLBACK");
        self.heads.forget();
        self.last = None;
    }

    /// Where the log ends, read again after a failure.
    fn end(&mut self) -> rusqlite::Result<Position> {
        if let Some(last) = self.last {
            return Ok(last);
        }
        let last: Option<i64> = self.connection.query_row("SELECT max(position) FROM log", [], |row| row.get(0))?;
        let last = Position(last.unwrap_or(0).cast_unsigned());
        self.last = Some(last);
        if last != self.shared.tail.end() {
            self.shared.tail.jump(last);
        }
        Ok(last)
    }
}

/// The head that the group itself gives a stream at `version`.
fn added(group: &[Append], verdicts: &[Verdict], stream: StreamId, version: Version) -> Option<Head> {
    group.iter().zip(verdicts).find_map(|(append, verdict)| match verdict {
        Verdict::Store(head) if append.record.header().stream == stream && head.version == version => Some(*head),
        _ => None,
    })
}

fn head_of(row: &Row<'_>) -> rusqlite::Result<Head> {
    let (version, position): (i64, i64) = (row.get(0)?, row.get(1)?);
    Ok(Head {
        version: Version(version.cast_unsigned()),
        position: Position(position.cast_unsigned()),
        hash: Hash(row.get(2)?),
    })
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
