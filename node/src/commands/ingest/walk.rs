//! Which files of a folder are worth sending. A file that is named itself always is, unless it is one of our own stores.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use lmao_adapters::data_dir::{self, DataDir, Mode};
use serde::Serialize;
use walkdir::{DirEntry, WalkDir};

use crate::exit::{Code, Stop};

/// Bytes at the beginning of a file that tell text from other things.
const SNIFFED: usize = 4096;
/// Folders of programs, full of files that nobody wrote.
const MACHINE_MADE: [&str; 4] = ["node_modules", "__pycache__", "site-packages", "venv"];
/// A folder with this file in it can be made again (bford.info/cachedir).
const CACHE_TAG: &str = "CACHEDIR.TAG";
/// Formats with NUL bytes in them that the server can read.
const READABLE: [&[u8]; 3] = [b"%PDF-", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"];
/// Byte order marks of UTF-16.
const UTF16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];
/// Text by its bytes, but not by its purpose; and archives that begin like an office document.
const NO_DOCUMENT: [&str; 17] = [
    "svg", "map", "lock", "min.js", "min.css", "woff", "woff2", "jar", "zip", "apk", "whl", "crate", "gz", "xz", "zst",
    "png", "jpg",
];

/// A file to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Where it is, in the words of the command line: below the folder that was named, as that was named.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
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
    Empty,
    NoDocument,
    Binary,
}

impl Reason {
    /// For people: it was left out as …
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::DataDirectory => "data directory",
            Self::MachineMade => "made by a program",
            Self::SymbolicLink => "symbolic link",
            Self::Special => "special file",
            Self::Empty => "empty",
            Self::NoDocument => "no document by its name",
            Self::Binary => "binary",
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// To be sent, in the order of their paths.
    pub files: Vec<Source>,
    /// What was left out, a folder with all that is in it.
    pub left_out: BTreeMap<Reason, Vec<PathBuf>>,
    /// What could not be looked at, and why.
    pub unreadable: Vec<(PathBuf, io::Error)>,
}

/// Looks through `paths`.
///
/// # Errors
/// [`Code::Usage`] when one of them does not exist: a slip of the pen is told before anything is sent.
pub(crate) fn walk(paths: &[PathBuf]) -> Result<Walk, Stop> {
    let mut found = Walk::default();
    for path in paths {
        let unreadable = |error| Stop::new(Code::Usage, format!("{} cannot be read", path.display())).because(error);
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if fs::canonicalize(path).map_err(unreadable)?.ancestors().any(is_data_directory) {
            // `lmao-data/*`, or by a link: what is meant is the same.
            found.leave_out(Reason::DataDirectory, path);
        } else if metadata.is_dir() {
            found.folder(path);
        } else if metadata.is_file() {
            found.files.push(Source { path: plain(path), size: metadata.len() });
        } else {
            return Err(Stop::new(Code::Usage, format!("{} is neither a file nor a folder", path.display())));
        }
    }
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    found.files.dedup_by(|a, b| a.path == b.path);
    Ok(found)
}

impl Walk {
    /// Looks through `root`, which may be a link; those in it are not followed.
    fn folder(&mut self, root: &Path) {
        let mut entries = WalkDir::new(root).min_depth(1).into_iter();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let path = error.path().unwrap_or(root).to_owned();
                    self.unreadable.push((path, error.into()));
                    continue;
                }
            };
            let kind = entry.file_type();
            let unwanted = if entry.file_name().to_string_lossy().starts_with('.') {
                Some(Reason::Hidden)
            } else if kind.is_dir() && is_data_directory(entry.path()) {
                // Keys and passwords are in it, and what is taken in would be taken in again.
                Some(Reason::DataDirectory)
            } else if kind.is_dir() && is_machine_made(&entry) {
                Some(Reason::MachineMade)
            } else if kind.is_symlink() {
                Some(Reason::SymbolicLink)
            } else if kind.is_dir() || kind.is_file() {
                None
            } else {
                Some(Reason::Special)
            };
            match unwanted {
                Some(reason) => {
                    self.leave_out(reason, entry.path());
                    if kind.is_dir() {
                        entries.skip_current_dir();
                    }
                }
                None if kind.is_file() => self.file(entry.path()),
                None => {}
            }
        }
    }

    fn file(&mut self, path: &Path) {
        match verdict(path) {
            Err(error) => self.unreadable.push((plain(path), error)),
            Ok((_, Some(reason))) => self.leave_out(reason, path),
            Ok((size, None)) => self.files.push(Source { path: plain(path), size }),
        }
    }

    fn leave_out(&mut self, reason: Reason, path: &Path) {
        self.left_out.entry(reason).or_default().push(plain(path));
    }
}

/// A path without the `./` that says nothing.
fn plain(path: &Path) -> PathBuf {
    let plain = path.strip_prefix(".").ok().filter(|rest| !rest.as_os_str().is_empty());
    plain.unwrap_or(path).to_owned()
}

fn is_data_directory(path: &Path) -> bool {
    matches!(DataDir::open(path, Mode::ReadOnly), Ok(_) | Err(data_dir::Error::Newer { .. }))
}

fn is_machine_made(entry: &DirEntry) -> bool {
    MACHINE_MADE.iter().any(|name| entry.file_name() == *name) || entry.path().join(CACHE_TAG).exists()
}

