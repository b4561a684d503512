//! The text of a document, in the one form that the whole pipeline speaks of: extraction writes it, chunking cuts it,
//! citations quote byte ranges of it. It knows nothing of file formats, models or stores.

mod build;
mod clean;
mod language;
mod lines;

use std::ops::Range;

use lmao_ports::PageTurn;
use serde::{Deserialize, Serialize};

pub use build::{Builder, MAX_BLOCKS, MAX_TEXT_BYTES, TooLong};
pub use clean::{clean_code, clean_line, clean_prose, is_boilerplate};
pub use language::code_language;
pub use lines::{join_wrapped, without_running_lines};

/// A block is at most this many bytes; what is longer is stored as several. Bounds the work on one block.
pub const MAX_BLOCK_BYTES: usize = 64 * 1024;
/// Sections lie in each other this deep: headings of six levels, in files inside of files. Bounds the work on a path.
pub const MAX_DEPTH: usize = 64;
/// Bytes of a programming language's name.
pub const MAX_LANGUAGE_BYTES: usize = 32;

/// The canonical text of a document with its structure. All offsets are bytes of `text`, on character boundaries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextDocument {
    /// The text: readable, without control characters, paragraphs apart by an empty line.
    pub text: String,
    /// The headings, in the order of the text.
    pub sections: Vec<Section>,
    /// The blocks, in the order of the text, not overlapping.
    pub blocks: Vec<Block>,
    /// Where another page begins within a block, in order. Texts that were stored before there were any have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub page_turns: Vec<PageTurn>,
}

/// A section: a heading and what stands below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// Its depth, from 1.
    pub level: u8,
    /// The section that it lies in: an index into [`TextDocument::sections`], lower than its own.
    pub parent: Option<u32>,
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A heading of this level, from 1.
    Heading(u8),
    /// A paragraph.
    Paragraph,
    /// An item of a list, its marker included.
    List,
    /// A table, one row on a line, cells between `|`.
    Table,
    /// Lines whose breaks and indentation matter.
    Code,
}

