#![allow(clippy::single_range_in_vec_init, reason = "rows are asked for by ranges, here mostly one")]

use proptest::prelude::*;

use super::*;
use crate::index::vectors::encode;

pub(in crate::index::vectors) struct Store {
    pub dims: usize,
    pub vectors: Vec<Vec<f32>>,
    codes: Vec<u8>,
    sketches: Vec<u8>,
    pub floats: Vec<u8>,
    metrics: Vec<Metric>,
}

impl Store {
    pub(in crate::index::vectors) fn new(vectors: &[Vec<f32>]) -> Self {
        let vectors: Vec<Vec<f32>> = vectors.iter().map(|v| unit(v).unwrap()).collect();
        let encoded: Vec<_> = vectors.iter().map(|v| encode(v)).collect();
        Self {
            dims: vectors[0].len(),
            codes: encoded.iter().flat_map(|e| e.codes.iter().map(|c| c.cast_unsigned())).collect(),
            sketches: encoded.iter().flat_map(|e| &e.sketch).copied().collect(),
            floats: vectors.iter().flatten().flat_map(|x| x.to_le_bytes()).collect(),
            metrics: encoded.iter().map(|e| e.metric).collect(),
            vectors,
        }
    }

    pub(in crate::index::vectors) fn rows(&self) -> Rows<'_> {
        let Self { dims, codes, sketches, floats, metrics, .. } = self;
        Rows { dims: *dims, codes, sketches, floats, metrics }
    }

    pub(in crate::index::vectors) fn brute_force(
        &self,
        query: &[f32],
        allowed: &[Range<usize>],
        k: usize,
    ) -> Vec<(usize, f64)> {
        let dot = |v: &Vec<f32>| v.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let mut all: Vec<_> = allowed.iter().cloned().flatten().map(|row| (row, dot(&self.vectors[row]))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(k);
        all
    }

    pub(in crate::index::vectors) fn check(&self, query: &[f32], allowed: &[Range<usize>], k: usize) {
        let query = unit(query).unwrap();
        let expected = self.brute_force(&query, allowed, k);
        let found = nearest(&query, self.rows(), &bits(allowed), k).unwrap();
        assert_eq!(found.len(), expected.len());
        for ((row, score), (wanted, exact)) in found.iter().zip(&expected) {
            let own = self.brute_force(&query, &[*row..*row + 1], 1)[0].1;
            // Scores that differ by less than f32 can tell may change places.
            assert!((own - exact).abs() < 1e-6, "row {row} stands where {wanted} belongs");
            assert!((f64::from(*score) - own).abs() < 1e-5);
        }
    }
}

pub(in crate::index::vectors) fn bits(ranges: &[Range<usize>]) -> Bits {
    let mut bits = Bits::none(ranges.iter().map(|range| range.end).max().unwrap_or_default());
    ranges.iter().for_each(|range| bits.add(range.clone(), |_| u64::MAX));
    bits
}

