//! What documents and passages are filtered by, as columns of numbers: one line for a document or a passage, in the order in
//! which they were written, the dead included until the next compaction.
//!
//! A filter costs a few nanoseconds for each of the owner's documents and, where it looks at passages, half a nanosecond or
//! so for each of theirs.

use std::ops::Range;

use lmao_ports::SearchFilter;

use super::{
    super::bits::Bits,
    journal::Document,
    names::{Dictionary, Sections},
};

/// No name, no page.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    names: Dictionary,
    sections: Sections,
    // By document.
    filename: Vec<u32>,
    format: Vec<u32>,
    created: Vec<i64>,
    tags: Vec<Box<[u32]>>,
    authors: Vec<Box<[u32]>>,
    /// The first of its passages.
    first: Vec<u32>,
    // By passage.
    document: Vec<u32>,
    kind: Vec<u32>,
    language: Vec<u32>,
    section: Vec<u32>,
    page: Vec<u32>,
}

impl Columns {
    /// Adds a document as the next line, and one for each of its passages; the line of the first of these.
    pub(super) fn push(&mut self, line_of_it: u32, document: &Document) -> u32 {
        let names = &mut self.names;
        self.filename.push(names.number(&document.filename));
        self.format.push(names.number(&document.format));
        self.created.push(document.created_at.0);
        self.tags.push(document.tags.iter().map(|tag| names.number(tag)).collect());
        self.authors.push(document.authors.iter().map(|author| names.number(author)).collect());
        let first = line(self.kind.len());
        self.first.push(first);
        self.document.resize(self.kind.len() + document.chunks.len(), line_of_it);
        // Passages of a document share their names: each is looked up once.
        let own: Vec<u32> = document.names.iter().map(|name| names.number(name)).collect();
        let mut sections: Vec<Option<u32>> = vec![None; document.names.len()];
        for place in &document.chunks {
            let name = |number: Option<u32>| number.and_then(|n| own.get(n as usize)).map_or(NONE, |name| *name);
            self.kind.push(name(Some(place.kind)));
            self.language.push(name(place.language));
            self.page.push(place.page.unwrap_or(NONE));
            let section = place.section.and_then(|n| Some((sections.get_mut(n as usize)?, n)));
            let section =
                section.map(|(known, n)| *known.get_or_insert_with(|| self.sections.number(document.name(n))));
            self.section.push(section.unwrap_or(NONE));
        }
        first
    }

    /// The first passage of a document.
    pub(super) fn first_passage(&self, document: u32) -> u32 {
        self.first[document as usize]
    }

    /// A passage's document, and its number there.
    pub(super) fn place_of(&self, passage: u32) -> Option<(u32, u32)> {
        let document = *self.document.get(passage as usize)?;
        Some((document, passage - self.first_passage(document)))
    }

    /// The passages of a document.
    pub(super) fn passages_of(&self, document: u32) -> Range<usize> {
        let first = |n: usize| self.first.get(n).map_or(self.kind.len(), |first| *first as usize);
        first(document as usize)..first(document as usize + 1)
    }

    /// Passages so far.
    pub(super) fn passages(&self) -> usize {
        self.kind.len()
    }

    /// Documents so far.
    pub(super) fn documents(&self) -> usize {
        self.filename.len()
    }

    /// The filter as numbers; `None` if nothing can meet it.
    pub(super) fn compile(&self, filter: &SearchFilter) -> Option<Conditions<'_>> {
        let wanted = |names: &[String]| match self.names.known(names) {
            _ if names.is_empty() => Some(None),
            known if known.is_empty() => None,
            known => Some(Some(known)),
        };
        Some(Conditions {
            columns: self,
            filenames: wanted(&filter.filenames)?,
            formats: wanted(&filter.formats)?,
            languages: wanted(&filter.languages)?,
            kinds: wanted(&filter.chunk_types)?,
            tags: wanted(&filter.tags)?,
            authors: wanted(&filter.authors)?,
            sections: (!filter.sections.is_empty()).then(|| self.sections.within(&filter.sections)),
            // What has no page is on none.
            pages: filter.pages.map(|(from, to)| (from, to.min(NONE - 1))),
            created: (filter.created_from.map(|time| time.0), filter.created_before.map(|time| time.0)),
        })
    }
}

/// Lines are counted in 32 bits: rows of vectors are, and passages without any are not that many.
pub(super) fn line(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(NONE)
}

/// A filter, whose documents aside.
#[derive(Debug)]
pub(super) struct Conditions<'a> {
    columns: &'a Columns,
    // Each, if there is such a condition, the names' numbers in order.
    filenames: Option<Vec<u32>>,
    formats: Option<Vec<u32>>,
    languages: Option<Vec<u32>>,
    kinds: Option<Vec<u32>>,
    tags: Option<Vec<u32>>,
    authors: Option<Vec<u32>>,
    /// By section, whether it is wanted.
    sections: Option<Vec<bool>>,
    pages: Option<(u32, u32)>,
    created: (Option<i64>, Option<i64>),
}

impl Conditions<'_> {
    /// Whether passages are looked at, not only documents.
    pub(super) fn is_about_passages(&self) -> bool {
        self.languages.is_some() || self.kinds.is_some() || self.sections.is_some() || self.pages.is_some()
    }

    /// Whether the document may have passages that are let through.
    pub(super) fn allows_document(&self, document: u32) -> bool {
        let (columns, n) = (self.columns, document as usize);
        let (from, before) = self.created;
        is_among(self.filenames.as_deref(), columns.filename[n])
            && is_among(self.formats.as_deref(), columns.format[n])
            && from.is_none_or(|from| columns.created[n] >= from)
            && before.is_none_or(|before| columns.created[n] < before)
            && has_any(self.tags.as_deref(), &columns.tags[n])
            && has_any(self.authors.as_deref(), &columns.authors[n])
    }

    /// Adds those of an allowed document's passages that are let through; of several documents', if they adjoin.
    pub(super) fn let_through(&self, passages: Range<usize>, into: &mut Bits) {
        let columns = self.columns;
        into.add(passages, |range| {
            let among = |wanted: &[u32], column: &[u32]| match wanted {
                [one] => which(&column[range.clone()], |number| number == *one),
                wanted => which(&column[range.clone()], |number| wanted.binary_search(&number).is_ok()),
            };
            let mut all = u64::MAX;
            if let Some(kinds) = &self.kinds {
                all &= among(kinds, &columns.kind);
            }
            if let Some(languages) = &self.languages {
                all &= among(languages, &columns.language);
            }
            if let Some((from, to)) = self.pages {
                all &= which(&columns.page[range.clone()], |page| from <= page && page <= to);
            }
            if let Some(wanted) = &self.sections {
                let is_wanted = |section: u32| wanted.get(section as usize).is_some_and(|is| *is);
                all &= which(&columns.section[range], is_wanted);
            }
            all
        });
    }
}

/// A bit for each of up to 64 numbers, the lowest for the first.
fn which(numbers: &[u32], is: impl Fn(u32) -> bool) -> u64 {
    numbers.iter().rev().fold(0, |all, number| all << 1 | u64::from(is(*number)))
}

fn is_among(wanted: Option<&[u32]>, number: u32) -> bool {
    wanted.is_none_or(|wanted| match wanted {
        [one] => *one == number,
        wanted => wanted.binary_search(&number).is_ok(),
    })
}

fn has_any(wanted: Option<&[u32]>, numbers: &[u32]) -> bool {
    wanted.is_none() || numbers.iter().any(|number| is_among(wanted, *number))
}
