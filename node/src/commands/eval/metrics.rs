//! How good a ranking is, by the judgements of people. Pure; the definitions are those of `trec_eval`.
//!
//! Gains are linear: a document of grade g is worth g, not 2^g - 1 (Järvelin & Kekäläinen, TOIS 2002). Grades of 0 and below
//! are worth nothing.

use std::collections::HashMap;

use serde::Serialize;

/// The grades of a query's documents.
pub(super) type Grades = HashMap<String, f64>;

/// How good one ranking is, or many are on average. All in [0, 1].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Quality {
    /// Normalised discounted cumulative gain of the first 10.
    pub ndcg_at_10: f64,
    /// Average precision over all that was retrieved; its mean over queries is MAP.
    pub map: f64,
    /// One over the rank of the first relevant document; its mean is MRR.
    pub mrr: f64,
    /// The share of relevant documents among the first 10.
    pub recall_at_10: f64,
    /// The same for the first 100.
    pub recall_at_100: f64,
}

/// How good a ranking is: ids, best first, each once. Nothing where no document is relevant.
pub(super) fn quality(ranking: &[String], grades: &Grades) -> Option<Quality> {
    let relevant = grades.values().filter(|grade| **grade > 0.0).count();
    if relevant == 0 {
        return None;
    }
    let gains: Vec<f64> = ranking.iter().map(|id| grades.get(id).copied().unwrap_or(0.0).max(0.0)).collect();
    let found = |depth: usize| gains.iter().take(depth).filter(|gain| **gain > 0.0).count();
    let recall = |depth| found(depth) as f64 / relevant as f64;
    let mut precisions = 0.0;
    for (at, gain) in gains.iter().enumerate() {
        if *gain > 0.0 {
            precisions += found(at + 1) as f64 / (at + 1) as f64;
        }
    }
    let first = gains.iter().position(|gain| *gain > 0.0);
    Some(Quality {
        ndcg_at_10: ndcg(&gains, grades, 10),
        map: precisions / relevant as f64,
        mrr: first.map_or(0.0, |at| 1.0 / (at + 1) as f64),
        recall_at_10: recall(10),
        recall_at_100: recall(100),
    })
}

fn ndcg(gains: &[f64], grades: &Grades, depth: usize) -> f64 {
    let mut ideal: Vec<f64> = grades.values().map(|grade| grade.max(0.0)).collect();
    ideal.sort_by(|a, b| b.total_cmp(a));
    let discounted = |gains: &[f64]| -> f64 {
        gains.iter().take(depth).zip(2_u32..).map(|(gain, rank)| gain / f64::from(rank).log2()).sum()
    };
    discounted(gains) / discounted(&ideal)
}

/// The mean of many; all zero where there are none.
pub(super) fn mean(all: &[Quality]) -> Quality {
    let of = |field: fn(&Quality) -> f64| all.iter().map(field).sum::<f64>() / all.len().max(1) as f64;
    Quality {
        ndcg_at_10: of(|one| one.ndcg_at_10),
        map: of(|one| one.map),
        mrr: of(|one| one.mrr),
        recall_at_10: of(|one| one.recall_at_10),
        recall_at_100: of(|one| one.recall_at_100),
    }
}

/// The value below which this share of all values lies, by the nearest rank.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil().max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank of a list in memory")]
    let at = rank as usize - 1;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grades(of: &[(&str, f64)]) -> Grades {
        of.iter().map(|(id, grade)| ((*id).to_owned(), *grade)).collect()
    }

    fn ranked(ids: &str) -> Vec<String> {
        ids.split_whitespace().map(str::to_owned).collect()
    }

    fn close(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9, "{one} is not {other}");
    }

    /// Reckoned by hand: found are grades 3, 0, 1 and 2 of 3, 2, 2 and 1.
    #[test]
    fn a_ranking_is_judged_as_by_hand() {
        let judged = grades(&[("a", 3.0), ("b", 2.0), ("c", 2.0), ("d", 1.0), ("e", 0.0), ("f", -1.0)]);
        let quality = quality(&ranked("a x d b"), &judged).unwrap();
        let log = f64::log2;
        let found = 3.0 + 0.0 / log(3.0) + 1.0 / log(4.0) + 2.0 / log(5.0);
        let ideal = 3.0 + 2.0 / log(3.0) + 2.0 / log(4.0) + 1.0 / log(5.0);
        close(quality.ndcg_at_10, found / ideal);
        close(quality.ndcg_at_10, 0.766_152_917_8);
        close(quality.map, (1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 4.0);
        close(quality.mrr, 1.0);
        close(quality.recall_at_10, 0.75);
    }

    #[test]
    fn depths_are_kept_to() {
        let judged = grades(&[("y", 1.0), ("z", 1.0)]);
        let ranking: Vec<String> = (0..10).map(|n| format!("x{n}")).chain(ranked("y f z")).collect();
        let quality = quality(&ranking, &judged).unwrap();
        assert_eq!((quality.ndcg_at_10, quality.recall_at_10, quality.recall_at_100), (0.0, 0.0, 1.0));
        close(quality.mrr, 1.0 / 11.0);
        close(quality.map, (1.0 / 11.0 + 2.0 / 13.0) / 2.0);
    }

    #[test]
    fn what_is_best_is_1_and_what_has_no_answer_counts_not() {
        let judged = grades(&[("a", 2.0), ("b", 1.0), ("c", 0.0)]);
        let best = quality(&ranked("a b c"), &judged).unwrap();
        assert_eq!((best.ndcg_at_10, best.map, best.mrr, best.recall_at_10), (1.0, 1.0, 1.0, 1.0));
        assert_eq!(quality(&[], &judged).unwrap(), Quality::default());
        assert_eq!(quality(&ranked("c"), &grades(&[("c", 0.0)])), None);
        close(mean(&[best, Quality::default()]).map, 0.5);
        assert_eq!(mean(&[]), Quality::default());
    }

    #[test]
    fn quantiles_are_values_that_there_are() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.0, 0.5, 0.95, 1.0].map(|share| quantile(&values, share)), [1.0, 2.0, 4.0, 4.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
