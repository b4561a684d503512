//! Blobs as local files: `OWNER/DOCUMENT.ATTEMPT/SHA256`, `incoming/` for what is still being written, and the file `log`
//! with the id of the log that names them.
//!
//! A blob is written to `incoming/`, synced, and only then renamed to its place, so a place never holds half a blob; what a
//! crash leaves in `incoming/` is removed at the next start. `object_store` reads the files and does the durable rename
//! (it creates the folders and syncs every directory whose entries changed); the streaming file is ours, because
//! `object_store` wants to know a blob's name before its first byte. This module knows nothing of documents or uploads.

pub(crate) mod local;
mod s3;

pub use s3::{S3Blobs, S3Options, S3OptionsError};

use std::{
    error::Error as StdError,
    fmt::Write as _,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    Stream, StreamExt, TryStreamExt, future,
    stream::{self, BoxStream},
};
use lmao_events::{BlobRef, ContentHash};
use lmao_ports::{Blobs, Folder, PendingBlob, Unavailable};
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path as Key};
use sha2::{Digest, Sha256};
use tokio::{fs::File, io::AsyncWriteExt};
use uuid::Uuid;

const STORE: &str = "blobs";
const INCOMING: &str = "incoming";
const LOG: &str = "log";

/// [`Blobs`] in a directory.
#[derive(Debug, Clone)]
pub struct FileBlobs {
    root: Arc<PathBuf>,
    files: Arc<LocalFileSystem>,
}

impl FileBlobs {
    /// Opens the store in `dir` for the log with this id, creating it if it is missing, and removes what was never kept. One
    /// process at a time.
    ///
    /// # Errors
    /// When the directory cannot be created or read, or holds the blobs of another log: what that one names looks like
    /// rubbish to this one.
    pub async fn open(dir: &Path, log: Uuid) -> Result<Self, Unavailable> {
        tokio::fs::create_dir_all(dir).await.map_err(|error| failed("create", dir, error))?;
        let store = Self::at(dir).await?;
        store.belong_to(log).await?;
        let incoming = dir.join(INCOMING);
        match tokio::fs::remove_dir_all(&incoming).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("clear", &incoming, error)),
            _ => {}
        }
        tokio::fs::create_dir_all(&incoming).await.map_err(|error| failed("create", &incoming, error))?;
        Ok(store)
    }

    /// Opens the store in `dir`, beside the process that writes it or without one, only to read what was kept.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn open_to_read(dir: &Path) -> Result<Self, Unavailable> {
        Self::at(dir).await
    }

    async fn at(dir: &Path) -> Result<Self, Unavailable> {
        let root = tokio::fs::canonicalize(dir).await.map_err(|error| failed("open", dir, error))?;
        let files = LocalFileSystem::new_with_prefix(&root).map_err(|error| failed("open", dir, error))?;
        Ok(Self { root: Arc::new(root), files: Arc::new(files.with_fsync(true)) })
    }

    /// The first log to come has it.
    async fn belong_to(&self, log: Uuid) -> Result<(), Unavailable> {
        let path = self.root.join(LOG);
        match tokio::fs::read_to_string(&path).await {
            Ok(owner) if owner.trim() == log.to_string() => Ok(()),
            Ok(owner) => {
                let message = format!(
                    "{} holds the blobs of the log {}, and this is the log {log}: restore the log that belongs to them, or \
                     choose another folder with `blobs`",
                    self.root.display(),
                    owner.trim()
                );
                Err(Unavailable::plain(STORE, message))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let put = self.files.put(&Key::from(LOG), log.to_string().into()).await;
                put.map(|_| ()).map_err(|error| failed("write", &path, error))
            }
            Err(error) => Err(failed("read", &path, error)),
        }
    }

    fn path(&self, folder: Folder, blob: &BlobRef) -> PathBuf {
        self.root.join(folder.to_string()).join(blob.sha256.to_string())
    }

    /// The directories in this one, in the root if none is named.
    fn within(&self, directory: Option<Key>) -> impl Stream<Item = Result<Key, Unavailable>> + Send {
        let listed = async move {
            let found = self.files.list_with_delimiter(directory.as_ref()).await.map_err(|error| {
                let path = self.root.join(directory.as_ref().map(Key::as_ref).unwrap_or_default());
                failed("list", &path, error)
            })?;
            Ok(stream::iter(found.common_prefixes.into_iter().map(Ok)))
        };
        stream::once(listed).try_flatten()
    }

    async fn start(&self) -> Result<Incoming, Unavailable> {
        let name = Uuid::new_v4().to_string();
        let path = self.root.join(INCOMING).join(&name);
        let file = File::create_new(&path).await.map_err(|error| failed("create", &path, error))?;
        Ok(Incoming { store: self.clone(), file, name, path: Temporary(path), hash: Sha256::new(), size: 0 })
    }
}

