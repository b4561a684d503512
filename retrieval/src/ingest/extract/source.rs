//! Where the bytes of a file come from: the blob on the disk, or memory for what was found inside another file.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek},
    path::PathBuf,
};

use lmao_events::{BlobRef, ContentHash, Failure};
use sha2::{Digest, Sha256};

use crate::ingest::store::{missing, read_whole};

/// What containers are read from.
pub(super) trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// A file to extract.
#[derive(Debug)]
pub(in crate::ingest) enum Source {
    /// A blob in the file system.
    Blob(PathBuf, BlobRef),
    /// Bytes in memory.
    Bytes(Vec<u8>),
}

impl Source {
    /// How many bytes.
    pub(super) const fn len(&self) -> u64 {
        match self {
            Self::Blob(_, blob) => blob.size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// All bytes.
    ///
    /// # Errors
    /// The blob is gone or altered.
    pub(super) fn whole(self) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Blob(path, blob) => read_whole(&path, &blob, "uploaded file"),
            Self::Bytes(bytes) => Ok(bytes),
        }
    }

    /// A reader that keeps little in memory.
    ///
    /// # Errors
    /// The blob is gone or altered.
    pub(super) fn reader(self) -> Result<Box<dyn ReadSeek>, Failure> {
        match self {
            Self::Blob(path, blob) => {
                let open = || -> io::Result<Option<File>> {
                    let mut file = File::open(&path)?;
                    let mut hash = Sha256::new();
                    let mut buffer = vec![0; 64 * 1024];
                    loop {
                        match file.read(&mut buffer)? {
                            0 => break,
                            read => hash.update(&buffer[..read]),
                        }
                    }
                    file.rewind()?;
                    Ok((ContentHash(hash.finalize().into()) == blob.sha256).then_some(file))
                };
                match open() {
                    Ok(Some(file)) => Ok(Box::new(BufReader::new(file))),
                    Ok(None) | Err(_) => Err(missing("uploaded file", &blob)),
                }
            }
            Self::Bytes(bytes) => Ok(Box::new(Cursor::new(bytes))),
        }
    }
}
