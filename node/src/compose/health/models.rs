//! What the models say of themselves, and whether the index fits them.

use std::sync::Arc;

use lmao_adapters::models::{Models, Role};
use lmao_ports::{
    Component, HealthState, IndexError, RerankerState, Reranking, SearchIndex, SemanticState, Semantics, Space,
};
use lmao_retrieval::ingest::Rejected;

use super::part;

/// Asks the models, and the index of what it holds.
#[derive(Debug)]
pub(crate) struct ModelHealth {
    pub index: Arc<dyn SearchIndex>,
    pub models: Arc<Models>,
    pub rejected: Arc<Rejected>,
}

impl ModelHealth {
    pub(super) async fn semantic_leg(&self) -> Component {
        let name = "semantic_leg";
        match Semantics::state(&*self.models, Space::General) {
            SemanticState::Loading(what) => part(name, HealthState::Starting, what),
            SemanticState::Off(reason) => part(name, HealthState::Degraded, format!("off: {reason}")),
            SemanticState::Ready(embedder) => match self.general(&embedder.manifest().id).await {
                Ok((state, message)) => part(name, state, message),
                Err(error) => part(name, HealthState::Degraded, error.to_string()),
            },
        }
    }

    async fn general(&self, model: &str) -> Result<(HealthState, String), IndexError> {
        let (held, without) = (self.index.model(Space::General).await?, self.index.without_vectors().await?);
        if let Some(held) = held.filter(|held| held.id != model) {
            return Ok((HealthState::Degraded, misfit(&held.id, model)));
        }
        let rejected = match self.rejected.total() {
            0 => String::new(),
            count => format!("; {count} vectors were refused since the start ({})", self.rejected.reasons()),
        };
        if without > 0 {
            let text = format!(
                "{model}; {without} passages have no vector and are found by words alone; if they stay so, run `lmao models \
                 reembed`{rejected}"
            );
            return Ok((HealthState::Degraded, text));
        }
        let state = if rejected.is_empty() { HealthState::Ok } else { HealthState::Degraded };
        Ok((state, format!("{model}{rejected}")))
    }

    /// A model for code is something that one may do without, unless it was asked for.
    pub(super) async fn domain_leg(&self) -> Component {
        let name = "domain_leg";
        let held = match self.index.model(Space::Domain).await {
            Ok(held) => held.map(|held| held.id),
            Err(error) => return part(name, HealthState::Degraded, error.to_string()),
        };
        let model = match Semantics::state(&*self.models, Space::Domain) {
            SemanticState::Loading(what) => return part(name, HealthState::Starting, what),
            SemanticState::Off(reason) => {
                let is_wanted = self.models.is_wanted(Role::Domain);
                let state = if is_wanted || held.is_some() { HealthState::Degraded } else { HealthState::Ok };
                let now = match held {
                    Some(held) => format!(
                        "code in the index has vectors of {held} and is found by words alone until `lmao models reembed`"
                    ),
                    None if self.models.is_wanted(Role::General) => "the general model embeds code too".to_owned(),
                    None => "code is found by words alone".to_owned(),
                };
                return part(name, state, format!("off: {reason}; {now}"));
            }
            SemanticState::Ready(embedder) => embedder.manifest().id.clone(),
        };
        match held {
            Some(held) if held != model => part(name, HealthState::Degraded, misfit(&held, &model)),
            _ => part(name, HealthState::Ok, model),
        }
    }

    pub(super) fn reranker(&self) -> Component {
        let name = "reranker";
        match Reranking::state(&*self.models) {
            RerankerState::Loading(what) => part(name, HealthState::Starting, what),
            RerankerState::Ready(reranker) => part(name, HealthState::Ok, reranker.id().to_owned()),
            RerankerState::Off(reason) => {
                let is_wanted = self.models.is_wanted(Role::Reranker);
                let state = if is_wanted { HealthState::Degraded } else { HealthState::Ok };
                part(name, state, format!("off: {reason}; results keep the order of the search"))
            }
        }
    }
}

fn misfit(held: &str, model: &str) -> String {
    format!("off: the index holds vectors of {held}, the model in use is {model}; run `lmao models reembed`")
}
