//! The distributed system, nodes by role as processes of their own: durable turns a second with more and more workers beside a
//! bare loop of optimistic publishes of the same commits; the hop from a gateway to an owner and back beside a bare request;
//! how long sessions are without an answer when their owner is killed, and when the leader of the log is in a cluster.
//!
//! A scripted language model answers at once, the index is empty. Starts NATS servers of its own with `LMAO_TEST_NATS_SERVER`
//! and uses those at `LMAO_TEST_POSTGRES`, `LMAO_TEST_ELASTICSEARCH` and `LMAO_TEST_REDIS`. Prints tables and JSON.
//! `LMAO_BENCH_SECONDS` (3) is how long each row of turns takes, `LMAO_BENCH_WARM_UP` (30) the seconds of turns before the first
//! row, in which Elasticsearch compiles itself, `LMAO_BENCH_ROUNDS` (3) how often leaders are killed.
//! Arguments choose parts: `turns`, `hop`, `owner`, `leader`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do")]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use common::{
    Connection, Server,
    bare::{Publisher, commits_since, tail},
    cpu_of_machine,
    history::answer,
    instant_llm, millis, quantile, round,
    servers::{NatsServers, Sync},
    size,
    system::{System, meta},
};
use futures::future::join_all;
use lmao_adapters::nats::{Nats, NatsLog, NatsRouter};
use lmao_events::{Category, StreamId, session};
use lmao_ports::{EventLog as _, NodeId, Responder, Router as _};
use serde_json::json;
use uuid::Uuid;

/// Workers, one after the other in one system. There and back: what gets faster or slower with time by itself costs no row.
const WORKERS: [usize; 5] = [1, 2, 4, 2, 1];
/// Sessions at once.
const SESSIONS: [usize; 2] = [16, 64];
/// Sessions at once when an owner is killed.
const BEREFT: usize = 64;
/// Bytes of a request from node to node, and of its answer.
const REQUEST: usize = 600;
const ANSWER: usize = 100;
/// The table's first line. CPU is for each turn: of the nodes, of NATS, and of everything on the machine.
const HEAD: &str = "workers sessions   turns  turns/s   p50 ms   p99 ms  nodes ms   NATS ms    all ms commits/s   bare c/s  \
                    ratio";
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before one asks again that was told to come back.
const PAUSE: Duration = Duration::from_millis(50);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let length = Duration::from_secs(size("LMAO_BENCH_SECONDS", 3) as u64);
    let llm = instant_llm().await;
    let mut warm_up = Duration::from_secs(size("LMAO_BENCH_WARM_UP", 30) as u64);
    for sync in [Sync::Default, Sync::Always] {
        if !wants("turns") && (sync == Sync::Default || !wants("hop") && !wants("owner")) {
            continue;
        }
        let servers = NatsServers::one(sync).await;
        let bench = Bench { system: System::new(&servers.url, 1, &llm).await, servers, sync, length };
        bench.run(std::mem::take(&mut warm_up)).await;
    }
    if wants("leader") {
        leader_killed(&llm, size("LMAO_BENCH_ROUNDS", 3)).await;
    }
}

/// Whether this part is to be measured: all are, where none is named.
fn wants(part: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).peekable();
    named.peek().is_none() || named.any(|name| name == part)
}

/// A system on one NATS server.
struct Bench {
    system: System,
    servers: NatsServers,
    sync: Sync,
    length: Duration,
}

