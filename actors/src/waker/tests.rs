//! Taking buckets over: from what was saved and the log behind it, without folding any stream.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use lmao_events::{Category, Head, NONCE_BYTES, Owes, Payload, Position, Record, Timestamp, Version};
use lmao_ports::{
    AppendError, Clock, Entropy, EventLog, Filter, Frame, Live, Recorded, Secret, Snapshots, Vault, VaultError,
    conformance::fixtures,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::Keyring;

const BUCKET: u8 = 7;
const HOUR: Duration = Duration::from_secs(3600);

/// A log that can be followed and not otherwise read, with everything else in memory.
#[derive(Debug)]
struct Memory {
    records: Mutex<Vec<Recorded>>,
    appended: watch::Sender<usize>,
    /// Where subscriptions began.
    begun_at: Mutex<Vec<Position>>,
    snapshots: Mutex<BTreeMap<String, Bytes>>,
    begun: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            appended: watch::Sender::new(0),
            begun_at: Mutex::default(),
            snapshots: Mutex::default(),
            begun: Instant::now(),
        })
    }

    fn stores(self: &Arc<Self>) -> Arc<Stores> {
        Arc::new(Stores {
            log: self.clone(),
            snapshots: self.clone(),
            vault: self.clone(),
            live: self.clone(),
            clock: self.clone(),
            entropy: self.clone(),
            keyring: Keyring::new(self.clone(), self.clone()),
        })
    }

    /// Appends a commit after which `stream` owes this.
    fn commit(&self, stream: StreamId, version: u64, owes: Owes) {
        let head = Head { version: Version(version - 1), ..Head::default() };
        let header = lmao_events::Header { owes, ..fixtures::header(stream, &head) };
        let payload = Payload { command: None, events: vec![] };
        let record = Record::seal(header, &payload, &fixtures::key(), [0; NONCE_BYTES]).unwrap();
        let mut records = lock(&self.records);
        let position = Position(records.len() as u64 + 1);
        records.push(Recorded { position, hash: record.hash(), record: Arc::new(record) });
        self.appended.send_replace(records.len());
    }

    fn is_saved(&self) -> bool {
        !lock(&self.snapshots).is_empty()
    }
}

#[async_trait]
impl EventLog for Memory {
    fn id(&self) -> Uuid {
        Uuid::from_u128(1)
    }

    async fn append(&self, _: &Head, _: Arc<Record>) -> Result<Head, AppendError> {
        Err(AppendError::Unavailable(Unavailable::plain("log", "the waker appends nothing")))
    }

    fn read(&self, stream: &StreamId, _: Version) -> BoxStream<'static, Result<Recorded, ReadError>> {
        panic!("{stream} is folded");
    }

    async fn last(&self, stream: &StreamId) -> Result<Option<Recorded>, ReadError> {
        panic!("{stream} is asked for");
    }

    fn subscribe(&self, after: Position, _: Filter) -> BoxStream<'static, Result<Recorded, ReadError>> {
        lock(&self.begun_at).push(after);
        let records = lock(&self.records).clone();
        let stored: Vec<_> = records.into_iter().filter(|recorded| recorded.position > after).map(Ok).collect();
        // What is appended later is seen by following anew.
        let appended = self.appended.subscribe();
        let ended = stream::once(async move {
            let mut appended = appended;
            let _ = appended.changed().await;
            Err(Unavailable::plain("log", "follow anew").into())
        });
        stream::iter(stored).chain(ended).boxed()
    }

    async fn tail(&self) -> Result<Position, ReadError> {
        Ok(Position(lock(&self.records).len() as u64))
    }
}

#[async_trait]
impl Snapshots for Memory {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable> {
        Ok(lock(&self.snapshots).get(key).cloned())
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<(), Unavailable> {
        lock(&self.snapshots).insert(key.to_owned(), value);
        Ok(())
    }

    async fn put_durable(&self, key: &str, value: Bytes) -> Result<(), Unavailable> {
        Snapshots::put(self, key, value).await
    }

    async fn delete(&self, key: &str) -> Result<(), Unavailable> {
        lock(&self.snapshots).remove(key);
        Ok(())
    }

    async fn scan(&self, _: &str) -> Result<Vec<(String, Bytes)>, Unavailable> {
        Ok(vec![])
    }
}

#[async_trait]
impl Vault for Memory {
    async fn get(&self, _: &str) -> Result<Option<Secret>, VaultError> {
        Ok(None)
    }

    async fn put(&self, _: &str, _: &Secret) -> Result<(), VaultError> {
        Ok(())
    }

    async fn put_new(&self, _: &str, secret: &Secret) -> Result<Secret, VaultError> {
        Ok(secret.clone())
    }

    async fn destroy(&self, _: &str) -> Result<(), VaultError> {
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<String>, VaultError> {
        Ok(vec![])
    }
}

#[async_trait]
impl Live for Memory {
    fn publish(&self, _: StreamId, _: Frame) {}

