//! Reading one stream: what this process wrote lately from memory, the rest by batched direct gets from where it is known to
//! go on, which one replica answers, and from the leader whatever that replica does not have yet.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use lmao_events::{Hash, Position, StreamId, Version};
use lmao_ports::{ReadError, Recorded, Unavailable};

use super::{STORE, Shared};
use crate::nats::stream::Stored;

/// Records read first: most readers need the last few.
const FIRST: usize = 16;
/// Records read at once after that.
const BATCH: usize = 128;

/// The records of `stream` from version `from` on. `hint` may be the position of that version, or anything else.
pub(super) fn stream(
    log: Arc<Shared>,
    stream: StreamId,
    from: Version,
    hint: Option<Position>,
) -> BoxStream<'static, Result<Recorded, ReadError>> {
    let reader = Reader::new(log, stream, from, hint);
    stream::try_unfold(reader, |mut reader| async move {
        let found = reader.batch().await?;
        Ok::<_, ReadError>(found.map(|found| (found, reader)))
    })
    .map_ok(|batch| stream::iter(batch).map(Ok))
    .try_flatten()
    .boxed()
}

/// What a message is to the reader.
enum Taken {
    /// It stands before what is wanted.
    Skipped,
    /// The next record.
    Next(Recorded),
    /// It stands behind what is wanted, and so does the place where reading began.
    TooFar,
}

struct Reader {
    log: Arc<Shared>,
    stream: StreamId,
    subject: String,
    /// The version that comes next.
    wanted: Version,
    /// The hash of the record before it, once one was read.
    before: Option<Hash>,
    /// The sequence to go on from.
    at: u64,
    /// Whether what is wanted surely does not stand before that.
    sure: bool,
    size: usize,
    ended: bool,
}

impl Reader {
    fn new(log: Arc<Shared>, stream: StreamId, from: Version, hint: Option<Position>) -> Self {
        let known = log.known(&stream);
        let (at, sure) = match (known, hint) {
            (Some(known), _) if from == known.version => (known.position.0, true),
            (Some(known), _) if from > known.version => (known.position.0 + 1, true),
            (_, Some(hint)) if from > Version(1) && hint.0 > 1 => (hint.0, false),
            _ => (1, true),
        };
        let subject = log.subject(&stream);
        Self { log, stream, subject, wanted: from, before: None, at, sure, size: FIRST, ended: false }
    }

    /// The next records; `None` behind the last.
    async fn batch(&mut self) -> Result<Option<Vec<Recorded>>, ReadError> {
        if let Some(found) = self.remembered() {
            return Ok(Some(found));
        }
        while !self.ended {
            let batch = self.log.stream.batch(&self.subject, self.at, self.size).await?;
            self.size = BATCH;
            let Some(mut found) = self.take_all(batch.messages)? else { continue };
            if !batch.more {
                if !self.lagging(&mut found).await? {
                    continue;
                }
                if found.is_empty() && !self.sure {
                    self.restart();
                    continue;
                }
                self.ended = true;
            }
            if let Some(last) = found.last() {
                self.log.learn(&self.stream, last.head());
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What this process wrote itself, from the very first that is wanted on.
    fn remembered(&mut self) -> Option<Vec<Recorded>> {
        if self.before.is_some() {
            return None;
        }
        let found = self.log.written().from(&self.stream, self.wanted);
        let last = found.last()?.head();
        (self.wanted, self.before) = (last.version.next(), Some(last.hash));
        (self.at, self.sure) = (last.position.0 + 1, true);
        Some(found)
    }

    /// The wanted records among these; `None` when reading begins anew.
    fn take_all(&mut self, messages: Vec<Stored>) -> Result<Option<Vec<Recorded>>, ReadError> {
        let mut found = Vec::with_capacity(messages.len());
        for stored in messages {
            match self.take(stored) {
                Ok(Taken::Next(recorded)) => found.push(recorded),
                Ok(Taken::Skipped) => {}
                Ok(Taken::TooFar) => {
                    self.restart();
                    return Ok(None);
                }
                Err(damage) => return Err(damage),
            }
        }
        Ok(Some(found))
    }

    /// Adds what was seen in the log before and the replica does not have yet; whether reading goes on from there.
    async fn lagging(&mut self, found: &mut Vec<Recorded>) -> Result<bool, ReadError> {
        while self.log.known(&self.stream).is_some_and(|known| known.version >= self.wanted) {
            let Some(stored) = self.log.stream.next(&self.subject, self.at).await? else {
                if !self.sure {
                    break;
                }
                let message = format!("the log does not show {} as far as it was seen before; try again", self.stream);
                return Err(Unavailable::plain(STORE, message).into());
            };
            match self.take(stored)? {
                Taken::Next(recorded) => found.push(recorded),
                Taken::Skipped => {}
                Taken::TooFar => {
                    self.restart();
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The place that was hinted at was none.
    fn restart(&mut self) {
        (self.at, self.sure, self.before) = (1, true, None);
    }

    fn take(&mut self, stored: Stored) -> Result<Taken, ReadError> {
        self.at = stored.sequence + 1;
        let recorded = self.log.verified(stored)?;
        let header = recorded.record.header();
        if header.version < self.wanted {
            self.before = Some(recorded.hash);
            return Ok(Taken::Skipped);
        }
        if header.version > self.wanted && !self.sure {
            return Ok(Taken::TooFar);
        }
        let damaged = |message: String| ReadError::Damaged { position: recorded.position, message };
        if header.version > self.wanted {
            let message =
                format!("version {} of {}, which stands before this record, is missing", self.wanted, self.stream);
            return Err(damaged(message));
        }
        if self.before.is_some_and(|before| before != header.prev) {
            return Err(damaged(format!(
                "version {} of {} does not continue the one before",
                header.version, self.stream
            )));
        }
        (self.wanted, self.before, self.sure) = (self.wanted.next(), Some(recorded.hash), true);
        Ok(Taken::Next(recorded))
    }
}
