//! Taking in a batch of commits: all of it with its checkpoint, or nothing.

use std::sync::atomic::Ordering;

use lmao_events::{Position, StreamId, Timestamp, Version};
use lmao_ports::{Committed, DocumentStatus, Journal, Missed, ParkedStream, ProjectionError, Unparked};
use serde::Serialize;
use serde_json::Value;
use sqlx::{
    Arguments as _, FromRow as _, Row as _,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::{SqliteReadModel, sql};
use crate::{
    read_model::{
        fold::{Changes, DocumentRecord},
        misfit,
    },
    sqlite::{
        error::{Outcome, outcome},
        file::Writer,
    },
};

/// What a batch made of the file.
enum Written {
    /// It has its rows and its checkpoint.
    Rows,
    /// Nothing of the batch shows in it.
    Nothing,
}

/// Why a batch was not written.
enum Failure<'a> {
    /// The store failed.
    Store(sqlx::Error),
    /// A commit does not fit.
    Misfit(&'a Committed, String),
}

impl SqliteReadModel {
    pub(super) async fn take_in(&self, batch: &[Committed]) -> Result<(), ProjectionError> {
        let mut writer = self.change().await?;
        let checkpoint = self.progress.checkpoint();
        let Some(last) = batch.last().map(|commit| commit.position).filter(|last| *last > checkpoint) else {
            self.changed();
            return Ok(());
        };
        let fresh = self.fresh(batch, checkpoint);
        let mut written = write_at_once(&mut writer, &fresh, last).await;
        if matches!(&written, Err(Failure::Store(error)) if outcome(error) == Outcome::Refused) {
            written = write_one_by_one(&mut writer, &fresh, last).await;
            writer.settle().await;
        }
        match written {
            Ok(written) => {
                match written {
                    Written::Rows => self.saved(last),
                    Written::Nothing => {
                        self.unsaved.store(true, Ordering::Relaxed);
                        self.progress.reach(last);
                    }
                }
                self.changed();
                Ok(())
            }
            Err(Failure::Store(error)) => Err(self.failed(error)),
            Err(Failure::Misfit(commit, message)) => {
                let header = &commit.header;
                Err(ProjectionError::Poisoned { stream: header.stream, version: header.version, message })
            }
        }
    }

    /// Takes in what was left out of a stream. The writer is held throughout: the checkpoint stands still.
    pub(super) async fn take_in_again(&self, stream: StreamId, log: &dyn Journal) -> Result<Unparked, ProjectionError> {
        let mut writer = self.change().await?;
        let Some(first) = self.parked_streams().get(&stream).copied() else {
            self.changed();
            return Ok(Unparked::NotParked);
        };
        let checkpoint = self.progress.checkpoint();
        let mut missed = Missed::read(log, stream, first, checkpoint).await?;
        // Each round but the last makes it shorter.
        loop {
            let written = write_again(&mut writer, stream, &missed, checkpoint).await;
            writer.settle().await;
            let (version, message) = match written {
                Ok(()) => break,
                Err(Failure::Store(error)) => return Err(self.failed(error)),
                Err(Failure::Misfit(commit, message)) => (commit.header.version, message),
            };
            missed.cut(version, message);
        }
        let mut parked = self.parked_streams();
        match missed.again {
            None => {
                parked.remove(&stream);
                self.changed();
                Ok(Unparked::TakenIn)
            }
            Some(again) => {
                parked.insert(stream, again.version);
                self.changed();
                Ok(Unparked::Again(again))
            }
        }
    }

    /// Writes the checkpoint alone.
    pub(super) async fn write_checkpoint(&self) -> Result<(), ProjectionError> {
        let mut writer = self.change().await?;
        let checkpoint = self.progress.checkpoint();
        let arguments = arguments(&Changes::default(), checkpoint).map_err(|error| self.failed(error))?;
        writer.run(sql::CHECKPOINT, arguments).await.map_err(|error| self.failed(error))?;
        self.saved(checkpoint);
        self.changed();
        Ok(())
    }

    /// What is to be taken in: behind the checkpoint, and of no parked stream.
    fn fresh<'a>(&self, batch: &'a [Committed], checkpoint: Position) -> Vec<&'a Committed> {
        let parked = self.parked_streams();
        let parked = |stream: &StreamId, version: Version| parked.get(stream).is_some_and(|first| version >= *first);
        batch
            .iter()
            .filter(|commit| commit.position > checkpoint && !parked(&commit.header.stream, commit.header.version))
            .collect()
    }
}

/// The whole batch by one script, if there is anything to write.
async fn write_at_once<'a>(
    writer: &mut Writer,
    fresh: &[&'a Committed],
    last: Position,
) -> Result<Written, Failure<'a>> {
    let changes = fold(writer, fresh).await?;
    if changes.is_empty() {
        return Ok(Written::Nothing);
    }
    let script = if changes.only_chat() { sql::CHAT } else { sql::ALL };
    let arguments = arguments(&changes, last).map_err(Failure::Store)?;
    writer.run(script, arguments).await.map_err(Failure::Store)?;
    Ok(Written::Rows)
}

/// Commit by commit in one transaction, to find the one that does not fit.
async fn write_one_by_one<'a>(
    writer: &mut Writer,
    fresh: &[&'a Committed],
    last: Position,
) -> Result<Written, Failure<'a>> {
    writer.begin().await.map_err(Failure::Store)?;
    for commit in fresh {
        write_one(writer, commit, last).await?;
    }
    write_position(writer, last).await?;
    writer.commit().await.map_err(Failure::Store)?;
    Ok(Written::Rows)
}

