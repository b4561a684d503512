//! The best passages by BM25, exactly, out of those that a filter allows.
//!
//! A segment is worked through in windows. Within one, each clause adds what it is worth to the sums of the allowed passages
//! that have it: by going through its postings and testing each against the filter's set, or, where the set holds few, by
//! seeking each of them. Windows without an allowed passage are skipped. So a filter costs a test or spares work, whatever it
//! leaves.
//!
//! Once k passages are known, clauses whose greatest worths together do not reach the worst of them cannot bring up a passage
//! of their own; these are only looked up for passages that others found, while there is still something to win (`MaxScore`:
//! Turtle & Flood, Query evaluation: strategies and optimizations, 1995; in windows: Grand et al., From `MaxScore` to
//! Block-Max WAND, ECIR 2020). Clauses always add in one order, so that the sum of a passage does not depend on the filter,
//! on k, or on the segment.

use std::{cmp::Ordering, collections::BinaryHeap};

use tantivy::{
    SegmentReader,
    fieldnorm::FieldNormReader,
    postings::BlockSegmentPostings,
    query::{Bm25Weight, Scorer},
    schema::IndexRecordOption,
};

use super::{
    super::bits::{Bits, each},
    Match,
    places::Places,
    query::Clause,
};

/// Passages whose sums are held at once: within the first-level cache.
const WINDOW: u32 = 4_096;
const WORDS: usize = WINDOW as usize / 64;
/// Postings of a block, as tantivy packs them.
const BLOCK: usize = 128;
/// Postings that are gone through in the time of a seek.
const SEEK: u64 = 8;
/// What adding up several hundred f32 may lose, with room.
const ROUNDING: f32 = 1.0 + 1e-4;

/// The best so far.
#[derive(Debug)]
pub(super) struct Best {
    k: usize,
    found: BinaryHeap<Candidate>,
}

/// The worst on top; of equal scores the one that came later. Not by tantivy's order, which changes when segments merge.
#[derive(Debug, PartialEq)]
struct Candidate(Match);

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, Self(other): &Self) -> Ordering {
        other.score.total_cmp(&self.0.score).then(self.0.passage.cmp(&other.passage))
    }
}

impl Best {
    /// Room for `k`, at least 1.
    pub(super) fn new(k: usize) -> Self {
        Self { k, found: BinaryHeap::with_capacity(k.min(1 << 16) + 1) }
    }

    /// What a score must reach.
    fn floor(&self) -> f32 {
        let worst = self.found.peek().filter(|_| self.found.len() >= self.k);
        worst.map_or(f32::NEG_INFINITY, |Candidate(worst)| worst.score)
    }

    fn offer(&mut self, found: Match) {
        self.found.push(Candidate(found));
        if self.found.len() > self.k {
            self.found.pop();
        }
    }

    /// All, best first.
    pub(super) fn into_matches(self) -> Vec<Match> {
        self.found.into_sorted_vec().into_iter().map(|Candidate(found)| found).collect()
    }

    /// Takes in a segment, number `ordinal` of the searcher's.
    pub(super) fn search(
        &mut self,
        clauses: &[Clause],
        (ordinal, segment): (usize, &SegmentReader),
        places: &Places,
        passages: &Bits,
    ) -> tantivy::Result<()> {
        let allowed = places.docs(segment.max_doc(), passages);
        let lists = clauses.iter().filter_map(|clause| List::open(clause, ordinal, segment).transpose());
        let mut lists = lists.collect::<tantivy::Result<Vec<List<'_>>>>()?;
        let rests = rests(&lists);
        let mut window = Window::default();
        for start in (0..segment.max_doc()).step_by(WINDOW as usize) {
            let end = start.saturating_add(WINDOW).min(segment.max_doc());
            (window.start, window.end) = (start, end);
            window.allowed = allowed.count(start as usize..end as usize);
            // Those that may bring up a passage of their own.
            let floor = self.floor();
            let leading = rests.partition_point(|rest| rest * ROUNDING >= floor).min(lists.len());
            if leading == 0 {
                return Ok(());
            }
            if window.allowed == 0 {
                continue;
            }
            let (leading, others) = lists.split_at_mut(leading);
            leading.iter_mut().for_each(|list| list.add(&mut window, &allowed));
            let rests = &rests[leading.len()..];
            window.drain(|doc, sum| self.weigh(doc, sum, (others, rests), places));
        }
        Ok(())
    }

