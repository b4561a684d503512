//! Building: from what an extractor finds, front to back, to a [`TextDocument`] of bounded size and bounded blocks.

use lmao_ports::PageTurn;
use unicode_segmentation::UnicodeSegmentation;

use super::{Block, Kind, MAX_BLOCK_BYTES, MAX_LANGUAGE_BYTES, Section, TextDocument, clean_code, clean_prose, mark};

/// Bytes of text that a document may have: more than its greatest number of passages can hold is refused early.
pub const MAX_TEXT_BYTES: usize = 128 * 1024 * 1024;
/// Blocks that a document may have: each costs memory beyond its text, which may be a letter.
pub const MAX_BLOCKS: usize = 1_000_000;
/// Bytes of a section's title; a longer heading is kept whole in the text.
const MAX_TITLE_BYTES: usize = 160;
/// Headings are this deep at most.
const MAX_LEVEL: u8 = 6;

/// The text is longer than [`MAX_TEXT_BYTES`], or has more than [`MAX_BLOCKS`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is longer than {MAX_TEXT_BYTES} bytes or has more than {MAX_BLOCKS} blocks")]
pub struct TooLong;

/// Builds a [`TextDocument`] from front to back. Once the text is too long, what comes after is dropped and
/// [`Builder::finish`] says so, hence memory is bounded whatever the input.
#[derive(Debug, Default, Clone)]
pub struct Builder {
    document: TextDocument,
    /// The sections around the place that is written at: indexes, outermost first.
    open: Vec<u32>,
    page: Option<u32>,
    full: bool,
}

impl Builder {
    /// An empty document.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What follows stands on this page, from 1.
    pub fn page(&mut self, number: u32) {
        self.page = Some(number);
    }

    /// The last `tail` bytes of what was written stand on this page.
    pub fn page_turn(&mut self, tail: usize, number: u32) {
        let text = &self.document.text;
        let at = text.floor_char_boundary(text.len().saturating_sub(tail));
        // Texts are bounded far below 4 GiB.
        let turn = PageTurn { at: u32::try_from(at).unwrap_or(u32::MAX), page: number };
        match self.document.page_turns.last_mut() {
            // Nothing stands on the page before.
            Some(last) if last.at == turn.at => *last = turn,
            Some(last) if last.at > turn.at => {}
            _ => self.document.page_turns.push(turn),
        }
        // What was too long for one block has further ones behind the turn.
        self.document.blocks.iter_mut().rev().take_while(|block| block.start >= at).for_each(|block| {
            block.page = Some(number);
        });
    }

    /// A heading; opens a section of this level (1 to 6) and closes those of the same level and below.
    pub fn heading(&mut self, level: u8, text: &str) {
        let text = clean_prose(text);
        if text.is_empty() || self.full {
            return;
        }
        let level = level.clamp(1, MAX_LEVEL);
        let sections = &mut self.document.sections;
        while self.open.last().is_some_and(|at| sections[*at as usize].level >= level) {
            self.open.pop();
        }
        let title = text[..text.floor_char_boundary(MAX_TITLE_BYTES)].to_owned();
        // A block takes at least a byte, and the text is bounded far below 2^32.
        let index = u32::try_from(sections.len()).unwrap_or(u32::MAX);
        sections.push(Section { title, level, parent: self.open.last().copied() });
        self.open.push(index);
        self.block(Kind::Heading(level), &text, "\n\n");
    }

    /// A paragraph; runs of white space become one space.
    pub fn paragraph(&mut self, text: &str) {
        self.block(Kind::Paragraph, &clean_prose(text), "\n\n");
    }

    /// An item of a list, `depth` lists deep (from 1), with its marker: `-` or `3.`.
    pub fn item(&mut self, depth: usize, marker: &str, text: &str) {
        let text = clean_prose(text);
        if text.is_empty() {
            return;
        }
        let indent = "  ".repeat(depth.clamp(1, 8) - 1);
        let follows = self.document.blocks.last().is_some_and(|block| block.kind == Kind::List);
        self.block(Kind::List, &format!("{indent}{marker} {text}"), if follows { "\n" } else { "\n\n" });
    }

