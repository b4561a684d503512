//! Models of the hub that are not pinned here: the hub itself says which revision its `main` is now, how large each file is,
//! and the SHA-256 of the weights. What comes is checked against that, and from then on against the manifest that is
//! written beside it, like a directory of the user's own. It is never replaced by a newer one: other weights would make
//! the vectors of an index worthless.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use lmao_ports::Pooling;
use serde::Deserialize;
use serde_json::json;

use super::{
    Role,
    cache::{Staging, lock, sha256},
    directory::{self, Found},
    routes::{self, RouteError},
    slot::Report,
    sources::{HubModel, MANIFEST_FILE, MODEL_FILE, Route, TOKENIZER_FILE},
};

/// Downloading a model may take this long: 1 GB in 40 minutes is 3.5 Mbit/s.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// No file is larger: it is held in memory while it is loaded.
const MAX_FILE: u64 = 4 << 30;

/// Why a model of the hub is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The cache directory does not work.
    #[error(
        "the model cache {path} cannot be written ({source}); name another by the environment variable LMAO_MODEL_CACHE"
    )]
    Cache {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The hub is not among the ways to obtain things.
    #[error("{0} is not in the model cache")]
    NoHub(String),
    /// The hub does not give it.
    #[error("{repo} could not be obtained from the model hub: {source}")]
    Hub {
        /// Which.
        repo: String,
        /// Why.
        source: RouteError,
    },
    /// It gave something else.
    #[error("{repo} could not be obtained from the model hub: {fault}")]
    Unfit {
        /// Which.
        repo: String,
        /// What is wrong.
        fault: String,
    },
}

/// What the hub says of a repository.
#[derive(Debug, Deserialize)]
struct Repository {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
    lfs: Option<Large>,
}

#[derive(Debug, Deserialize)]
struct Large {
    sha256: String,
}

/// The folder with the model, verified; obtained if need be.
///
/// Cancel-safe: what was begun is removed by whoever comes next.
pub(super) async fn obtain(
    model: &HubModel,
    role: Role,
    cache: &Path,
    routes: &[Route],
    report: &Report,
) -> Result<Found, Error> {
    let name = model.repo.replace('/', "--");
    let folder = cache.join(&name);
    // The common case first: it needs no lock and works in a directory that cannot be written.
    let Err(fault) = directory::read(&folder, role) else { return found(&folder, role, model) };
    let root = routes.iter().find_map(|route| match route {
        Route::Hub(root) => Some(root),
        Route::Clients | Route::Registries { .. } => None,
    });
    let Some(root) = root else { return Err(Error::NoHub(model.repo.clone())) };
    tracing::info!(model = model.repo, %fault, "not in the model cache");
    let broken = |source| Error::Cache { path: cache.to_owned(), source };
    fs::create_dir_all(cache).map_err(broken)?;
    let _lock = lock(cache, &name, &model.repo, report).await.map_err(broken)?;
    if directory::read(&folder, role).is_err() {
        let staging = Staging::new(cache.join(format!(".{name}.partial")));
        staging.clear().map_err(broken)?;
        let fetched = tokio::time::timeout(LIMIT, fetch(model, root, &staging.0, report)).await;
        fetched.unwrap_or_else(|_| Err(hub_error(model, RouteError::TooSlow(LIMIT))))?;
        install(&staging.0, &folder).map_err(broken)?;
    }
    found(&folder, role, model)
}

fn found(folder: &Path, role: Role, model: &HubModel) -> Result<Found, Error> {
    directory::read(folder, role).map_err(|error| Error::Unfit { repo: model.repo.clone(), fault: error.to_string() })
}

fn hub_error(model: &HubModel, source: RouteError) -> Error {
    Error::Hub { repo: model.repo.clone(), source }
}

/// Brings the model's files with their manifest into `staging`, verified.
async fn fetch(model: &HubModel, root: &str, staging: &Path, report: &Report) -> Result<(), Error> {
    let unfit = |fault: String| Error::Unfit { repo: model.repo.clone(), fault };
    let failed = |source| hub_error(model, source);
    report.say(&format!("asking the model hub for {}", model.repo));
    let url = format!("{root}/api/models/{}/revision/main?blobs=true", model.repo);
    let about: Repository = routes::json(&url).await.map_err(failed)?;
    if about.sha.len() != 40 || !about.sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unfit(format!("{:?} is no revision", about.sha)));
    }
    let files = [(model.onnx, MODEL_FILE), ("tokenizer.json", TOKENIZER_FILE)];
    let offered = |path: &str| {
        let file = about.siblings.iter().find(|file| file.name == path);
        let file = file.ok_or_else(|| unfit(format!("it has no {path}")))?;
        let size = file.size.filter(|size| (1..=MAX_FILE).contains(size));
        Ok((file, size.ok_or_else(|| unfit(format!("{path} is of no size that can be used")))?))
    };
    let mut total = 0;
    for (path, _) in files {
        total += offered(path)?.1;
    }
    let (mut before, mut hashes) = (0, BTreeMap::new());
    for (path, name) in files {
        let (file, size) = offered(path)?;
        let url = format!("{root}/{}/resolve/{}/{path}", model.repo, about.sha);
        let target = staging.join(name);
        let progress = |done| report.update(&model.repo, before + done, Some(total));
        routes::download(&url, &target, size, progress).await.map_err(failed)?;
        let hash = sha256(&target).map_err(|error| failed(error.into()))?;
        if let Some(large) = file.lfs.as_ref().filter(|large| !large.sha256.eq_ignore_ascii_case(&hash)) {
            return Err(unfit(format!("{path} was altered: its SHA-256 is {hash} instead of {}", large.sha256)));
        }
        hashes.insert(name, hash);
        before += size;
    }
    let manifest = manifest(model, &about.sha, &hashes);
    fs::write(staging.join(MANIFEST_FILE), manifest).map_err(|error| failed(error.into()))
}

fn manifest(model: &HubModel, revision: &str, hashes: &BTreeMap<&str, String>) -> String {
    let pooling = match model.pooling {
        Pooling::Cls => "cls",
        Pooling::Mean => "mean",
    };
    let manifest = json!({
        "model": model.repo,
        "revision": revision,
        "dimensions": model.dimensions,
        "pooling": pooling,
        "max_tokens": model.max_tokens,
        "sha256": hashes,
    });
    format!("{manifest:#}\n")
}

/// Puts the whole folder in its place at once, in place of one that is no good.
fn install(staging: &Path, folder: &Path) -> io::Result<()> {
    for name in [MODEL_FILE, TOKENIZER_FILE, MANIFEST_FILE] {
        File::open(staging.join(name))?.sync_all()?;
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(staging, folder)
}

#[cfg(test)]
mod tests;
