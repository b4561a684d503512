//! Durable chat turns over HTTP against the real server: a scripted language model that answers at once, an empty index,
//! every commit synced, projections caught up before the CPU is read. The model's and the client's CPU is not counted.
//!
//! Prints a table and JSON. `LMAO_BENCH_TURNS` (of 64 sessions together) and `LMAO_BENCH_MESSAGES` (of one long session)
//! shrink it.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do")]

mod common;

use std::{path::Path, time::Instant};

use common::{Connection, Server, instant_llm, millis, quantile, round, size};
use futures::{StreamExt as _, future::join_all};
use lmao_adapters::sqlite::{Access, SqliteLog};
use lmao_events::Position;
use lmao_ports::{EventLog as _, Filter};
use serde_json::json;

/// Sessions at once, and which part of the turns they have together.
const SESSIONS: [(usize, usize); 3] = [(1, 8), (16, 2), (64, 1)];
/// Long sessions at once, and the messages over which the CPU of one is averaged.
const LONG: usize = 64;
const WINDOW: usize = 32;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (turns, messages) = (size("LMAO_BENCH_TURNS", 6400), size("LMAO_BENCH_MESSAGES", 1000));
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("data");
    let server = Server::start(&data, Some(&instant_llm().await));
    let token = server.token().await;
    println!(
        "{:>8} {:>7} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "sessions", "turns", "turns/s", "p50 ms", "p99 ms", "CPU ms", "log B"
    );
    for (sessions, share) in SESSIONS {
        let mut talks = open(&server, &token, sessions).await;
        server.caught_up().await;
        let (log, cpu, begun) = (end(&data).await, server.cpu(), Instant::now());
        let mut latencies = say(&mut talks, (turns / share / sessions).max(1)).await;
        let wall = begun.elapsed().as_secs_f64();
        server.caught_up().await;
        let cpu = millis(server.cpu() - cpu) / latencies.len() as f64;
        let (commits, bytes) = log_since(&data, log).await;
        let count = latencies.len();
        let (p50, p99) = (quantile(&mut latencies, 0.5), quantile(&mut latencies, 0.99));
        let (rate, bytes) = (count as f64 / wall, bytes as f64 / count as f64);
        println!("{sessions:>8} {count:>7} {rate:>8.0} {p50:>8.1} {p99:>8.1} {cpu:>9.2} {bytes:>9.0}");
        println!(
            "{}",
            json!({
                "bench": "turns", "sessions": sessions, "turns": count, "turns_per_second": round(rate),
                "p50_ms": round(p50), "p99_ms": round(p99), "cpu_ms_per_turn": round(cpu),
                "log_bytes_per_turn": bytes.round(), "commits_per_turn": round(commits as f64 / count as f64),
            })
        );
    }
    growth(&server, &token, messages).await;
    server.stop();
}

/// What a turn costs early and late in a session.
async fn growth(server: &Server, token: &str, messages: usize) {
    let mut talks = open(server, token, LONG).await;
    let window = WINDOW.min(messages / 4);
    // From the tenth message on: before, there is less history than a turn looks at.
    say(&mut talks, 8).await;
    let early = cpu_of(server, &mut talks, window).await;
    say(&mut talks, messages.saturating_sub(9 + 2 * window)).await;
    let late = cpu_of(server, &mut talks, window).await;
    println!("CPU-ms of each turn from message 10 on: {early:.2}; up to message {messages}: {late:.2}");
    println!(
        "{}",
        json!({
            "bench": "turns", "long_sessions": LONG, "messages": messages, "window": window,
            "early_cpu_ms": round(early), "late_cpu_ms": round(late), "late_to_early": round(late / early),
        })
    );
}

async fn cpu_of(server: &Server, talks: &mut [Talk], turns: usize) -> f64 {
    server.caught_up().await;
    let cpu = server.cpu();
    let count = say(talks, turns).await.len();
    server.caught_up().await;
    millis(server.cpu() - cpu) / count as f64
}

/// A client with its session.
struct Talk {
    connection: Connection,
    session: String,
}

/// New sessions, each with one message.
async fn open(server: &Server, token: &str, sessions: usize) -> Vec<Talk> {
    join_all((0..sessions).map(|_| async {
        let mut connection = server.connect().await.with(token);
        let session = connection.say(None).await;
        Talk { connection, session }
    }))
    .await
}

/// So many turns of each session, all sessions at once; how long each took, in milliseconds.
async fn say(talks: &mut [Talk], turns: usize) -> Vec<f64> {
    let each = talks.iter_mut().map(async |talk| {
        let mut taken = Vec::with_capacity(turns);
        for _ in 0..turns {
            let begun = Instant::now();
            talk.connection.say(Some(&talk.session)).await;
            taken.push(millis(begun.elapsed()));
        }
        taken
    });
    join_all(each).await.concat()
}

async fn end(data: &Path) -> Position {
    SqliteLog::open(&data.join("log.db"), Access::ReadOnly).await.unwrap().tail().await.unwrap()
}

/// Commits behind this position, and their bytes.
async fn log_since(data: &Path, after: Position) -> (u64, usize) {
    let log = SqliteLog::open(&data.join("log.db"), Access::ReadOnly).await.unwrap();
    let count = log.tail().await.unwrap().0 - after.0;
    let records = log.subscribe(after, Filter::All).take(usize::try_from(count).unwrap());
    (count, records.map(|recorded| recorded.unwrap().record.bytes().len()).collect::<Vec<_>>().await.iter().sum())
}
