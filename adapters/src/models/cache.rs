//! The cache directory that all data directories share: pinned files, verified at every start, obtained by whichever
//! route works.
//!
//! A file is either whole and right under its name or not there: downloads go to a folder of their own, are verified, and are
//! renamed. A lock file keeps two processes from obtaining the same thing at once. Runs on the loader's own thread, so it may
//! block it.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::{
    routes::{self, RouteError},
    slot::Report,
    sources::{Artefact, PinnedFile, Route},
};

/// How long one route may take.
const ROUTE_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How often a lock that another process holds is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// Why an artefact is not to be had.
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
    /// No route worked.
    #[error("{name} could not be obtained: {}", tried.join("; "))]
    Exhausted {
        /// What.
        name: &'static str,
        /// Each route with its failure.
        tried: Vec<String>,
    },
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It is not there, or cannot be read.
    #[error("{name} cannot be read ({source})")]
    Unreadable {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It has another size.
    #[error("{name} has {found} bytes instead of {wanted}")]
    Size {
        /// Its name.
        name: String,
        /// As it is.
        found: u64,
        /// As it should be.
        wanted: u64,
    },
    /// It has other bytes.
    #[error("{name} was altered: its SHA-256 is {found} instead of {wanted}")]
    Hash {
        /// Its name.
        name: String,
        /// As it is.
        found: String,
        /// As it should be.
        wanted: String,
    },
}

/// The folder with `artefact`'s files, all verified; obtained if need be.
///
/// Cancel-safe: what was begun is removed by whoever comes next.
pub(super) async fn obtain(
    artefact: &Artefact,
    cache: &Path,
    routes: &[Route],
    report: &Report,
) -> Result<PathBuf, Error> {
    let folder = cache.join(artefact.folder);
    // The common case first: it needs no lock and works in a directory that cannot be written.
    let Err(fault) = verify_all(artefact, &folder) else { return Ok(folder) };
    tracing::info!(artefact = artefact.name, %fault, "not in the model cache");
    let broken = |source| Error::Cache { path: cache.to_owned(), source };
    fs::create_dir_all(cache).map_err(broken)?;
    let _lock = lock(cache, artefact.folder, artefact.name, report).await.map_err(broken)?;
    if verify_all(artefact, &folder).is_ok() {
        return Ok(folder);
    }
    let staging = Staging::new(cache.join(format!(".{}.partial", artefact.folder)));
    let mut tried = vec![];
    for route in routes {
        if !routes::serves(route, artefact) {
            continue;
        }
        staging.clear().map_err(broken)?;
        match fetch(route, artefact, &staging.0, report).await {
            Ok(()) => {
                report.update(artefact.name, artefact.bytes(), Some(artefact.bytes()));
                return install(artefact, &staging.0, &folder).map_err(broken);
            }
            Err(failure) => {
                tracing::warn!(artefact = artefact.name, route = routes::name(route, artefact), %failure, "route failed");
                tried.push(format!("{}: {failure}", routes::name(route, artefact)));
            }
        }
    }
    Err(Error::Exhausted { name: artefact.name, tried })
}

/// Brings the artefact's files into `staging`, verified.
async fn fetch(route: &Route, artefact: &Artefact, staging: &Path, report: &Report) -> Result<(), RouteError> {
    match tokio::time::timeout(ROUTE_LIMIT, routes::fetch(route, artefact, staging, report)).await {
        Ok(result) => result?,
        Err(_) => return Err(RouteError::TooSlow(ROUTE_LIMIT)),
    }
    Ok(verify_all(artefact, staging)?)
}

fn install(artefact: &Artefact, staging: &Path, folder: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    for file in artefact.files {
        let staged = staging.join(file.name);
        File::open(&staged)?.sync_all()?;
        fs::rename(staged, folder.join(file.name))?;
    }
    Ok(folder.to_owned())
}

/// Waits for the lock of a folder in the cache; held until the file is dropped, or its process ends. `what` is for people.
pub(super) async fn lock(cache: &Path, folder: &str, what: &str, report: &Report) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(cache.join(format!(".{folder}.lock")))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                report.say(&format!("another process is obtaining {what}"));
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// A folder for what is not verified yet; removed when done, or by the next who needs it.
pub(super) struct Staging(pub(super) PathBuf);

impl Staging {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir(&self.0),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn verify_all(artefact: &Artefact, folder: &Path) -> Result<(), Fault> {
    artefact.files.iter().try_for_each(|file| verify(file, folder))
}

fn verify(file: &PinnedFile, folder: &Path) -> Result<(), Fault> {
    let path = folder.join(file.name);
    let unreadable = |source| Fault::Unreadable { name: file.name.to_owned(), source };
    let found = fs::metadata(&path).map_err(unreadable)?.len();
    if found != file.bytes {
        return Err(Fault::Size { name: file.name.to_owned(), found, wanted: file.bytes });
    }
    let found = sha256(&path).map_err(unreadable)?;
    if found != file.sha256 {
        return Err(Fault::Hash { name: file.name.to_owned(), found, wanted: file.sha256.to_owned() });
    }
    Ok(())
}

/// SHA-256 of a file, hexadecimal.
pub(super) fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
