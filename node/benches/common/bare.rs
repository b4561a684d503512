//! What the distributed system is measured against: a client of NATS that does nothing but publish, or get.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        self,
        stream::{Config, DiscardPolicy},
    },
};
use bytes::Bytes;
use futures::{StreamExt as _, future::join_all};
use lmao_adapters::nats::{Nats, NatsLog};
use lmao_events::{Position, StreamId};
use lmao_ports::{EventLog as _, Filter};
use serde::Deserialize;
use uuid::Uuid;

use super::{millis, quantile, servers::NatsServers};

const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// The status of the message that ends a batch.
const END_OF_BATCH: u16 = 204;

/// The commits that one request led to, in order.
type Commits = Vec<(StreamId, Bytes)>;

/// Where the log ends.
pub(crate) async fn tail(nats: &Nats) -> Position {
    NatsLog::open(nats).await.unwrap().tail().await.unwrap()
}

/// The commits behind this position, by the request that they belong to.
pub(crate) async fn commits_since(nats: &Nats, after: Position) -> Vec<Commits> {
    let log = NatsLog::open(nats).await.unwrap();
    let count = log.tail().await.unwrap().0 - after.0;
    let mut records = log.subscribe(after, Filter::All).take(usize::try_from(count).unwrap());
    let (mut chains, mut places) = (vec![], HashMap::<Uuid, usize>::new());
    while let Some(recorded) = records.next().await {
        let record = recorded.unwrap().record;
        let header = record.header();
        let place = *places.entry(header.correlation).or_insert_with(|| {
            chains.push(vec![]);
            chains.len() - 1
        });
        chains[place].push((header.stream, Bytes::copy_from_slice(record.bytes())));
    }
    chains
}

/// What the loop reached.
pub(crate) struct Published {
    /// Commits a second.
    pub(crate) rate: f64,
    /// Of one publish, in milliseconds.
    pub(crate) p50: f64,
}

#[derive(Deserialize)]
struct Acknowledged {
    seq: u64,
}

/// A stream like the log's, and a connection.
pub(crate) struct Publisher {
    client: Client,
    passes: usize,
}

impl Publisher {
    /// Makes the stream.
    pub(crate) async fn new(servers: &NatsServers) -> Self {
        let client = servers.client().await.unwrap();
        let config = Config {
            name: "BARE".to_owned(),
            subjects: vec!["bare.>".to_owned()],
            discard: DiscardPolicy::New,
            allow_direct: true,
            deny_delete: true,
            deny_purge: true,
            ..Config::default()
        };
        jetstream::new(client.clone()).create_stream(config).await.unwrap();
        Self { client, passes: 0 }
    }

    /// The same commits by so many writers, each publish with the sequence that its subject is expected to end with, and each
    /// after the one before is acknowledged; again and again until this time is over.
    pub(crate) async fn publish(&mut self, chains: &[Commits], writers: usize, at_least: Duration) -> Published {
        let (begun, mut latencies) = (Instant::now(), vec![]);
        while latencies.is_empty() || begun.elapsed() < at_least {
            self.passes += 1;
            let pass = self.passes;
            let each = (0..writers).map(|writer| self.write(chains, pass, writer, writers));
            latencies.extend(join_all(each).await.concat());
        }
        let rate = latencies.len() as f64 / begun.elapsed().as_secs_f64();
        Published { rate, p50: quantile(&mut latencies, 0.5) }
    }

    /// What one of the writers does in a pass: its share of the chains, on subjects that nobody else has.
    async fn write(&self, chains: &[Commits], pass: usize, writer: usize, writers: usize) -> Vec<f64> {
        let (mut ends, mut taken) = (HashMap::<StreamId, u64>::new(), vec![]);
        for (stream, bytes) in chains.iter().skip(writer).step_by(writers).flatten() {
            let begun = Instant::now();
            let end = ends.entry(*stream).or_default();
            let mut headers = HeaderMap::new();
            headers.insert(EXPECTED, end.to_string());
            let subject = format!("bare.{pass}.{writer}.{}.{}.{}", stream.category, stream.bucket(), stream.id);
            let answer = self.client.request_with_headers(subject, headers, bytes.clone()).await.unwrap();
            *end = serde_json::from_slice::<Acknowledged>(&answer.payload).unwrap().seq;
            taken.push(millis(begun.elapsed()));
        }
        taken
    }
}

/// The two gets that a load from snapshot cannot do without.
pub(crate) struct Gets {
    client: Client,
    snapshots: jetstream::stream::Stream<()>,
}

impl Gets {
    pub(crate) async fn new(servers: &NatsServers) -> Self {
        let client = servers.client().await.unwrap();
        let snapshots = jetstream::new(client.clone()).get_stream_no_info("KV_snapshots").await.unwrap();
        Self { client, snapshots }
    }

    /// The snapshot from the leader, then one batch of the stream from this position on. Returns how many records came.
    pub(crate) async fn both(&self, stream: StreamId, from: Position) -> usize {
        let subject = format!("$KV.snapshots.state.{}.{}", stream.category, stream.id);
        let snapshot = self.snapshots.raw_message_builder().last_by_subject(&subject).send().await.unwrap();
        assert!(!snapshot.payload.is_empty(), "{stream} has no snapshot");
        let subject = format!("events.{}.{}.{}", stream.category, stream.bucket(), stream.id);
        let body = serde_json::json!({ "seq": from.0, "next_by_subj": subject, "batch": 16 }).to_string();
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.unwrap();
        self.client.publish_with_reply("$JS.API.DIRECT.GET.EVENTS", inbox, body.into()).await.unwrap();
        let mut count = 0;
        while let Some(answer) = answers.next().await {
            match answer.status.map(u16::from) {
                None => count += 1,
                Some(END_OF_BATCH) => return count,
                Some(other) => assert_eq!(other, END_OF_BATCH, "the batch of {stream} is refused"),
            }
        }
        count
    }
}
