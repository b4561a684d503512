//! What every [`EventLog`] promises.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, future::join_all};
use lmao_events::{AnyEvent, Category, Hash, Head, Position, Record, StreamId, Version, user};

use super::fixtures::{record, stream};
use crate::{AppendError, EventLog, Filter, Recorded};

/// Longer than any of this takes: a subscription that stalls fails instead of hanging.
const STALLED: Duration = Duration::from_secs(60);

/// The whole suite; `new` opens a log. Streams are fresh in each run, so that a shared server does.
pub async fn all(new: impl AsyncFn() -> Arc<dyn EventLog>) {
    an_append_continues_its_stream(&*new().await).await;
    what_does_not_continue_conflicts(&*new().await).await;
    a_record_that_names_another_head_is_refused(&*new().await).await;
    the_same_bytes_again_have_the_same_head(&*new().await).await;
    of_many_for_one_version_one_wins(new().await).await;
    a_conflict_fails_nobody_else(new().await).await;
    large_records_are_kept(&*new().await).await;
    long_streams_are_read_whole(&*new().await).await;
    subscribers_miss_nothing_and_see_nothing_twice(new().await).await;
    filters_pass_what_they_name(&*new().await).await;
}

fn event() -> AnyEvent {
    AnyEvent::User(user::LoggedIn {}.into())
}

fn next(stream: StreamId, head: &Head) -> Arc<Record> {
    record(stream, head, &[event()])
}

async fn append(log: &dyn EventLog, stream: StreamId, head: &Head) -> Head {
    log.append(head, next(stream, head)).await.expect("append")
}

async fn read(log: &dyn EventLog, stream: StreamId, from: u64) -> Vec<Recorded> {
    log.read(&stream, Version(from)).try_collect().await.expect("read")
}

/// What is appended is read, in order, from any version on; a stream that does not exist is empty.
pub async fn an_append_continues_its_stream(log: &dyn EventLog) {
    let (stream, other) = (stream(Category::Session), stream(Category::Session));
    assert!(read(log, stream, 1).await.is_empty());
    assert!(log.last(&stream).await.expect("last").is_none());
    let before = log.tail().await.expect("tail");
    let (mut head, mut records) = (Head::default(), Vec::new());
    for _ in 0..3 {
        let record = next(stream, &head);
        let new = log.append(&head, Arc::clone(&record)).await.expect("append");
        assert_eq!((new.version, new.hash), (head.version.next(), record.hash()));
        assert!(new.position > head.position.max(before), "positions grow");
        append(log, other, &log.last(&other).await.expect("last").map_or_else(Head::default, |last| last.head())).await;
        (head, records) = (new, [records, vec![record]].concat());
    }
    let stored = read(log, stream, 1).await;
    assert!(stored.iter().map(|recorded| &recorded.record).eq(&records), "the same bytes, in order");
    assert_eq!(stored.last().expect("three").head(), head);
    assert_eq!(read(log, stream, 3).await.len(), 1);
    assert!(read(log, stream, 4).await.is_empty());
    let last = log.last(&stream).await.expect("last").expect("three");
    assert_eq!((last.head(), last.record), (head, Arc::clone(&records[2])));
    assert!(log.tail().await.expect("tail") >= head.position);
}

/// A stale version, a version that is not there yet, another hash: all are conflicts, and nothing is stored.
pub async fn what_does_not_continue_conflicts(log: &dyn EventLog) {
    let stream = stream(Category::Document);
    let first = append(log, stream, &Head::default()).await;
    let second = append(log, stream, &first).await;
    let altered = Head { hash: Hash::of(b"another"), ..second };
    let ahead = Head { version: Version(9), ..second };
    for stale in [Head::default(), first, altered, ahead] {
        let refused = log.append(&stale, next(stream, &stale)).await;
        assert!(matches!(refused, Err(AppendError::Conflict)), "{stale:?}: {refused:?}");
    }
    assert_eq!(read(log, stream, 1).await.len(), 2);
    append(log, stream, &second).await;
}

