//! Files inside a file: the members of an archive, the attachments of a mail. Each is read by its own format and becomes a
//! section of the one document, named by its path; what all of them may take together is bounded.

use std::{
    collections::BTreeMap,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
};

use lmao_events::Failure;

use super::{Extraction, Source, finish, one};
use crate::{
    ingest::detect::{HEAD_BYTES, detect},
    text::Builder,
};

/// Files within one, at whatever depth.
const MAX_MEMBERS: usize = 10_000;
/// Archives within archives.
const MAX_DEPTH: usize = 3;
/// Unpacked bytes of one member.
const MEMBER_BYTES: u64 = 256 << 20;
/// Unpacked bytes of all members that are read.
const TOTAL_BYTES: u64 = 2 << 30;
/// Unpacked bytes up to which nobody asks how small they were packed.
const FREE_BYTES: u64 = 32 << 20;
/// Unpacked bytes for each packed one above that. Text is seldom packed to less than a fiftieth.
const MAX_RATIO: u64 = 100;
/// Bytes of a member's path, as it is shown.
const MAX_PATH_BYTES: usize = 150;
/// Members whose own troubles are told.
const MAX_WARNINGS: usize = 50;

/// What the members of one file may still take.
#[derive(Debug)]
pub(super) struct Budget {
    members: usize,
    bytes: u64,
    depth: usize,
    /// Whether one of the limits was passed: then the whole file is refused, however deep it happened.
    over: bool,
}

impl Budget {
    /// That of a whole upload.
    pub(super) const fn new() -> Self {
        Self { members: MAX_MEMBERS, bytes: TOTAL_BYTES, depth: 0, over: false }
    }

    /// Counts a member, whether or not it is read.
    fn member(&mut self) -> Result<(), Failure> {
        if self.members == 0 {
            let text = format!("The archive has more than {MAX_MEMBERS} members. Split it, or upload its files.");
            return Err(self.refuse(text));
        }
        self.members -= 1;
        Ok(())
    }

    /// Counts bytes that a member unpacked to, and refuses more than are bearable for one packed so small.
    fn unpacked(&mut self, path: &str, bytes: u64, bearable: u64) -> Result<(), Failure> {
        if bytes > bearable.min(self.bytes) {
            return Err(self.refuse(format!(
                "The archive unpacks to far more than it should (at {path:?}; at most {} GiB in all, and {MAX_RATIO} times its \
                 packed size for a large member). Unpack it and upload the files.",
                TOTAL_BYTES >> 30
            )));
        }
        self.bytes -= bytes;
        Ok(())
    }

    fn refuse(&mut self, text: String) -> Failure {
        self.over = true;
        Failure::lasting("document_too_large", text)
    }
}

/// The members that are being gathered.
#[derive(Debug)]
pub(super) struct Members {
    /// What is written so far; what comes before the members goes here too.
    pub(super) builder: Builder,
    warnings: Vec<String>,
    untold: usize,
    /// Files that are no text, by what they are.
    left_out: BTreeMap<String, usize>,
}

impl Members {
    pub(super) const fn new(builder: Builder) -> Self {
        Self { builder, warnings: vec![], untold: 0, left_out: BTreeMap::new() }
    }

    /// Says what was lost.
    pub(super) fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        } else {
            self.untold += 1;
        }
    }

    /// Reads a member and writes it as a section; `packed` is how many bytes it takes where it lies. One that cannot be
    /// read costs its own text only.
    ///
    /// # Errors
    /// The archive as a whole takes too much.
    pub(super) fn read(
        &mut self,
        path: &str,
        packed: Option<u64>,
        content: &mut dyn Read,
        budget: &mut Budget,
    ) -> Result<(), Failure> {
        let path = shown(path);
        budget.member()?;
        if budget.depth > MAX_DEPTH {
            self.warn(format!("{path}: left out, it lies more than {MAX_DEPTH} archives deep"));
            return Ok(());
        }
        let mut bytes = vec![];
        if let Err(error) = content.take(HEAD_BYTES as u64).read_to_end(&mut bytes) {
            self.warn(format!("{path}: cannot be unpacked ({error})"));
            return Ok(());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        // What is no text is not unpacked any further.
        let format = match detect(&bytes, &path) {
            Ok(format) => format,
            Err(_) => {
                let kind = path.rsplit_once('.').map_or("without extension", |(_, extension)| extension);
                *self.left_out.entry(kind.to_lowercase()).or_default() += 1;
                return Ok(());
            }
        };
        let bearable = packed.map_or(u64::MAX, |packed| FREE_BYTES.max(packed.saturating_mul(MAX_RATIO)));
        let most = bearable.min(budget.bytes).min(MEMBER_BYTES).saturating_sub(bytes.len() as u64);
        let rest = content.take(most + 1).read_to_end(&mut bytes);
        budget.unpacked(&path, bytes.len() as u64, bearable)?;
        if let Err(error) = rest {
            self.warn(format!("{path}: cannot be unpacked ({error})"));
            return Ok(());
        }
        if bytes.len() as u64 > MEMBER_BYTES {
            self.warn(format!("{path}: left out, it has more than {} MiB", MEMBER_BYTES >> 20));
            return Ok(());
        }
        budget.depth += 1;
        // A parser that gives up on one member must not take the others with it.
        let found = catch_unwind(AssertUnwindSafe(|| one(format, &path, Source::Bytes(bytes), budget)));
        budget.depth -= 1;
        match found {
            Ok(Ok((_, found))) => self.add(&path, found),
            Ok(Err(failure)) if budget.over => return Err(failure),
            Ok(Err(failure)) => self.warn(format!("{path}: {}", failure.message)),
            Err(_) => self.warn(format!("{path}: its parser gave up on it, it is probably damaged")),
        }
        Ok(())
    }

    /// Writes a member that was read.
    fn add(&mut self, path: &str, found: Extraction) {
        found.warnings.into_iter().for_each(|warning| self.warn(format!("{path}: {warning}")));
        if !found.document.blocks.is_empty() {
            self.builder.append(1, path, &found.document);
        }
    }

    /// The document of all members.
    ///
    /// # Errors
    /// It has too much text.
    pub(super) fn finish(self) -> Result<Extraction, Failure> {
        let mut extraction = finish(self.builder, None, None)?;
        extraction.warnings = self.warnings;
        if self.untold > 0 {
            extraction.warnings.push(format!("{} more members have warnings", self.untold));
        }
        if !self.left_out.is_empty() {
            let count: usize = self.left_out.values().sum();
            let mut kinds: Vec<(String, usize)> = self.left_out.into_iter().collect();
            kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let kinds: Vec<_> = kinds.iter().take(10).map(|(kind, count)| format!("{count} {kind}")).collect();
            extraction.warnings.push(format!("{count} files in it are no text ({})", kinds.join(", ")));
        }
        Ok(extraction)
    }
}

/// A path as it is shown: cleaned, its end kept where it is too long.
pub(super) fn shown(path: &str) -> String {
    let path = crate::text::clean_prose(path);
    let path = path.trim_start_matches("./");
    let cut = path.ceil_char_boundary(path.len().saturating_sub(MAX_PATH_BYTES));
    path[cut..].to_owned()
}
