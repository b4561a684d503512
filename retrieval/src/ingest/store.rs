//! Reading and writing blobs, with failures in the words of a document's history.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;
use lmao_events::{BlobRef, ContentHash, Failure};
use lmao_ports::{Blobs, Folder, STORAGE_UNAVAILABLE, Unavailable};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// A store that does not answer now.
#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
pub(super) fn unavailable(error: Unavailable) -> Failure {
    Failure::passing(STORAGE_UNAVAILABLE, format!("The document's data cannot be read or written now ({error})."))
}

/// A blob that is gone or not what it was.
pub(super) fn missing(what: &str, blob: &BlobRef) -> Failure {
    Failure::lasting(
        "missing_blob",
        format!(
            "The {what} ({}) is missing from the blob store or was altered. Restore it from a backup, or delete the \
             document and upload it again.",
            blob.sha256
        ),
    )
}

/// The path of a blob, to be read on another thread or by another process.
pub(super) async fn local(
    blobs: &dyn Blobs,
    folder: Folder,
    blob: &BlobRef,
    what: &str,
) -> Result<std::path::PathBuf, Failure> {
    blobs.local(folder, blob).await.map_err(unavailable)?.ok_or_else(|| missing(what, blob))
}

/// All bytes of a local file, if they are those of the blob. Blocks.
pub(super) fn read_whole(path: &Path, blob: &BlobRef, what: &str) -> Result<Vec<u8>, Failure> {
    let read = || -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size.min(1 << 30)).unwrap_or(0));
        // One byte more than there should be is enough to know that the file was altered.
        file.take(blob.size.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => missing(what, blob),
        _ => Failure::passing(STORAGE_UNAVAILABLE, format!("The {what} cannot be read now ({error}).")),
    })?;
    if ContentHash(Sha256::digest(&bytes).into()) == blob.sha256 { Ok(bytes) } else { Err(missing(what, blob)) }
}

/// All bytes of a blob, checked.
pub(super) async fn read(
    blobs: &dyn Blobs,
    folder: Folder,
    blob: &BlobRef,
    what: &'static str,
) -> Result<Vec<u8>, Failure> {
    let path = local(blobs, folder, blob, what).await?;
    let blob = *blob;
    off_thread(move || read_whole(&path, &blob, what)).await
}

/// A value stored as MessagePack.
pub(super) async fn load<T: DeserializeOwned + Send + 'static>(
    blobs: &dyn Blobs,
    folder: Folder,
    blob: &BlobRef,
    what: &'static str,
) -> Result<T, Failure> {
    let bytes = read(blobs, folder, blob, what).await?;
    let blob = *blob;
    off_thread(move || rmp_serde::from_slice(&bytes).map_err(|_| missing(what, &blob))).await
}

/// Stores bytes.
pub(super) async fn put(blobs: &dyn Blobs, folder: Folder, bytes: Vec<u8>) -> Result<BlobRef, Failure> {
    blobs.put(folder, Bytes::from(bytes)).await.map_err(unavailable)
}

/// Runs what would hold up an async thread on one that may block.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(internal(&error.to_string())),
    }
}

/// A fault of this program, not of the file.
pub(super) fn internal(what: &str) -> Failure {
    Failure::lasting(
        "internal_error",
        format!("Taking in the document failed because of a fault in the program ({what})."),
    )
}