/// The header and the expectation say the same.
pub async fn a_record_that_names_another_head_is_refused(log: &dyn EventLog) {
    let stream = stream(Category::User);
    let head = append(log, stream, &Head::default()).await;
    let refused = log.append(&head, next(stream, &Head::default())).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(read(log, stream, 1).await.len(), 1);
}

/// However late they come.
pub async fn the_same_bytes_again_have_the_same_head(log: &dyn EventLog) {
    let stream = stream(Category::Workflow);
    let first = next(stream, &Head::default());
    let head = log.append(&Head::default(), Arc::clone(&first)).await.expect("append");
    assert_eq!(log.append(&Head::default(), Arc::clone(&first)).await.expect("again"), head);
    let second = append(log, stream, &head).await;
    append(log, stream, &second).await;
    assert_eq!(log.append(&Head::default(), first).await.expect("again, late"), head);
    assert_eq!(read(log, stream, 1).await.len(), 3);
}

/// The fence.
pub async fn of_many_for_one_version_one_wins(log: Arc<dyn EventLog>) {
    let stream = stream(Category::Session);
    let mut head = Head::default();
    for _ in 0..5 {
        let tasks = (0..32).map(|_| {
            let (log, record) = (Arc::clone(&log), next(stream, &head));
            tokio::spawn(async move { log.append(&head, record).await })
        });
        let outcomes: Vec<_> = join_all(tasks).await.into_iter().map(|task| task.expect("no panic")).collect();
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 31));
        assert!(lost.iter().all(|outcome| matches!(outcome, Err(AppendError::Conflict))), "{lost:?}");
        head = *won[0].as_ref().expect("the winner");
        assert_eq!(log.last(&stream).await.expect("last").expect("one").head(), head);
    }
    assert_eq!(read(&*log, stream, 1).await.len(), 5);
}

/// Appends that are stored together succeed or fail each for itself.
pub async fn a_conflict_fails_nobody_else(log: Arc<dyn EventLog>) {
    let contested = stream(Category::Session);
    append(&*log, contested, &Head::default()).await;
    let tasks = (0..128).map(|n| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            if n % 4 == 0 {
                let refused = log.append(&Head::default(), next(contested, &Head::default())).await;
                return matches!(refused, Err(AppendError::Conflict));
            }
            let stream = stream(Category::Session);
            let head = append(&*log, stream, &Head::default()).await;
            let head = append(&*log, stream, &head).await;
            head.version == Version(2)
        })
    });
    let outcomes = join_all(tasks).await;
    assert!(outcomes.into_iter().all(|outcome| outcome.expect("no panic")));
}

/// Up to the limit of half a megabyte.
pub async fn large_records_are_kept(log: &dyn EventLog) {
    let stream = stream(Category::User);
    let username = "u".repeat(500 * 1024);
    let event = user::Registered { id: stream.id, username, email: String::new(), role: user::Role::User };
    let record = record(stream, &Head::default(), &[AnyEvent::User(event.into())]);
    log.append(&Head::default(), Arc::clone(&record)).await.expect("append");
    assert!(read(log, stream, 1).await[0].record == record, "the same bytes");
}

/// More than a reader takes at once.
pub async fn long_streams_are_read_whole(log: &dyn EventLog) {
    let stream = stream(Category::Session);
    let mut head = Head::default();
    for _ in 0..300 {
        head = append(log, stream, &head).await;
    }
    let versions: Vec<u64> = read(log, stream, 2).await.iter().map(|it| it.record.header().version.0).collect();
    assert!(versions.iter().copied().eq(2..=300), "{versions:?}");
}

/// Writers before, during and after: each stream's versions come in order, none missing, none twice.
pub async fn subscribers_miss_nothing_and_see_nothing_twice(log: Arc<dyn EventLog>) {
    const STREAMS: usize = 16;
    const BEFORE: u64 = 20;
    const AFTER: u64 = 40;
    let start = log.tail().await.expect("tail");
    let streams: Vec<StreamId> = (0..STREAMS).map(|_| stream(Category::Workflow)).collect();
    write(&log, &streams, BEFORE).await;
    let total = STREAMS * usize::try_from(BEFORE + AFTER).expect("small");
    let subscribers: Vec<_> = (0..3)
        .map(|_| {
            let (log, streams) = (Arc::clone(&log), streams.clone());
            tokio::spawn(async move { follow(&*log, start, &streams, total).await })
        })
        .collect();
    write(&log, &streams, AFTER).await;
    for subscriber in subscribers {
        subscriber.await.expect("what was promised");
    }
    follow(&*log, start, &streams, total).await;
}

