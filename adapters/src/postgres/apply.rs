//! Taking in a batch of commits: all of it with its checkpoint, or nothing.
//!
//! Whoever changes rows, checkpoint or parked streams locks the checkpoint's row first, and takes from it where the tables
//! are. So it does not matter how many processes feed one read model: the second to come skips what the first has taken in.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use lmao_events::{Position, StreamId, Timestamp, Version};
use lmao_ports::{Committed, DocumentStatus, Journal, Missed, ParkedStream, ProjectionError, Unavailable, Unparked};
use serde_json::Value;
use sqlx::{Acquire as _, PgConnection, PgPool, PgTransaction, Postgres, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    PostgresReadModel, READ_MODEL,
    error::{NOT_MIGRATED, Outcome, STORE, outcome},
    types::{Time, json_said, said},
    write::{move_checkpoint, set_aside, write},
};
use crate::read_model::{
    fold::{Changes, DocumentRecord},
    misfit,
};

/// How long the log may take to say what a parked stream has left out; the tables stand still meanwhile.
const READ_MISSED: Duration = Duration::from_secs(20);

/// How a batch is written.
#[derive(Debug, Clone, Copy)]
enum Steps {
    /// A few statements for all of it.
    AtOnce,
    /// Commit by commit, to find the one that does not fit.
    ByCommit,
}

/// Why a batch was not written.
enum Failure<'a> {
    /// The tables refuse rows, of whichever commit.
    Refused,
    /// The store failed.
    Store(sqlx::Error),
    /// A commit does not fit.
    Misfit(&'a Committed, String),
}

/// What the row of the checkpoint says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) checkpoint: Position,
    parkings: i64,
}

/// The streams set aside, each with the first version that was not taken in, as of a place.
#[derive(Debug, Default)]
pub(super) struct Parked {
    parkings: Option<i64>,
    streams: HashMap<StreamId, Version>,
}

impl PostgresReadModel {
    pub(super) async fn take_in(&self, batch: &[Committed]) -> Result<(), ProjectionError> {
        let Some(last) = batch.last().map(|commit| commit.position) else { return Ok(()) };
        let taken = match self.attempt(batch, last, Steps::AtOnce).await? {
            Err(Failure::Refused) => self.attempt(batch, last, Steps::ByCommit).await?,
            taken => taken,
        };
        match taken {
            Ok(checkpoint) => {
                self.fed.fetch_max(checkpoint.0, Ordering::Relaxed);
                self.progress.rise(checkpoint);
                Ok(())
            }
            Err(Failure::Store(error)) => Err(self.failed(error)),
            Err(Failure::Refused) => {
                Err(Unavailable::plain(STORE, "the tables refuse a batch, but none of its commits; try again").into())
            }
            Err(Failure::Misfit(commit, message)) => {
                let header = &commit.header;
                Err(ProjectionError::Poisoned { stream: header.stream, version: header.version, message })
            }
        }
    }

