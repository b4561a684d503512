//! The end of the log in memory: subscribers that keep up, and readers of streams that were written just now, take records
//! from here and never read them again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use lmao_events::{Position, StreamId, Version};
use lmao_ports::{Filter, Recorded};
use tokio::sync::watch;

/// Bytes of records that are kept.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Records that are kept.
const MAX_RECORDS: usize = 8 * 1024;
/// Records handed out at once.
const BATCH: usize = 512;

/// The last records, and where the log ends.
#[derive(Debug)]
pub(super) struct Tail {
    recent: Mutex<Recent>,
    end: watch::Sender<Position>,
}

#[derive(Debug, Default)]
struct Recent {
    records: VecDeque<Recorded>,
    bytes: usize,
    /// Where the records of each stream stand: without a gap up to the stream's last.
    of_stream: HashMap<StreamId, VecDeque<Position>>,
}

impl Recent {
    fn add(&mut self, recorded: Recorded) {
        self.bytes += recorded.record.bytes().len();
        self.of_stream.entry(recorded.record.header().stream).or_default().push_back(recorded.position);
        self.records.push_back(recorded);
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.records.pop_front() else { return };
        self.bytes -= oldest.record.bytes().len();
        let stream = oldest.record.header().stream;
        if let Some(positions) = self.of_stream.get_mut(&stream) {
            positions.pop_front();
            if positions.is_empty() {
                self.of_stream.remove(&stream);
            }
        }
    }

    fn at(&self, position: Position) -> Option<&Recorded> {
        let first = self.records.front()?.position.0;
        self.records.get(usize::try_from(position.0.checked_sub(first)?).ok()?)
    }
}

impl Tail {
    pub(super) fn new(end: Position) -> Self {
        Self { recent: Mutex::default(), end: watch::Sender::new(end) }
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> Position {
        *self.end.borrow()
    }

    /// Waits until the log ends beyond `position`.
    pub(super) async fn beyond(&self, position: Position) -> Position {
        let mut end = self.end.subscribe();
        // The sender is `self.end`, which outlives this call.
        end.wait_for(|end| *end > position).await.map_or(position, |end| *end)
    }

    /// Adds records that were just stored, in order and without a gap.
    pub(super) fn push(&self, stored: Vec<Recorded>) {
        let Some(last) = stored.last().map(|recorded| recorded.position) else { return };
        {
            let mut recent = self.recent();
            stored.into_iter().for_each(|recorded| recent.add(recorded));
            while recent.bytes > MAX_BYTES || recent.records.len() > MAX_RECORDS {
                recent.forget_oldest();
            }
        }
        self.end.send_replace(last);
    }

    /// The log ends at `end`, for reasons that were not seen here: forgets what is in memory.
    pub(super) fn jump(&self, end: Position) {
        *self.recent() = Recent::default();
        self.end.send_if_modified(|known| std::mem::replace(known, end) != end);
    }

    /// Records behind `after` that pass, and the position up to which that is all; `None` when some are no longer here.
    pub(super) fn since(&self, after: Position, filter: &Filter) -> Option<(Vec<Recorded>, Position)> {
        let recent = self.recent();
        let first = recent.records.front()?.position.0;
        let skip = usize::try_from((after.0 + 1).checked_sub(first)?).ok()?;
        let mut reached = after;
        let mut found = Vec::new();
        for recorded in recent.records.iter().skip(skip).take(BATCH) {
            reached = recorded.position;
            if filter.matches(&recorded.record.header().stream) {
                found.push(recorded.clone());
            }
        }
        Some((found, reached))
    }

    /// The records of `stream` from version `from` on; `None` when some of them, or all, may be no longer here.
    pub(super) fn of(&self, stream: &StreamId, from: Version) -> Option<Vec<Recorded>> {
        let recent = self.recent();
        let positions = recent.of_stream.get(stream)?;
        let first = recent.at(*positions.front()?)?.record.header().version;
        let skip = usize::try_from(from.0.checked_sub(first.0)?).ok()?;
        positions.iter().skip(skip).take(BATCH).map(|position| recent.at(*position).cloned()).collect()
    }

    /// The last record of `stream`, if it is here.
    pub(super) fn last(&self, stream: &StreamId) -> Option<Recorded> {
        let recent = self.recent();
        recent.at(*recent.of_stream.get(stream)?.back()?).cloned()
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // Nothing here panics half-way through a change.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use lmao_events::{Category, Head};
    use lmao_ports::conformance::fixtures;

    use super::*;

    /// Appends so many records to a stream whose head is known.
    fn grow(tail: &Tail, stream: StreamId, head: &mut Head, records: usize) {
        let grown = (0..records).map(|_| {
            let record = fixtures::record(stream, head, &[]);
            let position = Position(tail.end().0 + 1);
            let recorded = Recorded { position, hash: record.hash(), record };
            *head = recorded.head();
            tail.push(vec![recorded]);
        });
        grown.for_each(drop);
    }

    #[test]
    fn a_stream_is_here_from_its_first_remembered_record_on() {
        let tail = Tail::new(Position(0));
        let (old, cut) = (fixtures::stream(Category::Session), fixtures::stream(Category::Session));
        let (mut old_head, mut cut_head) = (Head::default(), Head::default());
        grow(&tail, old, &mut old_head, 1);
        assert_eq!(tail.of(&old, Version(1)).map(|found| found.len()), Some(1));
        grow(&tail, cut, &mut cut_head, MAX_RECORDS + 1);
        assert_eq!(tail.of(&old, Version(1)).map(|found| found.len()), None, "it was forgotten");
        assert!(tail.last(&old).is_none());
        assert_eq!(tail.of(&cut, Version(1)).map(|found| found.len()), None, "its beginning was forgotten");
        let last = cut_head.version;
        let found = tail.of(&cut, Version(last.0 - 1)).unwrap();
        assert_eq!(found.iter().map(|r| r.record.header().version.0).collect::<Vec<_>>(), [last.0 - 1, last.0]);
        assert_eq!(tail.of(&cut, last.next()).map(|found| found.len()), Some(0), "nothing is there yet");
        assert_eq!(tail.last(&cut).map(|last| last.head()), Some(cut_head));
        tail.jump(Position(9));
        assert!(tail.of(&cut, last).is_none() && tail.last(&cut).is_none());
    }
}
