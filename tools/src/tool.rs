//! What a tool is to the registry.

use std::fmt::Debug;

use async_trait::async_trait;
use lmao_events::Failure;
use lmao_ports::ToolSpec;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

/// A tool. To add one: a file with a type that implements this, and a line in [`crate::Registry::builtin`],
/// or, for one that runs elsewhere, an entry in the configuration ([`crate::Remote`]).
#[async_trait]
pub trait Tool: Debug + Send + Sync {
    /// What it is. The same each time; the registry asks once.
    fn spec(&self) -> ToolSpec;

    /// Runs it. The parameters fit the spec's schema.
    ///
    /// Cancelled at its timeout by being dropped at an `await`: a tool that computes for long must await now and then, or
    /// compute on a thread of its own.
    ///
    /// # Errors
    /// What went wrong, for the user; retryable only if the same call may succeed later.
    async fn run(&self, call: Call) -> Result<Value, Failure>;
}

/// A call as a tool sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// On whose behalf: a tool reads and writes only what this person may.
    pub owner: Uuid,
    /// A JSON object that fits the schema.
    pub parameters: Value,
    /// The same for every attempt of one call: a tool that changes something passes it on.
    pub idempotency_key: Uuid,
}

impl Call {
    /// The parameters as the tool's own type.
    ///
    /// # Errors
    /// `bad_parameters`.
    pub fn parameters<T: DeserializeOwned>(self) -> Result<T, Failure> {
        serde_json::from_value(self.parameters).map_err(|error| bad_parameters(error.to_string()))
    }
}

/// The failure of a call whose parameters cannot be used.
#[must_use]
pub fn bad_parameters(message: impl Into<String>) -> Failure {
    Failure::lasting("bad_parameters", message)
}
