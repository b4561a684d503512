//! The error that every port shares.

use std::error::Error as StdError;

/// A store that cannot be used now, or at all: its name, what went wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{store}: {message}")]
pub struct Unavailable {
    /// The store, for example `log.db`.
    pub store: &'static str,
    /// What happened and what to do, for people. Never repeats the source.
    pub message: String,
    /// What the driver said.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Unavailable {
    /// With the driver's error.
    pub fn new(
        store: &'static str,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { store, message: message.into(), source: Some(source.into()) }
    }

    /// Without another error behind it.
    pub fn plain(store: &'static str, message: impl Into<String>) -> Self {
        Self { store, message: message.into(), source: None }
    }
}
