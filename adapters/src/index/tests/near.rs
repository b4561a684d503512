//! Nearest passages where they are so many that not all codes are read.

use super::*;

const DIMENSIONS: usize = 384;
const PASSAGES: u64 = 20;
/// More rows than are all compared.
const DOCUMENTS: u64 = 130;

/// Of a document, `version` by version other vectors.
fn vector(document: u64, passage: u64, version: u64) -> Vec<f32> {
    suite::vector(version << 32 | document << 8 | passage, DIMENSIONS)
}

async fn put(index: &EmbeddedIndex, document: u64, version: u64) {
    let texts = vec!["quorvex"; usize::try_from(PASSAGES).unwrap()];
    let mut one = suite::document(document.into(), OWNER, &texts);
    one.vectors = Vectors::general((0..PASSAGES).map(|passage| vector(document, passage, version)).collect());
    index.put(one).await.unwrap();
}

/// The best ten are those of brute force.
async fn check(index: &EmbeddedIndex, version: impl Fn(u64) -> u64) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    for query in [vector(7, 3, version(7)), suite::vector(99, DIMENSIONS)] {
        let places = (1..=DOCUMENTS).flat_map(|document| (0..PASSAGES).map(move |passage| (document, passage)));
        let mut best: Vec<_> = places.map(|(d, p)| (dot(&vector(d, p, version(d)), &query), d, p)).collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0));
        let found = index.nearest(Space::General, &query, &SearchFilter::all_of(OWNER), 10).await.unwrap();
        let places = found.iter().map(|hit| (hit.document_id.as_u128(), u64::from(hit.chunk.ordinal)));
        let wanted = best[..10].iter().map(|(_, document, passage)| (u128::from(*document), *passage));
        assert_eq!(places.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    }
}

/// What is known of rows is kept when documents are replaced, when files are written anew, and from one opening to the next.
#[tokio::test]
async fn many_rows_are_narrowed_and_nothing_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    index.use_model(Space::General, &suite::manifest("wide", DIMENSIONS)).await.unwrap();
    for document in 1..=DOCUMENTS {
        put(&index, document, 1).await;
    }
    index.commit(Position(1)).await.unwrap();
    check(&index, |_| 1).await;
    for document in 1..=40 {
        put(&index, document, 2).await;
    }
    index.commit(Position(2)).await.unwrap();
    check(&index, |document| if document <= 40 { 2 } else { 1 }).await;
    let (before, digest) = (files(dir.path(), "sketches"), index.digest().await.unwrap());
    drop(index);
    let index = open(dir.path()).await;
    check(&index, |document| if document <= 40 { 2 } else { 1 }).await;
    assert_eq!(index.digest().await.unwrap(), digest);
    for version in 3..7 {
        for document in 1..=DOCUMENTS {
            put(&index, document, version).await;
        }
        index.commit(Position(version)).await.unwrap();
    }
    let after = files(dir.path(), "sketches");
    assert!(after.len() == 1 && after != before, "it was not compacted");
    check(&index, |_| 6).await;
    drop(index);
    check(&open(dir.path()).await, |_| 6).await;
}