    /// A table by rows of cells; the first row is its head.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        let mut lines = vec![];
        for row in rows {
            let cells: Vec<_> = row.iter().map(|cell| clean_prose(cell).replace('|', "\\|")).collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                lines.push(format!("| {} |", cells.join(" | ")));
            }
        }
        self.block(Kind::Table, &lines.join("\n"), "\n\n");
    }

    /// Lines to be kept as they are.
    pub fn code(&mut self, text: &str) {
        self.code_in(None, text);
    }

    /// Lines of a program, in this language by the name that [`code_language`](super::code_language) gives it; a name that is
    /// too long is none.
    pub fn code_in(&mut self, language: Option<&str>, text: &str) {
        let text = clean_code(text);
        let first = self.document.blocks.len();
        self.block(Kind::Code, text.trim_matches('\n').trim_end(), "\n\n");
        if let Some(language) = language.filter(|name| name.len() <= MAX_LANGUAGE_BYTES) {
            self.document.blocks[first..].iter_mut().for_each(|block| block.language = Some(language.to_owned()));
        }
    }

    /// A whole document as a section of this level and title, its own sections below; its pages keep their numbers.
    pub fn append(&mut self, level: u8, title: &str, inner: &TextDocument) {
        self.page = None;
        self.heading(level, title);
        self.extend(inner);
    }

    /// The blocks of a whole document, its outermost sections within the one that is open.
    pub fn extend(&mut self, inner: &TextDocument) {
        let within = self.open.last().copied();
        let deeper = within.map_or(0, |index| self.document.sections[index as usize].level);
        self.insert(inner, deeper, within);
    }

    fn insert(&mut self, inner: &TextDocument, deeper: u8, within: Option<u32>) {
        let separator = if self.is_empty() || inner.text.is_empty() { "" } else { "\n\n" };
        let blocks = self.document.blocks.len() + inner.blocks.len();
        let bytes = self.document.text.len() + separator.len() + inner.text.len();
        if self.full || bytes > MAX_TEXT_BYTES || blocks > MAX_BLOCKS {
            self.full = true;
            return;
        }
        self.document.text.push_str(separator);
        let at = self.document.text.len();
        self.document.text.push_str(&inner.text);
        let first = u32::try_from(self.document.sections.len()).unwrap_or(u32::MAX);
        let moved = |section: Option<u32>| section.map(|index| index + first).or(within);
        self.document.sections.extend(inner.sections.iter().map(|section| Section {
            title: section.title.clone(),
            level: section.level.saturating_add(deeper).min(MAX_LEVEL),
            parent: moved(section.parent),
        }));
        self.document.blocks.extend(inner.blocks.iter().map(|block| Block {
            kind: match block.kind {
                Kind::Heading(level) => Kind::Heading(level.saturating_add(deeper).min(MAX_LEVEL)),
                kind => kind,
            },
            start: block.start + at,
            end: block.end + at,
            page: block.page,
            section: moved(block.section),
            language: block.language.clone(),
        }));
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        self.document.page_turns.extend(inner.page_turns.iter().map(|turn| PageTurn { at: turn.at + at, ..*turn }));
    }

    /// The document.
    ///
    /// # Errors
    /// If it got too long.
    pub fn finish(self) -> Result<TextDocument, TooLong> {
        if self.full { Err(TooLong) } else { Ok(self.document) }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.document.text.len()
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.document.text.is_empty()
    }

    fn block(&mut self, kind: Kind, mut text: &str, separator: &str) {
        if text.trim().is_empty() || self.full {
            return;
        }
        let bytes = self.document.text.len() + separator.len() + text.len();
        if bytes > MAX_TEXT_BYTES || self.document.blocks.len() >= MAX_BLOCKS {
            self.full = true;
            return;
        }
        if !self.is_empty() {
            self.document.text.push_str(separator);
        }
        while !text.is_empty() {
            let (piece, rest) = text.split_at(piece_len(text, kind));
            let start = self.document.text.len();
            self.document.text.push_str(piece);
            let end = start + piece.trim_end().len();
            if end > start {
                let section = self.open.last().copied();
                self.document.blocks.push(Block { kind, start, end, page: self.page, section, language: None });
            }
            text = rest;
        }
    }
}

