//! How drivers' errors become the port's: damaged files are told apart from a disk that is full, read-only or locked.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use lmao_ports::{IndexError, Unavailable};
use tantivy::{TantivyError, directory::error as dir};

/// The name under which errors of this store are reported.
pub(super) const STORE: &str = "search index";

/// Stored files are not what was written.
pub(super) fn damaged(what: impl Into<String>) -> IndexError {
    IndexError::Damaged(what.into())
}

/// What the disk refused while `doing` something with `path`.
pub(super) fn file(doing: &str, path: &Path, error: io::Error) -> IndexError {
    let message = format!("could not {doing} {}{}", path.display(), advice(error.kind()));
    Unavailable::new(STORE, message, error).into()
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ": the disk is full; the last commit is untouched. Free some space, what was not committed is tried again"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            ": it may not be written; check who owns the data directory and whether it is mounted read-only"
        }
        _ => "",
    }
}

/// What tantivy refused while `doing` something.
pub(super) fn text(doing: &str, error: TantivyError) -> IndexError {
    let io_kind = match &error {
        TantivyError::IoError(error) => Some(error.kind()),
        TantivyError::OpenReadError(dir::OpenReadError::IoError { io_error, .. })
        | TantivyError::OpenWriteError(dir::OpenWriteError::IoError { io_error, .. }) => Some(io_error.kind()),
        _ => None,
    };
    match error {
        TantivyError::DataCorruption(what) => damaged(format!("{what:?}")),
        TantivyError::OpenReadError(dir::OpenReadError::FileDoesNotExist(path)) => {
            damaged(format!("{} is missing", path.display()))
        }
        TantivyError::SchemaError(_) | TantivyError::DeserializeError(_) => {
            damaged("its keyword part has a layout that this version does not read")
        }
        TantivyError::LockFailure(..) => {
            let message = "another process has it open; stop that one first";
            Unavailable::new(STORE, message, error).into()
        }
        // Its writing thread died; tantivy keeps the reason to itself.
        error @ TantivyError::ErrorInThread(_) => {
            let message = format!(
                "could not {doing}, most likely because the disk is full or failing; the last commit is untouched, what was not \
                 committed is tried again"
            );
            Unavailable::new(STORE, message, error).into()
        }
        error => {
            let message = format!("could not {doing}{}", io_kind.map_or("", advice));
            Unavailable::new(STORE, message, error).into()
        }
    }
}

/// A state that cannot be trusted any more, since a thread stopped half-way through changing it.
pub(super) fn poisoned() -> IndexError {
    Unavailable::plain(STORE, "an earlier operation stopped half-way; restart the server, nothing committed is lost")
        .into()
}