/// Clustered like embeddings of text: centres, and points around them at several distances.
pub(in crate::index::vectors) fn clustered(rows: usize, dims: usize, seed: u64) -> Vec<Vec<f32>> {
    use rand::{RngExt, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut gauss = move || (0..6).map(|_| random.random::<f32>() - 0.5).sum::<f32>();
    let centres: Vec<Vec<f32>> = (0..20).map(|_| (0..dims).map(|_| gauss()).collect()).collect();
    (0..rows)
        .map(|n| {
            let spread = 0.05 + 0.1 * (n % 7) as f32;
            centres[n % centres.len()].iter().map(|x| x + spread * gauss()).collect()
        })
        .collect()
}

#[test]
fn finds_what_brute_force_finds() {
    let store = Store::new(&clustered(3_000, 64, 1));
    let all = 0..store.vectors.len();
    for query in clustered(40, 64, 2).iter().chain(&store.vectors[..10]) {
        for k in [1, 10, 100] {
            store.check(query, std::slice::from_ref(&all), k);
        }
        store.check(query, &[3..40, 700..701, 2_000..2_600], 10);
        for every in [2, 5, 9] {
            let scattered: Vec<_> = (0..3_000).step_by(every).map(|row| row..row + 1 + row % 2).collect();
            store.check(query, &scattered, 10);
        }
    }
}

/// Every allowed row is in one piece, and few others are.
#[test]
fn pieces_hold_what_is_allowed() {
    let scattered = |every: usize, length: usize| (3..2_000).step_by(every).map(move |row| row..row + length).collect();
    let kinds: [Vec<Range<usize>>; 6] = [
        vec![],
        std::iter::once(0..1_000).collect(),
        vec![5..300, 301..302, 900..2_000],
        scattered(2, 1),
        scattered(9, 3),
        scattered(300, 290),
    ];
    for ranges in kinds {
        let allowed = bits(&ranges);
        let (mut rows, mut read) = (vec![], 0);
        let table: Vec<u8> = (0..2_400_u32 * 3).map(|n| n.to_le_bytes()[0]).collect();
        for start in (0..2_400).step_by(BLOCK) {
            let block = start..2_400.min(start + BLOCK);
            pieces(&allowed, block.clone(), &table, 3, |piece, bytes| {
                assert!(!piece.is_empty() && piece.start >= block.start && piece.end <= block.end);
                assert_eq!(bytes, &table[piece.start * 3..piece.end * 3]);
                read += piece.len();
                rows.extend(allowed.within(piece));
            });
        }
        assert_eq!(rows, ranges.iter().cloned().flatten().collect::<Vec<_>>());
        assert!(read <= rows.len() * DENSE, "{read} rows are read for {}", rows.len());
    }
}

#[test]
fn equal_rows_come_in_order() {
    let store = Store::new(&vec![vec![0.6, 0.8]; 700]);
    let found = nearest(&[0.6, 0.8], store.rows(), &bits(&[0..700]), 5).unwrap();
    assert_eq!(found.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn odd_questions_have_answers() {
    let store = Store::new(&[vec![1.0, 0.0], vec![0.0, 0.0], vec![0.0, 1.0]]);
    assert_eq!(nearest(&[1.0, 0.0], store.rows(), &bits(&[0..3]), 0), Ok(vec![]));
    assert_eq!(nearest(&[1.0, 0.0], store.rows(), &bits(&[]), 3), Ok(vec![]));
    assert_eq!(nearest(&[f32::NAN, 0.0], store.rows(), &bits(&[0..3]), 3), Ok(vec![]));
    assert_eq!(nearest(&[1.0, 0.0], store.rows(), &bits(&[0..3]), 9).unwrap().len(), 3);
    assert_eq!(nearest(&[0.0, 0.0], store.rows(), &bits(&[0..3]), 1).unwrap(), [(0, 0.0)]);
}

#[test]
fn altered_floats_are_noticed() {
    let mut store = Store::new(&clustered(10, 32, 3));
    let query = store.vectors[4].clone();
    for value in [f32::NAN, 9.0] {
        let intact = store.floats.clone();
        store.floats[4 * 32 * 4..][..4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(nearest(&query, store.rows(), &bits(&[0..10]), 3), Err(Altered(4)));
        store.floats = intact;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Also for vectors that no model would give: huge and tiny values side by side, many equal ones, zeros.
    #[test]
    fn is_exact_for_any_vectors(
        vectors in prop::collection::vec(prop::collection::vec(prop_oneof![
            Just(0.0_f32), Just(1.0), -1.0_f32..1.0, -1e-6_f32..1e-6, -1e6_f32..1e6,
        ], 9), 1..80),
        k in 1_usize..20,
    ) {
        let query = vectors[0].clone();
        let store = Store::new(&vectors);
        store.check(&query, &[0..store.vectors.len()], k);
    }
}