/// What the disk refused, for people.
fn failed(doing: &str, path: &Path, error: impl StdError + Send + Sync + 'static) -> Unavailable {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    let mut kind = None;
    while let Some(current) = cause {
        kind = current.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
        cause = current.source();
    }
    let mut message = format!("could not {doing} {}", path.display());
    message.push_str(match kind {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            ": the disk is full; nothing was kept. Free some space and try again"
        }
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            ": it may not be written; check who owns the data directory and whether it is mounted read-only"
        }
        _ => "",
    });
    Unavailable::new(STORE, message, error)
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

#[derive(Debug)]
struct Incoming {
    store: FileBlobs,
    file: File,
    name: String,
    path: Temporary,
    hash: Sha256,
    size: u64,
}

impl Incoming {
    async fn append(&mut self, bytes: &[u8]) -> Result<(), Unavailable> {
        self.file.write_all(bytes).await.map_err(|error| failed("write", &self.path.0, error))?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn name(&self) -> BlobRef {
        BlobRef { sha256: ContentHash(self.hash.clone().finalize().into()), size: self.size }
    }

    async fn publish(mut self, folder: Folder) -> Result<BlobRef, Unavailable> {
        let path = &self.path.0;
        self.file.flush().await.map_err(|error| failed("write", path, error))?;
        self.file.sync_all().await.map_err(|error| failed("sync", path, error))?;
        let blob = self.name();
        let from = Key::from_iter([INCOMING, &self.name]);
        let to = key(folder, &blob);
        self.store
            .files
            .rename(&from, &to)
            .await
            .map_err(|error| failed("keep", &self.store.path(folder, &blob), error))?;
        Ok(blob)
    }
}

#[async_trait]
impl PendingBlob for Incoming {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Unavailable> {
        self.append(&bytes).await
    }

    fn blob(&self) -> BlobRef {
        self.name()
    }

    async fn keep(self: Box<Self>, folder: Folder) -> Result<BlobRef, Unavailable> {
        self.publish(folder).await
    }
}

fn key(folder: Folder, blob: &BlobRef) -> Key {
    let mut key = folder.to_string();
    let _ = write!(key, "/{}", blob.sha256);
    Key::from(key)
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn begin(&self) -> Result<Box<dyn PendingBlob>, Unavailable> {
        Ok(Box::new(self.start().await?))
    }

    async fn put(&self, folder: Folder, bytes: Bytes) -> Result<BlobRef, Unavailable> {
        let mut incoming = self.start().await?;
        incoming.append(&bytes).await?;
        incoming.publish(folder).await
    }

    async fn get(&self, folder: Folder, blob: &BlobRef) -> Result<Option<Bytes>, Unavailable> {
        let read = |error| failed("read", &self.path(folder, blob), error);
        let found = match self.files.get(&key(folder, blob)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(read)?,
        };
        let bytes = found.bytes().await.map_err(read)?;
        if Sha256::digest(&bytes)[..] != blob.sha256.0 {
            let message = format!(
                "blob {} of {folder} was altered: its content no longer has this hash. Restore {} from a backup, or delete the \
                 document and upload it again",
                blob.sha256,
                self.path(folder, blob).display()
            );
            return Err(Unavailable::plain(STORE, message));
        }
        Ok(Some(bytes))
    }

    async fn local(&self, folder: Folder, blob: &BlobRef) -> Result<Option<PathBuf>, Unavailable> {
        let path = self.path(folder, blob);
        match tokio::fs::metadata(&path).await {
            Ok(_) => Ok(Some(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, error)),
        }
    }

    async fn delete(&self, folder: Folder) -> Result<(), Unavailable> {
        let path = self.root.join(folder.to_string());
        match tokio::fs::remove_dir_all(&path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("delete", &path, error)),
            _ => {}
        }
        // Refused while the owner has other documents, which is what we want.
        let _ = tokio::fs::remove_dir(self.root.join(folder.owner.to_string())).await;
        Ok(())
    }

