//! The same questions, asked of this index and the embedded one: a collection with judgements says how good the answers are.

use serde_json::json;

use super::*;
use crate::{
    index::EmbeddedIndex,
    passages::judged::{Collection, K, Text},
};

const DIMS: usize = 96;

/// A vector that says which terms a text has: rough, but the same for both indexes, and near for texts that share terms.
fn vector(text: &str) -> Vec<f32> {
    let mut sum = vec![0.0_f32; DIMS];
    for term in entries::terms_of(text, Default::default()).split(' ') {
        let seed = u64::from_le_bytes(std::array::from_fn(|n| blake3::hash(term.as_bytes()).as_bytes()[n]));
        // Long terms say more than short ones.
        let weight = term.len().min(12) as f32;
        sum.iter_mut().zip(suite::vector(seed, DIMS)).for_each(|(sum, value)| *sum += value * weight);
    }
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    sum.iter().map(|x| x / length).collect()
}

async fn fill_with(index: &dyn SearchIndex, corpus: &[Text]) {
    index.use_model(Space::General, &suite::manifest("terms", DIMS)).await.unwrap();
    for (n, text) in (1..).zip(corpus) {
        let mut document = suite::document(n, OWNER, &[&text.text]);
        document.filename.clone_from(&text.id);
        document.vectors = Vectors::general(vec![vector(&text.text)]);
        document.metadata = json!({});
        index.put(document).await.unwrap();
    }
    index.commit(Position(1)).await.unwrap();
}

/// Mean nDCG@10 of the keyword leg and of the vector leg.
async fn judge(index: &dyn SearchIndex, collection: &Collection) -> [f64; 2] {
    let all = SearchFilter::all_of(OWNER);
    let mut sums = [0.0; 2];
    for query in &collection.queries {
        let legs = [Leg::Keyword(query.text.as_str().into()), Leg::Nearest(Space::General, vector(&query.text))];
        for (sum, hits) in sums.iter_mut().zip(index.legs(&legs, &all, K).await) {
            let found: Vec<_> = hits.unwrap().into_iter().map(|hit| hit.filename).collect();
            *sum += collection.ndcg(query, &found);
        }
    }
    sums.map(|sum| sum / collection.queries.len() as f64)
}

#[tokio::test]
async fn answers_are_as_good_as_the_embedded_indexs() {
    let Some(collection) = Collection::read("cranfield", "answers_are_as_good_as_the_embedded_indexs") else { return };
    let server = Server::new();
    let dir = tempfile::tempdir().unwrap();
    let embedded = EmbeddedIndex::open(dir.path()).await.unwrap();
    let index = open(&server.options()).await;
    fill_with(&embedded, &collection.corpus).await;
    fill_with(&index, &collection.corpus).await;
    assert_eq!(index.digest().await.unwrap(), embedded.digest().await.unwrap());
    let ours = judge(&index, &collection).await;
    let theirs = judge(&embedded, &collection).await;
    println!("nDCG@10, words and vectors: {ours:.4?} here, {theirs:.4?} embedded");
    assert!(theirs.iter().all(|ndcg| *ndcg > 0.1), "the collection was not read as meant: {theirs:?}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= 0.01, "{ours} is not {theirs}");
    }
    server.clean().await;
}
