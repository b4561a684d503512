//! From the text of a document to passages: contiguous, in order, each of one section, each short enough for the model; and
//! from passages to the runs of them that give context.
//!
//! Paragraphs are packed up to a target, since a passage of one sentence matches too much and a whole chapter matches
//! nothing. What is too long by itself is split at its own seams: prose between sentences, tables between rows, programs by
//! their syntax tree. Each section is cut on its own, and in long ones the content says where, so that a change here leaves the
//! passages there as they were.

mod code;
mod outline;
mod pack;
mod parents;
mod programs;
mod sizer;
mod split;

use lmao_ports::TokenSpan;

pub(super) use code::{Syntax, parse};
use outline::Outline;
use pack::Packer;
pub(super) use parents::{Run, parents};
pub(super) use programs::{Program, Syntaxes, programs};
use programs::{code_language, sections, stretches};
pub(super) use sizer::{Reader, Sizer};
use split::Cut;

use crate::text::{Block, Kind, TextDocument, mark};

/// Tokens that a passage aims at: about 150 words of English, which held the best recall per passage in most studies of
/// paragraph retrieval and leaves room for the headings.
const TARGET: usize = 220;
/// Tokens of a passage at most, whatever the model reads: longer ones dilute their vector.
const MAX: usize = 400;
/// A passage of fewer tokens than this joins its neighbour where it may.
const TINY: usize = 40;
/// Tokens that the second part of a split paragraph repeats of the first, at most, and only a whole sentence.
const OVERLAP: usize = 40;
/// Pieces of a section from which on its content says where passages begin: in a shorter one a change moves few of them.
const LONG_SECTION: usize = 24;

/// How long passages may be, in tokens of their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Aimed at.
    pub(super) target: usize,
    /// Never exceeded.
    pub(super) max: usize,
}

impl Budget {
    /// For a model that reads this many tokens of a passage's content.
    pub(super) fn for_model(reads: usize) -> Self {
        let max = reads.clamp(16, MAX);
        Self { target: TARGET.min(max), max }
    }
}

/// What a passage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkType {
    Prose,
    Heading,
    List,
    Table,
    Code,
    /// Code, and words about it.
    Mixed,
    /// Of a mail's own text.
    Message,
}

impl ChunkType {
    /// As search filters name it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Prose => "prose",
            Self::Heading => "heading",
            Self::List => "list",
            Self::Table => "table",
            Self::Code => "code",
            Self::Mixed => "mixed",
            Self::Message => "message",
        }
    }
}

/// A passage: a byte range of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span<'a> {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) tokens: usize,
    pub(super) kind: ChunkType,
    /// The section of the [`Outline`] that all of it lies in.
    pub(super) section: Option<u32>,
    /// That section, or the one that it lies in where it is the passage's own: a function's.
    home: Option<u32>,
    /// The language that it is programmed in.
    pub(super) language: Option<&'a str>,
}

/// A document that has been cut.
#[derive(Debug)]
pub(super) struct Passages<'a> {
    pub(super) spans: Vec<Span<'a>>,
    pub(super) outline: Outline,
}

/// What is known of a document beside its text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nature<'a> {
    /// The programming language of all code that does not say its own.
    pub(super) language: Option<&'a str>,
    /// Whether it is a mail.
    pub(super) is_mail: bool,
}

/// Cuts a document; `None` when there are more than `limit` passages, hardly any more of which are made then. Takes time in
/// proportion to the text. Programs that `syntaxes` has nothing fitting of are cut between lines.
pub(super) fn cut<'a>(
    document: &'a TextDocument,
    sizer: &Sizer,
    nature: Nature<'a>,
    syntaxes: &Syntaxes,
    limit: usize,
) -> Option<Passages<'a>> {
    let packer = Packer::new(document, sizer, Outline::of(document), nature);
    let mut cutter = Cutter { document, sizer, nature, syntaxes, limit, packer, table: None };
    // Each section is cut on its own.
    for section in sections(document) {
        cutter.section(section);
        if cutter.is_full() {
            return None;
        }
    }
    let passages = cutter.packer.finish();
    (passages.spans.len() <= limit).then_some(passages)
}

/// A block, or a part of one that is too long.
#[derive(Debug, Clone)]
struct Piece<'a> {
    start: usize,
    end: usize,
    tokens: usize,
    kind: Kind,
    section: Option<u32>,
    /// Where a passage that begins with this piece may begin instead, to repeat the sentence before, and its tokens then.
    overlap: Option<(usize, usize)>,
    language: Option<&'a str>,
    /// The function or type that this is: the section of a passage that is nothing else.
    label: Option<String>,
    /// Whether a passage begins here unless there is hardly anything above, wherever the one before began.
    anchor: bool,
}

