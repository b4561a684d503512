//! Which files of a folder are worth sending. A file that is named itself always is, unless it is one of our own stores.

mod globs;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ignore::{DirEntry, WalkBuilder};
use lmao_adapters::data_dir::{self, DataDir, Mode};
use serde::Serialize;

use self::globs::Globs;
use crate::exit::{Code, Stop};

/// Bytes at the beginning of a file that tell text from other things.
const SNIFFED: usize = 4096;
/// Folders of programs, full of files that nobody wrote.
const MACHINE_MADE: [&str; 4] = ["node_modules", "__pycache__", "site-packages", "venv"];
/// A folder with this file in it can be made again (bford.info/cachedir).
const CACHE_TAG: &str = "CACHEDIR.TAG";
/// Our own ignore file, beside `.gitignore` and `.ignore`.
const IGNORE_FILE: &str = ".lmaoignore";
/// Formats with NUL bytes in them that the server can read.
const READABLE: [&[u8]; 4] = [b"%PDF-", b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b"];
/// Byte order marks of UTF-16.
const UTF16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];
/// A tar archive's mark, and where it stands (POSIX.1-1988).
const TAR: (usize, &[u8]) = (257, b"ustar");
/// Text by its bytes, but not by its purpose; and archives of programs that begin like an office document.
const NO_DOCUMENT: [&str; 16] = [
    "svg", "map", "lock", "min.js", "min.css", "woff", "woff2", "jar", "apk", "whl", "crate", "gz", "xz", "zst", "png",
    "jpg",
];
/// What ends like one of those, and is none.
const DOCUMENT: [&str; 1] = ["tar.gz"];

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Only files that match one of these; all if empty.
    pub include: Vec<String>,
    /// Nothing that matches one of these.
    pub exclude: Vec<String>,
    /// Whether ignore files are obeyed.
    pub ignore_files: IgnoreFiles,
    /// Bytes of a file, at most.
    pub max_size: u64,
    /// Files, at most.
    pub max_files: usize,
}

/// Whether `.gitignore`, `.ignore` and `.lmaoignore` say what is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IgnoreFiles {
    /// In folders, and in those above them; in a Git repository or not.
    Obeyed,
    /// What they name is sent.
    Disregarded,
}

/// A file to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Source {
    /// Where it is, in the words of the command line: below the folder that was named, as that was named.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl Source {
    /// The bare name.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// Why something in a folder is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    Hidden,
    DataDirectory,
    MachineMade,
    SymbolicLink,
    Special,
    Ignored,
    Unmatched,
    Empty,
    NoDocument,
    Binary,
    TooLarge,
    BeyondMaximum,
}

impl Reason {
    /// For people: it was left out as …
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::DataDirectory => "data directory",
            Self::MachineMade => "made by a program",
            Self::SymbolicLink => "symbolic link, which is not followed",
            Self::Special => "special file",
            Self::Ignored => "named by an ignore file",
            Self::Unmatched => "not asked for (--include, --exclude, pattern)",
            Self::Empty => "empty",
            Self::NoDocument => "no document by its name",
            Self::Binary => "binary",
            Self::TooLarge => "larger than --max-size",
            Self::BeyondMaximum => "more than --max-files",
        }
    }
}

type LeftOut = BTreeMap<Reason, Vec<PathBuf>>;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// To be sent, in the order of their paths.
    pub files: Vec<Source>,
    /// What was left out, a folder with all that is in it.
    pub left_out: LeftOut,
    /// What could not be looked at, and why.
    pub unreadable: Vec<(PathBuf, io::Error)>,
}

