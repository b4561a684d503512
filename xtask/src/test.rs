//! `cargo xtask test`: starts the servers while everything builds, runs every test, and counts.
//!
//! A test that lacks something it needs prints `left out: NAME: REASON` and returns. It is counted as skipped, not as
//! passed, and its reason is shown at the end.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{ExitCode, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    otelcol, prometheus,
    servers::{Kind, Servers},
};

/// The package whose tests run the `lmao` binary.
const END_TO_END: &str = "lmao-tests";

/// What to test.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the tests of these packages.
    #[arg(short, long)]
    package: Vec<String>,
    /// Only the tests whose names contain this.
    filter: Option<String>,
}

/// Runs the tests.
///
/// # Errors
/// Something does not build, a server is missing, or cargo cannot be started. Failing tests are no error but an exit code.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let begun = Instant::now();
    let mut packages: Vec<&str> = options.package.iter().flat_map(|package| ["--package", package]).collect();
    if packages.is_empty() {
        packages.push("--workspace");
    }
    let servers =
        if crate::servers::needed(&options.package) { Some(build_and_start(options, &packages)?) } else { None };
    let end_to_end = options.package.is_empty() || options.package.iter().any(|package| package == END_TO_END);

    let mut tests = crate::cargo();
    if end_to_end && std::env::var_os(otelcol::VARIABLE).is_none() {
        tests.env(otelcol::VARIABLE, otelcol::obtain()?.unwrap_or_default());
    }
    if end_to_end {
        prometheus::name_to(&mut tests);
    }
    tests.args(["test", "--no-fail-fast"]).args(&packages);
    tests.args(["--", "--show-output"]).args(&options.filter);
    tests.envs(servers.iter().flat_map(Servers::variables));
    crate::announce(&tests);

    let mut child = tests.stdout(Stdio::piped()).spawn().context("cargo test could not be started")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut summary = Summary::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("the output of cargo test cannot be read")?;
        let line = String::from_utf8_lossy(&line);
        if summary.take(&line) == Show::Yes {
            println!("{line}");
        }
    }
    let succeeded = child.wait().context("cargo test did not end")?.success();

    let ran_against: Vec<String> = servers.iter().flat_map(Servers::lines).collect();
    drop(servers);
    summary.print(begun.elapsed().as_secs(), &ran_against);
    Ok(if succeeded && summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the end-to-end tests and what they run, and starts the servers.
///
/// # Errors
/// Something does not build, or a server is missing.
pub(crate) fn end_to_end() -> Result<Servers> {
    let options = Options { package: vec![END_TO_END.to_owned()], filter: None };
    build_and_start(&options, &["--package", END_TO_END])
}

/// Builds the tests, and the binary that end-to-end tests run, while the servers start.
fn build_and_start(options: &Options, packages: &[&str]) -> Result<Servers> {
    thread::scope(|scope| {
        let starting = scope.spawn(|| {
            // Said at once: the build takes longer.
            Servers::start(&Kind::ALL).inspect_err(|error| eprintln!("error: a server is missing: {error:#}"))
        });
        let mut build = crate::cargo();
        build.args(["build", "--tests"]).args(packages);
        if options.package.is_empty() || options.package.iter().any(|package| package == END_TO_END) {
            // Together with the tests: built alone, the binary would ask for dependencies with other features, all anew.
            build.arg("--bins").args(if options.package.is_empty() { &[][..] } else { &["--package", "lmao"] });
        }
        let built = crate::finish(&mut build);
        let started = starting.join().unwrap_or_else(|_| bail!("the thread that starts servers panicked"));
        built?;
        started
    })
}

/// Whether a line is for the reader.
#[derive(Debug, PartialEq, Eq)]
enum Show {
    Yes,
    No,
}

/// What the test binaries' output adds up to.
#[derive(Debug, Default)]
struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
    left_out: BTreeSet<String>,
    failures: Vec<String>,
    /// Inside the output of tests that passed, which is read but not shown.
    in_successes: bool,
}

impl Summary {
    fn take(&mut self, line: &str) -> Show {
        if let Some(reason) = line.strip_prefix("left out: ") {
            self.left_out.insert(reason.to_owned());
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        match line {
            "successes:" => self.in_successes = true,
            "failures:" => self.in_successes = false,
            _ if line.starts_with("test result: ") => self.in_successes = false,
            _ => {}
        }
        if self.in_successes { Show::No } else { Show::Yes }
    }

    fn print(&self, seconds: u64, ran_against: &[String]) {
        let left_out = self.left_out.len() as u64;
        println!();
        for server in ran_against {
            println!("{server}");
        }
        for name in &self.failures {
            println!("failed: {name}");
        }
        for reason in &self.left_out {
            println!("left out: {reason}");
        }
        println!("{} min {} s", seconds / 60, seconds % 60);
        println!(
            "{} passed, {} failed, {} skipped",
            self.passed.saturating_sub(left_out),
            self.failed,
            self.ignored + left_out
        );
    }
}

/// The number in front of `word` in `ok. 5 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> u64 {
    let mut last = "";
    for part in counts.split([' ', ';']).filter(|part| !part.is_empty()) {
        if part == word {
            return last.parse().unwrap_or(0);
        }
        last = part;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_several_binaries_adds_up() {
        let output = "
running 3 tests
test a ... ok
test b ... FAILED
test c ... ignored

successes:

---- a stdout ----
left out: a: LMAO_TEST_SHARED is not set
chatter

successes:
    a

failures:

---- b stdout ----
assertion failed

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
test result: ok. 41 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.01s";
        let mut summary = Summary::default();
        let shown: Vec<&str> = output.lines().filter(|line| summary.take(line) == Show::Yes).collect();
        assert_eq!((summary.passed, summary.failed, summary.ignored), (42, 1, 1));
        assert_eq!(summary.left_out.iter().collect::<Vec<_>>(), ["a: LMAO_TEST_SHARED is not set"]);
        assert_eq!(summary.failures, ["b"]);
        assert!(shown.contains(&"assertion failed") && !shown.contains(&"chatter"));
    }
}
