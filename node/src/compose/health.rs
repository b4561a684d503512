//! What the process says of itself.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use lmao_adapters::{Standing, llm::OpenAi};
use lmao_events::Position;
use lmao_ports::{Commands, Component, EventLog, Health, HealthState, Llm as _, Projection, Role};

use super::{duties::Projectors, servers::Server};
use crate::config::Roles;
pub(crate) use models::ModelHealth;

mod models;

/// So many commits behind, a projection is worth mentioning.
const LAG: u64 = 1000;
/// How long a part may take to say how it is: whoever asks for health waits no longer than some seconds.
const WITHIN: Duration = Duration::from_secs(2);

/// Asks every part.
#[derive(Debug)]
pub(crate) struct NodeHealth {
    pub log: Arc<dyn EventLog>,
    pub models: ModelHealth,
    pub commands: Arc<dyn Commands>,
    pub projectors: Arc<Projectors>,
    /// The language model, if one is configured.
    pub llm: Option<Arc<OpenAi>>,
    /// The servers that the stores are on; none where all are in the data directory.
    pub servers: Vec<Server>,
    /// What this node does.
    pub roles: Roles,
}

#[async_trait]
impl Health for NodeHealth {
    async fn report(&self) -> Vec<Component> {
        let (log, tail) = self.log().await;
        let projections = self.projectors.errors();
        let projections = projections.iter().map(|(projection, error)| async move {
            let name = projection.name();
            within(name, behind(projection.as_ref(), error.clone(), tail)).await
        });
        let (projections, semantic_leg, domain_leg, streams) = futures::join!(
            join_all(projections),
            within("semantic_leg", self.models.semantic_leg()),
            within("domain_leg", self.models.domain_leg()),
            within("streams", self.streams()),
        );
        let servers = self.servers.iter().map(|server| server.component(&self.roles));
        let mut parts: Vec<_> = std::iter::once(log).chain(servers).collect();
        parts.extend(projections);
        parts.extend([semantic_leg, domain_leg, self.models.reranker(), self.llm(), streams]);
        parts
    }
}

impl NodeHealth {
    async fn log(&self) -> (Component, Option<Position>) {
        // A gateway can still read what is elsewhere.
        let is_elsewhere = self.servers.iter().any(Server::keeps_the_log);
        let is_needed = !is_elsewhere || !self.roles.has(Role::Gateway);
        let absent = if is_needed { HealthState::Failed } else { HealthState::Degraded };
        match tokio::time::timeout(WITHIN, self.log.tail()).await {
            Ok(Ok(tail)) => (part("log", HealthState::Ok, format!("position {tail}")), Some(tail)),
            Ok(Err(error)) => (part("log", absent, error.to_string()), None),
            Err(_) => (part("log", absent, SILENT.to_owned()), None),
        }
    }

    fn llm(&self) -> Component {
        let Some(llm) = &self.llm else {
            let text = "extractive: answers quote the documents; no language model is configured";
            return part("llm", HealthState::Ok, text.to_owned());
        };
        match llm.standing() {
            Standing::Up => part("llm", HealthState::Ok, llm.model().to_owned()),
            Standing::Down { why } => {
                let text =
                    format!("{}: the last request failed: {why}; the next one that succeeds ends this", llm.model());
                part("llm", HealthState::Degraded, text)
            }
        }
    }

    async fn streams(&self) -> Component {
        let name = "streams";
        match self.commands.parked().await {
            Ok(parked) => match parked.first() {
                None => part(name, HealthState::Ok, "none is set aside".to_owned()),
                Some((stream, reason)) => {
                    let text = format!("{} set aside, the first: {stream}: {reason}", parked.len());
                    part(name, HealthState::Degraded, text)
                }
            },
            Err(error) => part(name, HealthState::Degraded, error.to_string()),
        }
    }
}

/// How far a projection is behind the log.
async fn behind(projection: &dyn Projection, error: Option<String>, tail: Option<Position>) -> Component {
    let name = projection.name();
    if let Some(error) = error {
        return part(name, HealthState::Degraded, error);
    }
    let (reached, parked) = match (projection.checkpoint().await, projection.parked().await) {
        (Ok(reached), Ok(parked)) => (reached, parked),
        (Err(error), _) | (_, Err(error)) => return part(name, HealthState::Degraded, error.to_string()),
    };
    let lag = tail.map_or(0, |tail| tail.0.saturating_sub(reached.0));
    if let Some(first) = parked.first() {
        let text = format!("{} streams set aside, the first: {}: {}", parked.len(), first.stream, first.reason);
        return part(name, HealthState::Degraded, text);
    }
    if lag > LAG {
        return part(name, HealthState::Starting, format!("catching up: position {reached}, {lag} behind"));
    }
    part(name, HealthState::Ok, format!("position {reached}, {lag} behind"))
}

const SILENT: &str = "it does not say in time how it is";

/// What a part says of itself, in time.
async fn within(name: &str, said: impl Future<Output = Component>) -> Component {
    let said = tokio::time::timeout(WITHIN, said).await;
    said.unwrap_or_else(|_| part(name, HealthState::Degraded, SILENT.to_owned()))
}

pub(super) fn part(name: &str, state: HealthState, message: String) -> Component {
    Component { name: name.to_owned(), state, message }
}
