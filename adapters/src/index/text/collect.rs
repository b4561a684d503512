//! The best matches that a filter allows.
//!
//! A match is shown to the filter only when its score may put it among the best so far, and it counts only if it is allowed.
//! So tantivy may go on skipping blocks of passages that cannot win (block-max WAND), which conditions in its query would
//! forbid: a filter costs next to nothing unless it leaves little, and then [`narrow`](super::query::narrow) helps.

use std::{cmp::Ordering, collections::BinaryHeap};

use tantivy::{
    Score, SegmentReader, TantivyError,
    collector::{Collector, SegmentCollector},
    query::Weight,
};

use super::super::store::Allowed;

/// A passage that matched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::index) struct Match {
    pub entry: u64,
    /// Of the passage in its document.
    pub number: u32,
    pub score: f32,
}

/// Collects the `k` best of a segment.
#[derive(Debug)]
pub(super) struct Best<'a> {
    pub k: usize,
    pub allowed: &'a Allowed<'a>,
}

/// The worst on top; of equal scores the one whose entry came later. Not by tantivy's order, which changes when segments merge.
#[derive(Debug, PartialEq)]
struct Candidate(Match);

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |Self(found): &Self| (found.entry, found.number);
        other.0.score.total_cmp(&self.0.score).then_with(|| place(self).cmp(&place(other)))
    }
}

impl Best<'_> {
    fn of_segment(&self, weight: &dyn Weight, reader: &SegmentReader) -> tantivy::Result<Vec<Match>> {
        let (entries, numbers) = (reader.fast_fields().u64("entry")?, reader.fast_fields().u64("number")?);
        let mut best: BinaryHeap<Candidate> = BinaryHeap::with_capacity(self.k.min(1 << 16) + 1);
        let mut is_torn = false;
        let alive = reader.alive_bitset();
        weight.for_each_pruning(Score::MIN, reader, &mut |doc, score| {
            let worst = |best: &BinaryHeap<Candidate>| match best.peek() {
                // What is equally good is shown, too: it may have come earlier.
                Some(Candidate(worst)) if best.len() >= self.k => worst.score.next_down(),
                _ => Score::MIN,
            };
            if alive.is_some_and(|alive| alive.is_deleted(doc)) {
                return worst(&best);
            }
            let place = entries.first(doc).zip(numbers.first(doc).and_then(|number| u32::try_from(number).ok()));
            let Some((entry, number)) = place else {
                is_torn = true;
                return worst(&best);
            };
            if self.allowed.allows(entry, number) {
                best.push(Candidate(Match { entry, number, score }));
                if best.len() > self.k {
                    best.pop();
                }
            }
            worst(&best)
        })?;
        if is_torn {
            return Err(TantivyError::InternalError("a match without entry and number".to_owned()));
        }
        Ok(best.into_iter().map(|candidate| candidate.0).collect())
    }
}

impl Collector for Best<'_> {
    type Fruit = Vec<Match>;
    type Child = Nothing;

    fn for_segment(&self, _: u32, _: &SegmentReader) -> tantivy::Result<Nothing> {
        Ok(Nothing)
    }

    fn requires_scoring(&self) -> bool {
        true
    }

    fn merge_fruits(&self, segments: Vec<Vec<Match>>) -> tantivy::Result<Vec<Match>> {
        Ok(segments.concat())
    }

    fn collect_segment(&self, weight: &dyn Weight, _: u32, reader: &SegmentReader) -> tantivy::Result<Vec<Match>> {
        self.of_segment(weight, reader)
    }
}

/// Segments are collected as a whole; nothing collects match by match.
#[derive(Debug)]
pub(super) struct Nothing;

impl SegmentCollector for Nothing {
    type Fruit = Vec<Match>;

    fn collect(&mut self, _: u32, _: Score) {}

    fn harvest(self) -> Vec<Match> {
        Vec::new()
    }
}
