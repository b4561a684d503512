//! The stores of the simulation: in memory, shared by all nodes, each call of a node open to faults.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use lmao_events::{Head, Position, Record, StreamId, Timestamp, Version};
use lmao_ports::{
    AppendError, Clock, Entropy, EventLog, Filter, Frame, Live, ReadError, Recorded, Secret, Snapshots, Unavailable,
    Vault, VaultError,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use crate::{meeting::Meeting, node::Node};

/// What survives every crash.
#[derive(Debug)]
pub(crate) struct Disk {
    inner: Mutex<Inner>,
    /// Tells subscribers that records were stored: in the order in which they wait, unlike a watch.
    stored: Notify,
    begun: Instant,
    /// Where the nodes meet.
    pub(crate) meeting: Meeting,
}

#[derive(Debug)]
struct Inner {
    rng: StdRng,
    records: Vec<Recorded>,
    heads: BTreeMap<StreamId, Head>,
    /// Appends on their way: they land when their time has come, whatever became of their sender.
    in_flight: Vec<(Instant, Head, Arc<Record>)>,
    snapshots: BTreeMap<String, Bytes>,
    /// What a power cut leaves of them.
    synced: BTreeMap<String, Bytes>,
    vault: BTreeMap<String, Secret>,
    /// A record that no subscription can read.
    damaged: Option<Position>,
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                rng: StdRng::seed_from_u64(seed),
                records: vec![],
                heads: BTreeMap::new(),
                in_flight: vec![],
                snapshots: BTreeMap::new(),
                synced: BTreeMap::new(),
                vault: BTreeMap::new(),
                damaged: None,
            }),
            stored: Notify::new(),
            begun: Instant::now(),
            meeting: Meeting::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn chance(&self, probability: f64) -> bool {
        self.lock().rng.random_bool(probability)
    }

    pub(crate) fn below(&self, n: u64) -> u64 {
        self.lock().rng.random_range(0..n)
    }

    pub(crate) fn millis(&self, at_most: u64) -> Duration {
        Duration::from_millis(self.below(at_most + 1))
    }

    /// Stores what has been on its way long enough.
    fn land(&self) {
        let mut inner = self.lock();
        let now = Instant::now();
        let (landed, flying) = std::mem::take(&mut inner.in_flight).into_iter().partition(|(at, ..)| *at <= now);
        inner.in_flight = flying;
        let landed: Vec<(Instant, Head, Arc<Record>)> = landed;
        for (_, expected, record) in landed {
            let _ = inner.store(&expected, &record);
        }
        drop(inner);
        self.stored.notify_waiters();
    }

    pub(crate) fn store(&self, expected: &Head, record: &Arc<Record>) -> Result<Head, AppendError> {
        let outcome = self.lock().store(expected, record);
        self.stored.notify_waiters();
        outcome
    }

    /// Takes the snapshots that were not put durably.
    pub(crate) fn cut_power(&self) {
        let inner = &mut *self.lock();
        inner.snapshots = inner.synced.clone();
    }

    pub(crate) fn damage(&self, position: Position) {
        self.lock().damaged = Some(position);
    }

    pub(crate) fn records(&self) -> Vec<Recorded> {
        self.lock().records.clone()
    }
}

impl Inner {
    fn store(&mut self, expected: &Head, record: &Arc<Record>) -> Result<Head, AppendError> {
        let header = record.header();
        let hash = record.hash();
        let head = self.heads.get(&header.stream).copied().unwrap_or_default();
        if head.version >= header.version {
            let stands = self
                .records
                .iter()
                .find(|r| r.record.header().stream == header.stream && r.record.header().version == header.version);
            return match stands {
                Some(stands) if stands.hash == hash => Ok(stands.head()),
                _ => Err(AppendError::Conflict),
            };
        }
        if head.version != expected.version || head.hash != expected.hash {
            return Err(AppendError::Conflict);
        }
        let position = Position(self.records.len() as u64 + 1);
        let recorded = Recorded { position, hash, record: Arc::clone(record) };
        let head = recorded.head();
        self.heads.insert(header.stream, head);
        self.records.push(recorded);
        Ok(head)
    }
}

/// The disk as one node reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    pub(crate) disk: Arc<Disk>,
    pub(crate) node: Arc<Node>,
}

fn away() -> Unavailable {
    Unavailable::plain("simulation", "not reachable just now")
}

#[async_trait]
impl EventLog for Reached {
    fn id(&self) -> Uuid {
        Uuid::from_u128(1)
    }

    async fn append(&self, expected: &Head, record: Arc<Record>) -> Result<Head, AppendError> {
        self.node.step().await;
        self.disk.land();
        if self.node.faulty() {
            match self.disk.below(40) {
                0 => return Err(AppendError::Unavailable(away())),
                1 => return Err(AppendError::Unknown(away())),
                2 => {
                    let _ = self.disk.store(expected, &record);
                    self.node.step().await;
                    return Err(AppendError::Unknown(away()));
                }
                3 => {
                    let lands = Instant::now() + self.disk.millis(15_000);
                    self.disk.lock().in_flight.push((lands, *expected, record));
                    return Err(AppendError::Unknown(away()));
                }
                _ => {}
            }
        }
        let outcome = self.disk.store(expected, &record);
        self.node.step().await;
        outcome
    }

