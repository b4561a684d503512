//! What SQLite's result codes mean to people: what happened, and what to do.

use lmao_ports::Unavailable;

use super::file::Store;

/// SQLite's primary result codes, <https://www.sqlite.org/rescode.html>.
mod code {
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const NOTADB: i32 = 26;
}

/// What a failed statement says about what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A constraint refused it: nothing was stored.
    Refused,
    /// Nothing was stored.
    NotStored,
    /// It may have been stored, or may yet turn out to have been.
    Unknown,
}

/// An error of either driver.
pub(super) trait Failure: std::error::Error + Send + Sync + 'static {
    /// SQLite's primary result code, if it gave one.
    fn primary(&self) -> Option<i32>;

    /// Whether no connection was free in time.
    fn is_waiting(&self) -> bool {
        false
    }
}

impl Failure for sqlx::Error {
    fn primary(&self) -> Option<i32> {
        let code: i32 = self.as_database_error()?.code()?.parse().ok()?;
        Some(code & 0xff)
    }

    fn is_waiting(&self) -> bool {
        matches!(self, Self::PoolTimedOut)
    }
}

impl Failure for rusqlite::Error {
    fn primary(&self) -> Option<i32> {
        Some(self.sqlite_error()?.extended_code & 0xff)
    }
}

/// Whether a transaction that failed with this error is stored. A failed write to the disk leaves that open: the commit may
/// have reached it all the same.
pub(super) fn outcome(error: &impl Failure) -> Outcome {
    match error.primary() {
        Some(code::CONSTRAINT) => Outcome::Refused,
        Some(code::IOERR) | None => Outcome::Unknown,
        Some(_) => Outcome::NotStored,
    }
}

/// The error as the ports have it.
pub(super) fn unavailable(store: &Store, error: impl Failure) -> Unavailable {
    Unavailable::new(store.name, explain(store, &error), error)
}

/// What happened and what to do.
pub(super) fn explain(store: &Store, error: &impl Failure) -> String {
    if error.is_waiting() {
        return "every connection is in use; try again".to_owned();
    }
    let text = match error.primary() {
        Some(code::FULL) => "the disk is full, nothing was stored; free some space and try again",
        Some(code::READONLY) => "the file or its folder is read-only; make both writable for this user",
        Some(code::CANTOPEN) => {
            "the file cannot be opened; check that its folder exists and that this user may write there"
        }
        Some(code::PERM) => "this user may not use the file; change its owner or permissions",
        Some(code::BUSY | code::LOCKED) => "another process holds the file; stop it, or try again",
        Some(code::CORRUPT | code::NOTADB) => return format!("the file is damaged; {}", store.when_damaged),
        Some(code::IOERR) => "reading or writing the disk failed; check its space and its health",
        Some(code::CONSTRAINT) => "a rule of the schema refused the change",
        _ => "SQLite failed",
    };
    text.to_owned()
}
