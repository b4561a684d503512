//! One pass: a question from its text to ranked candidates. A question of several parts takes one pass for each.

use std::{collections::HashMap, sync::Arc};

use lmao_ports::{Embedder, KeywordQuery, SearchError, SearchFilter, SearchIndex, Space, StageCost};
use uuid::Uuid;

use super::{
    candidates::{Candidate, Pool},
    fuse::{Weights, fuse},
    legs::{Direction, Found, ask, embed},
    query::{Question, acronyms},
    relevance::Background,
    report::Laps,
    terms::Rarity,
};

/// Passages of each leg that are looked through for what acronyms stand for.
const DEFINING: usize = 10;

/// A margin over the noise that is as good as none.
const LEAST_MARGIN: f32 = 1e-3;

/// The margin below which meaning is not trusted alone, how far below it is trusted least, and what words count then. With
/// bge-small-en-v1.5 hardly one of Cranfield's questions is below it among its own documents, of CoSQA's one in eight, and half of
/// those about a manual of 60 passages among 11,000 others; with all-mpnet-base-v2 none. Stronger doubt (0.7) finds a little more
/// there, and costs CoSQA 0.001 nDCG@10.
const SURE: f32 = 0.33;
const UNSURE: f32 = 0.1;
const DOUBT: f32 = 0.5;

/// What every pass of a search has in common.
#[derive(Debug)]
pub(super) struct Plan {
    /// Whether the keyword leg is asked.
    pub(super) keyword: Asked,
    /// The spaces that are asked, with their models.
    pub(super) models: Vec<(Space, Arc<dyn Embedder>)>,
    /// Whether nothing was embedded yet.
    pub(super) unembedded: bool,
    /// What all texts have in common with a question.
    pub(super) background: Background,
    /// What each space counts beside the others by the kind of question.
    pub(super) counts: fn(Space) -> f32,
    /// Whether acronyms are looked up in what was found.
    pub(super) expansion: Asked,
    /// Whether vectors are needed whatever the legs are.
    pub(super) vectors: Asked,
    /// In which passages.
    pub(super) filter: SearchFilter,
    /// Different passages that are needed.
    pub(super) wanted: usize,
}

/// Whether something takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// It does.
    Yes,
    /// It does not.
    No,
}

impl From<bool> for Asked {
    fn from(asked: bool) -> Self {
        if asked { Self::Yes } else { Self::No }
    }
}

/// What a pass found.
#[derive(Debug)]
pub(super) struct Pass {
    /// Best first; equal ones by id.
    pub(super) ranked: Vec<Candidate>,
    /// What comes behind.
    pub(super) tail: Vec<Candidate>,
    /// How rare each word of the question is among the ranked.
    pub(super) rarity: Rarity,
    /// The question in each space that was asked.
    pub(super) directions: Vec<Direction>,
    /// Each leg with what it counted.
    pub(super) legs: Vec<(String, f32)>,
    /// What was added to the question.
    pub(super) expansions: Vec<(String, f32)>,
    /// Legs by meaning that did not answer.
    pub(super) failed: Vec<(Space, SearchError)>,
    /// Whether it lacks the passages' vectors or what all texts have in common with the question, which may be there the next
    /// time.
    pub(super) partial: bool,
    pub(super) costs: Vec<StageCost>,
}

impl Plan {
    /// Searches for one question, with more words for it.
    ///
    /// # Errors
    /// When the keyword leg fails.
    pub(super) async fn pass(
        &self,
        index: &dyn SearchIndex,
        question: &Question,
        mut expansions: Vec<(String, f32)>,
    ) -> Result<Pass, SearchError> {
        let mut laps = Laps::new();
        let (mut directions, mut failed) = (Vec::new(), Vec::new());
        for embedded in embed(&question.text, &self.models, &self.background).await {
            match embedded {
                Ok(direction) => directions.push(direction),
                Err(why) => failed.push(why),
            }
        }
        let mut partial = directions.iter().any(|direction| direction.floor.is_none());
        laps.end("embedded", 0);
        let words = KeywordQuery { text: question.text.clone(), boosted: expansions.clone() };
        let words = (self.keyword == Asked::Yes).then_some(words);
        let mut found = ask(index, words.as_ref(), &directions, &self.filter, self.wanted).await?;
        laps.end("legs", count(&found));
        if self.expansion == Asked::Yes && self.define(index, &mut found, &mut expansions).await? {
            laps.end("expanded", count(&found));
        }
        failed.append(&mut found.failed);
        let mut pool = Pool::of(&found);
        let directions: Vec<Direction> = found.nearest.into_iter().map(|ranking| ranking.leg).collect();
        let weights = match (self.keyword, directions.is_empty()) {
            (_, true) => Weights::KEYWORD,
            (Asked::No, false) => Weights::SEMANTIC,
            (Asked::Yes, false) => Weights::hybrid(question.terms, question.literal),
        };
        if weights.hubs > 0.0 || self.vectors == Asked::Yes {
            let spaces: Vec<Space> = directions.iter().map(|direction| direction.space).collect();
            if let Err(error) = pool.fetch(index, &spaces).await {
                tracing::warn!(%error, "ranked without the passages' vectors");
                partial = true;
            }
            laps.end("vectors", pool.candidates.len());
        }
        let rarity = pool.rarity(&question.text);
        let legs = self.rank(&mut pool, &rarity, &directions, &weights);
        laps.end("fused", pool.candidates.len());
        let Pool { candidates: ranked, tail, .. } = pool;
        Ok(Pass { ranked, tail, rarity, directions, legs, expansions, failed, partial, costs: laps.costs })
    }

