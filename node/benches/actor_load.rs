//! Loading an actor from its snapshot and what follows it, in a log of many streams on NATS: the first command to a session
//! minus the second, beside the bare gets of the same messages.
//!
//! The sessions that are loaded have a snapshot at version 18 and four records after it; the commands decide nothing. Starts a
//! NATS server of its own with `LMAO_TEST_NATS_SERVER` and uses those at `LMAO_TEST_POSTGRES`, `LMAO_TEST_ELASTICSEARCH` and
//! `LMAO_TEST_REDIS`. Prints a table and JSON. `LMAO_BENCH_STREAMS` (100,000) and `LMAO_BENCH_LOADS` (2,000) shrink it.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do")]

mod common;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    bare::Gets,
    history::{answer, converse, id},
    instant_llm, millis, quantile, round,
    servers::{NatsServers, Sync},
    size,
    system::{MASTER_KEY_BYTES, System, meta},
};
use futures::{StreamExt as _, stream};
use lmao_actors::Keyring;
use lmao_adapters::{
    clock::OsEntropy,
    nats::{Nats, NatsLog, NatsSnapshots, NatsVault},
    sqlite::MasterKey,
};
use lmao_events::{Category, DataKey, Head, StreamId, session};
use lmao_ports::{Commands, Snapshots as _};
use serde_json::json;
use uuid::Uuid;

/// Turns, of two records each, of a session that nobody loads.
const SHORT: usize = 1;
/// Turns before the snapshot, and after it.
const SAVED: usize = 9;
const AFTER: usize = 2;
/// Streams written at once.
const WRITERS: usize = 256;
/// Snapshots asked for at once.
const AT_ONCE: usize = 16;

#[tokio::main]
async fn main() {
    let (streams, loads) = (size("LMAO_BENCH_STREAMS", 100_000), size("LMAO_BENCH_LOADS", 2000));
    // Nothing is written while loads are measured.
    let servers = NatsServers::one(Sync::Default).await;
    let system = System::new(&servers.url, 1, &instant_llm().await).await;
    let begun = Instant::now();
    let history = History::open(system.nats()).await;
    let mut heads = history.write(vec![Head::default(); loads], 0..loads, 0..SAVED).await;
    history.write(vec![Head::default(); streams - loads], loads..streams, 0..SHORT).await;
    println!("{streams} streams written in {:.1} s", begun.elapsed().as_secs_f64());
    let saved = heads.clone();

    save(&system, loads).await;
    heads = history.write(heads, 0..loads, SAVED..SAVED + AFTER).await;
    assert!(heads.iter().zip(&saved).all(|(head, saved)| head.version.0 == saved.version.0 + 2 * AFTER as u64));

    let worker = system.node("loader", "worker");
    system.workers(1).await;
    worker.idle().await;
    let (commands, gets) = (system.cluster().commands(), Gets::new(&servers).await);
    let (mut first, mut second, mut loading, mut bare, mut over) = (vec![], vec![], vec![], vec![], vec![]);
    for (n, saved) in saved.iter().enumerate() {
        let stream = session(n);
        // In turn, so that neither always finds what the other has just read.
        let gets_first = n % 2 == 0;
        if gets_first {
            bare.push(get(&gets, stream, saved).await);
        }
        let (one, other) = (send(&*commands, stream).await, send(&*commands, stream).await);
        if !gets_first {
            bare.push(get(&gets, stream, saved).await);
        }
        first.push(one);
        second.push(other);
        loading.push(one - other);
        over.push(one - other - bare[n]);
    }
    println!("{loads} loads among {streams} streams       p50 ms   p99 ms");
    let mut figures = vec![];
    let rows = [
        ("first command", &mut first),
        ("second command", &mut second),
        ("loading: the difference", &mut loading),
        ("bare: both gets", &mut bare),
        ("loading over bare", &mut over),
    ];
    for (name, values) in rows {
        let (p50, p99) = (quantile(values, 0.5), quantile(values, 0.99));
        println!("{name:<40} {p50:>8.2} {p99:>8.2}");
        figures.push(json!({ "p50_ms": round(p50), "p99_ms": round(p99) }));
    }
    println!(
        "{}",
        json!({
            "bench": "actor_load", "streams": streams, "loads": loads, "records_after_snapshot": 2 * AFTER,
            "first_command": figures[0], "second_command": figures[1], "loading": figures[2], "bare_gets": figures[3],
            "over": figures[4],
        })
    );
    worker.stop();
}

