//! The one binary: command line, configuration, composition root. Here, and only here, adapters, core and gateway are
//! chosen and put together; every command but `serve` is a client of a server, its own if none runs.

mod cli;
mod client;
mod commands;
mod compose;
mod config;
mod exit;
mod output;
mod progress;
mod telemetry;

use std::{env, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    commands::Invocation,
    exit::{Code, Stop},
};

/// How long blocking work that nobody waits for may still take at the end.
const RUNTIME_SHUTDOWN: Duration = Duration::from_secs(2);

/// Makes this process the build after this one, in which the event of that name has a version more: for tests of upgrades.
#[cfg(debug_assertions)]
const NEXT_EVENT: &str = "LMAO_TEST_NEXT_EVENT";

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // Before anything else: this process reads files that nobody trusts, and has no use for the rest of us.
    if env::args_os().nth(1).is_some_and(|command| command == compose::WORKER) {
        return lmao_retrieval::ingest::worker_main();
    }
    make_private();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error).into(),
    };
    let json = cli.global.json;
    match run(cli) {
        Ok(()) => Code::Done.into(),
        Err(error) => {
            let told = if json { exit::render_json(&error) } else { exit::render(&error) };
            if let Some(text) = told {
                output::note(text);
            }
            exit::code_of(&error).into()
        }
    }
}

/// From now on, whatever this process writes (messages, passages, keys) is for the user that it runs as alone.
fn make_private() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Answers a command line that makes no sense, or that asks for help.
fn misread(error: &clap::Error) -> Code {
    if !error.use_stderr() {
        // It may be closed; then nobody reads it anyway.
        let _ = error.print();
        return Code::Done;
    }
    // What was not understood cannot say whether this was.
    if env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let stop = Stop::new(Code::Usage, text.trim().trim_start_matches("error: "));
        output::note(exit::render_json(&stop.into()).unwrap_or_default());
    } else {
        let _ = error.print();
    }
    Code::Usage
}

fn run(cli: Cli) -> anyhow::Result<()> {
    // The first of two providers that are compiled in would otherwise be a matter of chance.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let default_filter = if matches!(cli.command, Command::Serve(_)) {
        "info,poem=warn,async_nats=warn"
    } else {
        // What is missing without a model is told beside each result.
        "warn,lmao_adapters::models=error"
    };
    let mut global = cli.global;
    // As with the other variables: empty is absent.
    global.config = global.config.filter(|path| !path.as_os_str().is_empty());
    global.log_filter = global.log_filter.filter(|filter| !filter.is_empty());
    telemetry::start(global.log_format, global.log_filter.as_deref().unwrap_or(default_filter))?;
    let environment = environment()?;
    #[cfg(debug_assertions)]
    if let Some((_, event)) = environment.iter().find(|(name, _)| name == NEXT_EVENT) {
        lmao_events::pretend_next_build(event.clone());
    }
    let invocation = Invocation::new(global, environment);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the operating system gave no threads to run on")?;
    let result = runtime.block_on(commands::run(cli.command, invocation));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    result
}

/// Our own variables; one that is no UTF-8 is an error, one of somebody else's is not our business.
fn environment() -> Result<Vec<(String, String)>, Stop> {
    let ours = env::vars_os().filter(|(name, _)| config::is_ours(&name.to_string_lossy()));
    ours.map(|(name, value)| {
        let name = name.to_string_lossy().into_owned();
        let value = value
            .into_string()
            .map_err(|_| Stop::new(Code::Usage, format!("the environment variable {name} is not UTF-8")))?;
        Ok((name, value))
    })
    .collect()
}
