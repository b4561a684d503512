//! Diversity: maximal marginal relevance (Carbonell & Goldstein, The Use of MMR, Diversity-Based Reranking, SIGIR 1998).
//!
//! The next result is the one whose relevance, less its likeness to what was already chosen, is greatest. Likeness is cosine
//! over the candidates' own average, since some models find all texts rather alike; where there are no vectors it is the
//! share of three-word runs that two passages have in common (Broder's resemblance of shingles, 1997).

use std::collections::HashSet;

use lmao_ports::Space;

use super::{
    candidates::Candidate,
    neighbours::{Likeness, dot},
};

/// Results that are put in a diverse order; those behind keep theirs.
const CHOSEN: usize = 100;
/// Words of a shingle.
const SHINGLE: usize = 3;

/// The order in which results are chosen: indices of `relevance`, with what each was worth when it was.
///
/// `diversity` is 1 − λ of the paper, in [0, 1]: 0 keeps the order by relevance, at 1 only unlikeness counts.
pub(super) fn choose(relevance: &[f32], diversity: f32, likeness: impl Fn(usize, usize) -> f32) -> Vec<(usize, f32)> {
    let mut left: Vec<usize> = (0..relevance.len()).collect();
    let mut nearest = vec![0.0_f32; relevance.len()];
    let mut chosen = Vec::with_capacity(relevance.len());
    let worth = |n: usize, nearest: &[f32]| (1.0 - diversity) * relevance[n] - diversity * nearest[n];
    while !left.is_empty() {
        // Of equal ones the first.
        let place = (1..left.len()).fold(0, |best, place| {
            if worth(left[place], &nearest) > worth(left[best], &nearest) { place } else { best }
        });
        let next = left.remove(place);
        chosen.push((next, worth(next, &nearest)));
        for n in &left {
            nearest[*n] = nearest[*n].max(likeness(next, *n));
        }
    }
    chosen
}

/// Puts the first results in a diverse order. Their scores stay those of relevance, highest first in neither order.
pub(super) fn diversify(results: &mut Vec<Candidate>, diversity: f32) {
    let behind = results.split_off(results.len().min(CHOSEN));
    let relevance: Vec<f32> = results.iter().map(|result| result.score).collect();
    let usual = usual(results);
    let shingles: Vec<HashSet<u64>> = results.iter().map(|result| shingles(&result.hit.chunk.content)).collect();
    let likeness = |a: usize, b: usize| match cosine(&results[a], &results[b]) {
        Some(cosine) => ((cosine - usual) / (1.0 - usual).max(f32::EPSILON)).clamp(0.0, 1.0),
        None => resemblance(&shingles[a], &shingles[b]),
    };
    let order = choose(&relevance, diversity, likeness);
    let mut waiting: Vec<Option<Candidate>> = std::mem::take(results).into_iter().map(Some).collect();
    for (place, (n, worth)) in order.into_iter().enumerate() {
        if let Some(mut result) = waiting[n].take() {
            result.placed("diverse", place, worth);
            results.push(result);
        }
    }
    results.extend(behind);
}

/// How alike the results are on average, by their vectors.
fn usual(results: &[Candidate]) -> f32 {
    let vectors: Vec<Option<&[f32]>> =
        results.iter().map(|one| one.vectors.get(&Space::General).map(AsRef::as_ref)).collect();
    Likeness::of(&vectors).mean().unwrap_or(0.0).clamp(0.0, 0.99)
}

fn cosine(a: &Candidate, b: &Candidate) -> Option<f32> {
    Space::ALL.into_iter().find_map(|space| {
        let (a, b) = (a.vectors.get(&space)?, b.vectors.get(&space)?);
        (a.len() == b.len()).then(|| dot(a, b))
    })
}

fn shingles(text: &str) -> HashSet<u64> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let hash = |words: &[String]| {
        let digest = blake3::hash(words.join(" ").as_bytes());
        digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    if words.len() < SHINGLE { HashSet::from([hash(&words)]) } else { words.windows(SHINGLE).map(hash).collect() }
}

fn resemblance(a: &HashSet<u64>, b: &HashSet<u64>) -> f32 {
    let common = a.intersection(b).count();
    let all = a.len() + b.len() - common;
    if all == 0 { 0.0 } else { common as f32 / all as f32 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(relevance: &[f32], diversity: f32, likeness: impl Fn(usize, usize) -> f32) -> Vec<usize> {
        choose(relevance, diversity, likeness).into_iter().map(|(n, _)| n).collect()
    }

    #[test]
    fn what_repeats_comes_later_the_more_diversity_is_wanted() {
        let twins = |a: usize, b: usize| if a.max(b) < 2 { 1.0 } else { 0.0 };
        let relevance = [0.9, 0.8, 0.5, 0.1];
        assert_eq!(order(&relevance, 0.0, twins), [0, 1, 2, 3]);
        assert_eq!(order(&relevance, 0.4, twins), [0, 2, 1, 3]);
        assert_eq!(order(&relevance, 0.9, twins), [0, 2, 3, 1]);
    }

    #[test]
    fn texts_resemble_by_their_runs_of_words() {
        let like = |a, b| resemblance(&shingles(a), &shingles(b));
        assert_eq!(like("The red fox runs", "the red FOX runs"), 1.0);
        assert!((like("the red fox runs home", "the red fox runs away") - 0.5).abs() < 1e-6);
        assert_eq!((like("a b", "b a"), like("", "")), (0.0, 1.0));
    }

    proptest! {
        #[test]
        fn everything_is_chosen_once_and_the_first_stays(
            mut relevance in prop::collection::vec(0.0_f32..1.0, 1..30),
            diversity in 0.0_f32..0.99,
        ) {
            relevance.sort_by(|a, b| b.total_cmp(a));
            let mut order = order(&relevance, diversity, |a, b| 1.0 / (1.0 + a.abs_diff(b) as f32));
            prop_assert_eq!(order[0], 0);
            order.sort_unstable();
            prop_assert_eq!(order, (0..relevance.len()).collect::<Vec<_>>());
        }
    }
}