    /// One transaction: where the checkpoint is after it.
    async fn attempt<'a>(
        &self,
        batch: &'a [Committed],
        last: Position,
        steps: Steps,
    ) -> Result<Result<Position, Failure<'a>>, ProjectionError> {
        let (mut transaction, place) = self.change().await?;
        self.must_follow(place.checkpoint)?;
        if last <= place.checkpoint {
            return Ok(Ok(place.checkpoint));
        }
        self.learn_parked(&mut transaction, place).await.map_err(|error| self.failed(error))?;
        let fresh = self.fresh(batch, place.checkpoint);
        let written = async {
            match steps {
                Steps::AtOnce => write_together(&mut transaction, &fresh).await?,
                Steps::ByCommit => write_one_by_one(&mut transaction, &fresh).await?,
            }
            move_checkpoint(&mut transaction, last).await.map_err(Failure::Store)?;
            transaction.commit().await.map_err(Failure::Store)
        };
        Ok(written.await.map(|()| last))
    }

    /// A transaction that nobody else's change runs beside.
    async fn change(&self) -> Result<(PgTransaction<'static>, Place), ProjectionError> {
        let mut transaction = self.pool.begin().await.map_err(|error| self.failed(error))?;
        let place = lock(&mut transaction).await.map_err(|error| self.failed(error))?;
        let place = place.ok_or_else(|| Unavailable::plain(STORE, NOT_MIGRATED))?;
        Ok((transaction, place))
    }

    /// What this process is fed follows what it was fed before. Tables that have gone back since then miss what lies between.
    fn must_follow(&self, checkpoint: Position) -> Result<(), Unavailable> {
        let fed = self.fed.load(Ordering::Relaxed);
        if checkpoint.0 >= fed {
            return Ok(());
        }
        self.fed.store(checkpoint.0, Ordering::Relaxed);
        self.progress.reach(checkpoint);
        let message = format!(
            "the tables went back from position {fed} to {}: somebody reset them, or the server crashed and lost its \
             last moments; the log is read again from there",
            checkpoint.0
        );
        Err(Unavailable::plain(STORE, message))
    }

    /// Reads the parked streams, unless they are what they were.
    async fn learn_parked(&self, connection: &mut PgConnection, place: Place) -> sqlx::Result<()> {
        if self.known_parked().parkings == Some(place.parkings) {
            return Ok(());
        }
        let stored = parked(connection).await?;
        let streams = stored.into_iter().map(|parked| (parked.stream, parked.version)).collect();
        *self.known_parked() = Parked { parkings: Some(place.parkings), streams };
        Ok(())
    }

    fn known_parked(&self) -> std::sync::MutexGuard<'_, Parked> {
        // Nothing panics half-way through a change of it.
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be taken in: behind the checkpoint, and of no parked stream.
    fn fresh<'a>(&self, batch: &'a [Committed], checkpoint: Position) -> Vec<&'a Committed> {
        let parked = self.known_parked();
        let parked =
            |stream: &StreamId, version: Version| parked.streams.get(stream).is_some_and(|first| version >= *first);
        batch
            .iter()
            .filter(|commit| commit.position > checkpoint && !parked(&commit.header.stream, commit.header.version))
            .collect()
    }

    /// Sets a stream aside.
    pub(super) async fn put_aside(&self, parked: &ParkedStream) -> Result<(), ProjectionError> {
        let (mut transaction, _) = self.change().await?;
        let done = async {
            set_aside(&mut transaction, parked).await?;
            count_parking(&mut transaction).await?;
            transaction.commit().await
        };
        done.await.map_err(|error| self.failed(error))
    }

    /// Takes in what was left out of a stream. The checkpoint's row is locked throughout: the checkpoint stands still.
    pub(super) async fn take_in_again(&self, stream: StreamId, log: &dyn Journal) -> Result<Unparked, ProjectionError> {
        let (mut transaction, place) = self.change().await?;
        let first = async {
            // The log is read meanwhile.
            sqlx::query("SET LOCAL idle_in_transaction_session_timeout = '30s'").execute(&mut *transaction).await?;
            parked(&mut *transaction).await
        };
        let first = first.await.map_err(|error| self.failed(error))?;
        let Some(first) = first.into_iter().find(|parked| parked.stream == stream) else {
            return Ok(Unparked::NotParked);
        };
        let missed = tokio::time::timeout(READ_MISSED, Missed::read(log, stream, first.version, place.checkpoint));
        let mut missed = missed
            .await
            .map_err(|late| Unavailable::new("log", "it takes too long to read a stream; try again", late))??;
        // Each round but the last makes it shorter.
        loop {
            let (version, message) = match write_again(&mut transaction, &missed).await {
                Ok(()) => break,
                Err(Failure::Misfit(commit, message)) => (commit.header.version, message),
                Err(Failure::Store(error)) => return Err(self.failed(error)),
                Err(Failure::Refused) => unreachable!("one commit is named"),
            };
            missed.cut(version, message);
        }
        let done = async {
            sqlx::query("DELETE FROM parked WHERE stream = $1")
                .bind(stream.to_string())
                .execute(&mut *transaction)
                .await?;
            if let Some(again) = &missed.again {
                set_aside(&mut transaction, again).await?;
            }
            count_parking(&mut transaction).await?;
            transaction.commit().await
        };
        done.await.map_err(|error| self.failed(error))?;
        Ok(missed.again.map_or(Unparked::TakenIn, Unparked::Again))
    }

    /// Whose rows these are: this log's, unless they are another's.
    pub(super) async fn claim(&self, log: Uuid) -> Result<Uuid, ProjectionError> {
        let claimed = async {
            sqlx::query("INSERT INTO computed_from (projection, log) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(READ_MODEL)
                .bind(log)
                .execute(&self.pool)
                .await?;
            let owner = sqlx::query_scalar("SELECT log FROM computed_from WHERE projection = $1").bind(READ_MODEL);
            // Gone again already: somebody has just reset it.
            Ok(owner.fetch_optional(&self.pool).await?.unwrap_or(log))
        };
        claimed.await.map_err(|error| self.failed(error))
    }

    /// Forgets everything.
    pub(super) async fn empty(&self) -> Result<(), ProjectionError> {
        let (mut transaction, _) = self.change().await?;
        let done = async {
            sqlx::query(
                "TRUNCATE feedback, messages, conversations, tool_executions, sessions, documents, users, system_metrics,
                     parked, computed_from",
            )
            .execute(&mut *transaction)
            .await?;
            count_parking(&mut transaction).await?;
            move_checkpoint(&mut transaction, Position(0)).await?;
            transaction.commit().await
        };
        done.await.map_err(|error| self.failed(error))?;
        self.fed.store(0, Ordering::Relaxed);
        self.progress.reach(Position(0));
        Ok(())
    }
}

