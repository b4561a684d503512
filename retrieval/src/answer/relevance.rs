//! Relevance: whether a sentence is to the point, so that an answer can say that nothing is. How passages are judged is the
//! search's ([`crate::search::relevance`]); here sentences are, by the same margin over the same noise floor.
//!
//! A passage that is mostly about something else may hold the one sentence that answers. Judged by passages alone, 60 % of
//! Cranfield's questions were answered by sentences hidden in such passages, and 31 % of the quotes were those sentences;
//! judged by sentences as well, 77 % and 49 % (`cargo xtask bench answers`), with no more answers to the wrong questions.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use blake3::Hash;
use lmao_ports::{EmbedError, Embedder};

use crate::search::relevance::{BACKGROUND, WORDS_ALONE, evidence};

/// What a sentence's evidence, by margin and coverage, has to reach within a passage that speaks of the question, and within another.
const WITHIN: f32 = 0.26;
const ALONE: f32 = 0.36;

/// The share of the question's words that a sentence must have within a passage that has enough of them.
const WORDS_WITHIN: f32 = 0.15;

/// Vectors that are kept: those of some eighty questions' sentences, a few megabytes.
const MAX_KEPT: usize = 2048;

/// Vectors of texts that were compared lately: a conversation comes back to the same passages, and the background to all.
/// By hash: of a document that was deleted no words stay behind.
#[derive(Debug, Default)]
pub(super) struct Vectors(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    model: String,
    vectors: HashMap<Hash, Arc<[f32]>>,
}

impl Vectors {
    /// Of these texts, in order; embeds those that are not kept.
    async fn of(&self, texts: Vec<String>, embedder: &dyn Embedder) -> Result<Vec<Arc<[f32]>>, EmbedError> {
        let model = &embedder.manifest().id;
        let keys: Vec<Hash> = texts.iter().map(|text| blake3::hash(text.as_bytes())).collect();
        let mut known: HashMap<Hash, Arc<[f32]>> = {
            let mut kept = self.kept();
            if kept.model != *model {
                *kept = Kept { model: model.clone(), vectors: HashMap::new() };
            }
            keys.iter().filter_map(|key| Some((*key, Arc::clone(kept.vectors.get(key)?)))).collect()
        };
        let (missing, asked): (Vec<Hash>, Vec<String>) =
            keys.iter().copied().zip(texts).filter(|(key, _)| !known.contains_key(key)).unzip();
        let made = embedder.passages(asked).await?;
        if made.len() != missing.len() {
            let message = format!("it gave {} vectors for {} texts", made.len(), missing.len());
            return Err(EmbedError::Model { model: model.clone(), message });
        }
        let made: Vec<(Hash, Arc<[f32]>)> = missing.into_iter().zip(made.into_iter().map(Arc::from)).collect();
        known.extend(made.iter().cloned());
        let mut kept = self.kept();
        if kept.vectors.len() + made.len() > MAX_KEPT {
            kept.vectors.clear();
        }
        // Nothing is kept of a model that was replaced meanwhile.
        if kept.model == *model {
            kept.vectors.extend(made);
        }
        Ok(keys.iter().map(|key| Arc::clone(&known[key])).collect())
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
        self.similarities.get(n).map_or(0.0, |similarity| similarity - self.floor)
    }
}

/// Whether a sentence is to the point, given whether a passage that speaks of the question vouches for it: what is beside the
/// point in a good passage is not quoted, and what is to the point in any other one is.
pub(super) fn is_to_the_point(margin: Option<f32>, coverage: f32, vouched: bool) -> bool {
    let (said, within, alone) = match margin {
        Some(margin) => (evidence(margin, coverage), WITHIN, ALONE),
        None => (coverage, WORDS_WITHIN, WORDS_ALONE),
    };
    said >= if vouched { within } else { alone }
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use lmao_ports::{ModelManifest, TokenSpan};

    use super::*;
    use crate::search::fakes::HashedWords;

    /// A model that loses the last vector of a call.
    #[derive(Debug, Default)]
    struct Losing(HashedWords);

    #[async_trait]
    impl Embedder for Losing {
        fn manifest(&self) -> &ModelManifest {
            self.0.manifest()
        }
        async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
            let mut vectors = self.0.passages(texts).await?;
            vectors.pop();
            Ok(vectors)
        }
        async fn query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
            self.0.query(text).await
        }
        fn tokens(&self, text: &str) -> Vec<TokenSpan> {
            self.0.tokens(text)
        }
    }

    fn texts() -> Vec<String> {
        ["the kiln", "the dough", "the kiln"].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn vectors_are_those_of_their_texts_new_or_kept() {
        let (model, vectors) = (HashedWords::default(), Vectors::default());
        let asked = model.passages(texts()).await.unwrap();
        for _ in 0..2 {
            let found = vectors.of(texts(), &model).await.unwrap();
            assert_eq!(found.iter().map(|vector| vector.to_vec()).collect::<Vec<_>>(), asked);
        }
        assert_eq!(vectors.kept().vectors.len(), 2);
    }

    #[tokio::test]
    async fn a_model_that_loses_a_vector_has_failed() {
        let found = Vectors::default().of(texts(), &Losing::default()).await;
        assert!(matches!(found, Err(EmbedError::Model { .. })));
    }
}
