//! The data directory: one folder that holds everything one embedded node stores, used by one process at a time.
//!
//! It knows names and formats, not what is inside the files. `format` says which build can read the folder; `lock` is held
//! (an advisory lock of the operating system, gone with the process) by the one process that writes, and says who that is.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The format of the folder that this build writes.
pub const FORMAT: u32 = 1;

const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "lock";
/// Somebody who asks who runs holds the lock for microseconds: worth trying again, a server is not.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How a data directory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To read and write: by one process at a time.
    Exclusive,
    /// Only to read, beside a process that writes or without one.
    ReadOnly,
}

/// What a process that uses a data directory is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// It serves, until it is asked to end.
    #[default]
    Server,
    /// It does one thing and ends.
    Command,
}

/// The process that uses a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process id.
    pub pid: u32,
    /// Where it listens, for example `http://127.0.0.1:8000`; `None` before it does, and when it is about to end.
    pub address: Option<String>,
    /// What it is there for. Older builds do not say.
    #[serde(default)]
    pub holder: Holder,
}

impl Running {
    /// Whether it goes on until somebody stops it: waiting for it leads to nothing.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.holder == Holder::Server && self.address.is_some()
    }
}

impl std::fmt::Display for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pid, address, holder } = self;
        match holder {
            Holder::Server => write!(f, "process {pid}")?,
            Holder::Command => write!(f, "process {pid}, a command that has not ended")?,
        }
        address.as_ref().filter(|_| *holder == Holder::Server).map_or(Ok(()), |address| write!(f, " at {address}"))
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not exist, and nothing may be created.
    #[error("there is no data directory at {0}; `lmao serve` creates one")]
    Missing(PathBuf),
    /// It is a file, or a folder with other things in it.
    #[error("{0} is no data directory: {1}; name another with --data")]
    NotOurs(PathBuf, &'static str),
    /// Another process has it.
    #[error("the data directory {path} is in use by {}", whom(.by.as_ref()))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who has it; `None` when they have not said so yet.
        by: Option<Running>,
    },
    /// A newer build wrote it.
    #[error(
        "the data directory {path} has format {found}, written by {writer}; this build reads format {FORMAT}: upgrade"
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Which build wrote it.
        writer: String,
    },
    /// The `format` file makes no sense.
    #[error("{0} does not hold a format number; restore the data directory from a backup")]
    BadFormat(PathBuf),
    /// The operating system refused.
    #[error("{path}: {message}")]
    Io {
        /// What was being used.
        path: PathBuf,
        /// What it means and what to do.
        message: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

/// An open data directory. Dropping it gives the lock back.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: Option<File>,
    holder: Holder,
}

impl DataDir {
    /// Opens the folder at `path`; in [`Mode::Exclusive`] creates it (0700) and locks it, for a command.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed then, except that an empty folder may have been created.
    pub fn open(path: &Path, mode: Mode) -> Result<Self, Error> {
        match mode {
            Mode::ReadOnly => {
                existing(path)?;
                check_format(path)?.ok_or(Error::NotOurs(path.to_owned(), "it has no `format` file"))?;
                Ok(Self { path: absolute(path)?, lock: None, holder: Holder::Command })
            }
            Mode::Exclusive => {
                create(path)?;
                if check_format(path)?.is_none()
                    && let Err(error) = refuse_strangers(path)
                    // Unless they are those of a process that has made it a data directory since.
                    && check_format(path)?.is_none()
                {
                    return Err(error);
                }
                let lock = lock(path)?;
                make_private(path);
                if check_format(path)?.is_none() {
                    write_format(path)?;
                }
                let directory = Self { path: absolute(path)?, lock: Some(lock), holder: Holder::Command };
                directory.say(None)?;
                Ok(directory)
            }
        }
    }

