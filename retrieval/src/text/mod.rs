//! The text of a document, in the one form that the whole pipeline speaks of: extraction writes it, chunking cuts it,
//! citations quote byte ranges of it. It knows nothing of file formats, models or stores.

mod build;
mod clean;

use serde::{Deserialize, Serialize};

pub use build::{Builder, MAX_TEXT_BYTES, TooLong};
pub use clean::{clean_code, clean_line, clean_prose};

/// A block is at most this many bytes; what is longer is stored as several. Bounds the work on one block.
pub const MAX_BLOCK_BYTES: usize = 64 * 1024;

/// The canonical text of a document with its structure. All offsets are bytes of `text`, on character boundaries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextDocument {
    /// The text: readable, without control characters, paragraphs apart by an empty line.
    pub text: String,
    /// The headings, in the order of the text.
    pub sections: Vec<Section>,
    /// The blocks, in the order of the text, not overlapping.
    pub blocks: Vec<Block>,
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
        let mut titles = vec![];
        let mut next = section;
        while let Some(section) = next.and_then(|index| self.sections.get(index as usize)) {
            titles.push(section.title.as_str());
            next = section.parent;
        }
        titles.reverse();
        titles
    }

    /// Whether `inner` is `outer` or lies in it. Everything lies in no section.
    #[must_use]
    pub fn lies_in(&self, inner: Option<u32>, outer: Option<u32>) -> bool {
        let mut next = inner;
        while next != outer {
            match next.and_then(|index| self.sections.get(index as usize)) {
                Some(section) => next = section.parent,
                None => return false,
            }
        }
        true
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
            end = block.end;
        }
        let misplaced = |(at, section): (usize, &Section)| section.parent.is_some_and(|parent| parent as usize >= at);
        if self.sections.iter().enumerate().any(misplaced) {
            return Err(DecodeError::Structure("a section lies in a later one"));
        }
        Ok(())
    }
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
    fn offsets_that_point_nowhere_are_refused() {
        type Harm = fn(&mut TextDocument);
        let harms: [Harm; 5] = [
            |document| document.blocks[3].end = 4000,
            |document| document.blocks[1].start = 0,
            |document| document.blocks[2].section = Some(9),
            |document| document.sections[0].parent = Some(0),
            |document| document.text.replace_range(0..2, "é"),
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
