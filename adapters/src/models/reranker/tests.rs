//! A cross-encoder of a few kilobytes at work. It scores by shared words, so what comes out can be said; how well a real one
//! ranks is not measured here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lmao_ports::{MAX_RERANKED, RerankerState, Reranking};

use crate::models::{ModelConfig, ModelSource, Models, default_cache_dir, sources::Route};

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/reranker")
}

fn models(source: ModelSource) -> Arc<Models> {
    let cache_dir = default_cache_dir().expect("set LMAO_MODEL_CACHE or HOME");
    let config = ModelConfig { reranker: source, ..ModelConfig::general(cache_dir, ModelSource::Off) };
    Models::by(config, Arc::new(()), vec![Route::Clients])
}

async fn ready(models: &Models) -> Arc<dyn Reranker> {
    match models.reranker_settled().await {
        RerankerState::Ready(reranker) => reranker,
        other => panic!("the reranker is in the repository, but {other:?}"),
    }
}

async fn off(source: ModelSource) -> String {
    match models(source).reranker_settled().await {
        RerankerState::Off(reason) => reason,
        other => panic!("expected no reranker, got {other:?}"),
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn logistic(share: f32) -> f32 {
    1.0 / (1.0 + (3.0 - 6.0 * share).exp())
}

#[tokio::test]
async fn pairs_are_scored_each_in_its_place() {
    let models = models(ModelSource::Dir(folder()));
    assert!(matches!(Reranking::state(&*models), RerankerState::Loading(_)), "nobody has asked for it");
    let reranker = ready(&models).await;
    assert!(matches!(Reranking::state(&*models), RerankerState::Ready(_)));
    assert_eq!(reranker.id(), "shared-words");
    let passages =
        ["the recipe needs two eggs", "the crane hunts fish at night", "the crane stands in water", "", "the"];
    let scores = reranker.score("the crane hunts fish", texts(&passages)).await.unwrap();
    for (score, share) in scores.iter().zip([0.25, 1.0, 0.5, 0.0, 0.25]) {
        assert!((score - logistic(share)).abs() < 1e-5, "{score} instead of {}", logistic(share));
    }
    // A score depends on its pair alone.
    for (passage, score) in passages.iter().zip(&scores) {
        assert_eq!(reranker.score("the crane hunts fish", texts(&[passage])).await.unwrap(), [*score]);
    }
    assert_eq!(reranker.score("anything", vec![]).await.unwrap(), [] as [f32; 0]);
}

#[tokio::test]
async fn what_is_too_long_is_cut_and_what_is_too_much_is_refused() {
    let models = models(ModelSource::Dir(folder()));
    let reranker = ready(&models).await;
    let long = format!("owl {}", "night ".repeat(100_000));
    let buried = format!("{} owl", "night ".repeat(100_000));
    let scores = reranker.score("owl", vec![long, buried, "ß漢\0".repeat(1000)]).await.unwrap();
    assert!(scores[0] > 0.9 && scores[1] < 0.1 && scores[2] < 0.1, "{scores:?}");
    assert_eq!(reranker.score("owl", vec!["owl".to_owned(); MAX_RERANKED]).await.unwrap().len(), MAX_RERANKED);
    let error = reranker.score("owl", vec!["owl".to_owned(); MAX_RERANKED + 1]).await.unwrap_err().to_string();
    assert!(error.contains("101 passages are too many"), "{error}");
}

#[tokio::test]
async fn calls_end_when_the_model_does() {
    let models = models(ModelSource::Dir(folder()));
    let reranker = ready(&models).await;
    let calls = (0..200).map(|_| reranker.score("owl", vec!["owl".to_owned(); MAX_RERANKED]));
    let (outcomes, ()) = tokio::join!(futures::future::join_all(calls), models.end());
    assert!(outcomes.iter().any(Result::is_err), "the end came before all was scored");
    assert!(reranker.score("owl", texts(&["owl"])).await.unwrap_err().to_string().contains("ended"));
}

#[tokio::test]
async fn a_reranker_that_cannot_be_had_says_why() {
    assert!(off(ModelSource::Off).await.contains("`reranker = \"off\"`"));
    assert!(off(ModelSource::Dir("/nonexistent/reranker".into())).await.contains("cannot be read"));
    let reason = off(ModelSource::Hub("cross-encoder/of-nobody".to_owned())).await;
    assert!(reason.contains("not in the model cache") && reason.contains("set `reranker` to `dir:`"), "{reason}");

    let dir = tempfile::tempdir().unwrap();
    for file in ["model.onnx", "tokenizer.json", "manifest.json"] {
        fs::copy(folder().join(file), dir.path().join(file)).unwrap();
    }
    fs::write(dir.path().join("model.onnx"), b"no model").unwrap();
    assert!(off(ModelSource::Dir(dir.path().to_owned())).await.contains("was altered"));
    fs::write(dir.path().join("manifest.json"), r#"{"id": "x", "max_tokens": 16}"#).unwrap();
    assert!(off(ModelSource::Dir(dir.path().to_owned())).await.contains("it does not load"));
}
