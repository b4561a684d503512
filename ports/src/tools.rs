//! Tools, as they are listed and described, and those that run elsewhere.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// What a tool is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name: lower case, digits, `_`, `-`.
    pub name: String,
    /// What it does, for people and models.
    pub description: String,
    /// What it is good for: `search`, `arithmetic`.
    pub capabilities: Vec<String>,
    /// JSON Schema of its parameters (an object).
    pub parameters: Value,
    /// Whether running it twice does no harm.
    pub repeatable: bool,
    /// How long it may run.
    pub timeout: Duration,
}

/// The tools there are.
pub trait ToolCatalog: Debug + Send + Sync {
    /// All of them, by name.
    fn list(&self) -> Vec<ToolSpec>;

    /// One of them.
    fn find(&self, name: &str) -> Option<ToolSpec> {
        self.list().into_iter().find(|tool| tool.name == name)
    }

    /// What is wrong with these parameters, one line for each fault; empty when they can be used.
    fn check(&self, name: &str, parameters: &Value) -> Vec<String>;
}

/// A call of a tool that runs elsewhere, as it is sent there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RemoteCall {
    /// The tool's name.
    pub tool: String,
    /// A JSON object that fits the tool's schema.
    pub arguments: Value,
    /// Which call; the same for every attempt, so that the other side can tell a repetition.
    pub call_id: Uuid,
    /// On whose behalf.
    pub user_id: Uuid,
}

/// Why a tool that runs elsewhere has no result. No text of it holds an address: addresses may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No connection: nothing was sent, and nothing ran.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke before the answer was whole: it may have run.
    #[error("it broke off: {0}")]
    BrokeOff(String),
    /// It says no.
    #[error("it answers {status}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Status {
        /// The HTTP status.
        status: u16,
        /// Its own words, shortened; empty without any.
        message: String,
    },
    /// It ran, and answers more than is taken.
    #[error("its answer is over {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: usize,
    },
    /// It ran, and answers something else.
    #[error("its answer is no JSON")]
    NotJson,
}

/// Where a tool runs that is no part of this process.
#[async_trait]
pub trait ToolEndpoint: Debug + Send + Sync {
    /// Runs it: the call is sent once and never again, whatever happens to the connection. There is no limit of time but
    /// that of connecting: the caller stops it by dropping it, which ends the exchange, and perhaps not the tool.
    ///
    /// # Errors
    /// Why there is no result.
    async fn call(&self, call: &RemoteCall) -> Result<Value, EndpointError>;
}
