//! The programs in a document: what is parsed elsewhere, before the document is cut.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Nature, Syntax, code::is_parsable};
use crate::text::{Block, Kind, TextDocument};

/// Bytes of all programs of a document that are parsed; the rest is cut between lines. A thousand long files of source.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// What a program takes beside its text, so that a million tiny ones are no way around that.
const OVERHEAD_BYTES: usize = 128;

/// A program to be parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct Program {
    /// Where it begins in its document.
    pub(in crate::ingest) start: usize,
    pub(in crate::ingest) language: String,
    pub(in crate::ingest) text: String,
}

/// What parsing told of the programs of a document, by where they begin.
pub(in crate::ingest) type Syntaxes = HashMap<usize, Syntax>;

/// The programs of a document that parsing may tell anything of, in their order.
pub(in crate::ingest) fn programs(document: &TextDocument, nature: Nature<'_>) -> Vec<Program> {
    let mut left = MAX_BYTES;
    let program = |stretch: &[Block]| {
        let (first, last) = (stretch.first()?, stretch.last()?);
        let language = code_language(first, nature)?;
        let text = document.text.get(first.start..last.end).filter(|text| is_parsable(text, language))?;
        left = left.checked_sub(text.len() + OVERHEAD_BYTES)?;
        Some(Program { start: first.start, language: language.to_owned(), text: text.to_owned() })
    };
    sections(document).flat_map(|section| stretches(section, nature)).filter_map(program).collect()
}

/// Blocks of one section in a row, for the whole document.
pub(super) fn sections(document: &TextDocument) -> impl Iterator<Item = &[Block]> {
    document.blocks.chunk_by(|one, next| one.section == next.section)
}

/// Blocks of one programming language in a row, which are one program, and those in between.
pub(super) fn stretches<'a>(section: &'a [Block], nature: Nature<'a>) -> impl Iterator<Item = &'a [Block]> {
    section.chunk_by(move |one, next| code_language(one, nature) == code_language(next, nature))
}

/// The programming language of a block, if it is code and that is known.
pub(super) fn code_language<'a>(block: &'a Block, nature: Nature<'a>) -> Option<&'a str> {
    (block.kind == Kind::Code).then(|| block.language.as_deref().or(nature.language)).flatten()
}
