//! The log on a real server that behaves: the port's promises, other logs' positions, damage.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use lmao_events::{AnyEvent, Category, Hash, Head, Position, Record, StreamId, Version, user};
use lmao_ports::{
    AppendError, EventLog, Filter, ReadError, Recorded,
    conformance::{
        fixtures::{record, stream},
        log as suite,
    },
};

use super::*;
use crate::nats::{stream::Expect, testing};

fn next(stream: StreamId, head: &Head) -> Arc<Record> {
    record(stream, head, &[AnyEvent::User(user::LoggedIn {}.into())])
}

async fn grow(log: &NatsLog, stream: StreamId, mut head: Head, commits: usize) -> Head {
    for _ in 0..commits {
        head = log.append(&head, next(stream, &head)).await.unwrap();
    }
    head
}

async fn versions(records: BoxStream<'static, Result<Recorded, ReadError>>) -> Vec<u64> {
    records.map_ok(|recorded| recorded.record.header().version.0).try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_every_log_promises() {
    let nats = testing::migrated().await;
    suite::all(async || Arc::new(NatsLog::open(&nats).await.unwrap()) as Arc<dyn EventLog>).await;
    suite::a_reopened_log_keeps_everything(async || Arc::new(NatsLog::open(&nats).await.unwrap()) as Arc<dyn EventLog>)
        .await;
}

#[tokio::test]
async fn a_log_that_was_not_made_says_what_to_do() {
    let nats = testing::empty().await;
    let error = NatsLog::open(&nats).await.unwrap_err();
    assert!(error.to_string().contains("lmao migrate"), "{error}");
}

/// Copied records keep their heads' versions and hashes; the positions are another log's.
#[tokio::test]
async fn positions_of_another_log_mean_nothing() {
    let nats = testing::migrated().await;
    let (log, other, stream) = (NatsLog::open(&nats).await.unwrap(), stream(Category::User), stream(Category::User));
    grow(&log, other, Head::default(), 3).await;
    let head = grow(&log, stream, Head::default(), 20).await;
    let first = log.last(&other).await.unwrap().unwrap().head();
    for position in [0, 1, first.position.0, head.position.0 - 7, head.position.0, head.position.0 + 5, 1 << 40] {
        // Without what this process has seen, as after a start.
        let fresh = NatsLog::open(&nats).await.unwrap();
        let moved = Head { position: Position(position), ..head };
        assert_eq!(versions(fresh.read_from(&stream, &moved)).await, [20], "{position}");
        let fresh = NatsLog::open(&nats).await.unwrap();
        let early = Head { version: Version(5), position: Position(position), hash: Hash::default() };
        assert!(versions(fresh.read_from(&stream, &early)).await.into_iter().eq(5..=20), "{position}");
        let fresh = NatsLog::open(&nats).await.unwrap();
        let nobody = testing_stream();
        assert!(versions(fresh.read_from(&nobody, &moved)).await.is_empty());
    }
    let fresh = NatsLog::open(&nats).await.unwrap();
    // The position of a record of this very stream, but not of the one that is named.
    let moved = Head { position: Position(head.position.0 - 1), ..head };
    let new = fresh.append(&moved, next(stream, &moved)).await.unwrap();
    assert_eq!(new.version, Version(21));
    let stale = Head { position: new.position, ..head };
    let refused = fresh.append(&stale, next(stream, &stale)).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
}

fn testing_stream() -> StreamId {
    stream(Category::Claim)
}

#[tokio::test]
async fn two_processes_never_fork_a_stream() {
    let nats = testing::migrated().await;
    let (one, two) = (NatsLog::open(&nats).await.unwrap(), NatsLog::open(&nats).await.unwrap());
    let stream = stream(Category::Session);
    let head = grow(&one, stream, Head::default(), 2).await;
    let other = two.append(&head, next(stream, &head)).await.unwrap();
    let refused = one.append(&head, next(stream, &head)).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
    grow(&one, stream, other, 1).await;
    assert_eq!(versions(two.read(&stream, Version(1))).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn damage_is_noticed_and_subscribers_go_on_behind_it() {
    let nats = testing::migrated().await;
    let log = NatsLog::open(&nats).await.unwrap();
    let stream = stream(Category::Session);
    let head = grow(&log, stream, Head::default(), 2).await;
    // What somebody else put there: a record that has not the hash that goes with it, then one of another stream.
    let foreign = next(testing_stream(), &Head::default());
    let subject = log.shared.subject(&stream);
    let mut after = head.position.0;
    for hash in [Hash::of(b"another"), foreign.hash()] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(HASH, hash.to_string());
        let payload = bytes::Bytes::copy_from_slice(foreign.bytes());
        let sent = log.shared.stream.publish(
            &subject,
            headers,
            payload,
            Expect::Last(after),
            log.shared.stream.limits().attempt,
        );
        after = sent.await.unwrap();
    }
    let other = testing_stream();
    grow(&log, other, Head::default(), 1).await;

    let damaged = |found: Result<Recorded, ReadError>, offset: u64| match found {
        Err(ReadError::Damaged { position, .. }) => assert_eq!(position.0, head.position.0 + offset),
        found => panic!("{found:?}"),
    };
    let fresh = NatsLog::open(&nats).await.unwrap();
    damaged(log.last(&stream).await.map(|_| unreachable!("it is damaged")), 2);
    damaged(fresh.read(&stream, Version(1)).collect::<Vec<_>>().await.pop().unwrap(), 1);
    let mut all = fresh.subscribe(Position(head.position.0 - 1), Filter::All);
    assert_eq!(all.next().await.unwrap().unwrap().head(), head);
    damaged(all.next().await.unwrap(), 1);
    damaged(all.next().await.unwrap(), 2);
    assert_eq!(all.next().await.unwrap().unwrap().record.header().stream, other);
    let refused = fresh.append(&head, next(stream, &head)).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn the_trace_goes_along() {
    let nats = testing::migrated().await;
    let log = NatsLog::open(&nats).await.unwrap();
    let stream = stream(Category::Session);
    let mut header = lmao_ports::conformance::fixtures::header(stream, &Head::default());
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    header.traceparent = Some(traceparent.to_owned());
    let payload = lmao_events::Payload { command: None, events: vec![] };
    let key = lmao_ports::conformance::fixtures::key();
    let record = Arc::new(Record::seal(header, &payload, &key, [3; 24]).unwrap());
    log.append(&Head::default(), record).await.unwrap();
    let stored = log.shared.stream.last(&log.shared.subject(&stream)).await.unwrap().unwrap();
    assert_eq!(stored.headers.get("traceparent").map(|value| value.as_str()), Some(traceparent));
}

/// How many consumers the log has on its server.
async fn consumers(log: &NatsLog) -> usize {
    log.shared.stream.handle().get_info().await.unwrap().state.consumer_count
}

#[tokio::test]
async fn followers_of_one_process_share_what_is_delivered() {
    let nats = testing::migrated().await;
    let (log, stream) = (NatsLog::open(&nats).await.unwrap(), stream(Category::Session));
    let other = NatsLog::open(&nats).await.unwrap();
    let mut head = grow(&log, stream, Head::default(), 5).await;
    let mut followers: Vec<_> = [0, 3, 5].map(|after| (after, log.subscribe(Position(after), Filter::All))).into();
    for _ in 0..3 {
        // The next commit is another process's.
        head = grow(&other, stream, head, 1).await;
        head = grow(&log, stream, head, 1).await;
        for (after, follower) in &mut followers {
            while *after < head.position.0 {
                *after += 1;
                assert_eq!(follower.next().await.unwrap().unwrap().position, Position(*after));
            }
        }
    }
    // Those that caught up by themselves are gone as soon as the server hears of it.
    let begun = std::time::Instant::now();
    while consumers(&log).await > 1 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "each has a consumer of its own");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    drop(followers.remove(0));
    head = grow(&log, stream, head, 1).await;
    assert_eq!(followers[0].1.next().await.unwrap().unwrap().head(), head);
    drop(followers);
    let mut late = log.subscribe(Position(head.position.0 - 1), Filter::All);
    assert_eq!(late.next().await.unwrap().unwrap().head(), head, "a feed begins anew");
}

#[tokio::test]
async fn what_this_process_wrote_and_what_others_did_reads_as_one() {
    let nats = testing::migrated().await;
    let (log, other) = (NatsLog::open(&nats).await.unwrap(), NatsLog::open(&nats).await.unwrap());
    let stream = stream(Category::Session);
    let mut head = Head::default();
    for turn in 0_u64..6 {
        let (writer, reader) = if turn % 2 == 0 { (&log, &other) } else { (&other, &log) };
        head = grow(writer, stream, head, 5).await;
        for log in [writer, reader] {
            for from in 1..=head.version.0 + 2 {
                let expected: Vec<u64> = (from..=head.version.0).collect();
                assert_eq!(versions(log.read(&stream, Version(from))).await, expected, "turn {turn}");
            }
        }
    }
    // Nothing is asked of the server for what is known.
    let known = log.read(&stream, Version(head.version.0 - 9)).take(3);
    assert_eq!(known.count().await, 3);
}
