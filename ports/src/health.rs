//! What the process says of itself.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// How well a part works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// It works.
    Ok,
    /// It will work soon: a model is being obtained, an index caught up.
    Starting,
    /// It works in part, or something that it can do without is missing.
    Degraded,
    /// It does not work.
    Failed,
}

/// A part of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name: `log`, `search`, `semantic_leg`, `llm`.
    pub name: String,
    /// How well it works.
    pub state: HealthState,
    /// What is the matter and what to do; what is in use when nothing is.
    pub message: String,
}

/// The state of all parts.
#[async_trait]
pub trait Health: Debug + Send + Sync {
    /// Every part, now.
    async fn report(&self) -> Vec<Component>;
}
