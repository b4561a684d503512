//! What the process says of itself.

use std::sync::Arc;

use async_trait::async_trait;
use lmao_events::Position;
use lmao_ports::{
    Commands, Component, EventLog, Health, HealthState, IndexError, Projection, SearchIndex, SemanticState, Semantics,
};

use super::duties::Projectors;

/// So many commits behind, a projection is worth mentioning.
const LAG: u64 = 1000;

/// Asks every part.
#[derive(Debug)]
pub(crate) struct NodeHealth {
    pub log: Arc<dyn EventLog>,
    pub index: Arc<dyn SearchIndex>,
    pub semantics: Arc<dyn Semantics>,
    pub commands: Arc<dyn Commands>,
    pub projectors: Arc<Projectors>,
    /// `extractive`, or the language model's name.
    pub answerer: String,
}

#[async_trait]
impl Health for NodeHealth {
    async fn report(&self) -> Vec<Component> {
        let (log, tail) = self.log().await;
        let mut parts = vec![log];
        for (projection, error) in self.projectors.errors() {
            parts.push(behind(projection.as_ref(), error, tail).await);
        }
        parts.push(self.semantic_leg().await);
        parts.push(self.llm());
        parts.push(self.streams().await);
        parts
    }
}

impl NodeHealth {
    async fn log(&self) -> (Component, Option<Position>) {
        match self.log.tail().await {
            Ok(tail) => (part("log", HealthState::Ok, format!("position {tail}")), Some(tail)),
            Err(error) => (part("log", HealthState::Failed, error.to_string()), None),
        }
    }

    async fn semantic_leg(&self) -> Component {
        let name = "semantic_leg";
        match self.semantics.state() {
            SemanticState::Loading(what) => part(name, HealthState::Starting, what),
            SemanticState::Off(reason) => part(name, HealthState::Degraded, format!("off: {reason}")),
            SemanticState::Ready(embedder) => {
                let model = &embedder.manifest().id;
                let held =
                    async { Ok::<_, IndexError>((self.index.model().await?, self.index.without_vectors().await?)) };
                match held.await {
                    Ok((Some(stored), _)) if stored.id != *model => {
                        let text = format!(
                            "off: the index holds vectors of {}, the model in use is {model}; run `lmao models reembed`",
                            stored.id
                        );
                        part(name, HealthState::Degraded, text)
                    }
                    Ok((_, without)) if without > 0 => {
                        let text = format!(
                            "{model}; {without} passages have no vector and are found by words alone; if they stay so, run \
                             `lmao models reembed`"
                        );
                        part(name, HealthState::Degraded, text)
                    }
                    Ok(_) => part(name, HealthState::Ok, model.clone()),
                    Err(error) => part(name, HealthState::Degraded, error.to_string()),
                }
            }
        }
    }

    fn llm(&self) -> Component {
        let text = match self.answerer.as_str() {
            "extractive" => "extractive: answers quote the documents; no language model is configured".to_owned(),
            model => model.to_owned(),
        };
        part("llm", HealthState::Ok, text)
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

fn part(name: &str, state: HealthState, message: String) -> Component {
    Component { name: name.to_owned(), state, message }
}
