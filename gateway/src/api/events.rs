//! The log itself, for administrators: its records as lines of JSON, stored ones and, if wanted, those that follow.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, future, stream::BoxStream};
use lmao_events::{Category, Owes, Position, StreamId, Timestamp, Version};
use lmao_ports::{Committed, Filter, ReadError, Unreadable};
use poem::{
    Body, IntoResponse, Response,
    http::{HeaderValue, header},
};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Query},
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{Any, Type},
};
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use uuid::Uuid;

use super::Tag;
use crate::{
    app::{App, date},
    context::Admin,
    error::ApiError,
    position,
};

/// Records of one answer, unless asked otherwise, and at most; a followed log has no end.
const LIMIT: u64 = 1000;
const MAX_LIMIT: u64 = 100_000;
/// An empty line this often tells a follower that the log is only quiet.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A record of the log.
#[derive(Debug, Object, Serialize)]
struct EventRecord {
    position: u64,
    stream: String,
    version: u64,
    id: Uuid,
    time: DateTime<Utc>,
    /// The person who asked for it; `null` when the system did.
    #[oai(nullable)]
    who: Option<Uuid>,
    causation: Uuid,
    correlation: Uuid,
    /// BLAKE3 of the record, hexadecimal.
    hash: String,
    /// That of the stream's record before it; zeros in the first.
    prev: String,
    /// `nothing`, `now`, or the time from which the stream owes something.
    owes: String,
    /// What was decided; absent once its person was erased, and when it is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<EventBody>>,
    /// The person was erased: nobody can read it any more; left out where that is not so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[oai(default)]
    erased: bool,
    /// Why it cannot be read although nobody was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
}

/// An event.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Event")]
struct EventBody {
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    kind: String,
    data: Any<Value>,
}

impl From<Committed> for EventRecord {
    fn from(commit: Committed) -> Self {
        let Committed { position, hash, header, events } = commit;
        let shown = |events: Vec<lmao_events::AnyEvent>| {
            events.iter().map(|event| EventBody { kind: event.name().to_owned(), data: Any(event.to_json()) }).collect()
        };
        let (events, erased, damaged) = match events {
            Ok(events) => (Some(shown(events)), false, None),
            Err(Unreadable::Erased) => (None, true, None),
            Err(Unreadable::Damaged(how)) => (None, false, Some(how)),
        };
        Self {
            position: position.0,
            stream: header.stream.to_string(),
            version: header.version.0,
            id: header.id.0,
            time: date(header.time),
            who: header.who,
            causation: header.causation,
            correlation: header.correlation,
            hash: hash.to_string(),
            prev: header.prev.to_string(),
            owes: match header.owes {
                Owes::Nothing => "nothing".to_owned(),
                Owes::Now => "now".to_owned(),
                Owes::At(time) => shown_time(time),
            },
            events,
            erased,
            damaged,
        }
    }
}

fn shown_time(time: Timestamp) -> String {
    date(time).to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// Lines of JSON, as they come.
struct Lines(Body);

impl IntoResponse for Lines {
    fn into_response(self) -> Response {
        let mut response = Response::builder().content_type("application/x-ndjson").body(self.0);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        response
    }
}

impl ApiResponse for Lines {
    fn meta() -> MetaResponses {
        let content = vec![MetaMediaType { content_type: "application/x-ndjson", schema: EventRecord::schema_ref() }];
        let description = "One record on each line; empty lines mean nothing.";
        let response = MetaResponse { description, status: Some(200), status_range: None, content, headers: vec![] };
        MetaResponses { responses: vec![response] }
    }

    fn register(registry: &mut Registry) {
        EventRecord::register(registry);
    }
}

/// Which records are wanted.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    filter: Filter,
    after: Position,
    limit: usize,
}

super::routes! {
    /// `/admin/events`
    Events
}

#[OpenApi(tag = "Tag::Administration")]
impl Events {
    /// Read the log
    ///
    /// One JSON record on each line, in the order of the log. With `follow`, the answer goes on with what is recorded
    /// later; an empty line every 15 seconds says that it is only quiet.
    #[oai(path = "/admin/events", method = "get", operation_id = "read_events")]
    async fn read(
        &self,
        _admin: Admin,
        /// A stream (`session/0190…`) or a category (`session`); all unless given.
        stream: Query<Option<String>>,
        /// Only records behind this position: a number, or an `LMAO-Position`.
        after: Query<Option<String>>,
        /// Records at most: 1 to 100000, 1000 unless given; without end when followed.
        limit: Query<Option<u64>>,
        /// Go on with what is recorded later.
        follow: Query<Option<bool>>,
        /// See at least this state.
        #[oai(name = "LMAO-Position")]
        position: Header<Option<String>>,
    ) -> Result<Lines, ApiError> {
        let app = self.app()?;
        // The log is what everything else catches up with: only the position's form can be wrong.
        position.0.as_deref().map(|text| position::parse(app.log, text)).transpose()?;
        let follow = follow.0.unwrap_or(false);
        let wanted = wanted(app, stream.0.as_deref(), after.0.as_deref(), limit.0, follow)?;
        if !follow {
            let records = stored(app, wanted).await?;
            return Ok(Lines(Body::from_bytes_stream(lines(records))));
        }
        let full = |_| {
            let text = "too many follow the log; try again when one of them has ended";
            ApiError::passing("overloaded", text, Duration::from_secs(10))
        };
        let place = app.gates.followers.clone().try_acquire_owned().map_err(full)?;
        Ok(Lines(Body::from_bytes_stream(followed(app, wanted, place))))
    }
}