    /// Asks the keyword leg again if what was found says what an acronym of the question stands for, or how it is abbreviated.
    async fn define(
        &self,
        index: &dyn SearchIndex,
        found: &mut Found,
        expansions: &mut Vec<(String, f32)>,
    ) -> Result<bool, SearchError> {
        let Some(asked) = found.keyword.as_ref().map(|ranking| ranking.leg.clone()) else { return Ok(false) };
        let best = found.rankings().flat_map(|(_, hits)| hits.iter().take(DEFINING));
        let more = acronyms(&asked.text, best.map(|hit| hit.chunk.content.as_str()));
        if more.is_empty() {
            return Ok(false);
        }
        expansions.extend(more);
        let asked = KeywordQuery { boosted: expansions.clone(), ..asked };
        let again = ask(index, Some(&asked), &[], &self.filter, self.wanted).await?;
        found.keyword = again.keyword;
        Ok(true)
    }

    /// Scores and sorts the candidates; gives each leg with what it counted.
    fn rank(
        &self,
        pool: &mut Pool,
        rarity: &Rarity,
        directions: &[Direction],
        weights: &Weights,
    ) -> Vec<(String, f32)> {
        let margins = margins(pool, directions);
        let counts = self.weigh(directions, margins.as_deref());
        let doubt = match margins.iter().flatten().copied().max_by(f32::total_cmp) {
            Some(margin) if self.keyword == Asked::Yes => doubt(margin),
            _ => 0.0,
        };
        let spaces: Vec<_> = directions
            .iter()
            .zip(&counts)
            .map(|(direction, counts)| pool.meaning(direction.space, &direction.vector, *counts))
            .collect();
        let scores = fuse(&pool.words(), &spaces, weights);
        for (candidate, score) in pool.candidates.iter_mut().zip(scores) {
            candidate.score = score.clamp(0.0, 1.0);
        }
        if doubt > 0.0 {
            pool.believe_words(rarity, doubt);
        }
        sort(&mut pool.candidates);
        let by_words = weights.keyword + doubt * (1.0 - weights.keyword);
        let words = (self.keyword == Asked::Yes).then(|| ("keyword".to_owned(), by_words));
        let meaning = directions
            .iter()
            .zip(counts)
            .map(|(direction, counts)| (direction.space.name().to_owned(), (1.0 - by_words) * counts));
        words.into_iter().chain(meaning).collect()
    }
}

impl Plan {
    /// What each space counts beside the one that counts most. Each has a best passage, however little it has to do with the
    /// question: how far that rises over the noise tells the space that knows from the one that guesses.
    fn weigh(&self, directions: &[Direction], margins: Option<&[f32]>) -> Vec<f32> {
        let margins = margins.map_or_else(|| vec![1.0; directions.len()], <[f32]>::to_vec);
        let weighed =
            directions.iter().zip(margins).map(|(direction, margin)| (self.counts)(direction.space) * margin * margin);
        let weighed: Vec<f32> = weighed.collect();
        let most = weighed.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        weighed.into_iter().map(|weight| weight / most).collect()
    }
}

/// How far the best passage of each space rises over the noise; `None` where that is not known of each.
fn margins(pool: &Pool, directions: &[Direction]) -> Option<Vec<f32>> {
    let margin = |direction: &Direction| {
        let cosines = pool.candidates.iter().filter_map(|one| one.cosine(direction.space, &direction.vector));
        Some((cosines.max_by(f32::total_cmp)? - direction.floor?).max(LEAST_MARGIN))
    };
    directions.iter().map(margin).collect()
}

/// What words count beside the fused score. Where no passage is much nearer to a question than anything is, meaning can't tell
/// the right one from the others, and the one that is worded like the question is the better guess.
fn doubt(margin: f32) -> f32 {
    DOUBT * ((SURE - margin) / UNSURE).clamp(0.0, 1.0)
}

fn count(found: &Found) -> usize {
    found.rankings().map(|(_, hits)| hits.len()).sum()
}

fn sort(candidates: &mut [Candidate]) {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id().cmp(&b.id())));
}

/// One ranking of the whole question's and those of its parts: half of a score is the whole's, the other half that of the
/// part that it answers best.
pub(super) fn merge(whole: Vec<Candidate>, parts: Vec<Vec<Candidate>>) -> Vec<Candidate> {
    let mut ranked = whole;
    if !parts.is_empty() {
        let mut merged: HashMap<Uuid, (Candidate, f32)> =
            ranked.into_iter().map(|candidate| (candidate.id(), (candidate, 0.0))).collect();
        for (part, candidates) in parts.into_iter().enumerate() {
            for (place, mut candidate) in candidates.into_iter().enumerate() {
                let score = std::mem::take(&mut candidate.score);
                candidate.stages.clear();
                let (known, best) = merged.entry(candidate.id()).or_insert_with(|| (candidate, 0.0));
                known.placed(format!("part {}", part + 1), place, score);
                *best = best.max(score);
            }
        }
        ranked = merged
            .into_values()
            .map(|(mut candidate, best)| {
                candidate.score = f32::midpoint(candidate.score, best);
                candidate
            })
            .collect();
        // The same text may have been found under another id in another pass.
        sort(&mut ranked);
        let mut seen = std::collections::HashSet::new();
        ranked.retain(|candidate| seen.insert(candidate.text));
    }
    for (place, candidate) in ranked.iter_mut().enumerate() {
        let score = candidate.score;
        candidate.placed("fused", place, score);
    }
    ranked
}
