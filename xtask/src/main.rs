//! The project's own commands, `cargo xtask …`: whatever CI or a contributor runs that is more than one `cargo` call.
//!
//! It drives `cargo`, and the servers that tests run against.

mod bench;
mod chaos;
mod otelcol;
mod prometheus;
mod schemas;
mod servers;
mod test;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::Parser;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
enum Task {
    /// Start real servers and run every test (what CI runs), then say how many passed, failed and were skipped, and why.
    Test(test::Options),
    /// Start the servers that tests run against, leave them running and print the variables that name them.
    Up,
    /// Stop the servers that `up` left running.
    Down,
    /// Write the JSON Schema of every event to schemas/events.
    Schemas,
    /// Run a benchmark, or list those that exist; results go to target/bench/NAME.json.
    Bench(bench::Options),
    /// Kill, pause and restart parts of the distributed system at random while it is used, and count what comes of it.
    Chaos(chaos::Options),
    /// Check format and lints; every warning is an error.
    Lint,
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Test(options) => test::run(&options),
        Task::Up => servers::up().map(|()| ExitCode::SUCCESS),
        Task::Down => servers::down().map(|()| ExitCode::SUCCESS),
        Task::Schemas => schemas::write().map(|()| ExitCode::SUCCESS),
        Task::Bench(options) => bench::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Chaos(options) => chaos::run(&options),
        Task::Lint => lint().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn lint() -> Result<()> {
    finish(cargo().args(["fmt", "--all", "--check"]))?;
    finish(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// The repository's root.
fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs this, in the repository's root.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo tells of this program. Build scripts watch these names: what stands on `ring` would be built anew whenever
    // plain cargo and this one take turns.
    let told = std::env::vars_os().map(|(name, _)| name);
    for name in told.filter(|name| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        command.env_remove(name);
    }
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_CRATE_NAME", "CARGO_BIN_NAME"] {
        command.env_remove(name);
    }
    command
}

/// Says what it runs, runs it, and fails with it.
fn finish(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("{command:?} could not be started"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

fn announce(command: &Command) {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    eprintln!("> cargo {}", words.join(" "));
}
