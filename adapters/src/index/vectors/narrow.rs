//! The first pass: which rows may be among the best k, by their sketches, so that most codes need not be read.
//!
//! A row's levels c are off by chance only (see [`super::sketch`]), so with a query q the quotient c·q / c·x estimates x·q. Its
//! error has the standard deviation sqrt(1 - (x·q)²) · tan(c, x) / sqrt(D - 1), which is `spread` times the sine of the angle between
//! row and query, and falls off at least as quickly as a normal distribution's. The rows with the best few estimates are
//! compared exactly, which gives a floor that k rows surely reach. A row at the floor or above it has a sine of at most the
//! floor's; if its estimate lies more than [`DEVIATIONS`] below the floor, it is passed over.
//!
//! So a row among the best k is missed with a probability below one in a million, over the choice of the rotation. That
//! is why this is left out where it would win little: where dimensions or rows are few, or the processor is slow at it, every
//! row is compared by its codes.

use std::{borrow::Cow, cmp::Reverse, collections::BinaryHeap};

use super::{
    super::bits::Bits,
    quantize::Metric,
    scan::{Altered, BLOCK, Pool, Query, ROUNDING, Rows, Score, pieces, rescore},
    simd::{SKETCH_QUERY_LIMIT, dots, sketch_dots, sketches_are_quick},
    sketch::{MIDDLE, sketch_width, turned},
};

/// With fewer dimensions codes are hardly longer than sketches.
const WIDE: usize = 256;
/// Among fewer rows, and fewer for each of the k, comparing all takes no longer.
const MANY: usize = 2_048;
const MANY_FOR_EACH: usize = 16;
/// Rows for each of the k that are compared to find the floor.
const SEEDS: usize = 4;
/// Standard deviations that an estimate may be too low: a normal distribution exceeds 5 once in 3.5 million.
const DEVIATIONS: f32 = 5.0;
/// Rows that are looked at together.
const GROUP: usize = 64;

/// Those of `allowed` that may be among the best k; all of them where finding out is not worth it.
pub(super) fn narrowed<'a>(
    query: &Query,
    rows: Rows<'_>,
    allowed: &'a Bits,
    k: usize,
) -> Result<Cow<'a, Bits>, Altered> {
    let many = k.saturating_mul(MANY_FOR_EACH).max(MANY);
    if !sketches_are_quick() || rows.dims < WIDE || allowed.count(0..rows.metrics.len()) < many {
        return Ok(Cow::Borrowed(allowed));
    }
    promising(query, rows, allowed, k).map(Cow::Owned)
}

fn promising(query: &Query, rows: Rows<'_>, allowed: &Bits, k: usize) -> Result<Bits, Altered> {
    let turned = Turned::new(&query.exact);
    let (estimates, seeds) = turned.estimates(rows, allowed, k * SEEDS);
    let reach = turned.reach(floor(query, rows, seeds, k)?);
    let mut promising = Bits::none(estimates.len());
    promising.add(0..estimates.len(), |group| {
        let wanted = allowed.at(group.start);
        if wanted == 0 {
            return 0;
        }
        let group = estimates[group.clone()].iter().zip(&rows.metrics[group]);
        let holds = |(estimate, metric): (&f32, &Metric)| reach.holds(*estimate, metric);
        // Most groups have none: asked of all rows at once, that takes a few instructions.
        if !group.clone().fold(false, |any, row| any | holds(row)) {
            return 0;
        }
        wanted & (0..).zip(group).fold(0, |all, (bit, row)| all | u64::from(holds(row)) << bit)
    });
    Ok(promising)
}

/// A score that at least k rows have, out of a few that are likely to be the best.
fn floor(query: &Query, rows: Rows<'_>, seeds: Seeds, k: usize) -> Result<f32, Altered> {
    let mut pool = Pool::new(k);
    for Reverse((_, row)) in seeds.best {
        let mut sum = [0];
        dots(&query.codes, &rows.codes[row * rows.dims..(row + 1) * rows.dims], &mut sum);
        pool.offer(query.approximate(row, sum[0], rows.metrics[row]));
    }
    let best = rescore(query, rows, pool.finish(), k)?;
    Ok(best.get(k - 1).map_or(f32::NEG_INFINITY, |(_, score)| *score))
}