impl Bench {
    async fn run(&self, warm_up: Duration) {
        let projector = self.system.node("projector", "projector");
        let gateway = self.system.node("gateway", "gateway");
        let mut workers = vec![];
        let mut bare = Publisher::new(&self.servers).await;
        let mut token = String::new();
        let mut rates: Vec<(usize, usize, f64)> = vec![];
        println!("sync_interval {}\n{HEAD}", self.sync.name());
        for (row, count) in WORKERS.into_iter().enumerate() {
            workers.truncate(count);
            while workers.len() < count {
                workers.push(self.system.node(&format!("worker-{}", workers.len()), "worker"));
            }
            self.system.workers(count).await;
            if token.is_empty() {
                token = self.system.token(&gateway).await;
                say_for(&mut open(&gateway, &token, SESSIONS[1]).await, warm_up).await;
            }
            for sessions in SESSIONS.into_iter().filter(|_| wants("turns")) {
                let talks = open(&gateway, &token, sessions).await;
                let rate = self.turns(&projector, &gateway, &workers, talks, &mut bare).await;
                rates.push((count, sessions, rate));
            }
            if row == 0 && self.sync == Sync::Always && wants("hop") {
                self.hop(&gateway, &token).await;
            }
        }
        self.added_worker(&rates);
        if self.sync == Sync::Always && wants("owner") {
            while workers.len() < 4 {
                workers.push(self.system.node(&format!("worker-{}", workers.len()), "worker"));
            }
            self.system.workers(workers.len()).await;
            self.owner_killed(&gateway, &token, workers).await;
        }
    }

    /// A row: turns, then the bare loop with the commits that they made.
    async fn turns(
        &self,
        projector: &Server,
        gateway: &Server,
        workers: &[Server],
        mut talks: Vec<Talk>,
        bare: &mut Publisher,
    ) -> f64 {
        let cpu = || {
            let nodes = workers.iter().chain([projector, gateway]).map(Server::cpu).sum();
            [nodes, self.servers.cpu(), cpu_of_machine()]
        };
        projector.caught_up().await;
        let (log, before) = (tail(self.system.nats()).await, cpu());
        let begun = Instant::now();
        let mut latencies = say_for(&mut talks, self.length).await;
        let wall = begun.elapsed().as_secs_f64();
        projector.caught_up().await;
        let count = latencies.len() as f64;
        let after = cpu();
        let [nodes, nats, all] = [0, 1, 2].map(|of: usize| millis(after[of].saturating_sub(before[of])) / count);
        let chains = commits_since(self.system.nats(), log).await;
        let (commits, bytes) = chains.iter().flatten().fold((0, 0), |(n, sum), commit| (n + 1, sum + commit.1.len()));
        let published = bare.publish(&chains, talks.len(), self.length / 3).await;

        let (p50, p99) = (quantile(&mut latencies, 0.5), quantile(&mut latencies, 0.99));
        let (rate, commit_rate) = (count / wall, f64::from(commits) / wall);
        let ratio = commit_rate / published.rate;
        println!(
            "{:>7} {:>8} {count:>7} {rate:>8.0} {p50:>8.1} {p99:>8.1} {nodes:>9.2} {nats:>9.2} {all:>9.2} {commit_rate:>9.0} {:>10.0} \
             {ratio:>6.2}",
            workers.len(),
            talks.len(),
            published.rate
        );
        println!(
            "{}",
            json!({
                "bench": "distributed", "sync": self.sync.name(), "workers": workers.len(), "sessions": talks.len(),
                "turns": count, "turns_per_second": round(rate), "p50_ms": round(p50), "p99_ms": round(p99),
                "cpu_ms_per_turn": round(nodes), "nats_cpu_ms_per_turn": round(nats), "machine_cpu_ms_per_turn": round(all),
                "commits_per_turn": round(f64::from(commits) / count),
                "bytes_per_commit": round(bytes as f64 / f64::from(commits)), "commits_per_second": round(commit_rate),
                "bare_commits_per_second": round(published.rate), "bare_p50_ms": round(published.p50),
                "ratio": round(ratio),
            })
        );
        rate
    }

    /// What doubling the workers costs: turns a second beside those of half as many, each the mean of both ways.
    fn added_worker(&self, rates: &[(usize, usize, f64)]) {
        let mean = |workers, sessions| {
            let of = rates.iter().filter(|row| (row.0, row.1) == (workers, sessions)).map(|row| row.2);
            let (sum, count) = of.fold((0.0, 0.0), |(sum, count), rate| (sum + rate, count + 1.0));
            sum / count
        };
        for sessions in SESSIONS.into_iter().filter(|_| !rates.is_empty()) {
            for workers in [2, 4] {
                let share = mean(workers, sessions) / mean(workers / 2, sessions);
                println!(
                    "{workers} workers, {sessions} sessions: {share:.2} of the turns/s of {} workers",
                    workers / 2
                );
                println!(
                    "{}",
                    json!({
                        "bench": "distributed", "what": "added_worker", "sync": self.sync.name(), "workers": workers,
                        "sessions": sessions, "of_half_as_many": round(share),
                    })
                );
            }
        }
    }

