//! The k nearest rows, exactly, out of the rows that a filter allows.
//!
//! One pass over the int8 codes gives each row an approximate score and, from the known rounding errors, an interval that
//! holds the exact one. The k-th best *lower* end seen so far is a floor under the k-th best exact score, so a row whose
//! *upper* end is below it cannot be among the best k. The others (a few dozen, usually) are rescored in f32, best first,
//! until no upper end reaches the k-th exact score. Where rows are many, [`narrowed`] says first which of them are worth it,
//! and errs less than once in a million; apart from that chance nothing is approximate about the result.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    ops::Range,
};

use super::{
    super::bits::Bits,
    narrow::narrowed,
    quantize::Metric,
    simd::{QUERY_LIMIT, dot_exact, dots, fetch},
};
use crate::passages::content::unit;

/// Rows that are looked at together.
pub(super) const BLOCK: usize = 1_024;
/// Where one row of so many is wanted, all are read: the processor knows what comes next, and a row alone takes longer.
const DENSE: usize = 3;
/// Bytes of rows that lie scattered which are on their way from memory while one is compared.
const AHEAD: usize = 4_096;
/// What f32 arithmetic itself may add to an error, with room.
pub(super) const ROUNDING: f32 = 2e-5;
/// A row's exact score this far outside its interval means that codes or floats are not what was written.
const IMPOSSIBLE: f32 = 1e-3;

/// Vectors as they lie in the files: `[rows, dims]`.
#[derive(Debug, Clone, Copy)]
pub(in crate::index) struct Rows<'a> {
    pub dims: usize,
    pub codes: &'a [u8],
    /// `[rows, sketch_width(dims)]`.
    pub sketches: &'a [u8],
    pub floats: &'a [u8],
    pub metrics: &'a [Metric],
}

impl Rows<'_> {
    /// A row as it was written, if it is the one that its codes came from.
    pub(in crate::index) fn exact(&self, row: usize) -> Result<Vec<f32>, Altered> {
        let width = self.dims * 4;
        let floats = self.floats.get(row * width..(row + 1) * width).ok_or(Altered(row))?;
        let floats: Vec<f32> = floats.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let codes = self.codes.get(row * self.dims..(row + 1) * self.dims).ok_or(Altered(row))?;
        let metric = self.metrics.get(row).ok_or(Altered(row))?;
        let lost = floats.iter().zip(codes).map(|(x, code)| x - f32::from(code.cast_signed()) * metric.scale);
        let off = lost.map(|x| x * x).sum::<f32>().sqrt();
        if off.is_nan() || off > metric.error + IMPOSSIBLE { Err(Altered(row)) } else { Ok(floats) }
    }
}

/// A row whose codes and floats contradict each other: the files were altered.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::index) struct Altered(pub usize);

/// A score, ordered; never NaN by construction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Score(pub f32);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

pub(super) struct Candidate {
    row: usize,
    score: f32,
    /// Half the interval's width.
    slack: f32,
}

impl Candidate {
    fn upper(&self) -> f32 {
        self.score + self.slack
    }
}

/// The query, quantized to 12 bits.
pub(super) struct Query {
    pub exact: Vec<f32>,
    pub codes: Vec<i16>,
    scale: f32,
    /// Length of what rounding took away.
    error: f32,
}

impl Query {
    pub(super) fn new(exact: Vec<f32>) -> Self {
        let largest = exact.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let scale = (largest / f32::from(QUERY_LIMIT)).max(f32::MIN_POSITIVE);
        #[expect(clippy::cast_possible_truncation, reason = "within ±QUERY_LIMIT by the choice of the scale")]
        let codes: Vec<i16> = exact.iter().map(|x| (x / scale).round() as i16).collect();
        let lost = exact.iter().zip(&codes).map(|(x, code)| x - f32::from(*code) * scale);
        let error = lost.map(|x| x * x).sum::<f32>().sqrt();
        Self { exact, codes, scale, error }
    }

    /// A row's approximate score and how far from it the exact one may be: with row x = x' + dx and query q = q' + dq,
    /// |q·x - q'·x'| <= |q||dx| + |dq||x'|, where |q| <= 1 and |x'| <= 1 + |dx|.
    pub(super) fn approximate(&self, row: usize, sum: i32, metric: Metric) -> Candidate {
        // What the cast to f32 loses is within ROUNDING.
        let score = sum as f32 * (self.scale * metric.scale);
        Candidate { row, score, slack: metric.error + self.error * (1.0 + metric.error) + ROUNDING }
    }
}

/// The `k` rows within `allowed` whose cosine similarity to `query` is highest, best first, ties by row.
///
/// `query` has `rows.dims` finite values; what of `allowed` lies behind the rows is passed over.
pub(in crate::index) fn nearest(
    query: &[f32],
    rows: Rows<'_>,
    allowed: &Bits,
    k: usize,
) -> Result<Vec<(usize, f32)>, Altered> {
    let Some(exact) = unit(query) else { return Ok(Vec::new()) };
    if k == 0 || rows.dims == 0 {
        return Ok(Vec::new());
    }
    let query = Query::new(exact);
    let allowed = narrowed(&query, rows, allowed, k)?;
    let candidates = scan(&query, rows, &allowed, k);
    rescore(&query, rows, candidates, k)
}

