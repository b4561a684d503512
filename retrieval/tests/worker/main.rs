//! Extraction in its real child process. Has a `main` of its own, because the child is this very program, started again with
//! an argument.
//!
//! Without arguments it runs everything, the mutation fuzzer for two seconds a target. `-- fuzz [--seconds N] [--target NAME]
//! [--seed N]` runs the fuzzer alone, `-- hostile` all but it; `-- show FILE…` prints what is extracted from files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets what it did not expect fails"
)]

mod fuzz;
mod hostile;
mod show;
mod support;

use std::process::ExitCode;

use lmao_retrieval::ingest::worker_main;
use support::World;

/// The argument that makes this program the child.
const CHILD: &str = "extract";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let first = arguments.first().map(String::as_str);
    if first == Some(CHILD) {
        return worker_main();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let world = World::new();
        match first {
            Some("fuzz") => fuzz::run(&world, &fuzz::Options::parse(&arguments[1..])).await,
            Some("hostile") => hostile::run(&world).await,
            Some("show") => show::run(&world, &arguments[1..]).await,
            _ => {
                hostile::run(&world).await;
                fuzz::run(&world, &fuzz::Options::default()).await;
            }
        }
    });
    println!("all worker tests passed");
    ExitCode::SUCCESS
}
