//! Relevance: whether a passage speaks of the question at all.
//!
//! Cosine similarities are not comparable between models: unrelated texts have about 0.4 with bge-small-en-v1.5 and 0.05
//! with all-mpnet-base-v2. What is compared is therefore the margin over the noise floor: the question's mean similarity to
//! a few sentences about everything and nothing. The question's words count beside it, the rare ones more: what a question is
//! about may be said in nearly its words by a passage that is no nearer to it than others.
//!
//! On Cranfield and CoSQA with bge-small-en-v1.5, asking each collection's questions of both collections, [`MARGIN`] calls 1.8 % of
//! the right collection's best passages irrelevant and 0.7 % of the wrong one's relevant; with words that all count alike it was
//! 0.7 % and 2.5 %. Of 58 questions about manuals in one index, passages that answer 56 are called relevant (54 before). The
//! background is embedded once for each model; passages are judged by the vectors that the index holds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lmao_ports::{EmbedError, Embedder, Space};
use tokio::sync::Mutex;

use super::{
    candidates::Candidate,
    legs::Direction,
    neighbours::{dot, mean, unit},
    query::Question,
    terms::Rarity,
};

/// What `margin + SHARE * coverage²` has to reach.
const MARGIN: f32 = 0.3;

/// How much it counts that a passage has all the question's words. Squared, since a few words of a question are in any text.
const SHARE: f32 = 0.3;

/// The share of the question's words, each alike, that a passage must have where nothing is known of meaning.
pub(crate) const WORDS_ALONE: f32 = 0.5;

/// Sentences about everything and nothing.
pub(crate) const BACKGROUND: [&str; 10] = [
    "The recipe calls for two cups of flour and a pinch of salt.",
    "The treaty was signed in the spring after long negotiations.",
    "Quarterly revenue rose by four percent over the previous year.",
    "The river floods its banks every few years.",
    "She plays the violin in a chamber orchestra.",
    "Click the button to save your settings.",
    "The patient was treated with antibiotics for ten days.",
    "The striker scored twice in the second half.",
    "The function returns a list of integers.",
    "Penguins breed in large colonies on the ice.",
];

/// How long a search waits for the background to be embedded, behind a batch of passages perhaps. It goes on being embedded;
/// this search judges by words.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A margin and the share of the question's words, the rare ones counting more, on one scale.
pub(crate) fn evidence(margin: f32, coverage: f32) -> f32 {
    margin + SHARE * coverage * coverage
}

/// Whether a passage speaks of the question: by its margin over the noise where that is known, and the share of the
/// question's words that it has.
fn is_relevant(margin: Option<f32>, coverage: f32) -> bool {
    margin.map_or(coverage >= WORDS_ALONE, |margin| evidence(margin, coverage) >= MARGIN)
}

/// The background's vectors by model.
#[derive(Debug, Clone, Default)]
pub(super) struct Background(Arc<Mutex<ByModel>>);

type ByModel = BTreeMap<String, Arc<[Vec<f32>]>>;

impl Background {
    /// How near the background is to a question on average; `None` while its vectors are not there.
    pub(super) async fn floor(&self, question: &[f32], embedder: &Arc<dyn Embedder>) -> Option<f32> {
        let (known, embedder) = (Arc::clone(&self.0), Arc::clone(embedder));
        // A task of its own, so that a search that waits no longer does not throw the work away.
        let embedding = tokio::spawn(async move { embedded(&known, embedder.as_ref()).await });
        let vectors = match tokio::time::timeout(PATIENCE, embedding).await {
            Ok(Ok(Ok(vectors))) => vectors,
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "relevance is judged by words alone");
                return None;
            }
            Ok(Err(_)) | Err(_) => return None,
        };
        let alike = vectors.iter().filter(|vector| vector.len() == question.len());
        mean(alike.map(|vector| dot(vector, question)))
    }
}

async fn embedded(known: &Mutex<ByModel>, embedder: &dyn Embedder) -> Result<Arc<[Vec<f32>]>, EmbedError> {
    let mut known = known.lock().await;
    let model = &embedder.manifest().id;
    if let Some(vectors) = known.get(model) {
        return Ok(Arc::clone(vectors));
    }
    let vectors = embedder.passages(BACKGROUND.map(str::to_owned).to_vec()).await?;
    let vectors: Arc<[Vec<f32>]> = vectors.into_iter().filter_map(unit).collect();
    known.insert(model.clone(), Arc::clone(&vectors));
    Ok(vectors)
}

/// A question that passages are judged by.
#[derive(Debug, Default)]
pub(super) struct Judge {
    rarity: Rarity,
    literal: bool,
    directions: Vec<Direction>,
}

impl Judge {
    /// By a question's words, how rare each is among the passages found for it, and its vector in each space.
    pub(super) fn new(question: &Question, rarity: Rarity, directions: Vec<Direction>) -> Self {
        Self { rarity, literal: question.literal, directions }
    }

    /// Cosine similarity of a passage to the question in the general space, where it is known.
    pub(super) fn similarity(&self, candidate: &Candidate) -> Option<f32> {
        let direction = self.directions.iter().find(|direction| direction.space == Space::General)?;
        candidate.cosine(Space::General, &direction.vector)
    }

    /// Whether a passage speaks of the question. Judged in the general space where it has a vector there: what the numbers
    /// were calibrated for.
    pub(super) fn accepts(&self, candidate: &Candidate) -> bool {
        let margin = |space: Space| {
            let direction = self.directions.iter().find(|direction| direction.space == space)?;
            Some(candidate.cosine(space, &direction.vector)? - direction.floor?)
        };
        let margin = margin(Space::General).or_else(|| margin(Space::Domain));
        let terms = candidate.terms();
        // Rarity weighs words against meaning. Alone, a rare one that a passage lacks would hide what all others say.
        let coverage = if margin.is_some() { self.rarity.share(&terms) } else { self.rarity.coverage(&terms) };
        // A name that stands there as it was asked for needs no likeness: models blur names.
        (self.literal && coverage >= 1.0) || is_relevant(margin, coverage)
    }
}