    /// A command that decides nothing, one after the other, as a gateway sends it; beside it, in turn, a request of as many
    /// bytes to somebody who answers at once, and the look at the log's end without which nobody may say that nothing is to do.
    async fn hop(&self, gateway: &Server, token: &str) {
        let session = open(gateway, token, 1).await.remove(0).session;
        let stream = StreamId::new(Category::Session, session.parse().unwrap());
        let (commands, log) = (self.system.cluster().commands(), NatsLog::open(self.system.nats()).await.unwrap());
        let echo = Nats::connect(&self.servers.url).await.unwrap();
        let (echo, node) = (NatsRouter::new(&echo), NodeId(Uuid::new_v4()));
        let _serving = echo.serve(node, Arc::new(Echo)).await.unwrap();
        let router = NatsRouter::new(self.system.nats());
        let (mut hops, mut requests, mut looks) = (vec![], vec![], vec![]);
        let begun = Instant::now();
        while begun.elapsed() < self.length {
            let start = Instant::now();
            let receipt = commands.send(stream, nothing().into(), meta()).await.unwrap();
            hops.push(millis(start.elapsed()));
            assert!(receipt.repeated, "the command decided something");
            let start = Instant::now();
            router.request(node, Bytes::from_static(&[0; REQUEST]), PATIENCE).await.unwrap();
            requests.push(millis(start.elapsed()));
            let start = Instant::now();
            log.last(&stream).await.unwrap();
            looks.push(millis(start.elapsed()));
        }
        let count = hops.len();
        let mut figures = vec![];
        println!("gateway to owner and back, {count} times       p50 ms   p99 ms");
        let rows = [("a command that decides nothing", hops), ("bare: a request", requests), ("bare: a look", looks)];
        for (name, mut values) in rows {
            let (p50, p99) = (quantile(&mut values, 0.5), quantile(&mut values, 0.99));
            println!("{name:<42} {p50:>8.2} {p99:>8.2}");
            figures.extend([round(p50), round(p99)]);
        }
        println!(
            "{}",
            json!({
                "bench": "distributed", "what": "hop", "count": count, "p50_ms": figures[0], "p99_ms": figures[1],
                "bare_request_p50_ms": figures[2], "bare_request_p99_ms": figures[3], "bare_look_p50_ms": figures[4],
                "bare_look_p99_ms": figures[5],
            })
        );
    }

    /// Kills a worker, and has each of its sessions ask until it is answered.
    async fn owner_killed(&self, gateway: &Server, token: &str, mut workers: Vec<Server>) {
        let victim = workers.pop().unwrap();
        let talks = open(gateway, token, BEREFT).await;
        let mut talks: Vec<_> = talks.into_iter().filter(|talk| self.system.owns(&victim, &talk.session)).collect();
        let mut before = say_for(&mut talks, Duration::ZERO).await;
        drop(victim);
        let killed = Instant::now();
        let each = talks.iter_mut().map(async |talk| talk.insist(gateway, token, killed).await);
        let waited = join_all(each).await;
        let unanswered = waited.iter().filter(|waited| waited.is_none()).count();
        let mut seconds: Vec<f64> = waited.into_iter().flatten().map(|waited| waited.as_secs_f64()).collect();
        assert!(!seconds.is_empty(), "no session of the killed worker is answered");
        let [first, p50, last] = [0.0, 0.5, 1.0].map(|q| quantile(&mut seconds, q));
        let usual = quantile(&mut before, 0.5);
        println!(
            "owner of {} of {BEREFT} sessions killed: answered after {first:.2} s (first), {p50:.2} s (p50), {last:.2} s (last), \
             {unanswered} never; a turn before it took {usual:.1} ms",
            talks.len()
        );
        println!(
            "{}",
            json!({
                "bench": "distributed", "what": "owner_killed", "sessions": talks.len(), "unanswered": unanswered,
                "first_s": round(first), "p50_s": round(p50), "last_s": round(last), "turn_before_p50_ms": round(usual),
            })
        );
    }
}

