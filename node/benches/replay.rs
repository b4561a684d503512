//! Rebuilding the projections from the whole log, by the command that an operator uses.
//!
//! Prints a table and JSON. `LMAO_BENCH_EVENTS` shrinks it, `LMAO_BENCH_DATA` keeps the log for the next run.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do")]

mod common;

use std::{process::Stdio, time::Instant};

use common::{
    cpu_of_children,
    history::{History, PER_SESSION},
    lmao, round,
};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let history = History::make().await;
    let records = (history.sessions * PER_SESSION) as f64;
    println!("{:<12} {:>10} {:>8} {:>8} {:>16}", "projection", "records/s", "s", "CPU s", "records/CPU-s");
    for name in [None, Some("read_model"), Some("search")] {
        let (begun, cpu) = (Instant::now(), cpu_of_children());
        let mut command = lmao(&history.data);
        command.args(["projections", "rebuild"]).args(name).stdout(Stdio::null());
        assert!(command.status().unwrap().success());
        let (wall, cpu) = (begun.elapsed().as_secs_f64(), (cpu_of_children() - cpu).as_secs_f64());
        let name = name.unwrap_or("all");
        println!("{name:<12} {:>10.0} {wall:>8.1} {cpu:>8.1} {:>16.0}", records / wall, records / cpu);
        println!(
            "{}",
            json!({
                "bench": "replay", "projection": name, "records": records, "records_per_second": (records / wall).round(),
                "records_per_cpu_second": (records / cpu).round(), "cpu_seconds": round(cpu),
            })
        );
    }
}
