//! Which files of a folder are worth sending. A file that is named itself always is.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

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
    /// Where it is.
    pub path: PathBuf,
    /// Its path as seen from the folder that was named, `/` between the parts; its bare name if it was named itself.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// To be sent, in the order of their paths.
    pub files: Vec<Source>,
    /// How many were left out, by reason.
    pub left_out: BTreeMap<&'static str, usize>,
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
        let metadata = fs::metadata(path)
            .map_err(|error| Stop::new(Code::Usage, format!("{} cannot be read", path.display())).because(error))?;
        if metadata.is_dir() {
            found.folder(path);
        } else {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            found.files.push(Source { path: path.clone(), name, size: metadata.len() });
        }
    }
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    found.files.dedup_by(|a, b| a.path == b.path);
    Ok(found)
}

impl Walk {
    fn folder(&mut self, root: &Path) {
        let mut entries = WalkDir::new(root).follow_links(false).into_iter();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let path = error.path().unwrap_or(root).to_owned();
                    self.unreadable.push((path, error.into()));
                    continue;
                }
            };
            if entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.') {
                self.leave_out("hidden");
                skip(&mut entries, &entry);
            } else if entry.depth() > 0 && entry.file_type().is_dir() && is_machine_made(&entry) {
                self.leave_out("made by a program");
                skip(&mut entries, &entry);
            } else if entry.path_is_symlink() && entry.depth() > 0 {
                self.leave_out("symbolic link");
            } else if entry.file_type().is_file() {
                self.file(root, &entry);
            } else if !entry.file_type().is_dir() {
                self.leave_out("no regular file");
            }
        }
    }

    fn file(&mut self, root: &Path, entry: &DirEntry) {
        let path = entry.path();
        match verdict(path) {
            Err(error) => self.unreadable.push((path.to_owned(), error)),
            Ok((_, Some(reason))) => self.leave_out(reason),
            Ok((size, None)) => {
                let relative = path.strip_prefix(root).unwrap_or(path);
                let parts = relative.iter().map(|part| part.to_string_lossy());
                let name = parts.collect::<Vec<_>>().join("/");
                self.files.push(Source { path: path.to_owned(), name, size });
            }
        }
    }

    fn leave_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }
}

fn skip(entries: &mut walkdir::IntoIter, entry: &DirEntry) {
    if entry.file_type().is_dir() {
        entries.skip_current_dir();
    }
}

fn is_machine_made(entry: &DirEntry) -> bool {
    MACHINE_MADE.iter().any(|name| entry.file_name() == *name) || entry.path().join(CACHE_TAG).exists()
}

/// A file's size, and why it is left out if it is.
fn verdict(path: &Path) -> io::Result<(u64, Option<&'static str>)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok((size, Some("empty")));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if NO_DOCUMENT.iter().any(|ending| name.strip_suffix(ending).is_some_and(|stem| stem.ends_with('.'))) {
        return Ok((size, Some("no document")));
    }
    let mut head = Vec::with_capacity(SNIFFED);
    file.take(SNIFFED as u64).read_to_end(&mut head)?;
    let readable = READABLE.iter().chain(&UTF16).any(|magic| head.starts_with(magic));
    Ok((size, (!readable && head.contains(&0)).then_some("binary")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(walk: &Walk) -> Vec<&str> {
        walk.files.iter().map(|file| file.name.as_str()).collect()
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
        let found = walk(&[folder.path().to_owned()]).unwrap();
        assert_eq!(names(&found), ["a.txt", "b/two.md", "paper.pdf", "utf16.txt"]);
        let expected = [("binary", 1), ("empty", 1), ("hidden", 2), ("made by a program", 2), ("no document", 1)];
        let mut expected: BTreeMap<&str, usize> = expected.into();
        if cfg!(unix) {
            expected.insert("symbolic link", 1);
        }
        assert_eq!(found.left_out, expected);
    }

    #[test]
    fn what_is_named_is_sent_once_and_what_is_missing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".hidden.bin");
        fs::write(&path, [0, 1, 2]).unwrap();
        let found = walk(&[path.clone(), path]).unwrap();
        assert_eq!(names(&found), [".hidden.bin"]);
        assert_eq!(walk(&[folder.path().join("nothing")]).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn a_hidden_folder_that_is_named_is_looked_through() {
        let folder = tempfile::tempdir().unwrap();
        let hidden = folder.path().join(".notes");
        fs::create_dir(&hidden).unwrap();
        fs::write(hidden.join("a.md"), "a").unwrap();
        assert_eq!(names(&walk(&[hidden]).unwrap()), ["a.md"]);
    }
}
