//! The sections of a document as passages name them: its headings, and below them what only a program or a table tells, such as
//! the class of a method or the columns of a row.

use crate::text::{Section, TextDocument, clean_prose, lies_in, path};

/// Bytes of a title.
const MAX_TITLE_BYTES: usize = 160;
/// What parts the titles of a path.
const SEPARATOR: &str = " > ";

/// A tree of sections; each names one before it as the one that it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingest) struct Outline {
    sections: Vec<Section>,
}

impl Outline {
    /// The headings of a document, under the numbers that its blocks name them by.
    pub(super) fn of(document: &TextDocument) -> Self {
        Self { sections: document.sections.clone() }
    }

    /// A section below `parent`, or the last one if it has that title there.
    pub(super) fn child(&mut self, parent: Option<u32>, title: &str) -> u32 {
        let title = clean_prose(title).replace(SEPARATOR, " ");
        let title = title[..title.floor_char_boundary(MAX_TITLE_BYTES)].trim_end().to_owned();
        // Every section has at least a byte of a text that is far shorter than 4 GiB.
        let next = u32::try_from(self.sections.len()).unwrap_or(u32::MAX);
        if self.sections.last().is_some_and(|last| last.parent == parent && last.title == title) {
            return next - 1;
        }
        let level =
            parent.and_then(|at| self.sections.get(at as usize)).map_or(1, |above| above.level.saturating_add(1));
        self.sections.push(Section { title, level, parent });
        next
    }

    /// Sections.
    pub(super) fn len(&self) -> usize {
        self.sections.len()
    }

    /// The section that this one lies in.
    pub(super) fn parent(&self, section: u32) -> Option<u32> {
        self.sections.get(section as usize)?.parent
    }

    /// A section and those that it lies in, innermost first, with their titles.
    pub(super) fn titles(&self, section: Option<u32>) -> impl Iterator<Item = (u32, &str)> {
        let of = |at: u32| Some((at, self.sections.get(at as usize)?.title.as_str()));
        std::iter::successors(section, |at| self.parent(*at)).filter_map(of)
    }

    /// The titles that lead to a section, outermost first, as one text.
    pub(in crate::ingest) fn path(&self, section: Option<u32>) -> String {
        path(&self.sections, section).join(SEPARATOR)
    }

    /// Whether `inner` is `outer` or lies in it. Everything lies in no section.
    pub(super) fn lies_in(&self, inner: Option<u32>, outer: Option<u32>) -> bool {
        lies_in(&self.sections, inner, outer)
    }
}
