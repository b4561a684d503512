//! Reading the log: one stream, or everything behind a position and then what follows.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use lmao_events::{Category, Hash, Position, Record, StreamId, Version};
use lmao_ports::{Filter, ReadError, Recorded};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Access, STORE, Shared};
use crate::sqlite::error::unavailable;

/// Records read at once: at most 64 MiB.
const BATCH: u32 = 128;
/// Records of one stream read first: most readers need its beginning, or its last few.
const FIRST: u32 = 16;
/// Positions that one statement looks at, so that a rare category holds no reader for long.
const WINDOW: u64 = 50_000;
/// How often a log that another process writes is asked for news.
const POLL: Duration = Duration::from_millis(200);

type Batches<S> = Result<Option<(Vec<Recorded>, S)>, ReadError>;

impl Shared {
    /// Where the log ends now.
    pub(super) async fn end(&self) -> Result<Position, ReadError> {
        if self.access == Access::ReadWrite {
            return Ok(self.tail.end());
        }
        let end: Option<i64> =
            sqlx::query_scalar("SELECT max(position) FROM log").fetch_one(&self.readers).await.map_err(failed)?;
        Ok(position(end.unwrap_or(0)))
    }

    /// Waits until the log ends beyond `after`.
    async fn beyond(&self, after: Position) -> Result<Position, ReadError> {
        if self.access == Access::ReadWrite {
            return Ok(self.tail.beyond(after).await);
        }
        loop {
            let end = self.end().await?;
            if end > after {
                return Ok(end);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stored records behind `after`, and the position up to which that is all.
    async fn stored(
        &self,
        after: Position,
        end: Position,
        filter: &Filter,
    ) -> Result<(Vec<Recorded>, Position), ReadError> {
        let window = match filter {
            Filter::Stream(_) => end,
            Filter::All | Filter::Category(_) => Position(end.0.min(after.0 + WINDOW)),
        };
        let query = match filter {
            Filter::All => sqlx::query(
                "SELECT position, stream, version, hash, record FROM log
                 WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
            )
            .bind(number(after))
            .bind(number(window)),
            // The plus signs keep SQLite from the index on streams: positions are what is walked.
            Filter::Category(category) => sqlx::query(
                "SELECT position, stream, version, hash, record FROM log
                 WHERE position > ? AND position <= ? AND +stream >= ? AND +stream < ? ORDER BY position LIMIT ?",
            )
            .bind(number(after))
            .bind(number(window))
            .bind(vec![first_byte(*category)])
            .bind(vec![first_byte(*category) + 1]),
            Filter::Stream(stream) => sqlx::query(
                "SELECT position, stream, version, hash, record FROM log
                 WHERE position > ? AND position <= ? AND stream = ? ORDER BY version LIMIT ?",
            )
            .bind(number(after))
            .bind(number(window))
            .bind(stream.key().to_vec()),
        };
        let rows = query.bind(BATCH).fetch_all(&self.readers).await.map_err(failed)?;
        let found = up_to_damage(&rows)?;
        let reached = match found.last() {
            Some(last) if found.len() == BATCH as usize || found.len() < rows.len() => last.position,
            _ => window,
        };
        Ok((found, reached))
    }
}

pub(super) fn subscribe(
    shared: Arc<Shared>,
    after: Position,
    filter: Filter,
) -> BoxStream<'static, Result<Recorded, ReadError>> {
    flat(stream::try_unfold((shared, after), move |(shared, mut after)| async move {
        loop {
            let end = shared.beyond(after).await?;
            let (found, reached) = match shared.tail.since(after, &filter) {
                Some(recent) => recent,
                None => shared.stored(after, end, &filter).await?,
            };
            after = reached;
            if !found.is_empty() {
                return Ok(Some((found, (shared, after)))) as Batches<_>;
            }
        }
    }))
}

pub(super) fn stream(
    shared: Arc<Shared>,
    stream: StreamId,
    from: Version,
) -> BoxStream<'static, Result<Recorded, ReadError>> {
    flat(stream::try_unfold((shared, Some(from.max(Version(1))), FIRST), move |(shared, from, batch)| async move {
        let Some(from) = from else { return Ok(None) };
        if let Some(recent) = shared.tail.of(&stream, from) {
            // A full batch may not be all there is.
            let next = recent.last().filter(|_| recent.len() >= BATCH as usize);
            let next = next.map(|last| last.record.header().version.next());
            return Ok(Some((recent, (shared, next, BATCH))));
        }
        let rows = sqlx::query(
            "SELECT position, stream, version, hash, record FROM log
             WHERE stream = ? AND version >= ? ORDER BY version LIMIT ?",
        )
        .bind(stream.key().to_vec())
        .bind(from.0.cast_signed())
        .bind(batch)
        .fetch_all(&shared.readers)
        .await
        .map_err(failed)?;
        let found = rows.iter().map(verified).collect::<Result<Vec<_>, _>>()?;
        for (wanted, recorded) in (from.0..).zip(&found) {
            if recorded.record.header().version.0 != wanted {
                let message = format!("version {wanted} of {stream}, which stands before this record, is missing");
                return Err(ReadError::Damaged { position: recorded.position, message });
            }
        }
        let next = (found.len() == batch as usize).then(|| Version(from.0 + u64::from(batch)));
        Ok(Some((found, (shared, next, BATCH)))) as Batches<_>
    }))
}

pub(super) async fn last(shared: &Shared, stream: &StreamId) -> Result<Option<Recorded>, ReadError> {
    if let Some(last) = shared.tail.last(stream) {
        return Ok(Some(last));
    }
    let row = sqlx::query(
        "SELECT position, stream, version, hash, record FROM log WHERE stream = ? ORDER BY version DESC LIMIT 1",
    )
    .bind(stream.key().to_vec())
    .fetch_optional(&shared.readers)
    .await
    .map_err(failed)?;
    row.as_ref().map(verified).transpose()
}

fn flat<S>(batches: S) -> BoxStream<'static, Result<Recorded, ReadError>>
where
    S: futures::TryStream<Ok = Vec<Recorded>, Error = ReadError> + Send + 'static,
{
    batches.map_ok(|batch| stream::iter(batch).map(Ok)).try_flatten().boxed()
}

/// The records before the first that is damaged; none before it, the damage.
fn up_to_damage(rows: &[SqliteRow]) -> Result<Vec<Recorded>, ReadError> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        match verified(row) {
            Ok(recorded) => found.push(recorded),
            Err(damage) if found.is_empty() => return Err(damage),
            Err(_) => break,
        }
    }
    Ok(found)
}

