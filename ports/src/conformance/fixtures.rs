//! What the suites are fed with: sealed records for logs, opened commits for projections.

use std::{collections::HashMap, sync::Arc};

use lmao_events::{
    Answer, AnyEvent, BlobRef, CODEC, Category, Citation, CommitId, ContentHash, DataKey, Hash, Head, Header,
    NONCE_BYTES, Owes, Payload, Position, Record, StreamId, Timestamp, TokenUsage,
};
use uuid::Uuid;

use crate::{Committed, Unreadable};

/// The key that every record of the suites is sealed with.
#[must_use]
pub const fn key() -> DataKey {
    DataKey::new([7; 32])
}

/// A stream that nobody has used.
#[must_use]
pub fn stream(category: Category) -> StreamId {
    StreamId::new(category, Uuid::new_v4())
}

/// The header of the commit behind `head`.
#[must_use]
pub fn header(stream: StreamId, head: &Head) -> Header {
    let version = head.version.next();
    Header {
        id: CommitId(Uuid::new_v4()),
        stream,
        version,
        codec: CODEC,
        time: time(version.0),
        who: None,
        key: stream.id,
        causation: Uuid::nil(),
        correlation: Uuid::nil(),
        traceparent: None,
        prev: head.hash,
        owes: Owes::Nothing,
    }
}

/// A moment, this many seconds after a day in 2025.
#[must_use]
pub const fn time(seconds: u64) -> Timestamp {
    Timestamp((1_750_000_000 + seconds as i64) * 1_000_000)
}

/// A record behind `head` with these events; another one each time.
///
/// # Panics
/// When the events are too large for one record.
#[must_use]
pub fn record(stream: StreamId, head: &Head, events: &[AnyEvent]) -> Arc<Record> {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    let payload = Payload { command: None, events: events.iter().map(AnyEvent::encode).collect() };
    Arc::new(Record::seal(header(stream, head), &payload, &key(), nonce).expect("a small record"))
}

/// A person, a document, a message: anything with a number.
#[must_use]
pub const fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// A blob.
#[must_use]
pub const fn blob(n: u8) -> BlobRef {
    BlobRef { sha256: ContentHash([n; 32]), size: n as u64 * 1000 + 1 }
}

/// An answer with one citation.
#[must_use]
pub fn answer(text: &str) -> Answer {
    let citation = Citation {
        n: 1,
        document_id: id(31),
        chunk_id: id(32),
        filename: "ownership.html".to_owned(),
        page_number: Some(4),
        section: Some("Ownership > Moves".to_owned()),
        quote: "each value has an owner".to_owned(),
        start: 120,
        end: 143,
        score: 0.75,
    };
    Answer {
        text: text.to_owned(),
        citations: vec![citation],
        model: "extractive".to_owned(),
        usage: Some(TokenUsage { prompt: 900, completion: 40 }),
        grounded: true,
        notices: vec!["semantic search is off".to_owned()],
    }
}

/// A log that exists in memory only: opened commits, for projections.
#[derive(Debug, Default)]
pub struct History {
    /// What was committed, in order.
    pub commits: Vec<Committed>,
    heads: HashMap<StreamId, Head>,
}

impl History {
    /// Adds a commit. Positions have gaps, as in some logs; each commit is a second after the one before.
    pub fn commit(&mut self, stream: StreamId, events: impl IntoIterator<Item = AnyEvent>) {
        self.add(stream, Ok(events.into_iter().collect()));
    }

    /// Adds a commit of somebody who was erased.
    pub fn erased(&mut self, stream: StreamId) {
        self.add(stream, Err(Unreadable::Erased));
    }

    /// The position of the last commit.
    #[must_use]
    pub fn end(&self) -> Position {
        self.commits.last().map_or(Position(0), |commit| commit.position)
    }

    fn add(&mut self, stream: StreamId, events: Result<Vec<AnyEvent>, Unreadable>) {
        let head = self.heads.entry(stream).or_default();
        let position = Position(3 * (self.commits.len() as u64 + 1));
        let header = Header { time: time(position.0 / 3), ..header(stream, head) };
        let hash = Hash::of(header.id.0.as_bytes());
        *head = Head { version: header.version, position, hash };
        self.commits.push(Committed { position, hash, header, events });
    }
}