    async fn list(&self, folder: Folder) -> Result<Vec<BlobRef>, Unavailable> {
        let listed = self.files.list(Some(&Key::from(folder.to_string())));
        let named = listed.try_filter_map(|file| {
            let sha256 = file.location.filename().and_then(|name| name.parse().ok());
            future::ready(Ok(sha256.map(|sha256| BlobRef { sha256, size: file.size })))
        });
        named.try_collect().await.map_err(|error| failed("list", &self.root.join(folder.to_string()), error))
    }

    fn folders(&self) -> BoxStream<'_, Result<Folder, Unavailable>> {
        // What is no folder of ours, `incoming` for one, is left alone.
        let owners = self.within(None).try_filter(|name| future::ready(name.as_ref().parse::<Uuid>().is_ok()));
        let all = owners.map_ok(|owner| self.within(Some(owner))).try_flatten();
        all.try_filter_map(async |path| Ok(path.as_ref().parse().ok())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use lmao_ports::conformance;

    use super::*;

    const OF: Uuid = Uuid::from_u128(4);
    const FOLDER: Folder =
        Folder { owner: Uuid::from_u128(1), document: Uuid::from_u128(2), attempt: Some(Uuid::from_u128(3)) };

    #[tokio::test]
    async fn keeps_the_ports_promises() {
        let dir = tempfile::tempdir().unwrap();
        let open = async || Arc::new(FileBlobs::open(dir.path(), OF).await.unwrap()) as Arc<dyn Blobs>;
        conformance::blobs::all(open).await;
    }

    #[tokio::test]
    async fn an_altered_blob_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path(), OF).await.unwrap();
        let blob = blobs.put(FOLDER, Bytes::from_static(b"as it was")).await.unwrap();
        std::fs::write(blobs.local(FOLDER, &blob).await.unwrap().unwrap(), "as it is").unwrap();
        let error = blobs.get(FOLDER, &blob).await.unwrap_err();
        assert!(error.message.contains("was altered"), "{error}");
        blobs.put(FOLDER, Bytes::from_static(b"as it was")).await.unwrap();
        assert!(blobs.get(FOLDER, &blob).await.unwrap().is_some(), "putting it again heals it");
    }

    #[tokio::test]
    async fn nothing_is_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path(), OF).await.unwrap();
        let incoming = || std::fs::read_dir(dir.path().join(INCOMING)).unwrap().count();
        let mut pending = blobs.begin().await.unwrap();
        pending.write(Bytes::from_static(b"half")).await.unwrap();
        assert_eq!(incoming(), 1);
        // A crash: the process goes without dropping anything.
        std::mem::forget(pending);
        let blobs = FileBlobs::open(dir.path(), OF).await.unwrap();
        assert_eq!(incoming(), 0);
        drop(blobs.begin().await.unwrap());
        let blob = blobs.put(FOLDER, Bytes::from_static(b"kept")).await.unwrap();
        assert_eq!(incoming(), 0);
        blobs.delete(FOLDER).await.unwrap();
        assert_eq!(blobs.get(FOLDER, &blob).await.unwrap(), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "only `incoming` and `log` are left");
    }

    #[tokio::test]
    async fn another_logs_blobs_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path(), OF).await.unwrap();
        let blob = blobs.put(FOLDER, Bytes::from_static(b"kept")).await.unwrap();
        let refused = FileBlobs::open(dir.path(), Uuid::from_u128(5)).await.unwrap_err();
        assert!(refused.message.contains("restore the log"), "{refused}");
        let blobs = FileBlobs::open(dir.path(), OF).await.unwrap();
        assert!(blobs.get(FOLDER, &blob).await.unwrap().is_some());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_foreign_directory_that_cannot_be_read_is_left_alone() {
        use std::os::unix::fs::symlink;

        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path(), OF).await.unwrap();
        blobs.put(FOLDER, Bytes::from_static(b"kept")).await.unwrap();
        std::fs::create_dir_all(dir.path().join("lost+found")).unwrap();
        symlink("nowhere", dir.path().join("lost+found/broken")).unwrap();
        assert_eq!(blobs.folders().try_collect::<Vec<_>>().await.unwrap(), [FOLDER]);
    }

    #[tokio::test]
    async fn a_place_that_is_no_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = FileBlobs::open(&file, OF).await.unwrap_err();
        assert!(error.to_string().contains("could not"), "{error}");
    }
}
