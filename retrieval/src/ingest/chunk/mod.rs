//! From the text of a document to passages: contiguous, in order, each of one section, each short enough for the model.
//!
//! Paragraphs are packed up to a target, since a passage of one sentence matches too much and a whole chapter matches
//! nothing. What is too long by itself is split at its own seams.

mod sizer;
mod split;

pub(super) use sizer::Sizer;
use split::Cut;

use crate::text::{Block, Kind, TextDocument};

/// Tokens that a passage aims at: about 150 words of English, which held the best recall per passage in most studies of
/// paragraph retrieval and leaves room for the headings.
const TARGET: usize = 220;
/// Tokens of a passage at most, whatever the model reads: longer ones dilute their vector.
const MAX: usize = 400;
/// A passage of fewer tokens than this joins its neighbour where it may.
const TINY: usize = 40;
/// Tokens that the second part of a split paragraph repeats of the first, at most, and only a whole sentence.
const OVERLAP: usize = 40;

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

/// A passage: a byte range of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    /// What most of it is.
    pub(super) kind: Kind,
    /// The section that all of it lies in.
    pub(super) section: Option<u32>,
}

/// Cuts a document; `None` when there are more than `limit` passages. Takes time in proportion to the text.
pub(super) fn cut(document: &TextDocument, sizer: &Sizer, limit: usize) -> Option<Vec<Span>> {
    let mut packer = Packer { document, sizer, open: None, done: vec![] };
    for block in &document.blocks {
        for piece in pieces(document, block, sizer) {
            packer.add(piece);
            if packer.done.len() > limit {
                return None;
            }
        }
    }
    packer.close();
    (packer.done.len() <= limit).then_some(packer.done)
}

/// A block, or a part of one that is too long.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: usize,
    end: usize,
    tokens: usize,
    kind: Kind,
    section: Option<u32>,
    /// Where a passage that begins with this piece may begin instead, to repeat the sentence before, and its tokens then.
    overlap: Option<(usize, usize)>,
}

fn pieces(document: &TextDocument, block: &Block, sizer: &Sizer) -> Vec<Piece> {
    let text = document.slice(block);
    let tokens = sizer.tokens(text);
    let whole = |cut: Cut| Piece {
        start: block.start + cut.start,
        end: block.start + cut.end,
        tokens: cut.tokens,
        kind: block.kind,
        section: block.section,
        overlap: cut.overlap.map(|(start, tokens)| (block.start + start, tokens)),
    };
    split::split(text, &tokens, block.kind, sizer.budget()).into_iter().map(whole).collect()
}

/// A passage that is being packed.
#[derive(Debug)]
struct Open {
    start: usize,
    end: usize,
    tokens: usize,
    section: Option<u32>,
    /// Only headings so far.
    bare: bool,
    /// Tokens by kind: prose, list, table, code.
    weights: [usize; 4],
}

#[derive(Debug)]
struct Packer<'a> {
    document: &'a TextDocument,
    sizer: &'a Sizer,
    open: Option<Open>,
    done: Vec<Span>,
}

impl Packer<'_> {
    fn add(&mut self, piece: Piece) {
        if let Some(open) = &mut self.open
            && fits(open, &piece, self.document, self.sizer.budget())
        {
            open.end = piece.end;
            open.tokens += piece.tokens + 1;
            // A heading followed by its subsection lies in the subsection from then on.
            if open.bare {
                open.section = piece.section;
            }
            open.bare &= matches!(piece.kind, Kind::Heading(_));
            weigh(&mut open.weights, &piece);
            return;
        }
        self.close();
        let (start, tokens) = piece.overlap.unwrap_or((piece.start, piece.tokens));
        let mut weights = [0; 4];
        weigh(&mut weights, &piece);
        self.open = Some(Open {
            start,
            end: piece.end,
            tokens,
            section: piece.section,
            bare: matches!(piece.kind, Kind::Heading(_)),
            weights,
        });
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let kind = match (0..4).max_by_key(|kind| (open.weights[*kind], 4 - *kind)) {
            Some(heaviest) if open.weights[heaviest] > 0 => {
                [Kind::Paragraph, Kind::List, Kind::Table, Kind::Code][heaviest]
            }
            _ => Kind::Heading(1),
        };
        let span = Span { start: open.start, end: open.end, kind, section: open.section };
        // A last short line of a section joins the passage before it.
        if open.tokens < TINY
            && !open.bare
            && let Some(last) = self.done.last_mut()
            && last.section == span.section
            && last.kind == span.kind
            && self.sizer.fits(&self.document.text[last.start..span.end])
        {
            last.end = span.end;
            return;
        }
        self.done.push(span);
    }
}

/// Whether a piece may join a passage.
fn fits(open: &Open, piece: &Piece, document: &TextDocument, budget: Budget) -> bool {
    let tokens = open.tokens + piece.tokens + 1;
    if tokens > budget.max {
        return false;
    }
    // Headings never end a passage, and what begins a section stays with it, unless there is hardly anything above.
    let small = open.bare || open.tokens < TINY;
    if piece.section != open.section
        && !(small && document.lies_in(piece.section, open.section) && open.section.is_some())
    {
        return false;
    }
    tokens <= budget.target || open.bare || open.tokens < TINY
}

fn weigh(weights: &mut [usize; 4], piece: &Piece) {
    match piece.kind {
        Kind::Heading(_) => {}
        Kind::Paragraph => weights[0] += piece.tokens,
        Kind::List => weights[1] += piece.tokens,
        Kind::Table => weights[2] += piece.tokens,
        Kind::Code => weights[3] += piece.tokens,
    }
}

/// As search filters name it.
pub(super) const fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Heading(_) => "heading",
        Kind::Paragraph => "prose",
        Kind::List => "list",
        Kind::Table => "table",
        Kind::Code => "code",
    }
}

#[cfg(test)]
mod tests;
