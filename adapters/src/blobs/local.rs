//! The local files beside blobs that are kept on servers: those on their way in, and those that somebody asked for as a file.
//!
//! They are copies. What was not asked for in an hour goes when the next one comes.

use std::{
    io::{self, ErrorKind, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use lmao_events::{BlobRef, ContentHash};
use lmao_ports::{Folder, Unavailable};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{self, File},
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
};
use uuid::Uuid;

const STORE: &str = "blobs";
const INCOMING: &str = "incoming";
const FETCHED: &str = "fetched";
/// How long a file stays that nobody asks for.
const KEPT: Duration = Duration::from_secs(3600);

/// What is said of a blob in this store whose bytes are not what its name says.
pub(crate) fn altered(store: &'static str, folder: Folder, blob: &BlobRef) -> Unavailable {
    let sha256 = blob.sha256;
    let message = format!(
        "blob {sha256} of {folder} was altered: its content no longer has this hash. Delete the document and upload it again"
    );
    Unavailable::plain(store, message)
}

/// The folder of local files.
#[derive(Debug)]
pub(crate) struct Local {
    root: PathBuf,
}

impl Local {
    /// Opens the folder, without what an earlier process left in it.
    pub(crate) async fn open(root: &Path) -> Result<Self, Unavailable> {
        for name in [INCOMING, FETCHED] {
            let path = root.join(name);
            match fs::remove_dir_all(&path).await {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("clear", &path, error)),
                _ => {}
            }
            fs::create_dir_all(&path).await.map_err(|error| failed("create", &path, error))?;
        }
        Ok(Self { root: fs::canonicalize(root).await.map_err(|error| failed("open", root, error))? })
    }

    pub(crate) async fn begin(&self) -> Result<Incoming, Unavailable> {
        let path = self.root.join(INCOMING).join(Uuid::new_v4().to_string());
        let file = File::options().read(true).write(true).create_new(true).open(&path).await;
        let file = file.map_err(|error| failed("create", &path, error))?;
        Ok(Incoming { file, path: Temporary(path), hash: Sha256::new(), size: 0 })
    }

    fn folder(&self, folder: Folder) -> PathBuf {
        self.root.join(FETCHED).join(folder.to_string())
    }

    /// The file of a blob that was asked for before; it is in use again.
    pub(crate) async fn find(&self, folder: Folder, blob: &BlobRef) -> Option<PathBuf> {
        let path = self.folder(folder).join(blob.sha256.to_string());
        let file = File::options().append(true).open(&path).await.ok()?.into_std().await;
        #[expect(clippy::disallowed_methods, reason = "the age of a file is a matter of the file system's clock")]
        file.set_modified(SystemTime::now()).ok()?;
        Some(path)
    }

    /// Gives a file that was fetched its name.
    pub(crate) async fn keep(&self, mut incoming: Incoming, folder: Folder) -> Result<PathBuf, Unavailable> {
        self.sweep().await;
        incoming.flush().await?;
        let directory = self.folder(folder);
        fs::create_dir_all(&directory).await.map_err(|error| failed("create", &directory, error))?;
        let path = directory.join(incoming.blob().sha256.to_string());
        fs::rename(&incoming.path.0, &path).await.map_err(|error| failed("keep", &path, error))?;
        Ok(path)
    }

    /// Removes the copies of a folder; those that cannot be removed go with the next start.
    pub(crate) async fn forget(&self, folder: Folder) {
        let _ = fs::remove_dir_all(self.folder(folder)).await;
    }

    async fn sweep(&self) {
        let root = self.root.join(FETCHED);
        let swept = tokio::task::spawn_blocking(move || {
            for owner in entries(&root) {
                for document in entries(&owner) {
                    for file in entries(&document) {
                        let modified = file.metadata().and_then(|found| found.modified()).ok();
                        if modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > KEPT) {
                            let _ = std::fs::remove_file(&file);
                        }
                    }
                    // Refused while there are files in it, which is what we want.
                    let _ = std::fs::remove_dir(&document);
                }
                let _ = std::fs::remove_dir(&owner);
            }
        });
        let _ = swept.await;
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Unavailable {
    let what = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ": the disk is full. Free some space and try again",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => ": it may not be written; check who owns it",
        _ => "",
    };
    Unavailable::new(STORE, format!("could not {doing} {}{what}", path.display()), error)
}

/// A file that goes when nobody keeps it.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Once kept it has another name; if it cannot be removed, the next start does it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A file on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    file: File,
    path: Temporary,
    hash: Sha256,
    size: u64,
}

impl Incoming {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Unavailable> {
        self.file.write_all(bytes).await.map_err(|error| failed("write", &self.path.0, error))?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// What has been written so far.
    pub(crate) fn blob(&self) -> BlobRef {
        BlobRef { sha256: ContentHash(self.hash.clone().finalize().into()), size: self.size }
    }

    async fn flush(&mut self) -> Result<(), Unavailable> {
        self.file.flush().await.map_err(|error| failed("write", &self.path.0, error))
    }

    /// The file, at its beginning.
    pub(crate) async fn content(&mut self) -> Result<&mut File, Unavailable> {
        self.flush().await?;
        self.file.seek(SeekFrom::Start(0)).await.map_err(|error| failed("read", &self.path.0, error))?;
        Ok(&mut self.file)
    }
}
