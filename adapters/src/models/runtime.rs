//! ONNX Runtime in this process: one library, one environment, loaded on first use.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ort::{environment::Environment, logging::LogLevel};

/// Why ONNX Runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The library cannot be loaded.
    #[error(
        "ONNX Runtime does not load from {path} ({reason}); it must be a build for this system, version 1.24 or newer"
    )]
    Library {
        /// Where.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// It loads but does not start.
    #[error("ONNX Runtime does not start ({0})")]
    Start(String),
}

/// The process's environment; the first call decides which library it is, as a process can hold only one.
pub(super) fn environment(library: &Path) -> Result<Environment, Error> {
    static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
    let mut known = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = known.as_ref() {
        return Ok(environment.clone());
    }
    let builder = ort::init_from(library)
        .map_err(|error| Error::Library { path: library.to_owned(), reason: error.to_string() })?;
    let environment = builder
        .with_name("lmao")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| Error::Start(error.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    Ok(known.insert(environment).clone())
}

fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error => tracing::error!(category, location, "{message}"),
        LogLevel::Warning => tracing::warn!(category, location, "{message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(category, location, "{message}"),
    }
}