    fn read(&self, wanted: &StreamId, from: Version) -> BoxStream<'static, Result<Recorded, ReadError>> {
        let (this, wanted) = (self.clone(), *wanted);
        stream::once(async move {
            this.node.step().await;
            this.disk.land();
            if this.node.faulty() && this.disk.chance(0.01) {
                return stream::iter(vec![Err(away().into())]);
            }
            let records = this.disk.records().into_iter().filter(|recorded| {
                let header = recorded.record.header();
                header.stream == wanted && header.version >= from
            });
            stream::iter(records.map(Ok).collect::<Vec<_>>())
        })
        .flatten()
        .boxed()
    }

    async fn last(&self, wanted: &StreamId) -> Result<Option<Recorded>, ReadError> {
        self.node.step().await;
        Ok(self.disk.records().into_iter().rfind(|recorded| recorded.record.header().stream == *wanted))
    }

    fn subscribe(&self, after: Position, filter: Filter) -> BoxStream<'static, Result<Recorded, ReadError>> {
        let this = self.clone();
        stream::unfold((this, after.0), move |(this, after)| async move {
            this.node.alive().await;
            let after = usize::try_from(after).ok()?;
            let next = loop {
                if let Some(next) = this.disk.lock().records.get(after).cloned() {
                    break next;
                }
                // Deliveries come late now and then.
                tokio::time::sleep(this.disk.millis(20)).await;
                let stored = this.disk.stored.notified();
                if this.disk.lock().records.len() <= after {
                    stored.await;
                }
            };
            let position = next.position;
            let next = match this.disk.lock().damaged {
                Some(damaged) if damaged == position => {
                    Err(ReadError::Damaged { position, message: "simulated".to_owned() })
                }
                _ => Ok(next),
            };
            Some((next, (this, after as u64 + 1)))
        })
        .filter(move |recorded: &Result<Recorded, ReadError>| {
            let wanted = recorded.as_ref().map_or(true, |recorded| filter.matches(&recorded.record.header().stream));
            async move { wanted }
        })
        .boxed()
    }

    async fn tail(&self) -> Result<Position, ReadError> {
        self.node.step().await;
        Ok(Position(self.disk.lock().records.len() as u64))
    }
}

#[async_trait]
impl Snapshots for Reached {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable> {
        self.node.step().await;
        Ok(self.disk.lock().snapshots.get(key).cloned())
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<(), Unavailable> {
        self.node.step().await;
        // Snapshots may be lost.
        if !(self.node.faulty() && self.disk.chance(0.2)) {
            self.disk.lock().snapshots.insert(key.to_owned(), value);
        }
        Ok(())
    }

    async fn put_durable(&self, key: &str, value: Bytes) -> Result<(), Unavailable> {
        self.node.step().await;
        let inner = &mut *self.disk.lock();
        inner.snapshots.insert(key.to_owned(), value);
        inner.synced = inner.snapshots.clone();
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), Unavailable> {
        self.node.step().await;
        self.disk.lock().snapshots.remove(key);
        Ok(())
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, Unavailable> {
        self.node.step().await;
        let inner = self.disk.lock();
        let found = inner.snapshots.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

#[async_trait]
impl Vault for Reached {
    async fn get(&self, key: &str) -> Result<Option<Secret>, VaultError> {
        self.node.step().await;
        Ok(self.disk.lock().vault.get(key).cloned())
    }

    async fn put(&self, key: &str, secret: &Secret) -> Result<(), VaultError> {
        self.node.step().await;
        self.disk.lock().vault.insert(key.to_owned(), secret.clone());
        Ok(())
    }

    async fn put_new(&self, key: &str, secret: &Secret) -> Result<Secret, VaultError> {
        self.node.step().await;
        Ok(self.disk.lock().vault.entry(key.to_owned()).or_insert_with(|| secret.clone()).clone())
    }

    async fn destroy(&self, key: &str) -> Result<(), VaultError> {
        self.node.step().await;
        self.disk.lock().vault.remove(key);
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<String>, VaultError> {
        self.node.step().await;
        Ok(self.disk.lock().vault.keys().cloned().collect())
    }
}

impl Clock for Reached {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000_000).after(self.disk.begun.elapsed())
    }
}

impl Entropy for Reached {
    fn fill(&self, bytes: &mut [u8]) {
        self.disk.lock().rng.fill_bytes(bytes);
    }
}

#[async_trait]
impl Live for Reached {
    fn publish(&self, _: StreamId, _: Frame) {}

    async fn subscribe(&self, _: StreamId) -> BoxStream<'static, Frame> {
        stream::pending().boxed()
    }
}
