//! `cargo xtask test`: builds the binary that end-to-end tests run, runs every test, and counts.
//!
//! A test that lacks something it needs prints `left out: NAME: REASON` and returns. It is counted as skipped, not as
//! passed, and its reason is shown at the end.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Args;

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
/// Something does not build, or cargo cannot be started. Failing tests are no error but an exit code.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let begun = Instant::now();
    let mut packages: Vec<&str> = options.package.iter().flat_map(|package| ["--package", package]).collect();
    if packages.is_empty() {
        packages.push("--workspace");
    }
    if options.package.is_empty() || options.package.iter().any(|package| package == END_TO_END) {
        // Together with the tests: built alone, the binary would ask for dependencies with other features, all anew.
        let binary = if options.package.is_empty() { &[][..] } else { &["--package", "lmao"] };
        crate::finish(crate::cargo().args(["build", "--bins", "--tests"]).args(&packages).args(binary))?;
    }

    let mut tests = crate::cargo();
    tests.args(["test", "--no-fail-fast"]).args(&packages);
    tests.args(["--", "--show-output"]).args(&options.filter);
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

    summary.print(begun.elapsed().as_secs());
    Ok(if succeeded && summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

    fn print(&self, seconds: u64) {
        let left_out = self.left_out.len() as u64;
        println!();
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