/// Where the tables are, as long as the transaction lasts. `None`: they were never prepared.
async fn lock(connection: &mut PgConnection) -> sqlx::Result<Option<Place>> {
    let row: Option<(i64, i64)> =
        sqlx::query_as("SELECT position, parkings FROM projection WHERE name = $1 FOR UPDATE")
            .bind(READ_MODEL)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(position, parkings)| Place { checkpoint: Position(position.cast_unsigned()), parkings }))
}

/// Where the tables are.
pub(super) async fn checkpoint(pool: &PgPool) -> sqlx::Result<Position> {
    let position: i64 =
        sqlx::query_scalar("SELECT position FROM projection WHERE name = $1").bind(READ_MODEL).fetch_one(pool).await?;
    Ok(Position(position.cast_unsigned()))
}

/// The parked streams, in the order of the log.
pub(super) async fn parked<'c>(from: impl sqlx::Executor<'c, Database = Postgres>) -> sqlx::Result<Vec<ParkedStream>> {
    let rows: Vec<(String, i64, i64, String)> =
        sqlx::query_as("SELECT stream, version, position, reason FROM parked ORDER BY position, stream")
            .fetch_all(from)
            .await?;
    rows.into_iter()
        .map(|(stream, version, position, reason)| {
            let stream = stream.parse().map_err(|error: lmao_events::ParseError| sqlx::Error::Decode(error.into()))?;
            let (version, position) = (Version(version.cast_unsigned()), Position(position.cast_unsigned()));
            Ok(ParkedStream { stream, version, position, reason: said(&reason).into_owned() })
        })
        .collect()
}

/// The parked streams change.
async fn count_parking(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("UPDATE projection SET parkings = parkings + 1 WHERE name = $1")
        .bind(READ_MODEL)
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_together<'a>(connection: &mut PgConnection, commits: &[&'a Committed]) -> Result<(), Failure<'a>> {
    let changes = fold(connection, commits).await?;
    write(connection, &changes).await.map_err(|error| match outcome(&error) {
        Outcome::Refused => Failure::Refused,
        Outcome::Failed => Failure::Store(error),
    })
}

