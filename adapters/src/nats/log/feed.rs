//! One consumer for all who follow the whole log in this process: near its end they share what it delivers, and each record is
//! sent, checked and parsed once. Who is further behind follows by a consumer of their own until they have caught up, and
//! does so again when they fall behind what is kept.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use lmao_events::Position;
use lmao_ports::{Filter, ReadError, Recorded};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Shared, subscribe::Subscription};

/// Records that are kept for those who are a little behind.
const KEPT: usize = 4096;
/// Bytes of them.
const KEPT_BYTES: usize = 16 * 1024 * 1024;
/// The pause before the log's end is looked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// What followers share; it ends with the last of them.
#[derive(Debug)]
pub(super) struct Feed {
    kept: Arc<Kept>,
    _following: AbortOnDropHandle<()>,
}

/// The log's last records.
#[derive(Debug)]
struct Kept {
    run: Mutex<Run>,
    /// The position of the last of them.
    end: watch::Sender<u64>,
}

#[derive(Debug)]
struct Run {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Everything behind this position is here, as far as it was delivered.
    after: u64,
}

/// A record, or what is wrong with it.
#[derive(Debug, Clone)]
struct Entry {
    position: u64,
    found: Result<Recorded, String>,
}

/// What is kept behind a position.
enum Behind {
    /// This comes next.
    Next(Entry),
    /// Nothing yet.
    Nothing,
    /// Not all of it.
    Lost,
}

impl Feed {
    /// That of this log; begun, if nobody follows it yet. Must be called within a runtime.
    pub(super) fn of(log: &Arc<Shared>) -> Arc<Self> {
        let mut known = log.feed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = known.upgrade() {
            return feed;
        }
        let run = Run { entries: VecDeque::new(), bytes: 0, after: u64::MAX };
        let kept = Arc::new(Kept { run: Mutex::new(run), end: watch::Sender::new(0) });
        let following = tokio::spawn(follow(Arc::downgrade(log), Arc::clone(&kept)));
        let feed = Arc::new(Self { kept, _following: AbortOnDropHandle::new(following) });
        *known = Arc::downgrade(&feed);
        feed
    }
}

/// Keeps what is delivered from the log's present end on, until the feed is dropped.
async fn follow(log: Weak<Shared>, kept: Arc<Kept>) {
    let mut subscription = loop {
        let Some(log) = log.upgrade() else { return };
        match log.stream.end().await {
            Ok(end) => {
                kept.begin(end);
                break Subscription::new(log, end, Filter::All);
            }
            Err(error) => tracing::debug!(%error, "the log's end is not known yet"),
        }
        tokio::time::sleep(PAUSE).await;
    };
    loop {
        let found = subscription.next().await;
        kept.add(Entry { position: subscription.after(), found: found.map_err(damage) });
    }
}

/// What a subscription says of a record is damage; nothing else ends up here.
fn damage(error: ReadError) -> String {
    match error {
        ReadError::Damaged { message, .. } => message,
        ReadError::Unavailable(error) => error.to_string(),
    }
}

impl Kept {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, end: u64) {
        self.run().after = end;
        self.end.send_replace(end);
    }

    fn add(&self, entry: Entry) {
        let position = entry.position;
        self.run().add(entry);
        self.end.send_replace(position);
    }
}

impl Run {
    fn add(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.entries.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(dropped) = self.entries.pop_front() else { return };
            self.bytes -= dropped.bytes();
            self.after = dropped.position;
        }
    }

    fn behind(&self, after: u64) -> Behind {
        if after < self.after {
            return Behind::Lost;
        }
        let place = self.entries.partition_point(|entry| entry.position <= after);
        self.entries.get(place).cloned().map_or(Behind::Nothing, Behind::Next)
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.found.as_ref().map_or(0, |recorded| recorded.record.bytes().len())
    }
}

/// One who follows the whole log.
pub(super) struct Follower {
    log: Arc<Shared>,
    /// The position of the last record that was delivered, or that it begins behind.
    after: u64,
    /// Once it follows, and whether there is more.
    feed: Option<(Arc<Feed>, watch::Receiver<u64>)>,
    /// While it is behind what is kept.
    own: Option<Subscription>,
}

impl Follower {
    pub(super) fn new(log: Arc<Shared>, after: Position) -> Self {
        Self { log, after: after.0, feed: None, own: None }
    }

    pub(super) async fn next(&mut self) -> Result<Recorded, ReadError> {
        let (feed, more) = self.feed.get_or_insert_with(|| {
            let feed = Feed::of(&self.log);
            let more = feed.kept.end.subscribe();
            (feed, more)
        });
        loop {
            more.mark_unchanged();
            let behind = feed.kept.run().behind(self.after);
            match behind {
                Behind::Next(entry) => {
                    (self.after, self.own) = (entry.position, None);
                    let position = Position(entry.position);
                    return entry.found.map_err(|message| ReadError::Damaged { position, message });
                }
                Behind::Nothing => {
                    self.own = None;
                    // It is never closed: the feed is held.
                    let _ = more.changed().await;
                }
                Behind::Lost => {
                    let begin = || Subscription::new(Arc::clone(&self.log), self.after, Filter::All);
                    let own = self.own.get_or_insert_with(begin);
                    let found = own.next().await;
                    self.after = own.after();
                    return found;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lmao_events::{AnyEvent, Category, Head, user};
    use lmao_ports::conformance::fixtures::{record, stream};

    use super::*;

    fn entry(position: u64) -> Entry {
        let record = record(stream(Category::User), &Head::default(), &[AnyEvent::User(user::LoggedIn {}.into())]);
        let recorded = Recorded { position: Position(position), hash: record.hash(), record };
        Entry { position, found: Ok(recorded) }
    }

    fn next(run: &Run, after: u64) -> Option<u64> {
        match run.behind(after) {
            Behind::Next(entry) => Some(entry.position),
            Behind::Nothing => None,
            Behind::Lost => Some(0),
        }
    }

    #[test]
    fn what_is_kept_has_a_bound_and_no_gap() {
        let mut run = Run { entries: VecDeque::new(), bytes: 0, after: 7 };
        assert_eq!(next(&run, 6), Some(0), "it begins behind the seventh");
        assert_eq!(next(&run, 7), None);
        for position in 8..8 + KEPT as u64 {
            run.add(entry(position));
        }
        assert_eq!(next(&run, 7), Some(8));
        run.add(Entry { position: 8 + KEPT as u64, found: Err("damaged".to_owned()) });
        assert_eq!((next(&run, 7), next(&run, 8)), (Some(0), Some(9)));
        let last = 8 + KEPT as u64;
        assert!(matches!(run.behind(last - 1), Behind::Next(Entry { found: Err(_), .. })));
        assert_eq!(next(&run, last), None);
        // One that is ahead of what was delivered waits for what comes.
        assert_eq!(next(&run, last + 5), None);
        assert_eq!(run.bytes, run.entries.iter().map(Entry::bytes).sum::<usize>());
    }
}