    async fn subscribe(&self, _: StreamId) -> BoxStream<'static, Frame> {
        stream::pending().boxed()
    }
}

impl Clock for Memory {
    fn now(&self) -> Timestamp {
        Timestamp(0).after(self.begun.elapsed())
    }
}

impl Entropy for Memory {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// Those that were woken, in order; none ends what it was woken for.
#[derive(Default)]
struct Woken(Mutex<Vec<StreamId>>);

impl Wake for Woken {
    fn wake(&self, stream: StreamId) {
        lock(&self.0).push(stream);
    }

    fn is_live(&self, _: StreamId) -> bool {
        true
    }
}

impl Woken {
    fn sorted(&self) -> Vec<StreamId> {
        let mut woken = lock(&self.0).clone();
        woken.sort_unstable();
        woken
    }
}

/// A node's waker.
struct Node {
    woken: Arc<Woken>,
    owned: watch::Sender<Buckets>,
    stop: oneshot::Sender<()>,
}

impl Node {
    fn start(memory: &Arc<Memory>) -> Self {
        let (woken, owned) = (Arc::new(Woken::default()), watch::Sender::new(Buckets::NONE));
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(run(memory.stores(), Arc::clone(&woken) as _, owned.subscribe(), stopped));
        Self { woken, owned, stop }
    }
}

fn sorted(streams: &[&[StreamId]]) -> Vec<StreamId> {
    let mut streams = streams.concat();
    streams.sort_unstable();
    streams
}

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn a_takeover_of_100_000_streams_wakes_exactly_the_ten_that_owe_something() {
    let memory = Memory::new();
    let all = (0..).map(|n| StreamId::new(Category::Session, Uuid::from_u128(n)));
    let all: Vec<StreamId> = all.filter(|stream| stream.bucket() == BUCKET).take(100_000).collect();
    let elsewhere = StreamId::new(Category::Session, Uuid::from_u128(0));
    assert_ne!(elsewhere.bucket(), BUCKET);
    let (owing, later, settles) = (&all[100..103], &all[200..202], all[300]);
    for stream in &all {
        let owes = match stream {
            stream if owing.contains(stream) || *stream == settles => Owes::Now,
            stream if later.contains(stream) => Owes::At(Timestamp(0).after(HOUR)),
            _ => Owes::Nothing,
        };
        memory.commit(*stream, 1, owes);
    }
    memory.commit(elsewhere, 1, Owes::Now);

    let first = Node::start(&memory);
    first.owned.send_replace([BUCKET].into_iter().collect());
    while !memory.is_saved() {
        seconds(1).await;
    }
    assert_eq!(first.woken.sorted(), sorted(&[owing, &[settles]]));
    drop(first);

    // Behind what was saved.
    let new = &all[400..405];
    for stream in new {
        memory.commit(*stream, 2, Owes::Now);
    }
    memory.commit(settles, 2, Owes::Nothing);
    lock(&memory.begun_at).clear();

    let second = Node::start(&memory);
    seconds(5).await;
    assert_eq!(second.woken.sorted(), [], "it owns nothing yet");
    second.owned.send_replace([BUCKET].into_iter().collect());
    seconds(5).await;
    assert_eq!(second.woken.sorted(), sorted(&[owing, new]));
    tokio::time::sleep(HOUR).await;
    assert_eq!(second.woken.sorted(), sorted(&[owing, new, later]));
    let begun_at = lock(&memory.begun_at).clone();
    assert!(begun_at.iter().all(|at| at.0 >= 100_000), "it begins where the bucket was saved: {begun_at:?}");

    // Taken away, it is no longer this node's to wake.
    second.owned.send_replace(Buckets::NONE);
    seconds(1).await;
    memory.commit(all[500], 2, Owes::Now);
    seconds(60).await;
    assert_eq!(second.woken.sorted().len(), 10);
    let _ = second.stop.send(());
}

#[tokio::test(start_paused = true)]
async fn a_gained_bucket_is_caught_up_with_while_the_others_go_on() {
    let memory = Memory::new();
    let in_bucket = |bucket: u8| {
        let mut all = (0..).map(|n| StreamId::new(Category::Session, Uuid::from_u128(n)));
        all.find(|stream| stream.bucket() == bucket).unwrap()
    };
    let (one, two) = (in_bucket(1), in_bucket(2));
    memory.commit(one, 1, Owes::Now);
    memory.commit(two, 1, Owes::Now);
    memory.commit(one, 2, Owes::Nothing);
    memory.commit(two, 2, Owes::At(Timestamp(0).after(HOUR)));
    let node = Node::start(&memory);
    node.owned.send_replace([1].into_iter().collect());
    seconds(5).await;
    assert_eq!(node.woken.sorted(), []);
    // The log is followed from its beginning again, and what was settled stays settled.
    node.owned.send_replace([1, 2].into_iter().collect());
    seconds(5).await;
    assert_eq!(node.woken.sorted(), []);
    memory.commit(one, 3, Owes::At(Timestamp(0).after(2 * HOUR)));
    tokio::time::sleep(HOUR).await;
    assert_eq!(node.woken.sorted(), [two]);
    tokio::time::sleep(HOUR).await;
    assert_eq!(node.woken.sorted(), sorted(&[&[one, two]]));
    let _ = node.stop.send(());
}
