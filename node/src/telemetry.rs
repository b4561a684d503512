//! Log messages, structured, to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::{
    cli::LogFormat,
    exit::{Code, Stop},
};

/// Begins to write what passes `filter`.
///
/// # Errors
/// [`Code::Usage`] when `filter` is none.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<(), Stop> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Stop::new(Code::Usage, format!("{filter:?} is no filter of log messages"))
            .because(error)
            .hint("for example info, or warn,lmao_actors=debug")
    })?;
    // Where standard error is closed, nobody can be told of it.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    let started = match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Stop::new(Code::Failed, "log messages cannot be written").because(anyhow::anyhow!(error)))
}
