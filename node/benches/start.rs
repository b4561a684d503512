//! Starting on a long log: until the server answers, until a session that nobody has loaded answers, and the memory that
//! each live idle session takes.
//!
//! Prints a table and JSON. `LMAO_BENCH_EVENTS` shrinks it, `LMAO_BENCH_DATA` keeps the log for the next run.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do")]

mod common;

use std::{
    fs::File,
    io::Write as _,
    time::{Duration, Instant},
};

use common::{
    Server,
    history::{History, PER_SESSION},
    instant_llm, millis, quantile, round,
};
use futures::future::join_all;
use serde_json::json;

const STARTS: usize = 5;
/// Sessions that are asked for the first time, one after the other.
const FIRSTS: usize = 200;
/// Commits that an answer waits for; a fifth comes after it.
const SYNCS: usize = 4;
/// Sessions woken for the memory they take: this many four times, the first time to warm up.
const LIVE: usize = 1000;
const AT_ONCE: usize = 32;
/// Actors of workflows are gone by then, those of sessions not yet.
const SETTLE: Duration = Duration::from_secs(4);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let history = History::make().await;
    let llm = instant_llm().await;
    let first = Server::start(&history.data, Some(&llm));
    first.caught_up().await;
    first.idle().await;
    println!("projections and wake index caught up in {:.1} s", first.started.elapsed().as_secs_f64());
    first.stop();

    let (mut healthy, mut ready, mut caught_up) = (vec![], vec![], vec![]);
    for _ in 0..STARTS {
        let server = Server::start(&history.data, Some(&llm));
        let mut connection = server.connect().await;
        connection.get("/health").await;
        healthy.push(millis(server.started.elapsed()));
        connection.get("/health/ready").await;
        ready.push(millis(server.started.elapsed()));
        server.caught_up().await;
        caught_up.push(millis(server.started.elapsed()));
        // Every other start follows a crash.
        if caught_up.len() % 2 == 0 { server.stop() } else { drop(server) }
    }
    let server = Server::start(&history.data, Some(&llm));
    let token = server.token().await;
    server.idle().await;
    let (mut firsts, mut seconds, mut bare) = first_messages(&server, &token, &history).await;
    let idle_bytes = memory(&server, &token, &history).await;
    server.stop();

    let [healthy, ready, caught_up] = [healthy, ready, caught_up].map(|mut times| quantile(&mut times, 0.5));
    let (first, first_99) = (quantile(&mut firsts, 0.5), quantile(&mut firsts, 0.99));
    let (second, second_99) = (quantile(&mut seconds, 0.5), quantile(&mut seconds, 0.99));
    let (bare, bare_99) = (quantile(&mut bare, 0.5), quantile(&mut bare, 0.99));
    let records = history.sessions * PER_SESSION;
    println!("{records} records, {} streams", history.sessions);
    println!(
        "/health after {healthy:.0} ms, ready after {ready:.0} ms, projections at the end after {caught_up:.0} ms"
    );
    println!("first message of a session: p50 {first:.1} ms, p99 {first_99:.1}; second: {second:.1}, {second_99:.1}");
    println!("{SYNCS} bare syncs beside each: p50 {bare:.1} ms, p99 {bare_99:.1}");
    println!("resident memory of a live idle session: {:.1} KB", idle_bytes / 1024.0);
    println!(
        "{}",
        json!({
            "bench": "start", "records": records, "streams": history.sessions,
            "health_ms": round(healthy), "ready_ms": round(ready), "caught_up_ms": round(caught_up),
            "first_message_p50_ms": round(first), "first_message_p99_ms": round(first_99),
            "second_message_p50_ms": round(second), "second_message_p99_ms": round(second_99),
            "bare_syncs_p50_ms": round(bare), "bare_syncs_p99_ms": round(bare_99),
            "bytes_per_idle_session": idle_bytes.round(),
        })
    );
}

/// Milliseconds of the first and of the second message of sessions that were not in memory, and beside each of as many bare
/// syncs on the same disk as an answer waits for.
async fn first_messages(server: &Server, token: &str, history: &History) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut file = tempfile::tempfile_in(&history.data).unwrap();
    let mut connection = server.connect().await.with(token);
    let count = FIRSTS.min(history.sessions / 4);
    let (mut firsts, mut seconds, mut bare) = (vec![], vec![], vec![]);
    for n in 0..count {
        let session = history.session(n * (history.sessions / count / 2)).to_string();
        for times in [&mut firsts, &mut seconds] {
            let begun = Instant::now();
            connection.say(Some(&session)).await;
            times.push(millis(begun.elapsed()));
            bare.push(syncs(&mut file));
        }
    }
    (firsts, seconds, bare)
}

/// Milliseconds of appending and syncing this often, with nothing else done.
fn syncs(file: &mut File) -> f64 {
    let begun = Instant::now();
    for _ in 0..SYNCS {
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
    }
    millis(begun.elapsed())
}

/// What each further session adds to the server's memory.
async fn memory(server: &Server, token: &str, history: &History) -> f64 {
    let live = LIVE.min(history.sessions / 16);
    let mut resident = vec![];
    for round in 0..4 {
        // From the later half, which `first_messages` leaves alone.
        let first = history.sessions / 2 + round * live;
        join_all((0..AT_ONCE).map(async |part| {
            let mut connection = server.connect().await.with(token);
            for n in (part..live).step_by(AT_ONCE) {
                connection.say(Some(&history.session(first + n).to_string())).await;
            }
        }))
        .await;
        tokio::time::sleep(SETTLE).await;
        resident.push(server.resident() as f64);
    }
    println!("resident, MB: {:?}", resident.iter().map(|bytes| round(bytes / 1e6)).collect::<Vec<_>>());
    (resident[3] - resident[0]) / (3 * live) as f64
}