/// Every row that may be among the best k.
fn scan(query: &Query, rows: Rows<'_>, allowed: &Bits, k: usize) -> Vec<Candidate> {
    let mut pool = Pool::new(k);
    let mut sums = [0; BLOCK];
    let all = rows.metrics.len();
    for start in (0..all).step_by(BLOCK) {
        let block = start..all.min(start + BLOCK);
        pieces(allowed, block, rows.codes, rows.dims, |piece, codes| {
            let sums = &mut sums[..piece.len()];
            dots(&query.codes, codes, sums);
            let look = |row: usize| pool.offer(query.approximate(row, sums[row - piece.start], rows.metrics[row]));
            if allowed.count(piece.clone()) == piece.len() {
                piece.clone().for_each(look);
            } else {
                allowed.within(piece.clone()).for_each(look);
            }
        });
    }
    pool.finish()
}

/// Gives, in order, pieces of a block that hold all of its rows that are allowed, and what `table` has of them, `width` bytes a
/// row: the whole block where they are many, else those that lie in a row.
pub(super) fn pieces<'a>(
    allowed: &Bits,
    block: Range<usize>,
    table: &'a [u8],
    width: usize,
    mut compare: impl FnMut(Range<usize>, &'a [u8]),
) {
    let of = |rows: Range<usize>| &table[rows.start * width..rows.end * width];
    if allowed.count(block.clone()) * DENSE >= block.len() {
        return compare(block.clone(), of(block));
    }
    let mut wanted = allowed.within(block.clone()).peekable();
    let mut ahead = allowed.within(block);
    let mut fetch_next = |rows: usize| ahead.by_ref().take(rows).for_each(|row| fetch(of(row..row + 1)));
    fetch_next(AHEAD / width.max(1));
    while let Some(first) = wanted.next() {
        let mut end = first + 1;
        while wanted.next_if_eq(&end).is_some() {
            end += 1;
        }
        fetch_next(end - first);
        compare(first..end, of(first..end));
    }
}

/// The rows that may be among the best k of those seen so far.
pub(super) struct Pool {
    k: usize,
    /// The k best lower ends, the lowest on top.
    floor: BinaryHeap<Reverse<Score>>,
    lowest: f32,
    candidates: Vec<Candidate>,
}

impl Pool {
    pub(super) fn new(k: usize) -> Self {
        let floor = BinaryHeap::with_capacity(k.min(1 << 16) + 1);
        Self { k, floor, lowest: f32::NEG_INFINITY, candidates: Vec::new() }
    }

    pub(super) fn offer(&mut self, candidate: Candidate) {
        if candidate.upper() < self.lowest {
            return;
        }
        let lower = candidate.score - candidate.slack;
        self.candidates.push(candidate);
        if self.floor.len() < self.k || lower > self.lowest {
            self.floor.push(Reverse(Score(lower)));
            if self.floor.len() > self.k {
                self.floor.pop();
            }
            if self.floor.len() == self.k {
                self.lowest = self.floor.peek().map_or(self.lowest, |Reverse(score)| score.0);
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<Candidate> {
        self.candidates.retain(|candidate| candidate.upper() >= self.lowest);
        self.candidates
    }
}

/// The best k of them by their exact scores, best first, ties by row.
pub(super) fn rescore(
    query: &Query,
    rows: Rows<'_>,
    mut candidates: Vec<Candidate>,
    k: usize,
) -> Result<Vec<(usize, f32)>, Altered> {
    candidates.sort_unstable_by(|a, b| b.upper().total_cmp(&a.upper()));
    let width = rows.dims * 4;
    // The k best exact scores, the worst on top; of equal ones the higher row is the worse.
    let mut best: BinaryHeap<(Reverse<Score>, usize)> = BinaryHeap::with_capacity(k.min(1 << 16) + 1);
    for candidate in candidates {
        if best.len() == k && best.peek().is_some_and(|(Reverse(worst), _)| candidate.upper() < worst.0) {
            break;
        }
        let row = candidate.row;
        let score = dot_exact(&query.exact, &rows.floats[row * width..(row + 1) * width]);
        let off = (score - candidate.score).abs();
        if off.is_nan() || off > candidate.slack + IMPOSSIBLE {
            return Err(Altered(row));
        }
        best.push((Reverse(Score(score)), row));
        if best.len() > k {
            best.pop();
        }
    }
    Ok(best.into_sorted_vec().into_iter().map(|(Reverse(score), row)| (row, score.0.clamp(-1.0, 1.0))).collect())
}

#[cfg(test)]
pub(super) mod tests;