/// Looks through `paths`: files, folders, and patterns where there is no such file.
///
/// # Errors
/// [`Code::Usage`] when one of them does not exist or matches nothing: a slip of the pen is told before anything is sent.
pub(crate) fn walk(paths: &[PathBuf], wanted: &Wanted) -> Result<Walk, Stop> {
    let mut found = Walk::default();
    for path in paths {
        let (path, pattern) = match globs::split(path) {
            Some((root, pattern)) if fs::symlink_metadata(path).is_err() => (root, Some(pattern)),
            _ => (path.clone(), None),
        };
        found.named(&path, pattern.as_deref(), wanted)?;
    }
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    found.files.dedup_by(|a, b| a.path == b.path);
    if found.files.len() > wanted.max_files {
        let beyond = found.files.split_off(wanted.max_files).into_iter().map(|file| file.path);
        found.left_out.entry(Reason::BeyondMaximum).or_default().extend(beyond);
    }
    Ok(found)
}

/// The folder or file that is looked through for a path: that of a pattern where there is no such file.
pub(super) fn root(path: &Path) -> PathBuf {
    match globs::split(path) {
        Some((root, _)) if fs::symlink_metadata(path).is_err() => root,
        _ => path.to_owned(),
    }
}

impl Walk {
    /// Takes in what was named on the command line.
    fn named(&mut self, path: &Path, pattern: Option<&str>, wanted: &Wanted) -> Result<(), Stop> {
        let unreadable = |error| Stop::new(Code::Usage, format!("{} cannot be read", path.display())).because(error);
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if fs::canonicalize(path).map_err(unreadable)?.ancestors().any(is_data_directory) {
            // `lmao-data/*`, or by a link: what is meant is the same.
            self.leave_out(Reason::DataDirectory, path);
        } else if metadata.is_dir() {
            let before = self.files.len();
            self.folder(path, &Globs::new(path, pattern, wanted)?, wanted);
            if let Some(pattern) = pattern.filter(|_| self.files.len() == before) {
                let text = format!("nothing in {} that could be sent matches {pattern}", path.display());
                return Err(Stop::new(Code::Usage, text));
            }
        } else if metadata.is_file() {
            let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !Globs::new(folder, None, wanted)?.allow(path, false) {
                self.leave_out(Reason::Unmatched, path);
            } else if metadata.len() > wanted.max_size {
                self.leave_out(Reason::TooLarge, path);
            } else {
                self.files.push(Source { path: plain(path), size: metadata.len() });
            }
        } else {
            return Err(Stop::new(Code::Usage, format!("{} is neither a file nor a folder", path.display())));
        }
        Ok(())
    }

    /// Looks through `root`, which may be a link; those in it are not followed.
    fn folder(&mut self, root: &Path, globs: &Globs, wanted: &Wanted) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut builder = WalkBuilder::new(root);
        builder.standard_filters(false).follow_links(false);
        if wanted.ignore_files == IgnoreFiles::Obeyed {
            builder
                .parents(true)
                .ignore(true)
                .git_ignore(true)
                .require_git(false)
                .add_custom_ignore_filename(IGNORE_FILE);
        }
        let (meeting, globs) = (Arc::clone(&seen), globs.clone());
        builder.filter_entry(move |entry| meeting.lock().unwrap_or_else(PoisonError::into_inner).take(entry, &globs));
        let mut folders = vec![];
        for entry in builder.build() {
            match entry {
                Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_dir()) || entry.depth() == 0 => {
                    folders.push(entry.into_path());
                }
                Ok(entry) => self.file(entry.path(), wanted),
                Err(error) => self.unreadable.push(told(root, error)),
            }
        }
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        for (reason, path) in &seen.left_out {
            self.leave_out(*reason, path);
        }
        if wanted.ignore_files == IgnoreFiles::Obeyed {
            self.ignored(&folders, &seen.met);
        }
    }

    /// What lies in these folders and was not met: ignore files keep it from being seen at all.
    fn ignored(&mut self, folders: &[PathBuf], met: &HashSet<PathBuf>) {
        // One that cannot be read was told before.
        for entry in folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
            let path = entry.path();
            if !met.contains(&path) {
                let reason = if is_hidden(&path) { Reason::Hidden } else { Reason::Ignored };
                self.leave_out(reason, &path);
            }
        }
    }

    fn file(&mut self, path: &Path, wanted: &Wanted) {
        match verdict(path, wanted.max_size) {
            Err(error) => self.unreadable.push((plain(path), error)),
            Ok((_, Some(reason))) => self.leave_out(reason, path),
            Ok((size, None)) => self.files.push(Source { path: plain(path), size }),
        }
    }

    fn leave_out(&mut self, reason: Reason, path: &Path) {
        self.left_out.entry(reason).or_default().push(plain(path));
    }
}

