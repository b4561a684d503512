//! The last records of the streams that this process writes to, as it wrote them. What was said a moment ago is read with
//! every turn of a conversation, and no record ever changes: those need not come from the server again.

use std::collections::{HashMap, VecDeque};

use lmao_events::{StreamId, Version};
use lmao_ports::Recorded;

/// Records of one stream.
const DEPTH: usize = 32;
/// Bytes of records of one stream: no stream of large ones drives out all others.
const RUN: usize = GENERATION / 8;
/// Bytes of records of one generation, exceeded by one run at most. Two generations are kept: what was not written to while
/// this much else was is forgotten.
const GENERATION: usize = 8 * 1024 * 1024;

/// Bounded, as [`crate::heads::Heads`] is.
#[derive(Debug, Default)]
pub(super) struct Written {
    young: HashMap<StreamId, VecDeque<Recorded>>,
    /// Bytes that were added to it, those of runs taken over from the older one too.
    bytes: usize,
    old: HashMap<StreamId, VecDeque<Recorded>>,
}

impl Written {
    /// This record was stored.
    pub(super) fn add(&mut self, recorded: Recorded) {
        let header = recorded.record.header();
        let stream = header.stream;
        let size = recorded.record.bytes().len();
        if self.bytes >= GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        let known = self.young.remove(&stream).or_else(|| {
            let run = self.old.remove(&stream)?;
            self.bytes += bytes(&run);
            Some(run)
        });
        // Where another process wrote in between, what was before says nothing of what stands in the gap.
        let mut run = known.filter(|run| run.back().is_some_and(|last| last.hash == header.prev)).unwrap_or_default();
        while run.len() >= DEPTH || (!run.is_empty() && bytes(&run) + size > RUN) {
            run.pop_front();
        }
        self.bytes += size;
        run.push_back(recorded);
        self.young.insert(stream, run);
    }

    /// The records of `stream` from version `from` on, as far as they are known: without a gap, none if the first is not known.
    pub(super) fn from(&self, stream: &StreamId, from: Version) -> Vec<Recorded> {
        let Some(run) = self.young.get(stream).or_else(|| self.old.get(stream)) else { return vec![] };
        let version = |recorded: &Recorded| recorded.record.header().version;
        if run.front().is_none_or(|first| version(first) > from) {
            return vec![];
        }
        run.iter().filter(|recorded| version(recorded) >= from).cloned().collect()
    }
}

fn bytes(run: &VecDeque<Recorded>) -> usize {
    run.iter().map(|recorded| recorded.record.bytes().len()).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lmao_events::{AnyEvent, Category, Head, Payload, Position, Record, user};
    use lmao_ports::conformance::fixtures::{header, key, record, stream};

    use super::*;

    fn recorded(record: Arc<Record>) -> Recorded {
        Recorded { position: Position(record.header().version.0 * 10), hash: record.hash(), record }
    }

    /// The next record of a stream, and its head.
    fn next(stream: StreamId, head: &mut Head) -> Recorded {
        let recorded = recorded(record(stream, head, &[AnyEvent::User(user::LoggedIn {}.into())]));
        *head = recorded.head();
        recorded
    }

    fn versions(written: &Written, stream: StreamId, from: u64) -> Vec<u64> {
        let found = written.from(&stream, Version(from));
        found.iter().map(|recorded| recorded.record.header().version.0).collect()
    }

    #[test]
    fn what_follows_without_a_gap_is_known() {
        let (mut written, stream, mut head) = (Written::default(), stream(Category::Session), Head::default());
        for _ in 0..3 {
            written.add(next(stream, &mut head));
        }
        assert_eq!(versions(&written, stream, 1), [1, 2, 3]);
        assert_eq!(versions(&written, stream, 3), [3]);
        assert!(versions(&written, stream, 4).is_empty());
        // The fourth is another process's.
        next(stream, &mut head);
        written.add(next(stream, &mut head));
        assert!(versions(&written, stream, 3).is_empty());
        assert_eq!(versions(&written, stream, 5), [5]);
    }

    #[test]
    fn it_is_bounded_and_who_goes_on_stays() {
        let (mut written, kept, mut head) = (Written::default(), stream(Category::Session), Head::default());
        let size = next(kept, &mut Head::default()).record.bytes().len();
        for n in 0..3 * GENERATION / size {
            if n % 1000 == 0 {
                written.add(next(kept, &mut head));
            }
            let other = stream(Category::Workflow);
            written.add(next(other, &mut Head::default()));
        }
        let last = head.version.0;
        assert!(last > DEPTH as u64, "the test is too short");
        assert_eq!(versions(&written, kept, last + 1 - DEPTH as u64).len(), DEPTH);
        assert!(versions(&written, kept, last - DEPTH as u64).is_empty());
        let slack = DEPTH * size;
        assert!(held(&written.young) <= GENERATION + slack && held(&written.old) <= GENERATION + slack);
    }

    fn held(streams: &HashMap<StreamId, VecDeque<Recorded>>) -> usize {
        streams.values().map(bytes).sum()
    }

    #[test]
    fn what_is_taken_over_from_the_older_generation_counts() {
        let mut written = Written::default();
        let size = next(stream(Category::Session), &mut Head::default()).record.bytes().len();
        let mut streams: Vec<_> =
            (0..2 * GENERATION / (DEPTH * size)).map(|_| (stream(Category::Session), Head::default())).collect();
        for _ in 0..DEPTH + 8 {
            for (stream, head) in &mut streams {
                written.add(next(*stream, head));
            }
            let slack = DEPTH * size;
            assert!(held(&written.young) <= GENERATION + slack && held(&written.old) <= GENERATION + slack);
        }
    }

    #[test]
    fn a_run_of_large_records_is_short() {
        let (mut written, stream) = (Written::default(), stream(Category::Session));
        let mut header = header(stream, &Head::default());
        // What carries the bytes does not matter here.
        header.traceparent = Some("0".repeat(RUN / 4));
        let payload = Payload { command: None, events: vec![] };
        for _ in 0..DEPTH {
            let sealed = Arc::new(Record::seal(header.clone(), &payload, &key(), [3; 24]).unwrap());
            (header.version, header.prev) = (header.version.next(), sealed.hash());
            written.add(recorded(sealed));
        }
        assert_eq!(versions(&written, stream, DEPTH as u64 - 2).len(), 3);
        assert!(bytes(&written.young[&stream]) <= RUN);
    }
}
