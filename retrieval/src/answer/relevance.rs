//! Relevance: whether a passage speaks of the question at all, so that an answer can say that none does.
//!
//! Cosine similarities are not comparable between models: unrelated texts have about 0.4 with bge-small-en-v1.5 and 0.05
//! with all-mpnet-base-v2. What is compared is therefore the margin over the noise floor: the question's mean similarity to
//! a few sentences about everything and nothing. On Cranfield and CoSQA with bge-small-en-v1.5, asking each collection's
//! questions of both collections, [`MARGIN`] called 0.7 % of the right collection's best passages irrelevant and 1.4 % of
//! the wrong one's relevant.

use std::{collections::BTreeSet, sync::Arc};

use lmao_ports::{EmbedError, Embedder};
use tokio::sync::Mutex;

/// What `margin + SHARE * coverage` has to reach.
const MARGIN: f32 = 0.31;

/// How much it counts that a passage has all the question's words.
const SHARE: f32 = 0.15;

/// The share of the question's words that a passage must have where nothing is known of meaning.
const WORDS_ALONE: f32 = 0.5;

/// What a sentence's margin and coverage have to reach within a passage that speaks of the question, and within another.
const WITHIN: f32 = 0.27;
const ALONE: f32 = 0.36;

/// The share of the question's words that a sentence must have within a passage that has enough of them.
const WORDS_WITHIN: f32 = 0.3;

/// Sentences about everything and nothing.
const BACKGROUND: [&str; 10] = [
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

type Vectors = Arc<Vec<Vec<f32>>>;

/// The background's vectors, embedded once for each model.
#[derive(Debug, Default)]
pub(super) struct Background(Mutex<Option<(String, Vectors)>>);

impl Background {
    async fn vectors(&self, embedder: &dyn Embedder) -> Result<Vectors, EmbedError> {
        let model = &embedder.manifest().id;
        let mut known = self.0.lock().await;
        if let Some((of, vectors)) = known.as_ref()
            && of == model
        {
            return Ok(Arc::clone(vectors));
        }
        let vectors = Arc::new(embedder.passages(BACKGROUND.map(str::to_owned).to_vec()).await?);
        *known = Some((model.clone(), Arc::clone(&vectors)));
        Ok(vectors)
    }
}

/// How near texts are to a question.
#[derive(Debug)]
pub(super) struct Nearness {
    floor: f32,
    /// Cosine similarity of each text.
    similarities: Vec<f32>,
}

impl Nearness {
    /// Of `texts` to `query`.
    pub(super) async fn of(
        query: &str,
        texts: Vec<String>,
        embedder: &dyn Embedder,
        background: &Background,
    ) -> Result<Self, EmbedError> {
        let background = background.vectors(embedder).await?;
        let query = embedder.query(query).await?;
        let vectors = embedder.passages(texts).await?;
        let floor = background.iter().map(|vector| cosine(&query, vector)).sum::<f32>() / background.len() as f32;
        Ok(Self { floor, similarities: vectors.iter().map(|vector| cosine(&query, vector)).collect() })
    }

    /// How far text `n` is above the noise.
    pub(super) fn margin(&self, n: usize) -> f32 {
        self.similarities.get(n).map_or(0.0, |similarity| self.over_floor(*similarity))
    }

    /// How far a similarity is above the noise.
    pub(super) fn over_floor(&self, similarity: f32) -> f32 {
        similarity - self.floor
    }
}

/// Whether a passage speaks of the question: by its margin over the noise where that is known, and the share of the
/// question's words that it has.
pub(super) fn is_relevant(margin: Option<f32>, coverage: f32) -> bool {
    margin.map_or(coverage >= WORDS_ALONE, |margin| margin + SHARE * coverage >= MARGIN)
}

/// Whether a sentence is to the point, given whether its passage speaks of the question: what is beside the point in a good
/// passage is not quoted, and what is to the point in any other one is.
pub(super) fn is_to_the_point(margin: Option<f32>, coverage: f32, passage_speaks: bool) -> bool {
    let (said, within, alone) = match margin {
        Some(margin) => (margin + SHARE * coverage, WITHIN, ALONE),
        None => (coverage, WORDS_WITHIN, WORDS_ALONE),
    };
    said >= if passage_speaks { within } else { alone }
}

/// How alike two sets of words are (Jaccard), in [0, 1].
pub(super) fn likeness(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f32 {
    let union = a.union(b).count();
    if union == 0 { 0.0 } else { a.intersection(b).count() as f32 / union as f32 }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let length = (dot(a, a) * dot(b, b)).sqrt();
    if length > 0.0 { dot(a, b) / length } else { 0.0 }
}
