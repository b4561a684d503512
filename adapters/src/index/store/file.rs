//! A file that only grows, and its memory map.
//!
//! It knows its own end, not what is in it. The end lives in memory and in the commit that names it, never in the file's
//! size: bytes behind the end were never committed and are written over.

use std::{
    fs::{File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    ops::Deref,
    path::{Path, PathBuf},
};

use lmao_ports::IndexError;
use memmap2::Mmap;

use super::super::error;

/// Bytes that are written at once. The page cache keeps what comes in large writes in large pieces: a scan of 77 MB takes 2.4 ms
/// then, and 4.4 ms where a document of 15 KB was a write (measured; the processor's page tables are what it waits for).
const PIECE: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct AppendFile {
    file: File,
    path: PathBuf,
    /// Where the next bytes go, `unwritten` included.
    end: u64,
    /// The last bytes before `end`, not in the file yet.
    unwritten: Vec<u8>,
}

impl AppendFile {
    /// A new, empty file; whatever stood there was never committed.
    pub(super) fn create(path: PathBuf) -> Result<Self, IndexError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(|e| error::file("create", &path, e))?;
        Ok(Self { file, path, end: 0, unwritten: vec![] })
    }

    /// The file of which a commit names the first `end` bytes; what is behind them is cut off.
    pub(super) fn open(path: PathBuf, end: u64) -> Result<Self, IndexError> {
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(error::damaged(format!("{} is missing", path.display())));
            }
            file => file.map_err(|e| error::file("open", &path, e))?,
        };
        let size = file.metadata().map_err(|e| error::file("open", &path, e))?.len();
        if size < end {
            let what = format!("{} was truncated: it has {size} bytes of {end}", path.display());
            return Err(error::damaged(what));
        }
        if size > end {
            file.set_len(end).map_err(|e| error::file("shorten", &path, e))?;
        }
        Ok(Self { file, path, end, unwritten: vec![] })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next bytes go.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Forgets what was appended behind `end`.
    pub(super) fn rewind(&mut self, end: u64) {
        let written = self.written();
        self.end = self.end.min(end);
        self.unwritten.truncate(usize::try_from(self.end.saturating_sub(written)).unwrap_or(usize::MAX));
    }

    fn written(&self) -> u64 {
        self.end - self.unwritten.len() as u64
    }

    /// Appends all bytes or, as far as anybody can see, none; where they begin.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u64, IndexError> {
        let start = self.end;
        // A small piece waits for others; a large one is not copied, which would also leave its memory with the file.
        if self.unwritten.len() + bytes.len() >= PIECE {
            self.write()?;
        }
        if bytes.len() >= PIECE {
            self.write_at(start, bytes)?;
        } else {
            self.unwritten.extend_from_slice(bytes);
        }
        self.end += bytes.len() as u64;
        Ok(start)
    }

    /// What fails is tried again with the next one.
    fn write(&mut self) -> Result<(), IndexError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        self.write_at(self.written(), &self.unwritten)?;
        self.unwritten.clear();
        Ok(())
    }

    fn write_at(&self, start: u64, bytes: &[u8]) -> Result<(), IndexError> {
        let written = (&self.file).seek(SeekFrom::Start(start)).and_then(|_| (&self.file).write_all(bytes));
        written.map_err(|e| error::file("write", &self.path, e))
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&mut self) -> Result<(), IndexError> {
        self.write()?;
        self.file.sync_data().map_err(|e| error::file("sync", &self.path, e))
    }

    /// The first [`AppendFile::end`] bytes, mapped.
    pub(super) fn map(&mut self) -> Result<Mapped, IndexError> {
        self.write()?;
        if self.end == 0 {
            return Ok(Mapped(None));
        }
        let length =
            usize::try_from(self.end).map_err(|_| error::damaged("a file is larger than the address space"))?;
        #[expect(
            unsafe_code,
            reason = "the file is ours alone (tantivy's writer lock keeps other processes out), bytes before its end are never \
                      written again, and it is never shortened below an end that a commit has named"
        )]
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(&self.file) };
        map.map(|map| Mapped(Some(map))).map_err(|e| error::file("map", &self.path, e))
    }
}

/// The committed bytes of a file, read-only.
#[derive(Debug, Default)]
pub(in crate::index) struct Mapped(Option<Mmap>);

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Makes the names in a directory durable.
pub(in crate::index) fn sync_directory(path: &Path) -> Result<(), IndexError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| error::file("sync", path, e))
}
