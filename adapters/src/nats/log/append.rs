//! Appending: the fence, and what becomes of an append whose acknowledgement is lost.
//!
//! The server stores a record if its stream's last message has the expected sequence. Refused, or without an answer, the
//! same bytes are submitted again until the leader shows what stands at their version: they themselves, or another record.
//! That it shows nothing proves nothing: a delayed publish may still land.

use std::{cmp::Ordering, sync::Arc};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::StreamExt as _;
use lmao_events::{Hash, Head, MAX_RECORD_BYTES, Position, Record, StreamId};
use lmao_ports::{AppendError, ReadError, Unavailable};

use super::{HASH, STORE, Shared, read};
use crate::nats::{
    patience::Patience,
    stream::{Expect, Unpublished},
};

/// What the leader shows of the stream, seen from an append.
#[derive(Debug, Clone, Copy)]
enum Standing {
    /// The stream ends where it was expected to, with the message of this sequence.
    Expected(u64),
    /// The record is stored.
    Ours(Head),
    /// Another record stands at its version, or the stream never was as expected.
    Another,
    /// The stream ends before the expected version.
    Behind,
}

/// One append.
struct Append<'a> {
    log: &'a Arc<Shared>,
    stream: StreamId,
    subject: String,
    expected: &'a Head,
    record: &'a Record,
    hash: Hash,
    /// Whether some attempt may have been stored, or may yet be.
    submitted: bool,
}

pub(super) async fn append(log: &Arc<Shared>, expected: &Head, record: &Record) -> Result<Head, AppendError> {
    check(expected, record)?;
    let stream = record.header().stream;
    let (subject, hash) = (log.subject(&stream), record.hash());
    let append = Append { log, stream, subject, expected, record, hash, submitted: false };
    append.run().await
}

impl Append<'_> {
    async fn run(mut self) -> Result<Head, AppendError> {
        let limits = self.log.stream.limits();
        let mut patience = Patience::new(limits);
        let (headers, payload) = (headers(self.record, self.hash), Bytes::copy_from_slice(self.record.bytes()));
        let seen = self.seen();
        let (mut after, mut refused) = (seen, false);
        loop {
            let failed = match after {
                // What may be stored already is worth waiting for.
                _ if !patience.connected(self.log.stream.nats()).await && !self.submitted => {
                    return Err(self.gave_up(self.log.stream.away()));
                }
                _ if !self.log.stream.nats().is_connected() => self.log.stream.away(),
                None => match self.standing(&mut patience).await {
                    Ok(Standing::Expected(sequence)) => {
                        after = Some(sequence);
                        continue;
                    }
                    Ok(Standing::Ours(head)) => return Ok(head),
                    Ok(Standing::Another) => return Err(AppendError::Conflict),
                    // Nobody who has seen the expected record is told that it is not there: a leader may be behind, too.
                    Ok(Standing::Behind) if !self.submitted && seen.is_none() => return Err(AppendError::Conflict),
                    Ok(Standing::Behind) => self.behind(),
                    Err(ReadError::Unavailable(error)) => error,
                    Err(damaged @ ReadError::Damaged { .. }) => {
                        return Err(self.gave_up(Unavailable::new(STORE, "the stream's end cannot be read", damaged)));
                    }
                },
                Some(sequence) => {
                    let expect = Expect::Last(sequence);
                    let wait = patience.attempt();
                    let sent =
                        self.log.stream.publish(&self.subject, headers.clone(), payload.clone(), expect, wait).await;
                    match sent {
                        Ok(sequence) => return Ok(self.head(Position(sequence))),
                        // Refused once, it is looked into at once.
                        Err(Unpublished::Stale) if !refused => {
                            (after, refused) = (None, true);
                            continue;
                        }
                        Err(Unpublished::Refused(error)) => return Err(self.gave_up(error)),
                        Err(unpublished) => {
                            if matches!(unpublished, Unpublished::Stale) {
                                after = None;
                            }
                            self.submitted |= matches!(unpublished, Unpublished::Lost(_));
                            unpublished.into_unavailable()
                        }
                    }
                }
            };
            if !patience.again().await {
                return Err(self.gave_up(failed));
            }
        }
    }

    /// The sequence of the expected record, if it was seen in this log.
    fn seen(&self) -> Option<u64> {
        if self.expected.version.0 == 0 {
            return Some(0);
        }
        let known = self.log.known(&self.stream)?;
        (known.version == self.expected.version && known.hash == self.expected.hash).then_some(known.position.0)
    }

    async fn standing(&self, patience: &mut Patience) -> Result<Standing, ReadError> {
        let last = match self.log.stream.last_once(&self.subject, patience.attempt()).await? {
            Some(stored) => self.log.verified(stored)?.head(),
            None => Head::default(),
        };
        if last.version.0 > 0 {
            self.log.learn(&self.stream, last);
        }
        let ours = self.expected.version.next();
        Ok(match last.version.cmp(&self.expected.version) {
            Ordering::Less => Standing::Behind,
            Ordering::Equal if last.hash == self.expected.hash => Standing::Expected(last.position.0),
            Ordering::Equal => Standing::Another,
            Ordering::Greater if last.version == ours => self.compare(last),
            Ordering::Greater => {
                let hint = Some(self.expected.position);
                let mut records = read::stream(Arc::clone(self.log), self.stream, ours, hint);
                match records.next().await.transpose()? {
                    Some(found) => self.compare(found.head()),
                    None => return Err(self.behind().into()),
                }
            }
        })
    }

    /// What stands at the record's version.
    fn compare(&self, found: Head) -> Standing {
        if found.hash == self.hash { Standing::Ours(found) } else { Standing::Another }
    }

    fn head(&self, position: Position) -> Head {
        Head { version: self.expected.version.next(), position, hash: self.hash }
    }

    fn behind(&self) -> Unavailable {
        let message = format!("the log does not show {} as far as it was seen before; try again", self.stream);
        Unavailable::plain(STORE, message)
    }

    fn gave_up(&self, error: Unavailable) -> AppendError {
        if self.submitted { AppendError::Unknown(error) } else { AppendError::Unavailable(error) }
    }
}

fn headers(record: &Record, hash: Hash) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HASH, hash.to_string());
    // What is no header's value, W3C's is, belongs in the record only.
    if let Some(Ok(value)) = record.header().traceparent.as_ref().map(|text| text.parse::<async_nats::HeaderValue>()) {
        headers.insert("traceparent", value);
    }
    headers
}

/// What no stream could hold is refused before it is sent.
fn check(expected: &Head, record: &Record) -> Result<(), AppendError> {
    let header = record.header();
    let refused = |message: String| Err(AppendError::Unavailable(Unavailable::plain(STORE, message)));
    if header.version != expected.version.next() || header.prev != expected.hash {
        return refused(format!("the record does not continue {} at version {}", header.stream, expected.version));
    }
    if record.bytes().len() > MAX_RECORD_BYTES {
        return refused(format!("a record of {} bytes is over the limit of {MAX_RECORD_BYTES}", record.bytes().len()));
    }
    Ok(())
}
