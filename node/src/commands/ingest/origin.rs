//! Where a file comes from, in words that mean one file only: the machine and the whole path, as a `file` URL (RFC 8089). What
//! was named on the command line cannot be that: `docs/a.md` is another file in another folder.

use std::{
    fs,
    path::{Path, PathBuf, absolute},
};

use reqwest::Url;

use crate::exit::{Code, Stop};

/// What machines are called that have no name of their own.
const NAMELESS: [&str; 3] = ["", "localhost", "localhost.localdomain"];

/// The files of one machine.
#[derive(Debug, Clone)]
pub(super) struct Origins {
    /// `file://MACHINE/`
    root: Url,
}

impl Origins {
    /// Of the machine that is called this way, or of this one.
    ///
    /// # Errors
    /// [`Code::Usage`] when no machine can be called this way.
    pub(super) fn new(machine: Option<&str>) -> Result<Self, Stop> {
        let root = match machine {
            Some(name) => rooted(name).ok_or_else(|| {
                Stop::new(Code::Usage, format!("no files can come from {name:?}"))
                    .hint("--machine takes a name such as wiki or files.example.org")
            })?,
            None => own(&rustix::system::uname().nodename().to_string_lossy())?,
        };
        Ok(Self { root })
    }

    /// Of a file, whether it is there or not. A link is itself, not what it leads to; folders are what they lead to.
    pub(super) fn of_file(&self, path: &Path) -> Option<String> {
        let path = absolute(path).ok()?;
        self.named(&resolved(path.parent()?).join(path.file_name()?)).map(Into::into)
    }

    /// What the origins of all files below a folder begin with.
    pub(super) fn below(&self, folder: &Path) -> Option<String> {
        let mut text = String::from(self.named(&resolved(&absolute(folder).ok()?))?);
        if !text.ends_with('/') {
            text.push('/');
        }
        Some(text)
    }

    /// The path of a file of this machine.
    pub(super) fn path(&self, origin: &str) -> Option<PathBuf> {
        let rest = origin.strip_prefix(self.root.as_str())?;
        Url::parse(&format!("file:///{rest}")).ok()?.to_file_path().ok()
    }

    fn named(&self, path: &Path) -> Option<Url> {
        let mut url = Url::from_file_path(path).ok()?;
        url.set_host(self.root.host_str()).ok()?;
        Some(url)
    }
}

/// What the origins of a machine begin with; `None` when it can have no such name.
fn rooted(name: &str) -> Option<Url> {
    let root = Url::parse(&format!("file://{}/", name.trim())).ok()?;
    let is_name = !name.trim().is_empty() && root.path() == "/" && root.query().is_none() && root.fragment().is_none();
    is_name.then_some(root)
}

/// The same of this machine, whose name may be none that a URL takes: one of digits alone would be an address.
fn own(name: &str) -> Result<Url, Stop> {
    let name = name.trim();
    let root = rooted(name).or_else(|| rooted(&format!("host-{}", name.replace('.', "-"))));
    root.filter(|_| !NAMELESS.contains(&name)).ok_or_else(|| {
        let text = "this machine has no name of its own, so that its files could be taken for those of another";
        Stop::new(Code::Usage, text).hint("give it one with --machine NAME, always the same")
    })
}

/// A folder without links, as far as it is there.
fn resolved(folder: &Path) -> PathBuf {
    let real = folder.ancestors().find_map(|above| {
        let rest = folder.strip_prefix(above).ok()?;
        Some(fs::canonicalize(above).ok()?.join(rest))
    });
    real.unwrap_or_else(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_origin_however_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("kb")).unwrap();
        let odd = root.join("kb/50 % größer?#1.md");
        fs::write(&odd, "x").unwrap();
        let origins = Origins::new(Some("Wiki")).unwrap();
        let origin = origins.of_file(&odd).unwrap();
        assert!(origin.starts_with("file://wiki/") && origin.contains("/kb/50%20"));
        assert_eq!(origins.of_file(&root.join("kb/../kb/./50 % größer?#1.md")).as_ref(), Some(&origin));
        assert_eq!(origins.path(&origin), Some(odd.clone()));
        assert!(origin.starts_with(&origins.below(&root.join("kb")).unwrap()));
        assert!(!origin.starts_with(&origins.below(&root.join("k")).unwrap()), "another folder");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.join("kb"), root.join("link")).unwrap();
            assert_eq!(origins.of_file(&root.join("link/50 % größer?#1.md")).as_ref(), Some(&origin));
            assert_eq!(origins.below(&root.join("link")), origins.below(&root.join("kb")));
        }
        fs::remove_dir_all(root.join("kb")).unwrap();
        assert_eq!(origins.of_file(&odd), Some(origin.clone()), "one that is gone had the same");
        assert_eq!(Origins::new(Some("other")).unwrap().path(&origin), None, "a file of another machine");
    }

    #[test]
    fn a_machine_has_a_name() {
        for name in ["", " ", "a/b", "a b", "a?", "#", "x@y/z"] {
            assert!(Origins::new(Some(name)).is_err(), "{name:?}");
        }
        for (name, root) in
            [("web\n", "file://web/"), ("web.1", "file://host-web-1/"), ("123456789012", "file://host-123456789012/")]
        {
            assert_eq!(own(name).unwrap().as_str(), root, "{name:?}");
        }
        for name in ["", "\n", "localhost"] {
            assert_eq!(own(name).unwrap_err().code, Code::Usage, "{name:?}");
        }
        let origins = Origins::new(Some("here")).unwrap();
        let origin = origins.of_file(Path::new("a.md")).unwrap();
        assert_eq!(origins.path(&origin), Some(std::env::current_dir().unwrap().canonicalize().unwrap().join("a.md")));
    }
}