/// The checkpoint, within the transaction that is open.
async fn write_position<'a>(writer: &mut Writer, checkpoint: Position) -> Result<(), Failure<'a>> {
    let arguments = arguments(&Changes::default(), checkpoint).map_err(Failure::Store)?;
    writer.step(sql::CHECKPOINT, arguments).await.map_err(Failure::Store)
}

/// One commit, within the transaction that is open.
async fn write_one<'a>(writer: &mut Writer, commit: &'a Committed, last: Position) -> Result<(), Failure<'a>> {
    let changes = fold(writer, &[commit]).await?;
    let arguments = arguments(&changes, last).map_err(Failure::Store)?;
    writer.step(sql::STEP, arguments).await.map_err(|error| match outcome(&error) {
        Outcome::Refused => Failure::Misfit(commit, misfit(&error)),
        _ => Failure::Store(error),
    })
}

/// A stream's missed commits, and its parking forgotten or moved, in one transaction; the checkpoint too, for the file's may be
/// behind, and then they would come once more.
async fn write_again<'a>(
    writer: &mut Writer,
    stream: StreamId,
    missed: &'a Missed,
    checkpoint: Position,
) -> Result<(), Failure<'a>> {
    writer.begin().await.map_err(Failure::Store)?;
    for commit in &missed.commits {
        write_one(writer, commit, checkpoint).await?;
    }
    sqlx::query("DELETE FROM parked WHERE stream = ?")
        .bind(stream.to_string())
        .execute(writer.connection())
        .await
        .map_err(Failure::Store)?;
    if let Some(again) = &missed.again {
        set_aside(writer, again).await.map_err(Failure::Store)?;
    }
    write_position(writer, checkpoint).await?;
    writer.commit().await.map_err(Failure::Store)
}

/// Remembers a parked stream, unless it is parked already.
pub(super) async fn set_aside(writer: &mut Writer, parked: &ParkedStream) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO parked (stream, version, position, reason) VALUES (?, ?, ?, ?) ON CONFLICT (stream) DO NOTHING",
    )
    .bind(parked.stream.to_string())
    .bind(parked.version.0.cast_signed())
    .bind(parked.position.0.cast_signed())
    .bind(&parked.reason)
    .execute(writer.connection())
    .await?;
    Ok(())
}

async fn fold<'a>(writer: &mut Writer, commits: &[&'a Committed]) -> Result<Changes, Failure<'a>> {
    let stored = Changes::documents_of(commits.iter().copied());
    let documents = documents(writer, &stored).await.map_err(Failure::Store)?;
    let mut changes = Changes { documents, ..Changes::default() };
    for commit in commits {
        changes.take(commit).map_err(|error| Failure::Misfit(commit, error.to_string()))?;
    }
    Ok(changes)
}

/// The rows of these documents, those that have one.
async fn documents(
    writer: &mut Writer,
    ids: &[Uuid],
) -> sqlx::Result<std::collections::BTreeMap<Uuid, Option<DocumentRecord>>> {
    if ids.is_empty() {
        return Ok(std::collections::BTreeMap::new());
    }
    let stored: Vec<SqliteRow> = sqlx::query("SELECT * FROM documents WHERE id IN (SELECT value FROM json_each(?))")
        .bind(rows(ids))
        .fetch_all(writer.connection())
        .await?;
    stored.iter().map(|row| DocumentRecord::from_row(row).map(|document| (document.id, Some(document)))).collect()
}

impl sqlx::FromRow<'_, SqliteRow> for DocumentRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let time = |column| row.try_get::<Option<i64>, _>(column).map(|time| time.map(Timestamp));
        Ok(Self {
            id: uuid(row, "id")?,
            user_id: uuid(row, "user_id")?,
            filename: row.try_get("filename")?,
            file_type: row.try_get("file_type")?,
            file_size: row.try_get::<i64, _>("file_size")?.cast_unsigned(),
            content_hash: row.try_get("content_hash")?,
            uploaded_at: time("uploaded_at")?.unwrap_or_default(),
            processed_at: time("processed_at")?,
            status: status(row.try_get("status")?)?,
            metadata: match json(row, "metadata")? {
                Value::Object(metadata) => metadata,
                _ => return Err(sqlx::Error::Decode("a document's metadata is no object".into())),
            },
            chunks_count: row.try_get("chunks_count")?,
            embedding_model: row.try_get("embedding_model")?,
        })
    }
}

/// An id in a column of hyphenated text.
pub(super) fn uuid(row: &SqliteRow, column: &str) -> sqlx::Result<Uuid> {
    Uuid::parse_str(row.try_get(column)?).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// JSON in a column of text.
pub(super) fn json(row: &SqliteRow, column: &str) -> sqlx::Result<Value> {
    serde_json::from_str(row.try_get(column)?).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn status(name: &str) -> sqlx::Result<DocumentStatus> {
    serde_json::from_value(Value::from(name)).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The parameters that every script takes.
fn arguments(changes: &Changes, last: Position) -> sqlx::Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    let removed = changes.documents.iter().filter_map(|(id, row)| row.is_none().then_some(id));
    let texts = [
        rows(&changes.registered),
        rows(changes.accounts.values()),
        rows(&changes.opened),
        rows(changes.touched.values()),
        rows(&changes.messages),
        rows(&changes.executions),
        rows(&changes.finished),
        rows(changes.documents.values().flatten()),
        rows(removed),
        rows(&changes.refused),
    ];
    for text in texts {
        arguments.add(text).map_err(sqlx::Error::Encode)?;
    }
    arguments.add(last.0.cast_signed()).map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

/// Rows as the statements take them: a JSON array.
fn rows<T: Serialize>(rows: impl IntoIterator<Item = T>) -> String {
    let mut text = String::from("[");
    for row in rows {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(&row).unwrap_or_else(|error| unreachable!("rows encode: {error}")));
    }
    text.push(']');
    text
}