/// Three servers with everything on each of them: kills the one that leads the log, again and again.
async fn leader_killed(llm: &str, rounds: usize) {
    let mut servers = NatsServers::three().await;
    let system = System::new(&servers.url, 3, llm).await;
    let _nodes = ["projector", "worker"].map(|role| system.node(role, role));
    let gateway = system.node("gateway", "gateway");
    system.workers(1).await;
    let token = system.token(&gateway).await;
    let mut talk = open(&gateway, &token, 1).await;
    let client = servers.client().await.unwrap();
    let events = async_nats::jetstream::new(client).get_stream_no_info("EVENTS").await.unwrap();
    for round_number in 1..=rounds {
        let leader = leader_of_three(&events).await;
        let usual = quantile(&mut say_for(&mut talk, Duration::from_millis(200)).await, 0.5);
        servers.kill(leader);
        let killed = Instant::now();
        let waited = talk[0].insist(&gateway, &token, killed).await.map(|waited| waited.as_secs_f64());
        let said = waited.map_or_else(|| "never".to_owned(), |waited| format!("after {waited:.2} s"));
        println!(
            "leader of three killed, round {round_number}: a turn is answered {said}; before it took {usual:.1} ms"
        );
        println!(
            "{}",
            json!({
                "bench": "distributed", "what": "leader_killed", "round": round_number, "answered_s": waited.map(round),
                "turn_before_p50_ms": round(usual),
            })
        );
        servers.run(leader);
    }
}

/// The number of the server that leads the log, once the two others have what it has.
async fn leader_of_three(events: &async_nats::jetstream::stream::Stream<()>) -> usize {
    let begun = Instant::now();
    loop {
        if let Ok(info) = events.get_info().await
            && let Some(cluster) = info.cluster
            && let Some(leader) = cluster.leader
            && cluster.replicas.iter().filter(|replica| replica.current && !replica.offline).count() == 2
        {
            return leader.trim_start_matches('n').parse().unwrap();
        }
        assert!(begun.elapsed() < PATIENCE, "the cluster is not whole after a minute");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Answers at once.
#[derive(Debug)]
struct Echo;

#[async_trait]
impl Responder for Echo {
    async fn answer(&self, _: Bytes) -> Bytes {
        Bytes::from_static(&[0; ANSWER])
    }
}

/// The answer to a message that nobody said.
fn nothing() -> session::Command {
    session::Command::CompleteReply {
        message_id: Uuid::new_v4(),
        answer: Box::new(answer()),
        tasks_completed: 2,
        millis: 7,
    }
}

/// A client with its session.
struct Talk {
    connection: Connection,
    session: String,
}

impl Talk {
    /// Says one thing until it is answered; how long that was after `since`, `None` when it took too long.
    async fn insist(&mut self, gateway: &Server, token: &str, since: Instant) -> Option<Duration> {
        let key = Uuid::new_v4().to_string();
        while since.elapsed() < PATIENCE {
            match tokio::time::timeout(PATIENCE, self.connection.try_say(&self.session, &key)).await {
                Ok(Ok(Some(_))) => return Some(since.elapsed()),
                Ok(Ok(None)) => {}
                Ok(Err(_)) | Err(_) => self.connection = gateway.connect().await.with(token),
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }
}

/// New sessions, each with one message.
async fn open(gateway: &Server, token: &str, sessions: usize) -> Vec<Talk> {
    join_all((0..sessions).map(|_| async {
        let mut connection = gateway.connect().await.with(token);
        let session = connection.say(None).await;
        Talk { connection, session }
    }))
    .await
}

/// Turns of each session, all sessions at once, until this time is over, at least one each; how long each took, in
/// milliseconds.
async fn say_for(talks: &mut [Talk], time: Duration) -> Vec<f64> {
    let begun = Instant::now();
    let each = talks.iter_mut().map(async |talk| {
        let mut taken = vec![];
        while taken.is_empty() || begun.elapsed() < time {
            let start = Instant::now();
            talk.connection.say(Some(&talk.session)).await;
            taken.push(millis(start.elapsed()));
        }
        taken
    });
    join_all(each).await.concat()
}