/// A piece of the text that belongs together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What it is.
    pub kind: Kind,
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// 1-based page that it begins on, where the format has pages.
    pub page: Option<u32>,
    /// The innermost section that it lies in; a heading lies in its own.
    pub section: Option<u32>,
    /// The programming language of code, by the name that [`code_language`] gives it, where the file says so. Texts that were
    /// stored before there were any have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// Stored bytes that are no text document.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the encoding.
    #[error("the extracted text is not readable")]
    Encoding(#[from] rmp_serde::decode::Error),
    /// The encoding, but offsets that point nowhere.
    #[error("the structure of the extracted text does not fit the text: {0}")]
    Structure(&'static str),
}

impl TextDocument {
    /// The text of a block.
    #[must_use]
    pub fn slice(&self, block: &Block) -> &str {
        &self.text[block.start..block.end]
    }

    /// The headings that lead to `section`, outermost first.
    #[must_use]
    pub fn path(&self, section: Option<u32>) -> Vec<&str> {
        path(&self.sections, section)
    }

    /// The page that byte `at` stands on, where the format has pages.
    #[must_use]
    pub fn page_at(&self, at: usize) -> Option<u32> {
        let blocks = self.blocks.partition_point(|block| block.start <= at);
        let block = self.blocks[..blocks].last()?;
        let turns = self.page_turns.partition_point(|turn| turn.at as usize <= at);
        let turn = self.page_turns[..turns].last().filter(|turn| turn.at as usize >= block.start);
        turn.map(|turn| turn.page).or(block.page)
    }

    /// The places behind the first byte of `range` where another page begins, as offsets within it.
    #[must_use]
    pub fn turns_within(&self, range: Range<usize>) -> Vec<PageTurn> {
        let from = self.blocks.partition_point(|block| block.start <= range.start);
        let blocks = self.blocks[from..].iter().map(|block| block.start).take_while(|at| *at < range.end);
        let from = self.page_turns.partition_point(|turn| turn.at as usize <= range.start);
        let turns = self.page_turns[from..].iter().map(|turn| turn.at as usize).take_while(|at| *at < range.end);
        let mut places: Vec<usize> = blocks.chain(turns).collect();
        places.sort_unstable();
        let mut page = self.page_at(range.start);
        let mut found = vec![];
        for at in places {
            let next = self.page_at(at);
            if let Some(number) = next.filter(|_| next != page) {
                // A passage is far shorter than 4 GiB.
                found.push(PageTurn { at: u32::try_from(at - range.start).unwrap_or(u32::MAX), page: number });
                page = next;
            }
        }
        found
    }

    /// Whether `inner` is `outer` or lies in it. Everything lies in no section.
    #[must_use]
    pub fn lies_in(&self, inner: Option<u32>, outer: Option<u32>) -> bool {
        lies_in(&self.sections, inner, outer)
    }

    /// The stored form (MessagePack).
    ///
    /// # Errors
    /// None in practice: strings and numbers always encode.
    pub fn encode(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        rmp_serde::to_vec(self)
    }

    /// The inverse of [`TextDocument::encode`]. Checks every offset, so that no later step can be led astray.
    ///
    /// # Errors
    /// Bytes of another form, or offsets outside the text.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let document: Self = rmp_serde::from_slice(bytes)?;
        document.check()?;
        Ok(document)
    }

    /// Checks that every offset points into the text.
    ///
    /// # Errors
    /// What is wrong first.
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        let mut end = 0;
        for block in &self.blocks {
            if block.start < end || block.end <= block.start || self.text.get(block.start..block.end).is_none() {
                return Err(DecodeError::Structure("a block lies outside of it"));
            }
            if block.end - block.start > MAX_BLOCK_BYTES {
                return Err(DecodeError::Structure("a block is too long"));
            }
            if block.section.is_some_and(|section| section as usize >= self.sections.len()) {
                return Err(DecodeError::Structure("a block names a section that is not there"));
            }
            if block.language.as_ref().is_some_and(|language| language.len() > MAX_LANGUAGE_BYTES) {
                return Err(DecodeError::Structure("a language has too long a name"));
            }
            end = block.end;
        }
        let mut depths: Vec<usize> = Vec::with_capacity(self.sections.len());
        for section in &self.sections {
            let depth = match section.parent {
                None => 1,
                Some(parent) => match depths.get(parent as usize) {
                    Some(depth) => depth + 1,
                    None => return Err(DecodeError::Structure("a section lies in a later one")),
                },
            };
            if depth > MAX_DEPTH {
                return Err(DecodeError::Structure("its sections lie too deep in each other"));
            }
            depths.push(depth);
        }
        if !self.page_turns.is_sorted_by_key(|turn| turn.at) {
            return Err(DecodeError::Structure("its pages are out of order"));
        }
        Ok(())
    }
}

/// A number by which places are chosen, equal for equal beginnings (FNV-1a of the first 64 bytes, mixed).
pub(crate) fn mark(text: &str) -> u32 {
    let hash =
        text.bytes().take(64).fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash ^ (hash >> 13)
}

/// The titles that lead to `section`, outermost first.
pub(crate) fn path(sections: &[Section], section: Option<u32>) -> Vec<&str> {
    let mut titles = vec![];
    let mut next = section;
    while let Some(section) = next.and_then(|index| sections.get(index as usize)) {
        titles.push(section.title.as_str());
        next = section.parent;
    }
    titles.reverse();
    titles
}

