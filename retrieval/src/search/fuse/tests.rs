//! The reference is an independent implementation of the same formulas, on twelve random vectors.

use proptest::prelude::*;

use super::*;

const QUERY: [f32; 4] = [0.049, 0.866, 0.483, -0.123];
const VECTORS: [[f32; 4]; 12] = [
    [0.548, 0.752, 0.36, -0.062],
    [0.148, -0.082, 0.368, 0.915],
    [0.174, 0.101, 0.729, 0.654],
    [0.473, -0.068, 0.403, 0.781],
    [-0.398, 0.251, -0.806, -0.358],
    [-0.626, 0.339, -0.281, 0.644],
    [0.461, 0.295, -0.827, 0.126],
    [0.527, 0.64, -0.512, 0.226],
    [-0.095, -0.005, 0.995, -0.004],
    [0.386, 0.848, 0.109, 0.346],
    [0.573, 0.544, -0.268, 0.552],
    [0.727, -0.252, 0.559, 0.31],
];
/// What the legs returned, six each: BM25 and cosine.
const KEYWORD: [(usize, f32); 6] = [(5, 8.81), (3, 7.35), (9, 6.09), (8, 5.74), (6, 5.31), (11, 3.96)];
const NEAREST: [usize; 6] = [0, 9, 8, 2, 7, 10];
const CANDIDATES: [usize; 10] = [0, 2, 3, 5, 6, 7, 8, 9, 10, 11];

fn meaning() -> Meaning {
    let vectors: Vec<Option<&[f32]>> = CANDIDATES.iter().map(|n| Some(&VECTORS[*n][..])).collect();
    Meaning {
        cosines: CANDIDATES.iter().map(|n| Some(super::super::neighbours::dot(&QUERY, &VECTORS[*n]))).collect(),
        returned: CANDIDATES.iter().map(|n| NEAREST.contains(n)).collect(),
        likeness: Likeness::of(&vectors),
        weight: 1.0,
    }
}

fn words() -> Words {
    let bm25 = |n: &usize| KEYWORD.iter().find(|(m, _)| m == n).map_or(0.0, |(_, score)| *score);
    Words { scores: CANDIDATES.iter().map(bm25).collect(), beyond: 3.96 }
}

fn check(weights: &Weights, expected: [f32; 10]) {
    let found = fuse(&words(), &[meaning()], weights);
    for ((n, found), expected) in CANDIDATES.iter().zip(found).zip(expected) {
        assert!((found - expected).abs() < 2e-5, "{n}: {found}, not {expected}");
    }
}

#[test]
fn scores_are_those_of_the_reference() {
    check(
        &Weights::hybrid(5, false),
        [0.542427, 0.122679, 0.175646, 0.209094, 0.12891, 0.10205, 0.260495, 0.467343, 0.097983, 0.097983],
    );
    check(&Weights::hybrid(5, true), [0.7, 0.038897, 0.209691, 0.3, 0.083505, 0.006406, 0.301834, 0.636639, 0.0, 0.0]);
    check(
        &Weights::hybrid(30, false),
        [0.437748, 0.122937, 0.259741, 0.326637, 0.16627, 0.107465, 0.277273, 0.442432, 0.104415, 0.104415],
    );
}

#[test]
fn words_count_more_the_more_there_are_and_names_are_taken_as_they_stand() {
    let keyword = |terms, literal| Weights::hybrid(terms, literal).keyword;
    assert_eq!([keyword(0, false), keyword(5, false), keyword(64, false)], [FLOOR, 0.2, CAP]);
    assert_eq!((keyword(1, true), Weights::hybrid(1, true).smoothing), (LITERAL, 0.0));
}

#[test]
fn one_leg_alone_keeps_its_order() {
    let by_words = fuse(&words(), &[], &Weights::KEYWORD);
    let best = CANDIDATES.iter().position(|n| *n == 5).unwrap();
    assert_eq!(by_words[best], 1.0);
    let meaning = meaning();
    let cosines: Vec<f32> = meaning.cosines.iter().flatten().copied().collect();
    let found = fuse(&Words { scores: vec![0.0; 10], beyond: 0.0 }, &[meaning], &Weights::SEMANTIC);
    let mut order: Vec<(f32, f32)> = cosines.into_iter().zip(found).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(order.is_sorted_by(|a, b| a.1 <= b.1));
}

/// A space that knows the candidates of these cosines, likeness unknown.
fn space(weight: f32, cosines: &[Option<f32>]) -> Meaning {
    let returned = cosines.iter().map(Option::is_some).collect();
    let likeness = Likeness::of(&vec![None; cosines.len()]);
    Meaning { cosines: cosines.to_vec(), returned, likeness, weight }
}

#[test]
fn spaces_are_heard_by_their_weights() {
    let nothing = Words { scores: vec![0.0; 4], beyond: 0.0 };
    let general = space(1.0, &[Some(0.9), Some(0.5), None, Some(0.1)]);
    let domain = space(0.8, &[None, Some(0.5), Some(0.9), Some(0.1)]);
    let found = fuse(&nothing, &[general.clone(), domain], &Weights::SEMANTIC);
    assert_eq!((found[0], found[3]), (1.0, 0.0));
    assert!((found[2] - 0.8).abs() < 1e-6, "the best of the other space");
    assert!(found[1] > 0.0 && found[1] < found[2]);
    // A space that knows no candidate takes nothing away.
    let silent = space(2.0, &[None; 4]);
    assert_eq!(fuse(&nothing, &[general, silent], &Weights::SEMANTIC)[0], 1.0);
}

#[test]
fn one_candidate_is_the_best() {
    let words = Words { scores: vec![2.0], beyond: 0.0 };
    assert_eq!(fuse(&words, &[space(1.0, &[Some(0.3)])], &Weights::hybrid(3, false)), [1.0]);
    assert_eq!(fuse(&Words { scores: vec![], beyond: 0.0 }, &[], &Weights::hybrid(3, false)), [0.0; 0]);
}

proptest! {
    #[test]
    fn scores_are_shares(
        candidates in prop::collection::vec(
            (0.0_f32..30.0, prop::option::of((-1.0_f32..1.0, any::<bool>(), prop::array::uniform3(-1.0_f32..1.0)))), 0..40),
        beyond in 0.0_f32..10.0,
        terms in 0_usize..70,
        literal in any::<bool>(),
    ) {
        let words = Words { scores: candidates.iter().map(|(score, _)| *score).collect(), beyond };
        let vectors: Vec<Option<&[f32]>> =
            candidates.iter().map(|(_, known)| known.as_ref().map(|(_, _, vector)| &vector[..])).collect();
        let meaning = Meaning {
            cosines: candidates.iter().map(|(_, known)| known.map(|(cosine, ..)| cosine)).collect(),
            returned: candidates.iter().map(|(_, known)| known.is_some_and(|(_, returned, _)| returned)).collect(),
            likeness: Likeness::of(&vectors),
            weight: 1.0,
        };
        let found = fuse(&words, &[meaning], &Weights::hybrid(terms, literal));
        prop_assert_eq!(found.len(), candidates.len());
        prop_assert!(found.iter().all(|score| (0.0..=1.000_1).contains(score)), "{:?}", found);
    }
}
