//! Near duplicates, by the share of runs of five words that two texts have in common (Broder, "On the resemblance and
//! containment of documents", 1997). Exact: a context has too few passages for sketches to pay.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use lmao_ports::Hit;
use unicode_segmentation::UnicodeSegmentation;

/// Words of a shingle.
const WORDS: usize = 5;
/// From which resemblance on two texts are the same.
const SAME: f32 = 0.8;

/// Leaves of near duplicates only the first, the best ranked.
pub(super) fn distinct(hits: Vec<Hit>) -> Vec<Hit> {
    let mut kept: Vec<(Hit, HashSet<u64>)> = vec![];
    for hit in hits {
        let shingles = shingles(&hit.content);
        if kept.iter().all(|(_, other)| resemblance(other, &shingles) < SAME) {
            kept.push((hit, shingles));
        }
    }
    kept.into_iter().map(|(hit, _)| hit).collect()
}

/// The share of shingles that are in both (Jaccard), in [0, 1].
fn resemblance(a: &HashSet<u64>, b: &HashSet<u64>) -> f32 {
    // It cannot be more than this: most pairs are told apart by their lengths.
    let (few, many) = (a.len().min(b.len()), a.len().max(b.len()));
    if many == 0 || (few as f32) < SAME * many as f32 {
        return 0.0;
    }
    let both = a.intersection(b).count();
    both as f32 / (few + many - both) as f32
}

/// The runs of five words, by hash, letters in small; of a shorter text all its words.
fn shingles(text: &str) -> HashSet<u64> {
    let words: Vec<String> = text.unicode_words().map(str::to_lowercase).collect();
    let hash = |words: &[String]| {
        let mut hasher = DefaultHasher::new();
        words.hash(&mut hasher);
        hasher.finish()
    };
    if words.len() < WORDS {
        return if words.is_empty() { HashSet::new() } else { HashSet::from([hash(&words)]) };
    }
    words.windows(WORDS).map(hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::fakes::hit;

    #[test]
    fn of_near_duplicates_the_best_ranked_stays() {
        let text: Vec<String> = (0..60).map(|n| format!("word{n}")).collect();
        let with = |at: usize, word: &str| {
            let mut text = text.clone();
            text[at] = word.to_owned();
            text.join(" ")
        };
        let contents = [
            text.join(" "),
            with(59, "other"),
            text.join(", ").to_uppercase(),
            with(30, "x") + " y",
            text[..40].join(" "),
        ];
        let hits = (0..).zip(&contents).map(|(n, content)| hit(u128::from(n), n, "", "prose", content)).collect();
        let kept: Vec<u32> = distinct(hits).iter().map(|hit| hit.ordinal).collect();
        // A word in the middle is in five shingles of 56, and one more stands behind them.
        assert_eq!(kept, [0, 4]);
        let short = ["a b", "A b.", "b a", "—", "—"];
        let hits = (0..).zip(short).map(|(n, content)| hit(u128::from(n), n, "", "prose", content)).collect();
        let kept: Vec<u32> = distinct(hits).iter().map(|hit| hit.ordinal).collect();
        assert_eq!(kept, [0, 2, 3, 4], "what has no words resembles nothing");
    }
}
