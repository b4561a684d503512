//! Sections worth reading whole: those of which the search found two passages or more.

use lmao_ports::Hit;
use uuid::Uuid;

/// Passages of a section that is read whole, at most.
const MAX_PASSAGES: u32 = 32;
/// Sections at most.
const MAX_SECTIONS: usize = 4;

/// A run of a document's passages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Section {
    document: Uuid,
    id: Uuid,
    first: u32,
    last: u32,
    /// The place of its best passage, from 0.
    pub(super) rank: usize,
}

impl Section {
    /// Those with two of these passages, best first.
    pub(super) fn all_of(ranked: &[Hit]) -> Vec<Self> {
        let mut seen: Vec<(Self, usize)> = vec![];
        for (rank, hit) in ranked.iter().enumerate() {
            let Some(parent) = hit.parent else { continue };
            let id = parent.chunk_id;
            match seen.iter_mut().find(|(section, _)| (section.document, section.id) == (hit.document_id, id)) {
                Some((_, found)) => *found += 1,
                None => {
                    let (first, last) = (parent.first, parent.last);
                    seen.push((Self { document: hit.document_id, id, first, last, rank }, 1));
                }
            }
        }
        let wanted = |(section, found): &(Self, usize)| {
            *found > 1 && section.last.checked_sub(section.first).is_some_and(|more| more < MAX_PASSAGES)
        };
        seen.into_iter().filter(wanted).map(|(section, _)| section).take(MAX_SECTIONS).collect()
    }

    /// Whether a passage is of this section, or of one within it.
    pub(super) fn holds(&self, hit: &Hit) -> bool {
        hit.document_id == self.document && (self.first..=self.last).contains(&hit.ordinal)
    }
}

/// The passages by document and ordinal that complete the sections of which two passages were found: at most 128.
pub(in super::super) fn missing(hits: &[Hit]) -> Vec<(Uuid, u32)> {
    let found =
        |document: Uuid, ordinal: u32| hits.iter().any(|hit| (hit.document_id, hit.ordinal) == (document, ordinal));
    let of = |section: Section| (section.first..=section.last).map(move |ordinal| (section.document, ordinal));
    Section::all_of(hits).into_iter().flat_map(of).filter(|(document, ordinal)| !found(*document, *ordinal)).collect()
}
