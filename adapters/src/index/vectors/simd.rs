//! Dot products of one query with many rows of int8 codes, by the widest instructions that the processor has.
//!
//! The loop is written once and compiled three times: the compiler turns it into `vpmaddwd` where it may. The query is wider
//! than the rows (12 bits), which costs nothing here and makes its share of the error negligible.

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
    fn the_largest_sum_fits() {
        let mut sums = [0];
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
