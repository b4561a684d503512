//! Relevance: whether a passage speaks of the question at all, and whether a sentence is to the point, so that an answer can
//! say that none is.
//!
//! Cosine similarities are not comparable between models: unrelated texts have about 0.4 with bge-small-en-v1.5 and 0.05
//! with all-mpnet-base-v2. What is compared is therefore the margin over the noise floor: the question's mean similarity to
//! a few sentences about everything and nothing. On Cranfield and CoSQA with bge-small-en-v1.5, asking each collection's
//! questions of both collections, [`MARGIN`] called 0.7 % of the right collection's best passages irrelevant and 1.4 % of
//! the wrong one's relevant.
//!
//! A passage that is mostly about something else may hold the one sentence that answers. Judged by passages alone, 60 % of
//! Cranfield's questions were answered by sentences hidden in such passages, and 31 % of the quotes were those sentences;
//! judged by sentences as well, 73 % and 51 % (`cargo xtask bench answers`), with no more answers to the wrong questions.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lmao_ports::{EmbedError, Embedder};

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
const WORDS_WITHIN: f32 = 0.15;

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

/// Vectors that are kept: those of a few hundred questions' sentences, a few megabytes.
const MAX_KEPT: usize = 2048;

/// Vectors of texts that were compared lately: a conversation comes back to the same passages, and the background to all.
#[derive(Debug, Default)]
pub(super) struct Vectors(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    model: String,
    vectors: HashMap<String, Arc<[f32]>>,
}

impl Vectors {
    /// Of these texts, in order; embeds those that are not kept.
    async fn of(&self, texts: Vec<String>, embedder: &dyn Embedder) -> Result<Vec<Arc<[f32]>>, EmbedError> {
        let mut found: Vec<Option<Arc<[f32]>>> = {
            let mut kept = self.kept();
            let model = &embedder.manifest().id;
            if kept.model != *model {
                *kept = Kept { model: model.clone(), vectors: HashMap::new() };
            }
            texts.iter().map(|text| kept.vectors.get(text).cloned()).collect()
        };
        let missing: Vec<usize> = (0..texts.len()).filter(|at| found[*at].is_none()).collect();
        let made = embedder.passages(missing.iter().map(|at| texts[*at].clone()).collect()).await?;
        let mut kept = self.kept();
        // Nothing is kept of a model that was replaced meanwhile.
        let same = kept.model == embedder.manifest().id;
        if kept.vectors.len() + made.len() > MAX_KEPT {
            kept.vectors.clear();
        }
        for (at, vector) in missing.into_iter().zip(made) {
            let vector: Arc<[f32]> = vector.into();
            if same {
                kept.vectors.insert(texts[at].clone(), Arc::clone(&vector));
            }
            found[at] = Some(vector);
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        vectors: &Vectors,
    ) -> Result<Self, EmbedError> {
        let query = embedder.query(query).await?;
        let texts = BACKGROUND.map(str::to_owned).into_iter().chain(texts).collect();
        let vectors = vectors.of(texts, embedder).await?;
        let similarities: Vec<f32> = vectors.iter().map(|vector| cosine(&query, vector)).collect();
        let (background, similarities) = similarities.split_at(BACKGROUND.len().min(similarities.len()));
        let floor = background.iter().sum::<f32>() / BACKGROUND.len() as f32;
        Ok(Self { floor, similarities: similarities.to_vec() })
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
