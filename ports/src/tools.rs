//! Tools, as they are listed and described.

use std::{fmt::Debug, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