#[derive(Debug)]
struct Cutter<'a, 'b> {
    document: &'a TextDocument,
    sizer: &'b Sizer,
    nature: Nature<'a>,
    syntaxes: &'b Syntaxes,
    /// Passages at most.
    limit: usize,
    packer: Packer<'a, 'b>,
    /// The section of the last table's rows, and where its last block ended.
    table: Option<(Option<u32>, usize)>,
}

impl<'a> Cutter<'a, '_> {
    /// Blocks of one section in a row, until there are too many passages.
    fn section(&mut self, blocks: &'a [Block]) {
        let long = blocks.len() >= LONG_SECTION;
        for stretch in stretches(blocks, self.nature) {
            if self.is_full() {
                return;
            }
            let language = stretch.first().and_then(|block| code_language(block, self.nature));
            if language.is_some_and(|language| self.code(stretch, language)) {
                continue;
            }
            for block in stretch {
                if self.is_full() {
                    return;
                }
                self.block(block, language, long);
            }
        }
    }

    /// Whether there are too many passages already.
    fn is_full(&self) -> bool {
        self.packer.len() > self.limit
    }

    /// Blocks of one program, by its syntax; `false` where that is not to be had.
    fn code(&mut self, blocks: &'a [Block], language: &'a str) -> bool {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return true };
        let text = &self.document.text[first.start..last.end];
        let Some(syntax) = self.syntaxes.get(&first.start).filter(|syntax| syntax.covers(text)) else { return false };
        let mut tokens: Vec<TokenSpan> = vec![];
        for block in blocks {
            let offset = block.start - first.start;
            let of_block = self.sizer.tokens(self.document.slice(block)).into_iter();
            tokens.extend(of_block.map(|token| TokenSpan { start: token.start + offset, end: token.end + offset }));
        }
        let source = code::Source { text, tokens: &tokens, section: first.section, budget: self.sizer.budget() };
        let units = code::units(syntax, &source, self.packer.outline_mut());
        let long = units.len() >= LONG_SECTION;
        for unit in units {
            if self.is_full() {
                break;
            }
            let anchor = long && self.is_anchor(&text[unit.start..unit.end], unit.tokens);
            self.packer.add(Piece {
                start: first.start + unit.start,
                end: first.start + unit.end,
                tokens: unit.tokens,
                kind: Kind::Code,
                section: unit.section,
                overlap: None,
                language: Some(language),
                label: unit.label,
                anchor,
            });
        }
        true
    }

    /// A block, split where it is too long.
    fn block(&mut self, block: &'a Block, language: Option<&'a str>, long: bool) {
        let text = self.document.slice(block);
        let cuts = split::split(text, &self.sizer.tokens(text), block.kind, self.sizer.budget());
        let section = self.section_of(block, text, cuts.len());
        for Cut { start, end, tokens, overlap } in cuts {
            let anchor = long && self.is_anchor(&text[start..end], tokens);
            self.packer.add(Piece {
                start: block.start + start,
                end: block.start + end,
                tokens,
                kind: block.kind,
                section,
                overlap: overlap.map(|(start, tokens)| (block.start + start, tokens)),
                language,
                label: None,
                anchor,
            });
        }
    }

    /// The section of a block's passages: that of its rows for a table in parts, whose columns only its head names.
    fn section_of(&mut self, block: &Block, text: &str, parts: usize) -> Option<u32> {
        if block.kind != Kind::Table {
            return block.section;
        }
        // What was too long for one block goes on in the next, on the next line.
        let before = self.table.filter(|(_, end)| self.document.text.get(*end..block.start) == Some("\n"));
        let section = match before {
            Some((section, _)) => section,
            None if parts > 1 => {
                let head = text.lines().next().unwrap_or_default();
                let head = head.trim_start_matches("| ").trim_end_matches(" |");
                Some(self.packer.outline_mut().child(block.section, head))
            }
            None => block.section,
        };
        self.table = Some((section, block.end));
        section
    }

    /// About one piece in two passages: by its content alone, so that it is one whatever stands before it.
    fn is_anchor(&self, text: &str, tokens: usize) -> bool {
        mark(text) as usize % (self.sizer.budget().target * 2) < tokens
    }
}

#[cfg(test)]
mod tests;
