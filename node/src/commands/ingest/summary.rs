//! How it went, file by file: enough for a person, all of it for a program.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    obsolete::Pruned,
    walk::{Reason, Source, Walk},
};
use crate::{
    exit::Stop,
    output::{Ink, Output, bytes, count, plain, shorten},
};

/// Files left out for one reason that are named unless all are wanted.
const NAMED: usize = 3;
/// Characters of a failure's message that are shown.
const SHOWN: usize = 160;

/// A file that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Failed {
    pub path: String,
    pub document_id: Option<Uuid>,
    pub reason: String,
    pub message: String,
    /// The document that holds what the file held before is there, and stays.
    pub older_stays: bool,
}

/// How it went altogether.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Files that can be found now.
    pub ready: usize,
    /// Files that were there before.
    pub duplicate: usize,
    pub failed: Vec<Failed>,
    /// Older versions of the files that were deleted.
    pub replaced: usize,
    /// Documents that were deleted because their file is gone.
    pub pruned: Vec<Pruned>,
    /// Documents that should have been deleted, and are still there.
    pub undeleted: Vec<Failed>,
    /// Paths in the folders that were not sent; a folder stands for all that is in it.
    left_out: BTreeMap<Reason, Vec<String>>,
    /// Files that were not sent, or not followed to their end.
    pub remaining: usize,
    pub seconds: f64,
    pub interrupted: bool,
}

impl Summary {
    /// Before anything was sent.
    pub(super) fn new(found: &Walk) -> Self {
        let unreadable = found.unreadable.iter().map(|(path, error)| Failed {
            path: shown(path),
            document_id: None,
            reason: "unreadable".to_owned(),
            message: error.to_string(),
            older_stays: false,
        });
        let left_out =
            found.left_out.iter().map(|(reason, paths)| (*reason, paths.iter().map(|path| shown(path)).collect()));
        Self {
            failed: unreadable.collect(),
            left_out: left_out.collect(),
            remaining: found.files.len(),
            ..Self::default()
        }
    }

    /// A file could not be taken in, and there is an older version of it.
    pub(super) fn stays(&mut self, path: &str) {
        self.failed.iter_mut().filter(|failed| failed.path == path).for_each(|failed| failed.older_stays = true);
    }

    /// Prints what would be sent and deleted, and what would not.
    pub(super) fn foretell(
        &self,
        out: Output,
        files: &[Source],
        pruned: Option<&[Pruned]>,
        verbose: bool,
    ) -> Result<(), Stop> {
        let total: u64 = files.iter().map(|file| file.size).sum();
        if out.is_json() {
            let Self { failed, left_out, .. } = self;
            return out.json(&json!({
                "would_send": files, "bytes": total, "would_prune": pruned.unwrap_or_default(), "failed": failed,
                "left_out": left_out,
            }));
        }
        for Source { path, size } in files {
            out.line(format!("{:>10}  {}", bytes(*size), plain(&shown(path))))?;
        }
        for Pruned { path, document_id } in pruned.unwrap_or_default() {
            out.line(format!("    delete  {}  ({document_id})", plain(path)))?;
        }
        self.print_rest(out, verbose)?;
        out.line(format!("{}, {}, would be sent", count(files.len() as u64, "file"), bytes(total)))?;
        match pruned {
            Some(pruned) => out.line(format!("{} would be deleted", count(pruned.len() as u64, "document"))),
            None => Ok(()),
        }
    }

    /// Prints it; `verbose` names everything that was left out.
    pub(super) fn print(&self, out: Output, verbose: bool) -> Result<(), Stop> {
        if out.is_json() {
            return out.json(self);
        }
        self.print_rest(out, verbose)?;
        out.line(self.counts())
    }

    /// Failures, and what was left out.
    fn print_rest(&self, out: Output, verbose: bool) -> Result<(), Stop> {
        for (failed, what) in [(&self.failed, "failed"), (&self.undeleted, "not deleted")] {
            if !failed.is_empty() {
                out.line(out.paint(Ink::Red, what))?;
            }
            for Failed { path, reason, message, older_stays, .. } in failed {
                let why = shorten(if message.is_empty() { reason } else { message }, SHOWN);
                let older = if *older_stays { "; the version before it stays" } else { "" };
                out.line(format!("  {}  {why}{older}", plain(path)))?;
            }
        }
        for Pruned { path, document_id } in &self.pruned {
            out.line(out.paint(Ink::Dim, &format!("deleted: {} ({document_id})", plain(path))))?;
        }
        for line in self.left_out(verbose) {
            out.line(out.paint(Ink::Dim, &line))?;
        }
        Ok(())
    }

    /// A line for each reason, with the first few paths or, line by line, all of them.
    fn left_out(&self, verbose: bool) -> Vec<String> {
        let mut lines = vec![];
        for (reason, paths) in &self.left_out {
            let head = format!("left out as {}: {}", reason.words(), paths.len());
            let mut names = paths.iter().map(|path| plain(path));
            if verbose {
                lines.push(head);
                lines.extend(names.map(|name| format!("  {name}")));
                continue;
            }
            let first = names.by_ref().take(NAMED).collect::<Vec<_>>().join(", ");
            lines.push(match names.count() {
                0 => format!("{head} ({first})"),
                more => format!("{head} ({first} and {more} more; -v names all)"),
            });
        }
        lines
    }

    fn counts(&self) -> String {
        let Self { ready, duplicate, failed, replaced, pruned, undeleted, remaining, seconds, interrupted, .. } = self;
        let mut ended = format!("{ready} ready, {duplicate} there before, {} failed", failed.len());
        for (count, what) in [(*replaced, "replaced"), (pruned.len(), "pruned"), (undeleted.len(), "not deleted")] {
            if count > 0 {
                ended.push_str(&format!(", {count} {what}"));
            }
        }
        let ended = format!("{ended}, in {seconds:.1} s");
        match (interrupted, remaining) {
            (_, 0) => ended,
            (true, _) => format!("{ended}\ninterrupted: {remaining} remain; the same command goes on from here"),
            (false, _) => format!("{ended}\n{remaining} remain; the same command goes on from here"),
        }
    }
}

/// A path as text, whatever its bytes.
pub(super) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn lines(summary: &Summary, verbose: bool) -> String {
        [summary.left_out(verbose), vec![summary.counts()]].concat().join("\n")
    }

    #[test]
    fn it_says_what_was_left_out_and_what_remains() {
        let paths = |names: &str| names.split(' ').map(Into::into).collect::<Vec<_>>();
        let found = Walk {
            left_out: [(Reason::Binary, paths("a.o b.o c.o d.o")), (Reason::Hidden, paths(".git"))].into(),
            ..Walk::default()
        };
        let mut summary = Summary { ready: 2, remaining: 3, seconds: 1.25, ..Summary::new(&found) };
        expect![[r"
            left out as hidden: 1 (.git)
            left out as binary: 4 (a.o, b.o, c.o and 1 more; -v names all)
            2 ready, 0 there before, 0 failed, in 1.2 s
            3 remain; the same command goes on from here"]]
        .assert_eq(&lines(&summary, false));
        summary.interrupted = true;
        summary.replaced = 1;
        expect![[r"
            left out as hidden: 1
              .git
            left out as binary: 4
              a.o
              b.o
              c.o
              d.o
            2 ready, 0 there before, 0 failed, 1 replaced, in 1.2 s
            interrupted: 3 remain; the same command goes on from here"]]
        .assert_eq(&lines(&summary, true));
    }
}
