//! What an index says of itself, in an entry of its own: how far it reaches, whose vectors it holds, and who writes.
//!
//! It is written last, and only over the one that was seen: of two writers the later one wins, and the other learns it.

use elasticsearch::http::Method;
use lmao_events::Position;
use lmao_ports::{IndexError, ModelManifest, Space};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{client::Client, error::Error, layout};
use crate::passages::spaces::BySpace;

/// Its id and routing; no document has it, since theirs are UUIDs.
const ID: &str = "state";

/// How far an index reaches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Counts the writers that have taken the index over. The version of everything that each writes.
    pub epoch: u64,
    /// Who wrote this.
    pub writer: Uuid,
    /// The log that the passages are computed from. It stands here and not beside the mapping, which anybody may change without
    /// seeing that somebody else did. Not said by builds before this field.
    #[serde(default)]
    pub log: Option<Uuid>,
    /// The position that the passages have reached.
    pub checkpoint: Position,
    /// Of the general vectors, present and to come. This and what is below was all that format 1 knew of vectors.
    #[serde(default)]
    pub model: Option<ModelManifest>,
    /// Passages.
    #[serde(default)]
    pub passages: u64,
    /// Passages with a general vector.
    #[serde(default)]
    pub vectors: u64,
    /// Of the domain's vectors, present and to come.
    #[serde(default)]
    pub domain_model: Option<ModelManifest>,
    /// Passages with a vector of the domain.
    #[serde(default)]
    pub domain_vectors: u64,
    /// Passages without any vector, where that is known.
    #[serde(default)]
    pub bare: Option<u64>,
}

/// What is counted in an index.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counts {
    /// Passages.
    pub passages: u64,
    /// Those with a vector.
    pub vectors: BySpace<u64>,
    /// Those without any.
    pub bare: u64,
}

impl State {
    /// This one, with other models and counts.
    pub(super) fn with(self, models: BySpace<Option<ModelManifest>>, counts: Counts) -> Self {
        Self {
            model: models.general,
            domain_model: models.domain,
            passages: counts.passages,
            vectors: counts.vectors.general,
            domain_vectors: counts.vectors.domain,
            bare: Some(counts.bare),
            ..self
        }
    }

    /// Of vectors present and to come.
    pub(super) fn models(&self) -> BySpace<Option<ModelManifest>> {
        BySpace { general: self.model.clone(), domain: self.domain_model.clone() }
    }

    /// The model of a space's vectors, if there are any.
    pub(super) fn model_in_use(&self, space: Space) -> Option<&ModelManifest> {
        let (model, vectors) = match space {
            Space::General => (&self.model, self.vectors),
            Space::Domain => (&self.domain_model, self.domain_vectors),
        };
        model.as_ref().filter(|_| vectors > 0)
    }

    /// Passages without any vector.
    pub(super) fn without_vectors(&self) -> u64 {
        self.bare.unwrap_or_else(|| self.passages.saturating_sub(self.vectors))
    }
}

/// Which write of an entry this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    sequence: u64,
    term: u64,
}

/// A state, and which write it was.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub state: State,
    pub place: Place,
}

/// The state in an index, or in the one behind an alias; `None` before the first writer. Never older than the last write.
pub(super) async fn read(client: &Client, index: &str) -> Result<Option<Stored>, Error> {
    let answer = client.call::<Value>(Method::Get, &format!("/{index}/_doc/{ID}"), &[("routing", ID)], None).await;
    let answer = match answer {
        // Without an exception it is the entry that is not there.
        Err(Error::Refused(refusal)) if refusal.status == 404 && refusal.kind.is_empty() => return Ok(None),
        answer => answer?,
    };
    let state = State::deserialize(&answer["_source"]["state"]);
    match (state, place(&answer)) {
        (Ok(state), Some(place)) => Ok(Some(Stored { state, place })),
        _ => Err(IndexError::Damaged(format!("the state in {index} is not readable")).into()),
    }
}

/// Writes the state of `index` in the place of the one that was `seen`.
///
/// # Errors
/// [`Error::Fenced`] when another writer's stands there.
pub(super) async fn write(client: &Client, index: &str, seen: Option<Place>, state: State) -> Result<Stored, Error> {
    let path = format!("/{}/_doc/{ID}", layout::own(index));
    let (sequence, term) =
        seen.map_or_else(Default::default, |place| (place.sequence.to_string(), place.term.to_string()));
    let expected = match seen {
        Some(_) => vec![("if_seq_no", &*sequence), ("if_primary_term", &*term)],
        None => vec![("op_type", "create")],
    };
    let query = [vec![("routing", ID), ("require_alias", "true")], expected].concat();
    let answer = client.call::<Value>(Method::Put, &path, &query, Some(&json!({ "state": state }))).await;
    match answer {
        // Ours, if an answer was lost and the request repeated.
        Err(error) if error.status() == Some(409) => match read(client, index).await? {
            Some(stored) if stored.state == state => Ok(stored),
            _ => Err(Error::Fenced),
        },
        answer => {
            let answer = answer?;
            let place =
                place(&answer).ok_or_else(|| IndexError::Damaged(format!("{index} does not number its writes")))?;
            Ok(Stored { state, place })
        }
    }
}

fn place(answer: &Value) -> Option<Place> {
    Some(Place { sequence: answer["_seq_no"].as_u64()?, term: answer["_primary_term"].as_u64()? })
}
