//! Two bits of a row for each dimension, after a rotation, as in RaBitQ (Gao & Long, SIGMOD 2024, and its extension to more bits,
//! 2025).
//!
//! Turned by a rotation drawn at random, once for all, a row of length 1 has no direction that it prefers, whatever the model:
//! its values are spread normally, so the same four levels suit all, and which way the levels are off is left to chance. That
//! is what the first pass over the rows counts on. The rotation is three rounds of random signs and a Walsh-Hadamard transform,
//! which wants a power of two: zeros fill up the rest, and the dimensions that this adds make estimates better. Sketches lie
//! in files: whoever changes what is done here changes the format of the index.

/// Bytes of a cache line, which is what the scan takes at once.
pub(super) const LINE: usize = 64;
/// Dimensions of a line: four levels lie in a byte.
pub(super) const LINE_DIMS: usize = LINE * 4;
/// The mean of the levels' numbers, 0 to 3.
pub(super) const MIDDLE: f32 = 1.5;
/// Distance of the four levels that lose least of a normal distribution, in standard deviations (Max, 1960).
const STEP: f32 = 0.9957;
const ROUNDS: u64 = 3;

/// What is kept of a row, and what that says of it.
#[derive(Debug)]
pub(super) struct Sketch {
    /// The numbers of the levels. Byte n of a line has those of its dimensions n, n + 64, n + 128 and n + 192, the lowest bits first.
    pub bytes: Vec<u8>,
    /// 1 / (row · levels); 0 for a row of zeros. A level is its number less [`MIDDLE`].
    pub gain: f32,
    /// Standard deviation of levels · gain · vector, for a vector of length 1 at a right angle to the row.
    pub spread: f32,
}

/// Dimensions of a row that was turned: whole lines.
fn turned_dims(dims: usize) -> usize {
    dims.next_power_of_two().max(LINE_DIMS)
}

/// Bytes of a row's sketch.
pub(in crate::index) fn sketch_width(dims: usize) -> usize {
    turned_dims(dims) / LINE_DIMS * LINE
}

/// The sketch of a row of length 1.
pub(super) fn sketch(row: &[f32]) -> Sketch {
    let turned = turned(row);
    let dims = turned.len() as f32;
    let step = STEP / dims.sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "within 0 and 3")]
    let levels: Vec<u8> = turned.iter().map(|x| (x / step + MIDDLE).round().clamp(0.0, 3.0) as u8).collect();
    let line = |some: &[u8; LINE_DIMS]| {
        let (quarters, _) = some.as_chunks::<LINE>();
        std::array::from_fn::<u8, LINE, _>(|n| quarters.iter().rev().fold(0, |byte, quarter| byte << 2 | quarter[n]))
    };
    let bytes = levels.as_chunks().0.iter().flat_map(line).collect();
    let (mut product, mut squares) = (0.0, 0.0);
    for (x, level) in turned.iter().zip(levels.iter().map(|n| f32::from(*n) - MIDDLE)) {
        product += x * level;
        squares += level * level;
    }
    if product < f32::MIN_POSITIVE {
        return Sketch { bytes, gain: 0.0, spread: 0.0 };
    }
    // The square of the tangent of the angle between row and levels.
    let off = (squares / (product * product) - 1.0).max(0.0);
    Sketch { bytes, gain: 1.0 / product, spread: (off / (dims - 1.0)).sqrt() }
}

/// The row in a space of its own, where lengths and products are as before.
pub(super) fn turned(row: &[f32]) -> Vec<f32> {
    let mut turned = row.to_vec();
    turned.resize(turned_dims(row.len()), 0.0);
    for round in 0..ROUNDS {
        flip(round, &mut turned);
        transform(&mut turned);
    }
    let scale = (turned.len() as f32).powf(-0.5).powi(3);
    turned.iter_mut().for_each(|x| *x *= scale);
    turned
}

/// Changes the sign of about half of the values, in each round of others.
fn flip(round: u64, values: &mut [f32]) {
    for (n, some) in (0..).zip(values.chunks_mut(64)) {
        let which = scrambled(round << 32 | n);
        for (bit, x) in some.iter_mut().enumerate() {
            *x = f32::from_bits(x.to_bits() ^ u32::from(which >> bit & 1 == 1) << 31);
        }
    }
}

/// 64 bits as if by chance: a step of SplitMix64.
fn scrambled(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// The Walsh-Hadamard transform of a power of two of values, which makes vectors longer by the root of their number.
fn transform(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(half * 2) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passages::content::unit;

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn turning_keeps_products() {
        for dims in [1, 2, 9, 384, 512, 513, 768, 1_000] {
            let row = |salt: usize| {
                unit(&(0..dims).map(|n| ((n * 37 + salt * 11) % 101) as f32 - 50.2).collect::<Vec<_>>()).unwrap()
            };
            let (a, b) = (row(1), row(2));
            assert_eq!(sketch(&a).bytes.len(), sketch_width(dims));
            assert!((dot(&turned(&a), &turned(&b)) - dot(&a, &b)).abs() < 1e-5);
            assert!((dot(&turned(&a), &turned(&a)) - 1.0).abs() < 1e-5);
        }
    }

    /// What it is that lies in the files.
    #[test]
    fn sketches_stay_what_they_are() {
        let row: Vec<f32> = (0..300).map(|n| if n % 3 == 0 { 0.1 } else { 0.0 }).collect();
        let Sketch { bytes, .. } = sketch(&row);
        assert_eq!(bytes.len(), 128);
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
        assert_eq!((word(0), word(64)), (0xdd1f_d434_5ea6_ca15, 0xc7e2_8b5d_ab23_666e));
    }

    #[test]
    fn levels_are_near_and_how_near_is_known() {
        for at in [0, 1, 767] {
            let mut row = vec![0.0; 768];
            row[at] = 1.0;
            let Sketch { bytes, gain, spread } = sketch(&row);
            let number = |n: usize| bytes[n / LINE_DIMS * LINE + n % LINE] >> (n % LINE_DIMS / LINE * 2) & 3;
            let levels: Vec<f32> = (0..1_024).map(|n| f32::from(number(n)) - MIDDLE).collect();
            let product = dot(&turned(&row), &levels);
            assert!((product * gain - 1.0).abs() < 1e-4);
            let cosine = product / dot(&levels, &levels).sqrt();
            assert!(cosine > 0.93, "{cosine}");
            assert!((spread - ((1.0 - cosine * cosine) / 1_023.0).sqrt() / cosine).abs() < 1e-5);
        }
        let nothing = sketch(&[0.0; 768]);
        assert_eq!((nothing.gain, nothing.spread), (0.0, 0.0));
    }
}