/// A row as the record that it must be.
fn verified(row: &SqliteRow) -> Result<Recorded, ReadError> {
    let at = position(row.try_get(0).map_err(failed)?);
    let damaged = |message: String| ReadError::Damaged { position: at, message };
    let bytes: Vec<u8> = row.try_get(4).map_err(failed)?;
    let hash = Hash::of(&bytes);
    if hash.0 != row.try_get::<&[u8], _>(3).map_err(failed)? {
        return Err(damaged("the record's bytes do not have the hash stored with them".to_owned()));
    }
    let record = Record::parse(bytes).map_err(|error| damaged(error.to_string()))?;
    let (key, version): (&[u8], i64) = (row.try_get(1).map_err(failed)?, row.try_get(2).map_err(failed)?);
    let header = record.header();
    if header.stream.key() != key || header.version.0.cast_signed() != version {
        let message = format!("{} version {} stands in another record's place", header.stream, header.version);
        return Err(damaged(message));
    }
    Ok(Recorded { position: at, hash, record: Arc::new(record) })
}

fn failed(error: sqlx::Error) -> ReadError {
    ReadError::Unavailable(unavailable(&STORE, error))
}

fn position(number: i64) -> Position {
    Position(number.cast_unsigned())
}

/// Positions beyond what SQLite can store are as good as its last.
fn number(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

fn first_byte(category: Category) -> u8 {
    StreamId::new(category, uuid::Uuid::nil()).key()[0]
}