/// Whether `inner` is `outer` or lies in it.
pub(crate) fn lies_in(sections: &[Section], inner: Option<u32>, outer: Option<u32>) -> bool {
    let mut next = inner;
    while next != outer {
        match next.and_then(|index| sections.get(index as usize)) {
            Some(section) => next = section.parent,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> TextDocument {
        let mut builder = Builder::new();
        builder.heading(1, "Birds");
        builder.heading(2, "Owls");
        builder.paragraph("They hunt\n  at night.");
        builder.heading(2, "Wrens");
        builder.finish().unwrap()
    }

    #[test]
    fn survives_storage_and_knows_its_sections() {
        let document = document();
        assert_eq!(document.text, "Birds\n\nOwls\n\nThey hunt at night.\n\nWrens");
        assert_eq!(TextDocument::decode(&document.encode().unwrap()).unwrap(), document);
        assert_eq!(document.path(document.blocks[2].section), ["Birds", "Owls"]);
        assert_eq!(document.path(document.blocks[3].section), ["Birds", "Wrens"]);
        assert!(document.lies_in(document.blocks[2].section, document.blocks[0].section));
        assert!(!document.lies_in(document.blocks[3].section, document.blocks[2].section));
    }

    #[test]
    fn every_place_has_its_page() {
        let mut builder = Builder::new();
        builder.page(3);
        builder.paragraph("On the third page.");
        builder.paragraph("Begun on it, ended on the fifth.");
        builder.page_turn("ended on the fifth.".len(), 5);
        builder.page(6);
        builder.paragraph("On the sixth.");
        let document = builder.finish().unwrap();
        let page_of = |words: &str| document.page_at(document.text.find(words).unwrap());
        assert_eq!(["third", "Begun", "ended", "fifth", "sixth"].map(page_of), [3, 3, 5, 5, 6].map(Some));
        let from = document.text.find("Begun").unwrap();
        let expected = [("ended", 5), ("On the sixth", 6)].map(|(words, page)| PageTurn {
            at: u32::try_from(document.text.find(words).unwrap() - from).unwrap(),
            page,
        });
        assert_eq!(document.turns_within(from..document.text.len()), expected);
        assert_eq!(document.turns_within(0..from), []);
        assert_eq!(TextDocument::decode(&document.encode().unwrap()).unwrap(), document);
    }

    #[test]
    fn a_text_from_before_page_turns_is_read() {
        #[derive(Serialize)]
        struct Before<'a>(&'a str, &'a [Section], &'a [Block]);
        let document = document();
        let stored = rmp_serde::to_vec(&Before(&document.text, &document.sections, &document.blocks)).unwrap();
        assert_eq!(TextDocument::decode(&stored).unwrap(), document);
        assert_eq!(document.encode().unwrap(), stored, "texts without pages are stored as ever");
    }

    #[test]
    fn code_keeps_its_language_and_a_text_without_any_is_stored_as_ever() {
        let mut builder = Builder::new();
        builder.code("x = 1");
        let without = builder.clone().finish().unwrap().encode().unwrap();
        builder.code_in(Some("python"), "y = 2");
        let document = builder.finish().unwrap();
        assert_eq!(document.blocks[1].language.as_deref(), Some("python"));
        assert_eq!(TextDocument::decode(&document.encode().unwrap()).unwrap(), document);
        #[derive(Serialize)]
        struct Before<'a>(Kind, usize, usize, Option<u32>, Option<&'a str>);
        let before = Before(Kind::Code, 0, 5, None, None);
        assert_eq!(without, rmp_serde::to_vec(&("x = 1", [0_u8; 0], [before])).unwrap());
    }

    #[test]
    fn offsets_that_point_nowhere_are_refused() {
        type Harm = fn(&mut TextDocument);
        let harms: [Harm; 8] = [
            |document| document.blocks[3].end = 4000,
            |document| document.blocks[1].start = 0,
            |document| document.blocks[2].section = Some(9),
            |document| document.sections[0].parent = Some(0),
            |document| document.text.replace_range(0..2, "é"),
            |document| document.page_turns = [9, 3].map(|at| PageTurn { at, page: 2 }).to_vec(),
            |document| {
                let below = |n| Section { title: "x".into(), level: 6, parent: Some(n) };
                document.sections.extend((0..70).map(|n| below(n + 2)));
            },
            |document| document.blocks[2].language = Some("x".repeat(33)),
        ];
        for (at, harm) in harms.into_iter().enumerate() {
            let mut document = document();
            harm(&mut document);
            if at == 4 {
                document.blocks[0].start = 1;
            }
            assert!(TextDocument::decode(&document.encode().unwrap()).is_err(), "harm {at}");
        }
        assert!(TextDocument::decode(b"\x93\x01\x02\x03").is_err());
    }
}
