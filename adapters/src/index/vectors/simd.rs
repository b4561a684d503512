//! One query compared with many rows, by codes or by sketches, with the widest instructions that the processor has.
//!
//! The loop over codes is written once and compiled three times: the compiler turns it into `vpmaddwd` where it may. The query
//! is wider than the rows (12 bits), which costs nothing here and makes its share of the error negligible. That over sketches is
//! written out, for no compiler finds `vpmaddubsw` in it; with wider registers it would hardly be quicker, for it waits for memory.

use super::sketch::{LINE, LINE_DIMS};

/// The largest query code. Sums stay within i32 up to 8,192 dimensions: 8192 · 127 · 2047 < 2^31.
pub(super) const QUERY_LIMIT: i16 = 2047;

/// `sums[r] = query · rows[r]`, where `rows` holds `sums.len()` rows of `query.len()` codes, as bytes.
pub(super) fn dots(query: &[i16], rows: &[u8], sums: &mut [i32]) {
    debug_assert_eq!(rows.len(), query.len() * sums.len());
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            #[expect(unsafe_code, reason = "the processor was just asked for these features")]
            return unsafe { dots_avx512(query, rows, sums) };
        }
        if is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "the processor was just asked for this feature")]
            return unsafe { dots_avx2(query, rows, sums) };
        }
    }
    dots_anywhere(query, rows, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn dots_avx512(query: &[i16], rows: &[u8], sums: &mut [i32]) {
    dots_anywhere(query, rows, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dots_avx2(query: &[i16], rows: &[u8], sums: &mut [i32]) {
    dots_anywhere(query, rows, sums);
}

#[inline(always)]
fn dots_anywhere(query: &[i16], rows: &[u8], sums: &mut [i32]) {
    for (row, sum) in rows.chunks_exact(query.len().max(1)).zip(sums) {
        *sum = query.iter().zip(row).map(|(q, code)| i32::from(*q) * i32::from(code.cast_signed())).sum();
    }
}

/// The largest query code where rows are sketches.
pub(super) const SKETCH_QUERY_LIMIT: i8 = 127;

/// Whether this processor compares a sketch in less time than the codes.
pub(super) fn sketches_are_quick() -> bool {
    #[cfg(target_arch = "x86_64")]
    let are = is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let are = false;
    are
}

/// `sums[r]` = query · the numbers of the levels of row r. `rows` holds `sums.len()` sketches of `query.len()` dimensions, a multiple
/// of [`LINE_DIMS`].
pub(super) fn sketch_dots(query: &[i8], rows: &[u8], sums: &mut [i32]) {
    debug_assert_eq!(rows.len(), query.len() / LINE_DIMS * LINE * sums.len());
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "the processor was just asked for this feature")]
            return unsafe { sketch_dots_avx2(query, rows, sums) };
        }
    }
    sketch_dots_anywhere(query, rows, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sketch_dots_avx2(query: &[i8], rows: &[u8], sums: &mut [i32]) {
    use std::arch::x86_64::{
        _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_srli_epi16,
        _mm256_storeu_si256,
    };
    const HALF: usize = LINE / 2;
    #[expect(unsafe_code, reason = "reads the 32 bytes that it is given")]
    let load = |bytes: &[u8; HALF]| unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    #[expect(unsafe_code, reason = "likewise")]
    let load_query = |codes: &[i8; HALF]| unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) };
    let (lowest, ones) = (_mm256_set1_epi8(0b11), _mm256_set1_epi16(1));
    for (row, sum) in rows.chunks_exact((query.len() / LINE_DIMS * LINE).max(1)).zip(sums) {
        let mut total = _mm256_setzero_si256();
        for (line, query) in row.as_chunks::<LINE>().0.iter().zip(query.as_chunks::<LINE_DIMS>().0) {
            // In 16 bits: 8 · 2 · 3 · 127 at most.
            let mut pairs = _mm256_setzero_si256();
            for (half, numbers) in line.as_chunks().0.iter().enumerate() {
                let mut numbers = load(numbers);
                for codes in query.as_chunks().0.iter().skip(half).step_by(2) {
                    let products = _mm256_maddubs_epi16(_mm256_and_si256(numbers, lowest), load_query(codes));
                    pairs = _mm256_add_epi16(pairs, products);
                    numbers = _mm256_srli_epi16::<2>(numbers);
                }
            }
            total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, ones));
        }
        let mut lanes = [0_i32; 8];
        #[expect(unsafe_code, reason = "writes 32 bytes to as many")]
        unsafe {
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), total);
        }
        *sum = lanes.iter().sum();
    }
}