fn session(n: usize) -> StreamId {
    StreamId::new(Category::Session, id(n))
}

/// How long the bare gets take, in milliseconds.
async fn get(gets: &Gets, stream: StreamId, saved: &Head) -> f64 {
    let begun = Instant::now();
    let count = gets.both(stream, saved.position).await;
    let taken = millis(begun.elapsed());
    assert_eq!(count, 1 + 2 * AFTER, "the snapshot's own record and those after it");
    taken
}

/// How long a command takes that decides nothing, in milliseconds.
async fn send(commands: &dyn Commands, stream: StreamId) -> f64 {
    let nothing = session::Command::CompleteReply {
        message_id: Uuid::nil(),
        answer: Box::new(answer()),
        tasks_completed: 2,
        millis: 7,
    };
    let begun = Instant::now();
    let receipt = commands.send(stream, nothing.into(), meta()).await.unwrap();
    let taken = millis(begun.elapsed());
    assert!(receipt.repeated, "the command decided something");
    taken
}

/// Has a worker load these sessions, each of which is then due for a snapshot, until all snapshots are there.
async fn save(system: &System, sessions: usize) {
    let worker = system.node("saver", "worker");
    system.workers(1).await;
    let commands = system.cluster().commands();
    let load = |n| {
        let commands = Arc::clone(&commands);
        async move { _ = send(&*commands, session(n)).await }
    };
    stream::iter(0..sessions).for_each_concurrent(AT_ONCE, load).await;
    let snapshots = NatsSnapshots::open(system.nats()).await.unwrap();
    for n in 0..sessions {
        while snapshots.get(&format!("state/{}", session(n))).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    worker.stop();
}

/// Writes straight into the log.
struct History {
    log: Arc<NatsLog>,
    key: DataKey,
    owner: Uuid,
}

impl History {
    async fn open(nats: &Nats) -> Self {
        let vault = NatsVault::open(nats, &MasterKey::new(MASTER_KEY_BYTES)).await.unwrap();
        let owner = Uuid::new_v4();
        let key = Keyring::new(Arc::new(vault), Arc::new(OsEntropy)).get_or_create(owner).await.unwrap();
        Self { log: Arc::new(NatsLog::open(nats).await.unwrap()), key, owner }
    }

    /// These turns of these sessions, which end with `heads`; how they end then.
    async fn write(&self, heads: Vec<Head>, sessions: Range<usize>, turns: Range<usize>) -> Vec<Head> {
        let (first, heads, next) = (sessions.start, Arc::new(heads), Arc::new(AtomicUsize::new(0)));
        let writers = (0..WRITERS).map(|_| {
            let (log, heads, next) = (Arc::clone(&self.log), Arc::clone(&heads), Arc::clone(&next));
            let (key, owner, turns) = (self.key.clone(), self.owner, turns.clone());
            tokio::spawn(async move {
                let mut ends = vec![];
                while let Some((n, head)) = take(&next, &heads) {
                    let stream = session(first + n);
                    ends.push((n, converse(&*log, &key, owner, stream, head, turns.clone()).await));
                }
                ends
            })
        });
        let mut ends = heads.to_vec();
        for writer in writers.collect::<Vec<_>>() {
            for (n, head) in writer.await.unwrap() {
                ends[n] = head;
            }
        }
        ends
    }
}

/// The next that nobody has taken.
fn take(next: &AtomicUsize, heads: &[Head]) -> Option<(usize, Head)> {
    let n = next.fetch_add(1, Ordering::Relaxed);
    heads.get(n).map(|head| (n, *head))
}