async fn write(log: &Arc<dyn EventLog>, streams: &[StreamId], each: u64) {
    let tasks = streams.iter().map(|stream| {
        let (log, stream) = (Arc::clone(log), *stream);
        tokio::spawn(async move {
            let mut head = log.last(&stream).await.expect("last").map_or_else(Head::default, |last| last.head());
            for _ in 0..each {
                head = append(&*log, stream, &head).await;
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("all appends succeed");
    }
}

async fn follow(log: &dyn EventLog, start: Position, streams: &[StreamId], total: usize) {
    let mut seen: HashMap<StreamId, u64> = streams.iter().map(|stream| (*stream, 0)).collect();
    let (mut last, mut count) = (start, 0);
    let mut records = log.subscribe(start, Filter::All);
    while count < total {
        let recorded = tokio::time::timeout(STALLED, records.next()).await.expect("records keep coming");
        let recorded = recorded.expect("without end").expect("read");
        assert!(recorded.position > last, "in the order of positions");
        last = recorded.position;
        let header = recorded.record.header();
        let Some(version) = seen.get_mut(&header.stream) else { continue };
        *version += 1;
        assert_eq!(header.version.0, *version, "{}", header.stream);
        assert_eq!(recorded.hash, recorded.record.hash());
        count += 1;
    }
}

/// Of a category or a stream: its records and no others, stored ones and later ones.
pub async fn filters_pass_what_they_name(log: &dyn EventLog) {
    let start = log.tail().await.expect("tail");
    let (wanted, same, other) = (stream(Category::ToolCall), stream(Category::ToolCall), stream(Category::Claim));
    let first = append(log, other, &Head::default()).await;
    let one = append(log, wanted, &Head::default()).await;
    append(log, same, &Head::default()).await;

    let mut of_stream = log.subscribe(start, Filter::Stream(wanted));
    let mut of_category = log.subscribe(start, Filter::Category(Category::ToolCall));
    let mut beyond = log.subscribe(one.position, Filter::Stream(wanted));
    append(log, other, &first).await;
    append(log, wanted, &one).await;

    let take = async |records: &mut futures::stream::BoxStream<'static, _>, n: usize| {
        let taken = records.take(n).try_collect::<Vec<Recorded>>();
        let taken = tokio::time::timeout(STALLED, taken).await.expect("records keep coming").expect("read");
        taken.iter().map(|it| (it.record.header().stream, it.record.header().version.0)).collect::<Vec<_>>()
    };
    assert_eq!(take(&mut of_stream, 2).await, [(wanted, 1), (wanted, 2)]);
    assert_eq!(take(&mut beyond, 1).await, [(wanted, 2)]);
    let mut tools = take(&mut of_category, 3).await;
    tools.retain(|(stream, _)| *stream == wanted || *stream == same);
    assert_eq!(tools, [(wanted, 1), (same, 1), (wanted, 2)]);
}

/// A log that is closed and opened again is the same log. `open` opens the same one each time.
pub async fn a_reopened_log_keeps_everything(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let stream = stream(Category::Session);
    let first = append(&*log, stream, &Head::default()).await;
    let (id, tail, before) = (log.id(), log.tail().await.expect("tail"), read(&*log, stream, 1).await);
    drop(log);
    let log = open().await;
    assert_eq!((log.id(), log.tail().await.expect("tail")), (id, tail));
    assert_eq!(read(&*log, stream, 1).await[0].record, before[0].record);
    let second = append(&*log, stream, &first).await;
    assert!(second.position > first.position);
    let refused = log.append(&first, next(stream, &first)).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
}