/// A file's size, and why it is left out if it is.
fn verdict(path: &Path) -> io::Result<(u64, Option<Reason>)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok((size, Some(Reason::Empty)));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if NO_DOCUMENT.iter().any(|ending| name.strip_suffix(ending).is_some_and(|stem| stem.ends_with('.'))) {
        return Ok((size, Some(Reason::NoDocument)));
    }
    let mut head = Vec::with_capacity(SNIFFED);
    file.take(SNIFFED as u64).read_to_end(&mut head)?;
    let readable = READABLE.iter().chain(&UTF16).any(|magic| head.starts_with(magic));
    Ok((size, (!readable && head.contains(&0)).then_some(Reason::Binary)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is below `folder`, as seen from there.
    fn below(folder: &Path, paths: impl IntoIterator<Item = PathBuf>) -> Vec<String> {
        paths.into_iter().map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()).collect()
    }

    fn sent(folder: &Path, walk: Walk) -> Vec<String> {
        below(folder, walk.files.into_iter().map(|file| file.path))
    }

    #[test]
    fn a_folder_gives_its_documents_and_says_what_it_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("b/two.md", b"# Two");
        write("a.txt", b"one");
        write("paper.pdf", b"%PDF-1.7\n\x00\x01");
        write("utf16.txt", b"\xff\xfea\x00");
        write("program", b"\x7fELF\x00\x00");
        write("logo.svg", b"<svg/>");
        write("empty.md", b"");
        write(".git/config", b"[core]");
        write(".env", b"SECRET=1");
        write("node_modules/x/readme.md", b"x");
        write("target/CACHEDIR.TAG", b"Signature");
        write("target/doc/x.html", b"<p>");
        #[cfg(unix)]
        std::os::unix::fs::symlink("a.txt", folder.path().join("link.txt")).unwrap();
        let mut found = walk(&[folder.path().to_owned()]).unwrap();
        let mut left_out = |reason| {
            let mut paths = below(folder.path(), found.left_out.remove(&reason).unwrap_or_default());
            paths.sort();
            paths
        };
        assert_eq!(left_out(Reason::Hidden), [".env", ".git"]);
        assert_eq!(left_out(Reason::MachineMade), ["node_modules", "target"]);
        assert_eq!(left_out(Reason::Empty), ["empty.md"]);
        assert_eq!(left_out(Reason::NoDocument), ["logo.svg"]);
        assert_eq!(left_out(Reason::Binary), ["program"]);
        #[cfg(unix)]
        assert_eq!(left_out(Reason::SymbolicLink), ["link.txt"]);
        assert!(found.left_out.is_empty(), "{found:?}");
        assert_eq!(sent(folder.path(), found), ["a.txt", "b/two.md", "paper.pdf", "utf16.txt"]);
    }

    #[test]
    fn a_path_is_the_one_that_was_named_without_ornament() {
        for (given, kept) in [("./a/b.md", "a/b.md"), ("../b.md", "../b.md"), ("/a/b.md", "/a/b.md"), (".", ".")] {
            assert_eq!(plain(Path::new(given)), Path::new(kept));
        }
    }

    #[test]
    fn keys_and_passwords_are_not_sent_even_if_their_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("lmao-data");
        drop(DataDir::open(&data, Mode::Exclusive).unwrap());
        fs::write(data.join("admin-password"), "secret").unwrap();
        fs::write(folder.path().join("a.md"), "a").unwrap();
        for path in [folder.path(), &data] {
            let found = walk(&[path.to_owned()]).unwrap();
            assert_eq!(found.left_out[&Reason::DataDirectory], [data.as_path()]);
            assert!(found.files.iter().all(|file| file.name() == "a.md"), "{found:?}");
        }
        // File by file, as a shell writes `lmao-data/*` out, and a folder in it.
        let parts = [data.join("admin-password"), data.join("format"), data.join("blobs")];
        fs::create_dir(&parts[2]).unwrap();
        fs::write(parts[2].join("text"), "a").unwrap();
        let found = walk(&parts).unwrap();
        assert_eq!((&found.left_out[&Reason::DataDirectory], found.files), (&parts.to_vec(), vec![]));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_is_named_is_followed_but_not_to_keys_and_passwords() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        drop(DataDir::open(&path("data"), Mode::Exclusive).unwrap());
        fs::write(path("data/admin-password"), "secret").unwrap();
        fs::create_dir(path("texts")).unwrap();
        fs::write(path("texts/a.md"), "a").unwrap();
        for (link, to) in [("docs", "texts"), ("link", "data"), ("word", "data/admin-password"), ("texts/in", "data")] {
            symlink(path(to), path(link)).unwrap();
        }
        let found = walk(&[path("docs")]).unwrap();
        assert_eq!(found.left_out, [(Reason::SymbolicLink, vec![path("docs/in")])].into());
        assert_eq!(sent(folder.path(), found), ["docs/a.md"]);
        for named in ["link", "word", "docs/in", "link/admin-password"] {
            let found = walk(&[path(named)]).unwrap();
            assert_eq!(found.left_out, [(Reason::DataDirectory, vec![path(named)])].into());
            assert_eq!(found.files, []);
        }
    }

    #[test]
    fn what_is_named_is_sent_once_and_what_is_missing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".hidden.bin");
        fs::write(&path, [0, 1, 2]).unwrap();
        let found = walk(&[path.clone(), path]).unwrap();
        assert_eq!(sent(folder.path(), found), [".hidden.bin"]);
        assert_eq!(walk(&[folder.path().join("nothing")]).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn a_hidden_folder_that_is_named_is_looked_through() {
        let folder = tempfile::tempdir().unwrap();
        let hidden = folder.path().join(".notes");
        fs::create_dir(&hidden).unwrap();
        fs::write(hidden.join("a.md"), "a").unwrap();
        assert_eq!(sent(&hidden, walk(std::slice::from_ref(&hidden)).unwrap()), ["a.md"]);
    }
}
