//! How results came about, as clients are told.

use lmao_ports::{HitExplained, QueryExplained, Space};
use poem_openapi::Object;
use serde::Serialize;

/// How a passage came to its place.
#[derive(Debug, Object, Serialize)]
pub(super) struct HitExplain {
    /// In each leg and stage that ranked it, in order: `keyword`, `general`, `domain`, `fused`, `reranked`, `diverse`.
    stages: Vec<StageRank>,
    /// Cosine similarity to the question, of the general model, where it is known.
    #[oai(nullable)]
    similarity: Option<f32>,
}

/// A passage's place in one ranking.
#[derive(Debug, Object, Serialize)]
struct StageRank {
    stage: String,
    /// From 1.
    rank: usize,
    /// By the ranking's own measure.
    score: f32,
}

/// What became of the question.
#[derive(Debug, Object, Serialize)]
pub(super) struct QueryExplain {
    /// What was searched for: the question made to stand alone.
    rewritten: String,
    /// What was added to it.
    expansions: Vec<Weighted>,
    /// The questions that it was parted into; empty where it is one.
    sub_queries: Vec<String>,
    /// The legs that were asked, with what each counted.
    legs: Vec<Weighted>,
    /// What each stage cost, in order.
    stages: Vec<StageCost>,
    /// The model whose vectors the index holds, for each kind of content; none where it holds none.
    models: Vec<ModelInUse>,
}

/// Something with what it counts.
#[derive(Debug, Object, Serialize)]
struct Weighted {
    name: String,
    weight: f32,
}

/// What a stage cost.
#[derive(Debug, Object, Serialize)]
struct StageCost {
    stage: String,
    seconds: f64,
    /// Passages that came out of it.
    passages: usize,
}

/// A model.
#[derive(Debug, Object, Serialize)]
struct ModelInUse {
    /// `general` or `domain`.
    space: String,
    #[oai(nullable)]
    model: Option<String>,
}

impl HitExplain {
    pub(super) fn new(explained: HitExplained, similarity: Option<f32>) -> Self {
        let stages = explained.stages.into_iter();
        let stages = stages.map(|one| StageRank { stage: one.stage, rank: one.rank, score: one.score });
        Self { stages: stages.collect(), similarity }
    }
}

impl QueryExplain {
    pub(super) fn new(explained: QueryExplained, models: Vec<(Space, Option<String>)>) -> Self {
        let weighted = |all: Vec<(String, f32)>| all.into_iter().map(|(name, weight)| Weighted { name, weight });
        let stages = explained.stages.into_iter();
        let models = models.into_iter();
        Self {
            rewritten: explained.rewritten,
            expansions: weighted(explained.expansions).collect(),
            sub_queries: explained.sub_queries,
            legs: weighted(explained.legs).collect(),
            stages: stages
                .map(|one| StageCost { stage: one.stage, seconds: one.seconds, passages: one.passages })
                .collect(),
            models: models.map(|(space, model)| ModelInUse { space: space.name().to_owned(), model }).collect(),
        }
    }
}