fn wanted(
    app: &App,
    stream: Option<&str>,
    after: Option<&str>,
    limit: Option<u64>,
    follow: bool,
) -> Result<Wanted, ApiError> {
    let bad = |name: &str, text: String| ApiError::bad_request("bad_parameter", text).with("parameter", name);
    let filter = match stream.filter(|stream| !stream.is_empty()) {
        None => Filter::All,
        Some(text) if text.contains('/') => {
            Filter::Stream(text.parse::<StreamId>().map_err(|error| bad("stream", error.to_string()))?)
        }
        Some(text) => Filter::Category(text.parse::<Category>().map_err(|error| bad("stream", error.to_string()))?),
    };
    let after = match after.filter(|after| !after.is_empty()) {
        None => Position(0),
        Some(text) if text.contains(':') => position::parse(app.log, text)?,
        Some(text) => text.parse().map(Position).map_err(|_| bad("after", "after is a position".to_owned()))?,
    };
    let unlimited = if follow { u64::MAX } else { LIMIT };
    let limit = limit.unwrap_or(unlimited);
    if limit == 0 || (limit > MAX_LIMIT && !follow) {
        return Err(bad("limit", format!("limit is a number from 1 to {MAX_LIMIT}")));
    }
    Ok(Wanted { filter, after, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
}

type Records = BoxStream<'static, Result<Committed, ReadError>>;

/// What the log holds now.
async fn stored(app: &App, wanted: Wanted) -> Result<Records, ApiError> {
    let Wanted { filter, after, limit } = wanted;
    let journal = &app.state.journal;
    let tail = journal.tail().await?;
    let records: Records = match filter {
        Filter::Stream(stream) => journal.read(stream, Version(1)),
        // Followed as a whole and cut at today's end: the end of a part of the log could not be told.
        Filter::All | Filter::Category(_) if after < tail => until(tail, journal.follow(after, Filter::All)),
        Filter::All | Filter::Category(_) => futures::stream::empty().boxed(),
    };
    let fits = move |record: &Result<Committed, ReadError>| {
        future::ready(record.as_ref().map_or(true, |commit| {
            commit.position > after && commit.position <= tail && filter.matches(&commit.header.stream)
        }))
    };
    Ok(records.filter(fits).take(limit).boxed())
}

/// The records up to the one at `tail`: the one behind it may never come.
fn until(tail: Position, records: Records) -> Records {
    let next = move |(mut records, ended): (Records, bool)| async move {
        if ended {
            return None;
        }
        let record = records.next().await?;
        let ended = record.as_ref().map_or(true, |commit| commit.position >= tail);
        Some((record, (records, ended)))
    };
    futures::stream::unfold((records, false), next).boxed()
}

/// One line for each record; the first failure ends it, named.
fn lines(records: Records) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    records.map(line)
}

fn line(record: Result<Committed, ReadError>) -> std::io::Result<Bytes> {
    let record = record.map_err(std::io::Error::other)?;
    let mut line = serde_json::to_vec(&EventRecord::from(record)).map_err(std::io::Error::other)?;
    line.push(b'\n');
    Ok(line.into())
}

/// What the log holds and will hold, until the client leaves or the process ends.
fn followed(
    app: &App,
    wanted: Wanted,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let records = app.state.journal.follow(wanted.after, wanted.filter).take(wanted.limit).map(line).map(Some);
    // The end of the records ends the answer; quiet lines alone do not keep it open.
    let records = records.chain(futures::stream::iter([None]));
    let start = Instant::now() + KEEP_ALIVE;
    let quiet = futures::stream::unfold(tokio::time::interval_at(start, KEEP_ALIVE), |mut ticks| async move {
        ticks.tick().await;
        Some((Some(Ok(Bytes::from_static(b"\n"))), ticks))
    });
    let closing = app.closing.clone().cancelled_owned();
    let token = app.tasks.token();
    futures::stream::select(records, quiet)
        .take_while(|line| future::ready(line.is_some()))
        .filter_map(future::ready)
        .take_until(closing)
        .inspect(move |_| {
            let _held_while_it_runs = (&place, &token);
        })
}
