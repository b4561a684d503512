//! Fusing: one score of several legs' scores.
//!
//! Four steps, each measured on its own (ADR 13):
//!
//! 1. *Scores, not ranks.* Each leg's scores are brought to [0, 1] within the question and added with weights. Ranks throw away
//!    how much better the first is than the tenth, which is what tells a leg that knows from one that guesses (Bruch, Gai,
//!    Ingber, An Analysis of Fusion Functions for Hybrid Retrieval, TOIS 2023).
//! 2. *A weight by the question.* The more terms a question has, the more words can tell about it. A weak keyword leg is not
//!    recognised by looking at its results: of a dozen such signs none held on two collections.
//! 3. *Hubs.* In high dimensions some passages are near to everything (Radovanović, Nanopoulos, Ivanović, Hubs in Space, JMLR
//!    2010). What a passage owes to the density around it is taken off in part, as in CSLS (Conneau et al., Word Translation
//!    Without Parallel Data, ICLR 2018), among the candidates only.
//! 4. *Smoothing.* Closely related passages answer the same questions (the cluster hypothesis): each candidate takes a share
//!    of its neighbours' scores (Diaz, Regularizing Ad Hoc Retrieval Scores, CIKM 2005; Kurland & Lee, SIGIR 2004).
//!
//! nDCG@10 over all questions, whole documents as passages:
//!
//! | | Cranfield, bge-small | mpnet | CoSQA, bge-small | mpnet |
//! |---|---|---|---|---|
//! | keyword leg | 0.387 | 0.387 | 0.517 | 0.517 |
//! | vector leg | 0.410 | 0.415 | 0.722 | 0.749 |
//! | reciprocal ranks, k = 5, 0.85 and 0.15 | 0.422 | 0.425 | 0.723 | 0.752 |
//! | scores, 0.8 and 0.2 | 0.431 | 0.437 | 0.720 | 0.757 |
//! | + weight by terms, + exponent | 0.438 | 0.446 | 0.724 | 0.759 |
//! | + hubs | 0.438 | 0.442 | 0.733 | 0.761 |
//! | + smoothing: this | 0.464 | 0.460 | 0.744 | 0.764 |

use super::neighbours::{Likeness, mean};

/// Terms of a question at which words would count as much as meaning.
const EVEN: f32 = 20.0;
/// The least and the greatest weight of the keyword leg.
const FLOOR: f32 = 0.15;
const CAP: f32 = 0.40;
/// The least weight of the keyword leg for questions that name something as it stands: embeddings blur identifiers.
const LITERAL: f32 = 0.30;
/// Exponent of the semantic score: what is far below the best is hardly better than nothing.
const EXPONENT: f32 = 1.5;
/// The share of its neighbours' nearness that is taken off a passage's.
const HUBS: f32 = 0.15;
/// Neighbours that count.
const NEIGHBOURS: usize = 10;
/// The share of a passage's score that is its neighbours'. None for literal questions: what is beside a name is not named.
const SMOOTHING: f32 = 0.4;

/// How the legs' scores are put together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weights {
    /// The keyword leg's, in [0, 1]; the semantic legs have the rest.
    pub(super) keyword: f32,
    /// How much hubs are corrected.
    pub(super) hubs: f32,
    /// How much of its neighbours' scores a candidate takes.
    pub(super) smoothing: f32,
}

impl Weights {
    /// Words alone.
    pub(super) const KEYWORD: Self = Self { keyword: 1.0, hubs: 0.0, smoothing: 0.0 };
    /// Meaning alone, as the legs have it.
    pub(super) const SEMANTIC: Self = Self { keyword: 0.0, hubs: 0.0, smoothing: 0.0 };

    /// For a question of so many terms, where both are there.
    pub(super) fn hybrid(terms: usize, literal: bool) -> Self {
        let terms = terms as f32;
        let keyword = (terms / (terms + EVEN)).clamp(FLOOR, CAP);
        if literal {
            Self { keyword: keyword.max(LITERAL), hubs: HUBS, smoothing: 0.0 }
        } else {
            Self { keyword, hubs: HUBS, smoothing: SMOOTHING }
        }
    }
}

/// What the keyword leg knows of the candidates.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Words {
    /// BM25 of each candidate, 0 where the leg did not return it.
    pub(super) scores: Vec<f32>,
    /// What a passage that was not returned could have at most: the last one's score, or 0 where all were returned.
    pub(super) beyond: f32,
}

/// What one space of vectors knows of the candidates.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Meaning {
    /// Cosine similarity of each candidate to the question; `None` where it has no vector in this space.
    pub(super) cosines: Vec<Option<f32>>,
    /// Which of them the leg returned.
    pub(super) returned: Vec<bool>,
    /// Likeness of the candidates to each other in this space.
    pub(super) likeness: Likeness,
    /// What it counts beside other spaces, more than 0.
    pub(super) weight: f32,
}

