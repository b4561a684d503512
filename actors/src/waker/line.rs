//! The line of streams to be woken: after a long stop there may be very many, and each becomes an actor with its effects.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use lmao_events::StreamId;
use tokio::time::Instant;

use super::{Wake, index::Index};

/// Streams that were woken and have not settled yet.
const AT_ONCE: usize = 128;
/// How long one counts as that: who takes longer, waits for something, and is in nobody's way.
const TURN: Duration = Duration::from_secs(5);
/// How often the line moves on.
const EVERY: Duration = Duration::from_millis(100);

/// First come, first woken; each at most once in it.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: VecDeque<StreamId>,
    known: HashSet<StreamId>,
    woken: HashMap<StreamId, Instant>,
}

impl Line {
    /// They are to be woken.
    pub(super) fn join(&mut self, streams: impl IntoIterator<Item = StreamId>) {
        for stream in streams {
            if self.known.insert(stream) {
                self.waiting.push_back(stream);
            }
        }
    }

    /// Wakes as many as there is room for, of those that owe something still.
    pub(super) fn advance(&mut self, index: &Index, wake: &dyn Wake) {
        self.woken.retain(|stream, since| since.elapsed() < TURN && index.owes(stream) && wake.is_live(*stream));
        while self.woken.len() < AT_ONCE {
            let Some(stream) = self.waiting.pop_front() else { return };
            self.known.remove(&stream);
            if index.owes(&stream) {
                wake.wake(stream);
                self.woken.insert(stream, Instant::now());
            }
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When to advance again, if anybody waits.
    pub(super) fn next(&self) -> Option<Duration> {
        (!self.waiting.is_empty()).then_some(EVERY)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use lmao_events::Category;
    use uuid::Uuid;

    use super::*;

    /// Actors that never end what they were woken for, and streams that get none.
    #[derive(Default)]
    struct Busy {
        woken: Mutex<Vec<StreamId>>,
        parked: HashSet<StreamId>,
    }

    impl Wake for Busy {
        fn wake(&self, stream: StreamId) {
            self.woken.lock().unwrap().push(stream);
        }

        fn is_live(&self, stream: StreamId) -> bool {
            !self.parked.contains(&stream)
        }
    }

    fn streams(n: u128) -> Vec<StreamId> {
        (0..n).map(|n| StreamId::new(Category::Document, Uuid::from_u128(n))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_awake_at_once_and_all_have_their_turn() {
        let streams = streams(3 * AT_ONCE as u128 + 7);
        let (index, wake, mut line) = (Index::owing(&streams), Busy::default(), Line::default());
        line.join(streams.clone());
        line.join(streams.clone());
        for turn in 1..=4 {
            line.advance(&index, &wake);
            line.advance(&index, &wake);
            assert_eq!(wake.woken.lock().unwrap().len(), streams.len().min(turn * AT_ONCE));
            tokio::time::advance(TURN).await;
        }
        assert_eq!(*wake.woken.lock().unwrap(), streams, "first come, first woken, once");
        assert_eq!(line.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wake_or_owes_nothing_any_more_takes_no_room() {
        let streams = streams(5 * AT_ONCE as u128);
        let (parked, rest) = streams.split_at(3 * AT_ONCE);
        let (settled, owing) = rest.split_at(AT_ONCE);
        let index = Index::owing(&[parked, owing].concat());
        let wake = Busy { parked: parked.iter().copied().collect(), ..Busy::default() };
        let mut line = Line::default();
        line.join(streams.clone());
        for _ in 0..4 {
            line.advance(&index, &wake);
        }
        let woken = wake.woken.lock().unwrap();
        assert_eq!(woken[parked.len()..], *owing);
        assert!(settled.iter().all(|stream| !woken.contains(stream)));
    }
}