/// How much of `text` goes into one block: all of it, or up to a line, sentence, word or character near the end of what fits.
/// Which line or sentence is chosen by what stands behind it, so that a change in one block moves few of the later ones.
fn piece_len(text: &str, kind: Kind) -> usize {
    if text.len() <= MAX_BLOCK_BYTES {
        return text.len();
    }
    let window = &text[..text.floor_char_boundary(MAX_BLOCK_BYTES)];
    let tail = window.floor_char_boundary(window.len() - window.len() / 8);
    let line = || {
        let ends = window[tail..].match_indices('\n').map(|(at, _)| tail + at + 1);
        ends.min_by_key(|at| mark(&text[*at..])).or_else(|| window.rfind('\n').map(|at| at + 1))
    };
    let sentence = || {
        let starts = window[tail..].split_sentence_bound_indices().skip(1).map(|(at, _)| tail + at);
        starts.min_by_key(|at| mark(&text[*at..]))
    };
    let last_word = || window.rfind(char::is_whitespace).map(|at| window.ceil_char_boundary(at + 1));
    let cut = match kind {
        Kind::Code | Kind::Table => line().or_else(last_word),
        _ => sentence().or_else(last_word),
    };
    cut.filter(|at| *at > 0).unwrap_or(window.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_tables_and_code_keep_their_form() {
        let mut builder = Builder::new();
        builder.paragraph("Before:");
        builder.item(1, "-", "one");
        builder.item(2, "1.", "deeper");
        builder.table(&[vec!["a".into(), "b|c".into()], vec!["1".into(), "2".into()]]);
        builder.code("\nfn x() {\n\treturn;\n}\n\n");
        let text = builder.finish().unwrap().text;
        assert_eq!(text, "Before:\n\n- one\n  1. deeper\n\n| a | b\\|c |\n| 1 | 2 |\n\nfn x() {\n    return;\n}");
    }

    #[test]
    fn a_long_line_becomes_blocks_that_cover_it() {
        let line = "wörd".repeat(200_000);
        let mut builder = Builder::new();
        builder.paragraph(&line);
        let document = builder.finish().unwrap();
        assert_eq!(document.text, line);
        assert!(document.blocks.iter().all(|block| block.end - block.start <= MAX_BLOCK_BYTES));
        assert_eq!(document.blocks.iter().map(|block| document.slice(block)).collect::<String>(), line);
    }

    #[test]
    fn of_pages_that_begin_at_one_place_the_last_has_the_text() {
        let mut builder = Builder::new();
        builder.page(4);
        builder.paragraph("Here and there");
        builder.page_turn("there".len(), 5);
        builder.page_turn("there".len(), 6);
        let document = builder.finish().unwrap();
        assert_eq!(document.page_turns, [PageTurn { at: 9, page: 6 }]);
        assert_eq!([0, 9].map(|at| document.page_at(at)), [Some(4), Some(6)]);
    }

    #[test]
    fn a_document_can_be_a_section_of_another() {
        let mut inner = Builder::new();
        inner.paragraph("Words before all headings.");
        inner.page(7);
        inner.heading(1, "Owls");
        inner.paragraph("They hunt");
        inner.page_turn("hunt".len(), 8);
        let inner = inner.finish().unwrap();
        let mut outer = Builder::new();
        outer.append(1, "birds/owls.pdf", &inner);
        outer.append(1, "birds/again.pdf", &inner);
        let document = outer.finish().unwrap();
        document.check().unwrap();
        let path = |at: usize| document.path(document.blocks[at].section).join(" > ");
        assert_eq!([path(1), path(3)], ["birds/owls.pdf", "birds/owls.pdf > Owls"]);
        assert_eq!([path(5), path(7)], ["birds/again.pdf", "birds/again.pdf > Owls"]);
        assert_eq!(document.slice(&document.blocks[7]), "They hunt");
        let hunts: Vec<_> = document.text.match_indices("hunt").map(|(at, _)| document.page_at(at)).collect();
        assert_eq!(hunts, [Some(8), Some(8)]);
        assert_eq!(document.page_at(document.text.find("birds/again").unwrap()), None);
    }

    #[test]
    fn too_much_text_is_refused_without_keeping_it() {
        let mut builder = Builder::new();
        let piece = "word ".repeat(1 << 20);
        for _ in 0..60 {
            builder.paragraph(&piece);
        }
        assert!(builder.len() <= MAX_TEXT_BYTES);
        assert_eq!(builder.finish(), Err(TooLong));
    }

    #[test]
    fn too_many_blocks_are_refused_without_keeping_them() {
        let mut part = Builder::new();
        (0..MAX_BLOCKS / 100).for_each(|_| part.paragraph("a"));
        let part = part.finish().unwrap();
        let mut builder = Builder::new();
        (0..100).for_each(|_| builder.extend(&part));
        assert_eq!(builder.clone().finish().unwrap().blocks.len(), MAX_BLOCKS);
        let mut appended = builder.clone();
        appended.extend(&part);
        builder.paragraph("a");
        builder.heading(1, "b");
        assert_eq!((builder.document.blocks.len(), builder.document.sections.len()), (MAX_BLOCKS, 0));
        assert_eq!([appended.finish(), builder.finish()], [Err(TooLong), Err(TooLong)]);
    }
}