/// The score of each candidate, in [0, 1].
pub(super) fn fuse(words: &Words, spaces: &[Meaning], weights: &Weights) -> Vec<f32> {
    let nearest: Vec<_> = spaces.iter().map(|space| space.likeness.nearest(NEIGHBOURS)).collect();
    let meanings = spaces.iter().zip(&nearest).map(|(space, nearest)| {
        let density = space.likeness.density(nearest);
        (space.weight, by_meaning(space, &density, weights.hubs))
    });
    let by_meaning = together(meanings.collect(), words.scores.len());
    let by_words = by_words(words);
    let scores: Vec<f32> = by_words
        .iter()
        .zip(&by_meaning)
        .map(|(words, meaning)| weights.keyword * words + (1.0 - weights.keyword) * meaning)
        .collect();
    if weights.smoothing == 0.0 {
        return scores;
    }
    match spaces {
        [] => scores,
        [_] => smooth(&scores, &nearest[0], weights.smoothing),
        [first, rest @ ..] => {
            let all = rest.iter().fold(first.likeness.clone(), |all, space| all.or(&space.likeness));
            smooth(&scores, &all.nearest(NEIGHBOURS), weights.smoothing)
        }
    }
}

/// The keyword leg's scores in [0, 1]: 0 is what any other passage may have, 1 is the best.
fn by_words(Words { scores, beyond }: &Words) -> Vec<f32> {
    let best = scores.iter().copied().fold(0.0, f32::max);
    let share = |score: &f32| if best > *beyond { ((score - beyond) / (best - beyond)).max(0.0) } else { 0.0 };
    scores.iter().map(share).collect()
}

/// A space's scores in [0, 1], hubs corrected: 0 is the last that its leg returned, 1 is the best.
fn by_meaning(space: &Meaning, density: &[Option<f32>], hubs: f32) -> Vec<Option<f32>> {
    // A candidate whose neighbours are not known is taken to have as many as the others.
    let usual = mean(density.iter().flatten().copied()).unwrap_or(0.0);
    let corrected: Vec<Option<f32>> = (space.cosines.iter().zip(density))
        .map(|(cosine, density)| cosine.map(|cosine| cosine - hubs * density.unwrap_or(usual)))
        .collect();
    let returned = corrected.iter().zip(&space.returned).filter(|(_, returned)| **returned);
    let least = returned.filter_map(|(cosine, _)| *cosine).fold(f32::INFINITY, f32::min);
    let most = corrected.iter().flatten().copied().fold(f32::NEG_INFINITY, f32::max);
    let share = |cosine: f32| {
        if most > least {
            ((cosine - least) / (most - least)).clamp(0.0, 1.0).powf(EXPONENT)
        } else {
            // One candidate, or all alike: none is worse than the best.
            f32::from(u8::from(cosine >= least))
        }
    };
    corrected.into_iter().map(|cosine| cosine.map(share)).collect()
}

/// One semantic score of those of several spaces. What is in one space only has its score there, scaled by what that space
/// counts beside the one that counts most; what is in several has the weighted mean. 0 where there is none.
fn together(spaces: Vec<(f32, Vec<Option<f32>>)>, candidates: usize) -> Vec<f32> {
    let spaces: Vec<_> = spaces.into_iter().filter(|(_, scores)| scores.iter().any(Option::is_some)).collect();
    let most = spaces.iter().map(|(weight, _)| *weight).fold(f32::MIN_POSITIVE, f32::max);
    let score = |n: usize| {
        let known = || spaces.iter().filter_map(|(weight, scores)| Some((*weight, scores.get(n).copied().flatten()?)));
        let (sum, weight) =
            known().fold((0.0, 0.0), |(sum, all), (weight, score)| (sum + weight * score, all + weight));
        let heard = known().map(|(weight, _)| weight).fold(0.0, f32::max) / most;
        if weight > 0.0 { heard * sum / weight } else { 0.0 }
    };
    (0..candidates).map(score).collect()
}

/// Each score mixed with the mean of its neighbours', all of them as they were before. Where a candidate has fewer than others
/// could have, since little is known of it, its own score stands for those missing.
fn smooth(scores: &[f32], neighbours: &[Vec<usize>], share: f32) -> Vec<f32> {
    let wanted = NEIGHBOURS.min(scores.len().saturating_sub(1));
    let mixed = |(score, neighbours): (&f32, &Vec<usize>)| {
        let missing = wanted.saturating_sub(neighbours.len());
        let known = neighbours.iter().filter_map(|n| scores.get(*n).copied());
        let around = mean(known.chain(std::iter::repeat_n(*score, missing)));
        around.map_or(*score, |around| (1.0 - share) * score + share * around)
    };
    scores.iter().zip(neighbours).map(mixed).collect()
}

#[cfg(test)]
mod tests;
