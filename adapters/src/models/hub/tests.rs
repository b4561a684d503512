//! Models from a scripted hub.

use std::sync::Arc;

use crate::{
    http::scripted::{Reply, Scripted, whole},
    models::sources::hub_model,
};

use super::*;

const WEIGHTS: &[u8] = b"weights\n";
const WEIGHTS_SHA256: &str = "1b465fa6b6bcbc06a3199e3d2d8aec35d37494a712f888b6d5536684dd89d0f0";
const REVISION: &str = "516f4baf13dec4ddddda8631e019b5737c8bc250";
const REPO: &str = "jinaai/jina-embeddings-v2-base-code";

fn ok(body: &[u8]) -> Reply {
    whole("200 OK", "application/octet-stream", body)
}

/// A hub with this hash of the weights, which gives these.
async fn hub(hash: &'static str, weights: &'static [u8]) -> Scripted {
    Scripted::start(move |request, _| {
        let about = json!({
            "sha": REVISION,
            "siblings": [
                {"rfilename": "README.md", "size": 3},
                {"rfilename": "onnx/model.onnx", "size": WEIGHTS.len(), "lfs": {"sha256": hash, "size": WEIGHTS.len()}},
                {"rfilename": "tokenizer.json", "size": 2, "blobId": "x"},
            ],
        });
        let path = request.split(' ').nth(1).unwrap();
        match path.strip_prefix(&format!("/{REPO}/resolve/{REVISION}/")) {
            Some("onnx/model.onnx") => ok(weights),
            Some("tokenizer.json") => ok(b"{}"),
            _ if path == format!("/api/models/{REPO}/revision/main?blobs=true") => ok(about.to_string().as_bytes()),
            _ => whole("404 Not Found", "text/plain", b"no"),
        }
    })
    .await
}

async fn get(name: &str, role: Role, cache: &Path, routes: &[Route]) -> Result<Found, String> {
    let report = Report::to(Arc::new(()));
    obtain(&hub_model(role, name).unwrap(), role, cache, routes, &report).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_model_is_obtained_once_with_a_manifest_of_its_own() {
    let server = hub(WEIGHTS_SHA256, WEIGHTS).await;
    let cache = tempfile::tempdir().unwrap();
    let routes = [Route::Clients, Route::Hub(server.url.clone())];
    let found = get(REPO, Role::Domain, cache.path(), &routes).await.unwrap();
    assert_eq!(found.manifest.id, format!("jina-embeddings-v2-base-code-{}", &WEIGHTS_SHA256[..8]));
    assert_eq!((found.manifest.dimensions, found.manifest.pooling), (768, Pooling::Mean));
    assert_eq!(fs::read(found.folder.join(MODEL_FILE)).unwrap(), WEIGHTS);
    assert!(fs::read_to_string(found.folder.join(MANIFEST_FILE)).unwrap().contains(REVISION));
    assert_eq!(server.requests().len(), 3);

    // From then on the hub is not asked, and need not be there.
    let again = get("jina-embeddings-v2-base-code", Role::Domain, cache.path(), &[]).await.unwrap();
    assert_eq!(again.manifest, found.manifest);

    // Altered, it is obtained again; and what was left behind by a process that was killed is no hindrance.
    fs::write(found.folder.join(MODEL_FILE), b"weightz\n").unwrap();
    let partial = cache.path().join(".jinaai--jina-embeddings-v2-base-code.partial");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join(MODEL_FILE), b"wei").unwrap();
    get(REPO, Role::Domain, cache.path(), &routes).await.unwrap();
    assert_eq!(fs::read(found.folder.join(MODEL_FILE)).unwrap(), WEIGHTS);
    assert!(!partial.exists());
}

#[tokio::test]
async fn what_the_hub_does_not_give_as_it_says_is_not_kept() {
    let cache = tempfile::tempdir().unwrap();
    let reason = async |server: &Scripted, name, role| {
        get(name, role, cache.path(), &[Route::Hub(server.url.clone())]).await.unwrap_err()
    };
    let altered = hub(WEIGHTS_SHA256, b"weightz\n").await;
    assert!(reason(&altered, REPO, Role::Domain).await.contains("was altered"));
    let shorter = hub(WEIGHTS_SHA256, b"weight\n").await;
    assert!(reason(&shorter, REPO, Role::Domain).await.contains("7 bytes instead of 8"));
    assert!(reason(&shorter, "nobody/nothing", Role::Reranker).await.contains("404"));
    let page = Scripted::start(|_, _| ok(b"<html>sign in</html>")).await;
    assert!(reason(&page, REPO, Role::Domain).await.contains("its answer cannot be used"));
    let odd = Scripted::start(|_, _| ok(br#"{"sha": "../../etc", "siblings": []}"#)).await;
    assert!(reason(&odd, REPO, Role::Domain).await.contains("is no revision"));
    let none = Scripted::start(|_, _| ok(json!({"sha": REVISION, "siblings": []}).to_string().as_bytes())).await;
    assert!(reason(&none, REPO, Role::Domain).await.contains("it has no onnx/model.onnx"));
    let error = get(REPO, Role::Domain, cache.path(), &[Route::Clients]).await.unwrap_err();
    assert!(error.contains("not in the model cache"), "{error}");
    let folders = fs::read_dir(cache.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 0);
}

#[test]
fn names_of_the_hub_are_those_that_are_known() {
    let repo = |role, name| hub_model(role, name).map(|model| model.repo);
    let mpnet = Some("Xenova/all-mpnet-base-v2".to_owned());
    for name in ["all-mpnet-base-v2", "Xenova/all-mpnet-base-v2", "sentence-transformers/all-mpnet-base-v2"] {
        assert_eq!(repo(Role::General, name), mpnet);
    }
    assert_eq!(repo(Role::General, "someone/else"), None, "how it pools is not known");
    assert_eq!(repo(Role::Domain, "all-mpnet-base-v2"), None);
    assert_eq!(
        repo(Role::Reranker, "cross-encoder/ms-marco-MiniLM-L-6-v2").as_deref(),
        Some("cross-encoder/ms-marco-MiniLM-L-6-v2")
    );
    assert_eq!(repo(Role::Reranker, "bge-reranker-base").as_deref(), Some("BAAI/bge-reranker-base"));
    for name in ["", "maybe", "/", "a/", "../b", "a/b/c", "a/..", "a/b?c", "a b/c"] {
        assert_eq!(repo(Role::Reranker, name), None, "{name}");
    }
}