    /// Adds what the other lists are worth to a passage, while it may still be among the best.
    fn weigh(&mut self, doc: u32, mut sum: f32, (lists, rests): (&mut [List<'_>], &[f32]), places: &Places) {
        let floor = self.floor();
        for (list, rest) in lists.iter_mut().zip(rests) {
            if (sum + rest) * ROUNDING < floor {
                return;
            }
            sum += list.worth(doc).unwrap_or_default();
        }
        // What is equally good may have come earlier.
        if sum >= floor
            && let Some(passage) = places.passage(doc)
        {
            self.offer(Match { passage, score: sum });
        }
    }
}

/// What the lists from each on may be worth together; at the end, nothing.
fn rests(lists: &[List<'_>]) -> Vec<f32> {
    let mut rests = vec![0.0; lists.len() + 1];
    for (n, list) in lists.iter().enumerate().rev() {
        rests[n] = rests[n + 1] + list.most;
    }
    rests
}

/// The sums of the passages that are looked at.
#[derive(Debug)]
struct Window {
    start: u32,
    end: u32,
    /// Passages of it that the filter allows.
    allowed: usize,
    sums: Vec<f32>,
    /// Which have a sum.
    touched: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self { start: 0, end: 0, allowed: 0, sums: vec![0.0; WINDOW as usize], touched: [0; WORDS] }
    }
}

impl Window {
    fn add(&mut self, doc: u32, worth: f32) {
        let place = (doc - self.start) as usize;
        self.sums[place] += worth;
        self.touched[place / 64] |= 1 << (place % 64);
    }

    /// Shows each sum, in order, and forgets it.
    fn drain(&mut self, mut show: impl FnMut(u32, f32)) {
        for (doc, word) in (self.start..).step_by(64).zip(&mut self.touched) {
            for bit in each(std::mem::take(word)) {
                let sum = &mut self.sums[(doc - self.start) as usize + bit];
                show(doc + u32::try_from(bit).unwrap_or_default(), std::mem::take(sum));
            }
        }
    }
}

/// A clause in a segment, read from front to back.
struct List<'a> {
    /// More than it is worth to any passage.
    most: f32,
    source: Source<'a>,
}

enum Source<'a> {
    Term(Box<Postings<'a>>),
    Phrase(Box<dyn Scorer>),
}

impl<'a> List<'a> {
    /// `None` if the segment has nothing of it.
    fn open(clause: &'a Clause, ordinal: usize, segment: &SegmentReader) -> tantivy::Result<Option<Self>> {
        let source = match clause {
            Clause::Phrase { weight, boost } => Source::Phrase(weight.scorer(segment, *boost)?),
            Clause::Term { field, bm25, infos } => {
                let Some(info) = infos.get(ordinal).and_then(Option::as_ref) else { return Ok(None) };
                let index = segment.inverted_index(*field)?;
                let blocks = index.read_block_postings_from_terminfo(info, IndexRecordOption::WithFreqs)?;
                let of_a_window = u64::from(info.doc_freq) * u64::from(WINDOW) / u64::from(segment.max_doc().max(1));
                let lengths = segment.get_fieldnorms_reader(*field)?;
                Source::Term(Box::new(Postings { blocks, at: 0, of_a_window, lengths, bm25 }))
            }
        };
        Ok(Some(Self { most: clause.most(), source }))
    }

    /// Adds what it is worth to the allowed passages of a window.
    fn add(&mut self, window: &mut Window, allowed: &Bits) {
        match &mut self.source {
            Source::Term(postings) if window.allowed as u64 * SEEK < postings.of_a_window => {
                for doc in docs(allowed, window.start, window.end) {
                    if let Some(worth) = postings.worth(doc) {
                        window.add(doc, worth);
                    }
                }
            }
            Source::Term(postings) => postings.add(window, allowed),
            Source::Phrase(scorer) => add_phrase(&mut **scorer, window, allowed),
        }
    }

    /// What it is worth to a passage that lies behind those asked for before; `None` if that does not have it.
    fn worth(&mut self, doc: u32) -> Option<f32> {
        match &mut self.source {
            Source::Term(postings) => postings.worth(doc),
            Source::Phrase(scorer) => worth(&mut **scorer, doc),
        }
    }
}

/// The allowed from `from` on, before `end`.
fn docs(allowed: &Bits, from: u32, end: u32) -> impl Iterator<Item = u32> + '_ {
    allowed.within(from as usize..end as usize).map(|doc| u32::try_from(doc).unwrap_or(u32::MAX))
}

/// Whether a passage has the words in order costs more to say than that it has them: only allowed ones are asked for.
fn add_phrase(scorer: &mut dyn Scorer, window: &mut Window, allowed: &Bits) {
    let mut at = scorer.doc();
    while at < window.end {
        let Some(next) = docs(allowed, at.max(window.start), window.end).next() else { return };
        if at < next {
            at = scorer.seek(next);
            continue;
        }
        window.add(at, scorer.score());
        at = scorer.advance();
    }
}

fn worth(scorer: &mut dyn Scorer, doc: u32) -> Option<f32> {
    let at = if scorer.doc() < doc { scorer.seek(doc) } else { scorer.doc() };
    (at == doc).then(|| scorer.score())
}

/// The postings of a term, and the place in them.
struct Postings<'a> {
    blocks: BlockSegmentPostings,
    /// In the block.
    at: usize,
    /// As many lie in a window, in the mean.
    of_a_window: u64,
    /// Of passages, rounded: what BM25 divides by.
    lengths: FieldNormReader,
    bm25: &'a Bm25Weight,
}

impl Postings<'_> {
    fn seek(&mut self, doc: u32) {
        if self.blocks.docs().get(self.at).is_none_or(|at| *at < doc) {
            self.at = self.blocks.seek(doc);
        }
    }

    fn worth(&mut self, doc: u32) -> Option<f32> {
        self.seek(doc);
        let is_there = self.blocks.docs().get(self.at) == Some(&doc);
        is_there.then(|| self.bm25.score(self.lengths.fieldnorm_id(doc), self.blocks.freq(self.at)))
    }

    fn add(&mut self, window: &mut Window, allowed: &Bits) {
        self.seek(window.start);
        loop {
            let (docs, counts) = (self.blocks.docs(), self.blocks.freqs());
            let end = self.at + docs[self.at..].partition_point(|doc| *doc < window.end);
            // First which, then what they are worth: a processor cannot guess what a filter lets through.
            let mut which = [0; BLOCK];
            let mut kept = 0;
            for (n, doc) in (self.at..).zip(&docs[self.at..end]) {
                which[kept % BLOCK] = n;
                kept += usize::from(allowed.contains(*doc as usize));
            }
            for n in &which[..kept] {
                let doc = docs[*n];
                window.add(doc, self.bm25.score(self.lengths.fieldnorm_id(doc), counts[*n]));
            }
            self.at = end;
            if end < docs.len() || docs.is_empty() {
                return;
            }
            self.blocks.advance();
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests;
