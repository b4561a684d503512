//! One consumer for all who follow the whole log in this process: near its end they share what it delivers, and each record is
//! sent, checked and parsed once. Who is further behind follows by a consumer of their own until they have caught up, and
//! does so again when they fall behind what is kept. Damage is not kept: whoever comes to it reads it from the server, where it
//! may have been mended.

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
    /// The position of the last record that was delivered. It is closed with what follows, whatever ends that.
    end: watch::Receiver<u64>,
    #[cfg_attr(not(test), expect(dead_code, reason = "held, so that it ends with the feed"))]
    following: AbortOnDropHandle<()>,
}

/// The log's last records.
#[derive(Debug, Default)]
struct Kept {
    run: Mutex<Run>,
}

#[derive(Debug)]
struct Run {
    entries: VecDeque<Recorded>,
    bytes: usize,
    /// Everything behind this position is here, as far as it was delivered.
    after: u64,
}

/// What is kept behind a position.
enum Behind {
    /// This comes next, and at least as much was kept before it as comes after it.
    Near(Recorded),
    /// This comes next, but may soon be dropped.
    Far(Recorded),
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
            if feed.end.has_changed().is_ok() {
                return feed;
            }
            tracing::warn!("what follows the log for all has ended; it begins anew");
        }
        let (kept, (to, end)) = (Arc::<Kept>::default(), watch::channel(0));
        let following = tokio::spawn(follow(Arc::downgrade(log), Arc::clone(&kept), to));
        let feed = Arc::new(Self { kept, end, following: AbortOnDropHandle::new(following) });
        *known = Arc::downgrade(&feed);
        feed
    }
}

/// Keeps what is delivered from the log's present end on, until the feed is dropped.
async fn follow(log: Weak<Shared>, kept: Arc<Kept>, to: watch::Sender<u64>) {
    let mut subscription = loop {
        let Some(log) = log.upgrade() else { return };
        match log.stream.end().await {
            Ok(end) => {
                kept.run().begin(end);
                to.send_replace(end);
                break Subscription::new(log, end, Filter::All);
            }
            Err(error) => tracing::debug!(%error, "the log's end is not known yet"),
        }
        tokio::time::sleep(PAUSE).await;
    };
    loop {
        match subscription.next().await {
            Ok(recorded) => kept.run().add(recorded),
            Err(_) => kept.run().begin(subscription.after()),
        }
        to.send_replace(subscription.after());
    }
}

impl Kept {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Run {
    /// Nothing is here before the log's end is known.
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, after: u64::MAX }
    }
}

impl Run {
    /// Nothing up to this position is here any more: it can only be had from the server.
    fn begin(&mut self, after: u64) {
        *self = Self { after, ..Self::default() };
    }

    fn add(&mut self, recorded: Recorded) {
        self.bytes += bytes(&recorded);
        self.entries.push_back(recorded);
        while self.entries.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(dropped) = self.entries.pop_front() else { return };
            self.bytes -= bytes(&dropped);
            self.after = dropped.position.0;
        }
    }

    fn behind(&self, after: u64) -> Behind {
        if after < self.after {
            return Behind::Lost;
        }
        let place = self.entries.partition_point(|entry| entry.position.0 <= after);
        match self.entries.get(place).cloned() {
            Some(recorded) if place >= self.entries.len() / 2 => Behind::Near(recorded),
            Some(recorded) => Behind::Far(recorded),
            None => Behind::Nothing,
        }
    }
}

fn bytes(recorded: &Recorded) -> usize {
    recorded.record.bytes().len()
}

/// One who follows the whole log.
pub(super) struct Follower {
    log: Arc<Shared>,
    /// The position of the last record that was delivered, or that it begins behind.
    after: u64,
    /// Once it follows, and whether there is more.
    feed: Option<(Arc<Feed>, watch::Receiver<u64>)>,
    /// From when it is behind what is kept until it is well within that again: who is slow would else make a consumer for each
    /// few records, and the server keeps each for a while.
    own: Option<Subscription>,
}

impl Follower {
    pub(super) fn new(log: Arc<Shared>, after: Position) -> Self {
        Self { log, after: after.0, feed: None, own: None }
    }