    /// The same, for a server: others are told that waiting for its end is vain.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn for_server(mut self) -> Result<Self, Error> {
        self.holder = Holder::Server;
        self.say(None)?;
        Ok(self)
    }

    /// Tells others where this process listens.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_address(&self, address: &str) -> Result<(), Error> {
        self.say(Some(address))
    }

    /// Tells others that this process listens no more: it is about to end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clear_address(&self) -> Result<(), Error> {
        self.say(None)
    }

    /// Who uses the data directory at `path` exclusively now; `None` when nobody does, or there is none.
    #[must_use]
    pub fn running(path: &Path) -> Option<Running> {
        let file = File::open(path.join(LOCK_FILE)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => read_running(&file),
            _ => None,
        }
    }

    /// The folder, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The event log: the only truth.
    #[must_use]
    pub fn log_db(&self) -> PathBuf {
        self.path.join("log.db")
    }

    /// The vault: secrets and data keys.
    #[must_use]
    pub fn vault_db(&self) -> PathBuf {
        self.path.join("vault.db")
    }

    /// The read model; rebuilt from the log when deleted.
    #[must_use]
    pub fn read_db(&self) -> PathBuf {
        self.path.join("read.db")
    }

    /// Snapshots; made again when deleted.
    #[must_use]
    pub fn snapshots_db(&self) -> PathBuf {
        self.path.join("snapshots.db")
    }

    /// Computed vectors; computed again when deleted.
    #[must_use]
    pub fn cache_db(&self) -> PathBuf {
        self.path.join("cache.db")
    }

    /// The search index; rebuilt from log and blobs when deleted.
    #[must_use]
    pub fn search_dir(&self) -> PathBuf {
        self.path.join("search")
    }

    /// Files, texts and vectors that events refer to.
    #[must_use]
    pub fn blobs_dir(&self) -> PathBuf {
        self.path.join("blobs")
    }

    /// The key that wraps every secret of the vault.
    #[must_use]
    pub fn master_key(&self) -> PathBuf {
        self.path.join("master.key")
    }

    /// The first password of `admin`.
    #[must_use]
    pub fn admin_password(&self) -> PathBuf {
        self.path.join("admin-password")
    }

    fn say(&self, address: Option<&str>) -> Result<(), Error> {
        let Some(mut file) = self.lock.as_ref() else { return Ok(()) };
        let running = Running { pid: std::process::id(), address: address.map(str::to_owned), holder: self.holder };
        let text = serde_json::to_vec(&running).unwrap_or_default();
        // Readers who meet a half-written line see a process without an address.
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(&text))
            .map_err(|source| denied(&self.path.join(LOCK_FILE), source))
    }
}

/// Who has it, and what to do about it.
fn whom(by: Option<&Running>) -> String {
    match by {
        Some(running) if running.holder == Holder::Command => format!("{running}; wait for it, or stop it"),
        Some(running) => format!("{running}; stop it first, or talk to it"),
        None => "another process; stop it first, or talk to it".to_owned(),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).map_err(|source| denied(path, source))
}

fn denied(path: &Path, source: io::Error) -> Error {
    let message = match source.kind() {
        io::ErrorKind::PermissionDenied => "this user may not use it; change its owner or permissions",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only; remount it, or name another folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full; free some space",
        _ => "the operating system refused it",
    };
    Error::Io { path: path.to_owned(), message, source }
}

fn existing(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Error::NotOurs(path.to_owned(), "it is not a folder")),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Err(Error::Missing(path.to_owned())),
        Err(source) => Err(denied(path, source)),
    }
}

fn create(path: &Path) -> Result<(), Error> {
    match existing(path) {
        Err(Error::Missing(_)) => {}
        other => return other,
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| denied(path, source))
}

/// Takes a folder that others can look into away from them: what is in it is not sealed throughout. Where that is refused
/// (somebody else's folder, a volume of a container), they are told of.
fn make_private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let Ok(mode) = fs::metadata(path).map(|found| found.permissions().mode()) else { return };
        if mode & 0o077 == 0 {
            return;
        }
        let path_shown = path.display();
        match fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7700)) {
            Ok(()) => {
                tracing::warn!(path = %path_shown, "others could look into the data directory; now its owner alone can");
            }
            Err(error) => {
                tracing::warn!(path = %path_shown, %error, "others can look into the data directory; its owner should run chmod 700 on it");
            }
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

fn lock(path: &Path) -> Result<File, Error> {
    let name = path.join(LOCK_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(|source| denied(&name, source))?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(denied(&name, source)),
            #[expect(clippy::disallowed_methods, reason = "at start, before there is anything to block")]
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
        }
    }
    Err(Error::InUse { path: path.to_owned(), by: read_running(&file) })
}