/// What a walk came across.
#[derive(Debug, Default)]
struct Seen {
    met: HashSet<PathBuf>,
    left_out: Vec<(Reason, PathBuf)>,
}

impl Seen {
    /// Whether to go on with this entry.
    fn take(&mut self, entry: &DirEntry, globs: &Globs) -> bool {
        let path = entry.path();
        self.met.insert(path.to_owned());
        let unwanted = unwanted(entry, globs);
        self.left_out.extend(unwanted.map(|reason| (reason, path.to_owned())));
        unwanted.is_none()
    }
}

/// Why an entry of a folder is left out, as far as that can be told without opening it.
fn unwanted(entry: &DirEntry, globs: &Globs) -> Option<Reason> {
    let (path, kind) = (entry.path(), entry.file_type()?);
    if is_hidden(path) {
        return Some(Reason::Hidden);
    }
    if kind.is_symlink() {
        return Some(Reason::SymbolicLink);
    }
    if kind.is_dir() && is_data_directory(path) {
        // Keys and passwords are in it, and what is taken in would be taken in again.
        return Some(Reason::DataDirectory);
    }
    if kind.is_dir() && is_machine_made(path) {
        return Some(Reason::MachineMade);
    }
    if !kind.is_dir() && !kind.is_file() {
        return Some(Reason::Special);
    }
    (!globs.allow(path, kind.is_dir())).then_some(Reason::Unmatched)
}

/// Which path cannot be read, and why.
fn told(root: &Path, error: ignore::Error) -> (PathBuf, io::Error) {
    let mut path = root.to_owned();
    let mut inner = &error;
    loop {
        inner = match inner {
            ignore::Error::WithPath { path: of, err } => {
                path.clone_from(of);
                err
            }
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => err,
            _ => break,
        };
    }
    let text = error.to_string();
    (plain(&path), error.into_io_error().unwrap_or_else(|| io::Error::other(text)))
}

/// A path without the `./` that says nothing.
fn plain(path: &Path) -> PathBuf {
    let plain = path.strip_prefix(".").ok().filter(|rest| !rest.as_os_str().is_empty());
    plain.unwrap_or(path).to_owned()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn is_data_directory(path: &Path) -> bool {
    matches!(DataDir::open(path, Mode::ReadOnly), Ok(_) | Err(data_dir::Error::Newer { .. }))
}

fn is_machine_made(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    MACHINE_MADE.iter().any(|made| name == *made) || path.join(CACHE_TAG).exists()
}

/// A file's size, and why it is left out if it is.
fn verdict(path: &Path, max_size: u64) -> io::Result<(u64, Option<Reason>)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok((size, Some(Reason::Empty)));
    }
    if size > max_size {
        return Ok((size, Some(Reason::TooLarge)));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let ends = |ending: &&str| name.strip_suffix(*ending).is_some_and(|stem| stem.ends_with('.'));
    if NO_DOCUMENT.iter().any(ends) && !DOCUMENT.iter().any(ends) {
        return Ok((size, Some(Reason::NoDocument)));
    }
    let mut head = Vec::with_capacity(SNIFFED);
    file.take(SNIFFED as u64).read_to_end(&mut head)?;
    let is_tar = head.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1));
    let readable = is_tar || READABLE.iter().chain(&UTF16).any(|magic| head.starts_with(magic));
    Ok((size, (!readable && head.contains(&0)).then_some(Reason::Binary)))
}