async fn write_one_by_one<'a>(connection: &mut PgConnection, commits: &[&'a Committed]) -> Result<(), Failure<'a>> {
    for &commit in commits {
        let changes = fold(connection, &[commit]).await?;
        write(connection, &changes).await.map_err(|error| match outcome(&error) {
            Outcome::Refused => Failure::Misfit(commit, misfit(&error)),
            Outcome::Failed => Failure::Store(error),
        })?;
    }
    Ok(())
}

/// What a parked stream has left out, all of it or nothing.
async fn write_again<'a>(transaction: &mut PgTransaction<'_>, missed: &'a Missed) -> Result<(), Failure<'a>> {
    // A savepoint: the lock outlives it.
    let mut part = transaction.begin().await.map_err(Failure::Store)?;
    let commits: Vec<&Committed> = missed.commits.iter().collect();
    match write_one_by_one(&mut part, &commits).await {
        Ok(()) => part.commit().await.map_err(Failure::Store),
        Err(failure) => {
            part.rollback().await.map_err(Failure::Store)?;
            Err(failure)
        }
    }
}

async fn fold<'a>(connection: &mut PgConnection, commits: &[&'a Committed]) -> Result<Changes, Failure<'a>> {
    let stored = Changes::documents_of(commits.iter().copied());
    let documents = documents(connection, stored).await.map_err(Failure::Store)?;
    let mut changes = Changes { documents, ..Changes::default() };
    for commit in commits {
        changes.take(commit).map_err(|error| Failure::Misfit(commit, error.to_string()))?;
    }
    Ok(changes)
}

/// The rows of these documents, those that have one.
async fn documents(
    connection: &mut PgConnection,
    ids: Vec<Uuid>,
) -> sqlx::Result<BTreeMap<Uuid, Option<DocumentRecord>>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let stored = sqlx::query("SELECT * FROM documents WHERE id = ANY($1)").bind(ids).fetch_all(connection).await?;
    stored.iter().map(|row| document(row).map(|document| (document.id, Some(document)))).collect()
}

/// A row of `documents`.
pub(super) fn document(row: &PgRow) -> sqlx::Result<DocumentRecord> {
    let status: DocumentStatus = named(row, "status")?;
    Ok(DocumentRecord {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        filename: string(row, "filename")?,
        file_type: string(row, "file_type")?,
        file_size: row.try_get::<i64, _>("file_size")?.cast_unsigned(),
        content_hash: string(row, "content_hash")?,
        uploaded_at: time(row, "uploaded_at")?,
        processed_at: row.try_get::<Option<Time>, _>("processed_at")?.map(|time| time.0),
        status,
        metadata: match json_said(row.try_get("metadata")?) {
            Value::Object(metadata) => metadata,
            _ => return Err(sqlx::Error::Decode("a document's metadata is no object".into())),
        },
        chunks_count: count(row, "chunks_count")?,
        embedding_model: row.try_get::<Option<&str>, _>("embedding_model")?.map(|model| said(model).into_owned()),
    })
}

/// Text as it was said.
pub(super) fn string(row: &PgRow, column: &str) -> sqlx::Result<String> {
    Ok(said(row.try_get(column)?).into_owned())
}

pub(super) fn time(row: &PgRow, column: &str) -> sqlx::Result<Timestamp> {
    Ok(row.try_get::<Time, _>(column)?.0)
}

/// A number of things.
pub(super) fn count(row: &PgRow, column: &str) -> sqlx::Result<Option<u32>> {
    let count = row.try_get::<Option<i64>, _>(column)?.map(u32::try_from).transpose();
    count.map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A variant by its name.
pub(super) fn named<T: serde::de::DeserializeOwned>(row: &PgRow, column: &str) -> sqlx::Result<T> {
    let name: &str = row.try_get(column)?;
    serde_json::from_value(Value::from(name)).map_err(|error| sqlx::Error::Decode(error.into()))
}
