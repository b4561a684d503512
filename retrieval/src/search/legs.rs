//! The legs: what the index knows by words, and what it knows by meaning in each space of vectors.

use std::{collections::HashSet, sync::Arc};

use blake3::Hash;
use futures::future::join_all;
use lmao_ports::{
    EmbedError, Embedder, IndexError, KeywordQuery, Leg, LegHit, SearchError, SearchFilter, SearchIndex, SemanticState,
    Semantics, Space, Span, Unavailable,
};

use super::{neighbours::unit, query::MAX_DEPTH, relevance::Background};

/// Passages of each leg that are fused. Fixed, so that a ranking does not depend on how much of it is looked at.
pub(super) const FUSED: usize = 100;

/// How many passages a leg is asked for, by steps.
const DEPTHS: [usize; 4] = [FUSED, 200, 500, MAX_DEPTH];

/// Whether a space can be searched.
#[derive(Debug)]
pub(super) enum Readiness {
    /// By this model.
    Ready(Arc<dyn Embedder>),
    /// The index holds no vectors there.
    Empty,
    /// Its model is not there yet: why.
    Loading(String),
    /// It cannot be used: why.
    Off(SearchError),
}

/// Whether the space's model is there and the index holds vectors of it.
pub(super) async fn readiness(index: &dyn SearchIndex, semantics: &dyn Semantics, space: Space) -> Readiness {
    let embedder = match semantics.state(space) {
        SemanticState::Ready(embedder) => embedder,
        SemanticState::Loading(why) => return Readiness::Loading(why),
        SemanticState::Off(why) => return Readiness::Off(SearchError::SemanticOff(why)),
    };
    let wanted = &embedder.manifest().id;
    match index.model(space).await {
        Ok(Some(stored)) if stored.id == *wanted => Readiness::Ready(embedder),
        Ok(Some(stored)) => Readiness::Off(IndexError::OtherModel { stored: stored.id, wanted: wanted.clone() }.into()),
        Ok(None) => Readiness::Empty,
        Err(error) => Readiness::Off(error.into()),
    }
}

/// A question's vector in a space, at length 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Direction {
    pub(super) space: Space,
    pub(super) vector: Vec<f32>,
    /// How near texts about anything are to it on average, where that is known.
    pub(super) floor: Option<f32>,
}

/// The question's vector in each of these spaces, or why there is none.
pub(super) async fn embed(
    text: &str,
    models: &[(Space, Arc<dyn Embedder>)],
    background: &Background,
) -> Vec<Result<Direction, (Space, SearchError)>> {
    let embedded = models.iter().map(|(space, embedder)| async move {
        let model = &embedder.manifest().id;
        let span = Span::here(|| format!("embeddings {model}").into());
        let vector = span.run(embedder.query(text)).await.map_err(|error| (*space, error.into()))?;
        let shapeless =
            || EmbedError::Model { model: model.clone(), message: "the question's vector is none".to_owned() };
        let vector = unit(vector).ok_or_else(|| (*space, shapeless().into()))?;
        let floor = background.floor(&vector, embedder).await;
        Ok(Direction { space: *space, vector, floor })
    });
    join_all(embedded).await
}

/// What one leg found, best first.
#[derive(Debug, Clone)]
pub(super) struct Ranking<L> {
    /// Which leg.
    pub(super) leg: L,
    /// BM25, or cosine similarity.
    pub(super) hits: Vec<LegHit>,
}

/// What all legs found for one question.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By words, if that leg was asked.
    pub(super) keyword: Option<Ranking<KeywordQuery>>,
    /// By meaning, of each space whose leg was asked and did answer.
    pub(super) nearest: Vec<Ranking<Direction>>,
    /// Legs by meaning that did not answer, with why.
    pub(super) failed: Vec<(Space, SearchError)>,
    /// Passages that each leg was asked for.
    depth: usize,
}

impl Found {
    /// All rankings, the keyword leg's first, by name.
    pub(super) fn rankings(&self) -> impl Iterator<Item = (&'static str, &[LegHit])> {
        let keyword = self.keyword.iter().map(|ranking| ("keyword", ranking.hits.as_slice()));
        keyword.chain(self.nearest.iter().map(|ranking| (ranking.leg.space.name(), ranking.hits.as_slice())))
    }

    /// Whether so many different passages were found, or there are no more.
    fn is_enough(&self, wanted: usize) -> bool {
        let full = self.rankings().any(|(_, hits)| hits.len() >= self.depth);
        let hits = self.rankings().flat_map(|(_, hits)| hits);
        !full || hits.map(|hit| content_hash(&hit.chunk.content)).collect::<HashSet<_>>().len() >= wanted
    }
}

/// What a passage says, to tell repeated ones.
pub(super) fn content_hash(content: &str) -> Hash {
    blake3::hash(content.trim().as_bytes())
}

/// Asks all legs at once, as deep as it takes to find `wanted` different passages.
///
/// # Errors
/// When the keyword leg fails. One by meaning that does is named in the result.
pub(super) async fn ask(
    index: &dyn SearchIndex,
    keyword: Option<&KeywordQuery>,
    directions: &[Direction],
    filter: &SearchFilter,
    wanted: usize,
) -> Result<Found, SearchError> {
    let legs: Vec<Leg> = keyword.cloned().into_iter().map(Leg::Keyword).chain(directions.iter().map(nearest)).collect();
    let mut found = Found::default();
    for depth in DEPTHS.into_iter().filter(|depth| *depth >= wanted.min(MAX_DEPTH)) {
        let name = match (keyword, directions.is_empty()) {
            (Some(_), true) => "search keyword",
            (None, _) => "search nearest",
            _ => "search legs",
        };
        let span = Span::here(|| name.into());
        let mut answers = span.run(index.legs(&legs, filter, depth)).await.into_iter();
        found = Found { depth, ..Found::default() };
        if let Some(leg) = keyword.cloned() {
            found.keyword = Some(Ranking { leg, hits: answers.next().unwrap_or_else(|| Ok(vec![]))? });
        }
        for (leg, answer) in directions.iter().zip(answers) {
            match answer {
                Ok(hits) => found.nearest.push(Ranking { leg: leg.clone(), hits }),
                Err(error) => found.failed.push((leg.space, error.into())),
            }
        }
        if found.is_enough(wanted) {
            break;
        }
    }
    Ok(found)
}

fn nearest(direction: &Direction) -> Leg {
    Leg::Nearest(direction.space, direction.vector.clone())
}

/// Whether another leg by meaning answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// One does.
    Answer,
    /// None does.
    Silent,
}

impl Others {
    /// Of so many.
    pub(super) const fn of(count: usize) -> Self {
        if count > 0 { Self::Answer } else { Self::Silent }
    }
}

/// What the reader of a search that went on without the leg of this space should know.
pub(super) fn fallback(space: Space, error: &SearchError, others: Others) -> String {
    let leg = match space {
        Space::General => "semantic",
        Space::Domain => "code model's",
    };
    let rest = match others {
        Others::Answer => "searched by the others",
        Others::Silent => "searched by keyword only",
    };
    let why = match error {
        SearchError::SemanticOff(why) => why.clone(),
        SearchError::Index(IndexError::OtherModel { .. }) => {
            return format!("{error}; {rest} until `lmao models reembed` has run");
        }
        SearchError::Embed(EmbedError::Model { message, .. }) => format!("the model failed: {message}"),
        SearchError::Index(IndexError::Unavailable(Unavailable { message, .. })) => message.clone(),
        error => error.to_string(),
    };
    format!("the {leg} leg is off: {why}; {rest}")
}