fn sketch_dots_anywhere(query: &[i8], rows: &[u8], sums: &mut [i32]) {
    for (row, sum) in rows.chunks_exact((query.len() / LINE_DIMS * LINE).max(1)).zip(sums) {
        *sum = 0;
        for (line, query) in row.as_chunks::<LINE>().0.iter().zip(query.as_chunks::<LINE_DIMS>().0) {
            for (quarter, codes) in query.as_chunks::<LINE>().0.iter().enumerate() {
                let number = |byte: &u8| i32::from(byte >> (quarter * 2) & 0b11);
                *sum += line.iter().zip(codes).map(|(byte, code)| number(byte) * i32::from(*code)).sum::<i32>();
            }
        }
    }
}

/// Has the processor begin to read what is needed soon.
pub(super) fn fetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(unsafe_code, reason = "a hint: it reads nothing by itself and does not fail")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// The dot product of two vectors in f32, the second as little-endian bytes.
pub(super) fn dot_exact(a: &[f32], b: &[u8]) -> f32 {
    const LANES: usize = 16;
    let product = |x: &f32, y: &[u8; 4]| x * f32::from_le_bytes(*y);
    let (b, _) = b.as_chunks::<4>();
    let (a_wide, b_wide) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_wide.remainder().iter().zip(b_wide.remainder()).map(|(x, y)| product(x, y)).sum();
    let mut sums = [0.0_f32; LANES];
    for (x, y) in a_wide.zip(b_wide) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += product(x, y);
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic and spread over the whole range.
    fn noise(n: usize) -> impl Iterator<Item = u32> {
        let mut state = 0x9e37_79b9_u32;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        })
        .take(n)
    }

    #[test]
    fn every_instruction_set_gives_the_same_sums() {
        for dims in [1, 7, 16, 33, 384, 768, 1_000] {
            let query: Vec<i16> = noise(dims)
                .map(|n| i16::from_le_bytes([n.to_le_bytes()[0], n.to_le_bytes()[1]]) % QUERY_LIMIT)
                .collect();
            let rows: Vec<u8> = noise(dims * 5).map(|n| n.to_le_bytes()[1]).collect();
            let (mut wide, mut plain) = ([0; 5], [0; 5]);
            dots(&query, &rows, &mut wide);
            dots_anywhere(&query, &rows, &mut plain);
            assert_eq!(wide, plain);
        }
    }

    #[test]
    fn every_instruction_set_reads_the_same_levels() {
        for lines in [1, 2, 3, 32] {
            let query: Vec<i8> = noise(lines * LINE_DIMS).map(|n| n.to_le_bytes()[1].cast_signed().max(-127)).collect();
            let rows: Vec<u8> = noise(lines * LINE * 5).map(|n| n.to_le_bytes()[2]).collect();
            let (mut wide, mut plain) = ([0; 5], [9; 5]);
            sketch_dots(&query, &rows, &mut wide);
            sketch_dots_anywhere(&query, &rows, &mut plain);
            assert_eq!(wide, plain);
            let level =
                |row: &[u8], dim: usize| row[dim / LINE_DIMS * LINE + dim % LINE] >> (dim % LINE_DIMS / LINE * 2) & 3;
            let dot =
                |row: &[u8]| (0..).zip(&query).map(|(dim, q)| i32::from(*q) * i32::from(level(row, dim))).sum::<i32>();
            assert_eq!(plain.to_vec(), rows.chunks(lines * LINE).map(dot).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_largest_sum_fits() {
        let mut sums = [0];
        sketch_dots(&[SKETCH_QUERY_LIMIT; 8_192], &[0xff; 8_192 / 4], &mut sums);
        assert_eq!(sums, [8_192 * 3 * i32::from(SKETCH_QUERY_LIMIT)]);
        dots(&vec![QUERY_LIMIT; 8_192], &vec![127; 8_192], &mut sums);
        assert_eq!(sums, [8_192 * 127 * i32::from(QUERY_LIMIT)]);
    }

    #[test]
    fn exact_products_are_exact() {
        for dims in [1, 15, 16, 17, 384, 770] {
            let a: Vec<f32> = noise(dims).map(|n| n as f32 / u32::MAX as f32 - 0.5).collect();
            let b: Vec<f32> = noise(dims + 3).skip(3).map(|n| n as f32 / u32::MAX as f32 - 0.5).collect();
            let bytes: Vec<u8> = b.iter().flat_map(|x| x.to_le_bytes()).collect();
            let plain: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            assert!((f64::from(dot_exact(&a, &bytes)) - plain).abs() < 1e-4);
        }
    }
}