fn read_running(mut file: &File) -> Option<Running> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The folder's format, checked; `None` when it has none yet.
fn check_format(path: &Path) -> Result<Option<u32>, Error> {
    let name = path.join(FORMAT_FILE);
    let text = match fs::read_to_string(&name) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) if source.kind() == io::ErrorKind::InvalidData => return Err(Error::BadFormat(name)),
        Err(source) => return Err(denied(&name, source)),
    };
    let (number, writer) = text.trim().split_once(' ').unwrap_or((text.trim(), "an unknown build"));
    let found: u32 = number.parse().map_err(|_| Error::BadFormat(name))?;
    if found > FORMAT {
        return Err(Error::Newer { path: path.to_owned(), found, writer: writer.to_owned() });
    }
    Ok(Some(found))
}

/// Nobody wants a server's files among their own.
fn refuse_strangers(path: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(path).map_err(|source| denied(path, source))? {
        let name = entry.map_err(|source| denied(path, source))?.file_name();
        if name != LOCK_FILE && name != TEMPORARY_FORMAT {
            return Err(Error::NotOurs(path.to_owned(), "it has other files in it"));
        }
    }
    Ok(())
}

const TEMPORARY_FORMAT: &str = "format.new";

fn write_format(path: &Path) -> Result<(), Error> {
    let (new, name) = (path.join(TEMPORARY_FORMAT), path.join(FORMAT_FILE));
    let text = format!("{FORMAT} lmao {}\n", env!("CARGO_PKG_VERSION"));
    let written = File::create(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, &name))
        .and_then(|()| File::open(path)?.sync_all());
    written.map_err(|source| denied(&name, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<DataDir, Error> {
        DataDir::open(path, Mode::Exclusive)
    }

    #[test]
    fn one_process_at_a_time_and_others_are_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        assert!(matches!(DataDir::open(&path, Mode::ReadOnly), Err(Error::Missing(_))));
        let first = open(&path).unwrap();
        let us = std::process::id();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {us}, a command")) && error.contains("wait for it"), "{error}");
        let first = first.for_server().unwrap();
        first.set_address("http://127.0.0.1:8000").unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {us} at http://127.0.0.1:8000")), "{error}");
        assert_eq!(
            DataDir::running(&path),
            Some(Running { pid: us, address: Some("http://127.0.0.1:8000".to_owned()), holder: Holder::Server })
        );
        first.clear_address().unwrap();
        let running = DataDir::running(&path).unwrap();
        assert!(!running.is_serving() && running.holder == Holder::Server, "{running}");
        DataDir::open(&path, Mode::ReadOnly).unwrap();
        drop(first);
        assert_eq!(DataDir::running(&path), None);
        open(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_look_inside() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        open(&path).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        DataDir::open(&path, Mode::ReadOnly).unwrap();
        assert_eq!(mode(), 0o755, "who only reads changes nothing");
        open(&path).unwrap();
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn a_newer_format_names_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()).unwrap());
        fs::write(folder.path().join(FORMAT_FILE), "7 lmao 3.1.4\n").unwrap();
        for mode in [Mode::Exclusive, Mode::ReadOnly] {
            let error = DataDir::open(folder.path(), mode).unwrap_err().to_string();
            assert!(error.contains("lmao 3.1.4") && error.contains("upgrade"), "{error}");
        }
        fs::write(folder.path().join(FORMAT_FILE), "seven").unwrap();
        assert!(matches!(open(folder.path()), Err(Error::BadFormat(_))));
    }

    #[test]
    fn a_strange_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
        assert!(matches!(open(folder.path()), Err(Error::NotOurs(..))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(matches!(open(&folder.path().join("thesis.txt")), Err(Error::NotOurs(..))));
    }

    #[test]
    fn a_process_that_died_between_lock_and_format_leaves_a_folder_that_opens() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(LOCK_FILE), "").unwrap();
        fs::write(folder.path().join(TEMPORARY_FORMAT), "1 lm").unwrap();
        open(folder.path()).unwrap();
    }

    /// Nobody, not even the superuser, makes folders there.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_cannot_be_written_says_why() {
        let error = open(Path::new("/sys/lmao-data")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("may not use it") || text.contains("read-only"), "{text}");
    }
}
