//! How good the keyword leg is by itself, on collections with judgements.

use super::*;
use crate::passages::judged::{Collection, K};

/// Mean nDCG@10 of the keyword leg.
async fn judge(collection: &Collection) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    for (n, text) in (1..).zip(&collection.corpus) {
        let mut document = suite::document(n, OWNER, &[&text.text]);
        document.filename.clone_from(&text.id);
        document.vectors = Vectors::default();
        index.put(document).await.unwrap();
    }
    index.commit(Position(1)).await.unwrap();
    let mut sum = 0.0;
    for query in &collection.queries {
        let hits = index.keyword(&query.text.as_str().into(), &SearchFilter::all_of(OWNER), K).await.unwrap();
        sum += collection.ndcg(query, &hits.into_iter().map(|hit| hit.filename).collect::<Vec<_>>());
    }
    sum / collection.queries.len() as f64
}

#[tokio::test]
async fn words_alone_answer_well() {
    for (name, least) in [("cranfield", 0.389), ("cosqa", 0.51)] {
        let Some(collection) = Collection::read(name, "words_alone_answer_well") else { return };
        let ndcg = judge(&collection).await;
        println!("nDCG@10 of the keyword leg, {name}: {ndcg:.4}");
        assert!(ndcg >= least, "{name}: {ndcg} is less than {least}");
    }
}