/// The query, turned as the rows were, and quantized to 8 bits.
struct Turned {
    codes: Vec<i8>,
    scale: f32,
    /// What the codes' product with the numbers of levels is above that with the levels.
    offset: f32,
    /// Length of what rounding took away.
    lost: f32,
}

impl Turned {
    fn new(query: &[f32]) -> Self {
        let exact = turned(query);
        let largest = exact.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let scale = (largest / f32::from(SKETCH_QUERY_LIMIT)).max(f32::MIN_POSITIVE);
        #[expect(clippy::cast_possible_truncation, reason = "within ±SKETCH_QUERY_LIMIT by the choice of the scale")]
        let codes: Vec<i8> = exact.iter().map(|x| (x / scale).round() as i8).collect();
        let lost: f32 = exact.iter().zip(&codes).map(|(x, code)| (x - f32::from(*code) * scale).powi(2)).sum();
        let offset = codes.iter().map(|code| f32::from(*code)).sum::<f32>() * MIDDLE;
        Self { scale, offset, lost: lost.sqrt(), codes }
    }

    /// What the query's product with a row is likely to be, by that of its codes with the numbers of the row's levels.
    fn estimate(&self, sum: i32, metric: &Metric) -> f32 {
        (sum as f32 - self.offset) * (self.scale * metric.gain)
    }

    /// Estimates by row, of no meaning where a row is not allowed, and so many of the best.
    fn estimates(&self, rows: Rows<'_>, allowed: &Bits, seeds: usize) -> (Vec<f32>, Seeds) {
        let all = rows.metrics.len();
        let width = sketch_width(rows.dims);
        let (mut estimates, mut seeds) = (vec![0.0; all], Seeds::new(seeds));
        let mut sums = [0; BLOCK];
        for start in (0..all).step_by(BLOCK) {
            pieces(allowed, start..all.min(start + BLOCK), rows.sketches, width, |piece, sketches| {
                let sums = &mut sums[..piece.len()];
                sketch_dots(&self.codes, sketches, sums);
                let of_piece = estimates[piece.clone()].iter_mut().zip(sums).zip(&rows.metrics[piece.clone()]);
                of_piece.for_each(|((estimate, sum), metric)| *estimate = self.estimate(*sum, metric));
                for from in piece.clone().step_by(GROUP) {
                    let group = from..piece.end.min(from + GROUP);
                    if estimates[group.clone()].iter().fold(false, |any, estimate| any | (*estimate > seeds.lowest)) {
                        allowed.within(group).for_each(|row| seeds.offer(row, estimates[row]));
                    }
                }
            });
        }
        (estimates, seeds)
    }

    /// How high an estimate must be of a row that reaches `floor`. What the query's codes lack adds its product with the row,
    /// which is as much left to chance, and at most its length to the sine.
    fn reach(&self, floor: f32) -> Reach {
        let sine = (1.0 - floor.clamp(0.0, 1.0).powi(2)).sqrt();
        let by_codes = self.lost / (self.codes.len() as f32).sqrt();
        Reach { least: floor - DEVIATIONS * by_codes - ROUNDING, by_spread: DEVIATIONS * (sine + self.lost) }
    }
}

/// What an estimate must reach: the more it may err, the less.
struct Reach {
    least: f32,
    by_spread: f32,
}

impl Reach {
    fn holds(&self, estimate: f32, metric: &Metric) -> bool {
        estimate + self.by_spread * metric.spread >= self.least
    }
}

/// The rows with the best estimates so far.
struct Seeds {
    most: usize,
    /// The worst on top.
    best: BinaryHeap<Reverse<(Score, usize)>>,
    lowest: f32,
}

impl Seeds {
    fn new(most: usize) -> Self {
        Self { most, best: BinaryHeap::with_capacity(most + 1), lowest: f32::NEG_INFINITY }
    }

    fn offer(&mut self, row: usize, estimate: f32) {
        if estimate <= self.lowest {
            return;
        }
        self.best.push(Reverse((Score(estimate), row)));
        if self.best.len() > self.most {
            self.best.pop();
            self.lowest = self.best.peek().map_or(self.lowest, |Reverse((score, _))| score.0);
        }
    }
}

#[cfg(test)]
mod tests;
