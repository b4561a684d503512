//! The same questions, asked of this index and the embedded one: a collection with judgements says how good the answers are.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::index::EmbeddedIndex;

const DIMS: usize = 96;
const K: usize = 10;

#[derive(Deserialize)]
struct Text {
    id: String,
    text: String,
}

type Judgements = HashMap<String, HashMap<String, f64>>;

fn lines(path: &Path) -> Vec<Text> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

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

/// nDCG@10 with the gains of the judgements.
fn ndcg(found: &[String], judged: &HashMap<String, f64>) -> f64 {
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let gain = |id: &String| judged.get(id).copied().unwrap_or(0.0);
    let reached: f64 = found.iter().take(K).enumerate().map(|(rank, id)| gain(id) * discount(rank)).sum();
    let mut best: Vec<f64> = judged.values().copied().collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let most: f64 = best.iter().take(K).enumerate().map(|(rank, gain)| gain * discount(rank)).sum();
    if most > 0.0 { reached / most } else { 0.0 }
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
async fn judge(index: &dyn SearchIndex, queries: &[Text], judgements: &Judgements) -> [f64; 2] {
    let all = SearchFilter::all_of(OWNER);
    let mut sums = [0.0; 2];
    for query in queries {
        let judged = &judgements[&query.id];
        let legs = [
            index.keyword(&query.text.as_str().into(), &all, K).await.unwrap(),
            index.nearest(Space::General, &vector(&query.text), &all, K).await.unwrap(),
        ];
        for (sum, hits) in sums.iter_mut().zip(legs) {
            let found: Vec<_> = hits.into_iter().map(|hit| hit.filename).collect();
            *sum += ndcg(&found, judged);
        }
    }
    sums.map(|sum| sum / queries.len() as f64)
}

#[tokio::test]
async fn answers_are_as_good_as_the_embedded_indexs() {
    let Some(shared) = std::env::var_os("LMAO_TEST_SHARED").map(PathBuf::from) else {
        println!("left out: answers_are_as_good_as_the_embedded_indexs: LMAO_TEST_SHARED is not set");
        return;
    };
    let collection = shared.join("eval/cranfield");
    let corpus = lines(&collection.join("corpus.jsonl"));
    let judgements: Judgements =
        serde_json::from_slice(&std::fs::read(collection.join("qrels.json")).unwrap()).unwrap();
    let mut queries = lines(&collection.join("queries.jsonl"));
    queries.retain(|query| judgements.contains_key(&query.id));
    assert!(queries.len() > 100);
    let server = Server::new();
    let dir = tempfile::tempdir().unwrap();
    let embedded = EmbeddedIndex::open(dir.path()).await.unwrap();
    let index = open(&server.options()).await;
    fill_with(&embedded, &corpus).await;
    fill_with(&index, &corpus).await;
    assert_eq!(index.digest().await.unwrap(), embedded.digest().await.unwrap());
    let ours = judge(&index, &queries, &judgements).await;
    let theirs = judge(&embedded, &queries, &judgements).await;
    println!("nDCG@10, words and vectors: {ours:.4?} here, {theirs:.4?} embedded");
    assert!(theirs.iter().all(|ndcg| *ndcg > 0.1), "the collection was not read as meant: {theirs:?}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= 0.01, "{ours} is not {theirs}");
    }
    server.clean().await;
}
