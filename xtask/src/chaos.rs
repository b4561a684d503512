//! `cargo xtask chaos`: the distributed system while its parts die at random, for as long as wanted.
//!
//! The work is that of one end-to-end test, which prints what it counted as one line of JSON.

use std::{
    io::{BufRead, BufReader},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use crate::{prometheus, test};

/// The test.
const TEST: &str = "chaos::what_was_accepted_ends_exactly_once_whatever_dies";
/// What its line of counts begins with.
const COUNTS: &str = "chaos: ";
/// Its clients log in once, and a login lasts half an hour.
const MAX_MINUTES: i64 = 25;

/// How long, and how.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long parts of the system are killed, paused and restarted.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=MAX_MINUTES))]
    minutes: u16,
    /// What dies when is drawn from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the counts as JSON, and everything else to standard error.
    #[arg(long)]
    json: bool,
}

/// Runs it and prints the counts. A breach is no error but an exit code.
///
/// # Errors
/// Something does not build, a server is missing, or cargo cannot be started.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let servers = test::end_to_end()?;
    let mut command = crate::cargo();
    command.args(["test", "--package", "lmao", "--package", "lmao-tests", "--test", "system"]);
    command.args(["--", "--nocapture", "--exact", TEST]).envs(servers.variables());
    command.env("LMAO_TEST_CHAOS_SECONDS", (u32::from(options.minutes) * 60).to_string());
    command.env("LMAO_TEST_CHAOS_SEED", options.seed.to_string());
    prometheus::name_to(&mut command);
    crate::announce(&command);

    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo test could not be started")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut counts = None;
    for line in BufReader::new(output).lines() {
        let line = line.context("the output of cargo test cannot be read")?;
        match line.strip_prefix(COUNTS).and_then(|counts| serde_json::from_str::<Value>(counts).ok()) {
            Some(counted) => counts = Some(counted),
            None => eprintln!("{line}"),
        }
    }
    let succeeded = child.wait().context("cargo test did not end")?.success();
    let ran_against = servers.lines();
    drop(servers);

    ran_against.iter().for_each(|line| eprintln!("{line}"));
    // A test that could not even begin has counted nothing.
    let counts = counts.context("the test counted nothing; what it said is above")?;
    if options.json {
        println!("{counts:#}");
    } else {
        print(&counts);
    }
    let is_whole = counts.get("breaches").and_then(Value::as_array).is_some_and(Vec::is_empty);
    Ok(if succeeded && is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(counts: &Value) {
    for (name, value) in counts.as_object().into_iter().flatten() {
        match value {
            Value::Array(breaches) => breaches.iter().for_each(|breach| println!("breach: {}", text(breach))),
            Value::Object(parts) => {
                println!("{name}");
                parts.iter().for_each(|(part, value)| println!("  {part:<20} {}", text(value)));
            }
            _ => println!("{:<22} {}", name.replace('_', " "), text(value)),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