    pub(super) async fn next(&mut self) -> Result<Recorded, ReadError> {
        loop {
            let (feed, more) = self.feed.get_or_insert_with(|| {
                let feed = Feed::of(&self.log);
                let more = feed.end.clone();
                (feed, more)
            });
            more.mark_unchanged();
            let behind = feed.kept.run().behind(self.after);
            match (behind, &mut self.own) {
                (Behind::Near(recorded), _) | (Behind::Far(recorded), None) => {
                    (self.after, self.own) = (recorded.position.0, None);
                    return Ok(recorded);
                }
                (Behind::Nothing, _) => {
                    self.own = None;
                    if more.changed().await.is_err() {
                        // Until another has begun, it follows by a consumer of its own.
                        self.feed = None;
                    }
                }
                (Behind::Lost | Behind::Far(_), own) => {
                    let begin = || Subscription::new(Arc::clone(&self.log), self.after, Filter::All);
                    let own = own.get_or_insert_with(begin);
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
    use async_nats::HeaderMap;
    use lmao_events::{AnyEvent, Category, Hash, Head, Record, user};
    use lmao_ports::{
        EventLog as _,
        conformance::fixtures::{record, stream},
    };

    use super::*;
    use crate::nats::{
        log::{HASH, NatsLog},
        stream::Expect,
        testing,
    };

    fn event(head: &Head) -> Arc<Record> {
        record(stream(Category::User), head, &[AnyEvent::User(user::LoggedIn {}.into())])
    }

    fn entry(position: u64) -> Recorded {
        let record = event(&Head::default());
        Recorded { position: Position(position), hash: record.hash(), record }
    }

    fn next(run: &Run, after: u64) -> Option<u64> {
        match run.behind(after) {
            Behind::Near(recorded) | Behind::Far(recorded) => Some(recorded.position.0),
            Behind::Nothing => None,
            Behind::Lost => Some(0),
        }
    }

    #[test]
    fn what_is_kept_has_a_bound_and_no_gap() {
        let mut run = Run::default();
        run.begin(7);
        assert_eq!(next(&run, 6), Some(0), "it begins behind the seventh");
        assert_eq!(next(&run, 7), None);
        for position in 8..8 + KEPT as u64 {
            run.add(entry(position));
        }
        assert_eq!(next(&run, 7), Some(8));
        let last = 8 + KEPT as u64;
        run.add(entry(last));
        assert_eq!((next(&run, 7), next(&run, 8)), (Some(0), Some(9)));
        assert_eq!(next(&run, last), None);
        // One that is ahead of what was delivered waits for what comes.
        assert_eq!(next(&run, last + 5), None);
        assert_eq!(run.bytes, run.entries.iter().map(bytes).sum::<usize>());
        assert!(matches!(run.behind(8 + KEPT as u64 / 2), Behind::Near(_)));
        assert!(matches!(run.behind(7 + KEPT as u64 / 2), Behind::Far(_)));
        run.begin(last + 1);
        assert_eq!((next(&run, last), next(&run, last + 1), run.bytes), (Some(0), None, 0));
    }

    /// A log with so many records, and a feed that is to deliver what follows them.
    async fn begun(records: usize) -> (testing::Scratch, NatsLog, Arc<Feed>) {
        let nats = testing::migrated().await;
        let log = NatsLog::open(&nats).await.unwrap();
        grow(&log, records).await;
        let feed = Feed::of(&log.shared);
        feed.end.clone().wait_for(|end| *end == records as u64).await.unwrap();
        while feed.kept.run().after == u64::MAX {
            tokio::task::yield_now().await;
        }
        (nats, log, feed)
    }

    async fn grow(log: &NatsLog, records: usize) {
        for _ in 0..records {
            log.append(&Head::default(), event(&Head::default())).await.unwrap();
        }
    }

    async fn delivered(feed: &Feed, position: u64) {
        feed.end.clone().wait_for(|end| *end >= position).await.unwrap();
    }

    /// The position of the next record, or that of the damaged one.
    async fn follow_to(follower: &mut Follower) -> Result<u64, u64> {
        let next = tokio::time::timeout(Duration::from_secs(30), follower.next()).await;
        match next.expect("records keep coming") {
            Ok(recorded) => Ok(recorded.position.0),
            Err(ReadError::Damaged { position, .. }) => Err(position.0),
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn who_has_fallen_behind_keeps_a_consumer_until_well_within_what_is_kept() {
        let (_nats, log, feed) = begun(2).await;
        let mut follower = Follower::new(Arc::clone(&log.shared), Position(0));
        assert_eq!((follow_to(&mut follower).await, follow_to(&mut follower).await), (Ok(1), Ok(2)));
        grow(&log, 4).await;
        delivered(&feed, 6).await;
        for (position, alone) in [(3, true), (4, true), (5, false), (6, false)] {
            assert_eq!(follow_to(&mut follower).await, Ok(position));
            assert_eq!(follower.own.is_some(), alone, "{position}");
        }
        // Who did not fall behind needs none.
        let mut other = Follower::new(Arc::clone(&log.shared), Position(2));
        assert_eq!(follow_to(&mut other).await, Ok(3));
        assert!(other.own.is_none());
    }

    #[tokio::test]
    async fn damage_is_seen_by_each_as_the_server_has_it() {
        let (_nats, log, feed) = begun(0).await;
        let mut early = Follower::new(Arc::clone(&log.shared), Position(0));
        grow(&log, 1).await;
        assert_eq!(follow_to(&mut early).await, Ok(1));
        let foreign = event(&Head::default());
        let subject = log.shared.subject(&foreign.header().stream);
        let mut headers = HeaderMap::new();
        headers.insert(HASH, Hash::of(b"another").to_string());
        let payload = bytes::Bytes::copy_from_slice(foreign.bytes());
        let limit = log.shared.stream.limits().attempt;
        log.shared.stream.publish(&subject, headers, payload, Expect::Anything, limit).await.unwrap();
        delivered(&feed, 2).await;
        assert!(feed.kept.run().entries.is_empty());
        grow(&log, 1).await;
        delivered(&feed, 3).await;
        let mut late = Follower::new(Arc::clone(&log.shared), Position(1));
        for follower in [&mut early, &mut late] {
            assert_eq!((follow_to(follower).await, follow_to(follower).await), (Err(2), Ok(3)));
        }
    }

    #[tokio::test]
    async fn who_follows_goes_on_when_the_feed_has_ended() {
        let (_nats, log, feed) = begun(0).await;
        let [mut one, mut two] = [(); 2].map(|()| Follower::new(Arc::clone(&log.shared), Position(0)));
        grow(&log, 1).await;
        assert_eq!((follow_to(&mut one).await, follow_to(&mut two).await), (Ok(1), Ok(1)));
        // As a panic would end it.
        feed.following.abort();
        for position in 2..5 {
            grow(&log, 1).await;
            assert_eq!((follow_to(&mut one).await, follow_to(&mut two).await), (Ok(position), Ok(position)));
        }
        assert!(!Arc::ptr_eq(&feed, &Feed::of(&log.shared)), "another has begun");
    }
}
