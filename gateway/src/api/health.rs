//! What the server says of itself. Open to everyone, answered however busy it is.

use lmao_ports::{Component, HealthState};
use poem::http::StatusCode;
use poem_openapi::{Enum, Object, OpenApi};
use serde::Serialize;

use super::Tag;
use crate::{
    error::ApiError,
    reply::{Reply, Statuses},
};

/// It works, in part at least; or it does not.
#[derive(Debug)]
enum UpOrDown {}

impl Statuses for UpOrDown {
    const ALL: &'static [(u16, &'static str)] =
        &[(200, "It works, if only in part."), (503, "It does not work, or is shutting down.")];
}

/// How well a part works.
#[derive(Debug, Clone, Copy, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
enum PartState {
    Ok,
    /// It will work soon.
    Starting,
    /// It works in part.
    Degraded,
    /// It does not work.
    Failed,
}

impl From<HealthState> for PartState {
    fn from(state: HealthState) -> Self {
        match state {
            HealthState::Ok => Self::Ok,
            HealthState::Starting => Self::Starting,
            HealthState::Degraded => Self::Degraded,
            HealthState::Failed => Self::Failed,
        }
    }
}

/// A part of the system.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Component")]
struct Part {
    name: String,
    state: PartState,
    /// What is the matter and what to do; what is in use when nothing is.
    message: String,
}

impl From<Component> for Part {
    fn from(Component { name, state, message }: Component) -> Self {
        Self { name, state: state.into(), message }
    }
}

/// The state of everything.
#[derive(Debug, Object, Serialize)]
struct HealthResponse {
    /// That of the part that is worst off.
    status: PartState,
    components: Vec<Part>,
    version: String,
    /// Seconds.
    uptime: f64,
}

/// The state in a word.
#[derive(Debug, Object, Serialize)]
struct StateResponse {
    status: String,
}

super::routes! {
    /// `/health`
    Health
}

#[OpenApi(tag = "Tag::Health")]
impl Health {
    /// How everything is
    ///
    /// 200 also while a part is starting or degraded, and says which.
    #[oai(path = "/health", method = "get", operation_id = "health")]
    async fn health(&self) -> Result<Reply<HealthResponse, UpOrDown>, ApiError> {
        let app = self.app()?;
        let components = app.state.health.report().await;
        let worst = components.iter().map(|part| part.state).max().unwrap_or(HealthState::Ok);
        let body = HealthResponse {
            status: worst.into(),
            components: components.into_iter().map(Into::into).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: app.started.elapsed().as_secs_f64(),
        };
        Ok(Reply::new(up(worst != HealthState::Failed), body))
    }

    /// Whether the process runs
    #[oai(path = "/health/live", method = "get", operation_id = "live")]
    async fn live(&self) -> Reply<StateResponse> {
        Reply::ok(StateResponse { status: "live".to_owned() })
    }

    /// Whether it takes requests
    #[oai(path = "/health/ready", method = "get", operation_id = "ready")]
    async fn ready(&self) -> Result<Reply<StateResponse, UpOrDown>, ApiError> {
        let app = self.app()?;
        let failed = app.state.health.report().await.iter().any(|part| part.state == HealthState::Failed);
        let ready = !failed && !app.closing.is_cancelled();
        let status = if ready { "ready" } else { "not ready" };
        Ok(Reply::new(up(ready), StateResponse { status: status.to_owned() }))
    }
}

fn up(it_is: bool) -> StatusCode {
    if it_is { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
