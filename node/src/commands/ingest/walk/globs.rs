//! Patterns of names: which files of a folder are asked for. They follow the rules of `.gitignore`: one without a slash holds
//! at any depth.

use std::path::{Path, PathBuf};

use ignore::{
    Match,
    overrides::{Override, OverrideBuilder},
};

use super::Wanted;
use crate::exit::{Code, Stop};

/// What makes a name a pattern.
const SIGNS: [char; 4] = ['*', '?', '[', '{'];

/// The patterns that hold in one folder.
#[derive(Debug, Clone)]
pub(super) struct Globs {
    asked: Override,
    /// Of the command line's path, if that is one.
    pattern: Override,
}

impl Globs {
    /// Those for what is below `root`; `pattern` is relative to it.
    ///
    /// # Errors
    /// [`Code::Usage`] when one makes no sense.
    pub(super) fn new(root: &Path, pattern: Option<&str>, wanted: &Wanted) -> Result<Self, Stop> {
        let excluded: Vec<String> = wanted.exclude.iter().map(|glob| format!("!{glob}")).collect();
        let asked = matcher(root, wanted.include.iter().chain(&excluded))?;
        let pattern = pattern.map(|pattern| format!("/{pattern}"));
        Ok(Self { asked, pattern: matcher(root, pattern.iter())? })
    }

    /// Whether this is asked for. A folder is, unless it is excluded: what is asked for may lie in it.
    pub(super) fn allow(&self, path: &Path, is_dir: bool) -> bool {
        [&self.asked, &self.pattern].into_iter().all(|globs| !matches!(globs.matched(path, is_dir), Match::Ignore(_)))
    }
}

fn matcher<'a>(root: &Path, globs: impl Iterator<Item = &'a String>) -> Result<Override, Stop> {
    let mut builder = OverrideBuilder::new(root);
    let wrong = |error: ignore::Error| Stop::new(Code::Usage, "a pattern makes no sense").because(error);
    for glob in globs {
        builder.add(glob).map_err(wrong)?;
    }
    builder.build().map_err(wrong)
}

/// A path with a pattern in it, as the folder to look in and the pattern below it; `None` for a plain path.
pub(super) fn split(path: &Path) -> Option<(PathBuf, String)> {
    let parts: Vec<_> = path.components().collect();
    let is_pattern = |part: &std::path::Component<'_>| part.as_os_str().to_string_lossy().contains(SIGNS);
    let first = parts.iter().position(is_pattern)?;
    let root: PathBuf = parts[..first].iter().collect();
    let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
    let pattern: PathBuf = parts[first..].iter().collect();
    Some((root, pattern.to_str()?.to_owned()))
}
