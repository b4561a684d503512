//! Collections with judgements: how good answers are.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Results that count.
pub(crate) const K: usize = 10;

#[derive(Deserialize)]
pub(crate) struct Text {
    pub id: String,
    pub text: String,
}

pub(crate) struct Collection {
    pub corpus: Vec<Text>,
    /// Those that have judgements.
    pub queries: Vec<Text>,
    judgements: HashMap<String, HashMap<String, f64>>,
}

fn lines(path: &Path) -> Vec<Text> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Collection {
    /// One by name; `None` where there are none, which `test` is told to have left out.
    pub(crate) fn read(name: &str, test: &str) -> Option<Self> {
        let Some(shared) = std::env::var_os("LMAO_TEST_SHARED").map(PathBuf::from) else {
            println!("left out: {test}: LMAO_TEST_SHARED is not set");
            return None;
        };
        let dir = shared.join("eval").join(name);
        let judgements: HashMap<String, HashMap<String, f64>> =
            serde_json::from_slice(&std::fs::read(dir.join("qrels.json")).unwrap()).unwrap();
        let mut queries = lines(&dir.join("queries.jsonl"));
        queries.retain(|query| judgements.contains_key(&query.id));
        assert!(queries.len() > 100);
        Some(Self { corpus: lines(&dir.join("corpus.jsonl")), queries, judgements })
    }

    /// nDCG@10 of what was found for a query, with the gains of the judgements.
    pub(crate) fn ndcg(&self, query: &Text, found: &[String]) -> f64 {
        let judged = &self.judgements[&query.id];
        let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
        let gain = |id: &String| judged.get(id).copied().unwrap_or(0.0);
        let reached: f64 = found.iter().take(K).enumerate().map(|(rank, id)| gain(id) * discount(rank)).sum();
        let mut best: Vec<f64> = judged.values().copied().collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let most: f64 = best.iter().take(K).enumerate().map(|(rank, gain)| gain * discount(rank)).sum();
        if most > 0.0 { reached / most } else { 0.0 }
    }
}
