//! Where passages lie in a segment of the keyword index: the passages of a document lie in a row there, so that a few runs
//! say it for all.

use std::collections::HashMap;

use tantivy::{SegmentReader, TantivyError};

use super::super::{bits::Bits, store::Catalog};

/// Documents of tantivy's in a row that are passages in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    /// The first, as tantivy counts.
    doc: u32,
    /// Its passage, as the catalog counts.
    passage: u32,
    length: u32,
}

/// The passages of a segment. What is not alive any more may be left out; it is in no filter's set.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Places {
    /// In tantivy's order.
    runs: Vec<Run>,
}

impl Places {
    /// Reads them from a segment.
    pub(super) fn read(segment: &SegmentReader, catalog: &Catalog) -> tantivy::Result<Self> {
        let (entries, numbers) = (segment.fast_fields().u64("entry")?, segment.fast_fields().u64("number")?);
        let mut firsts: HashMap<u64, Option<u32>> = HashMap::new();
        let mut places = Self::default();
        for doc in 0..segment.max_doc() {
            let place = entries.first(doc).zip(numbers.first(doc).and_then(|number| u32::try_from(number).ok()));
            let (entry, number) =
                place.ok_or_else(|| TantivyError::InternalError("a passage without entry and number".to_owned()))?;
            if let Some(first) = *firsts.entry(entry).or_insert_with(|| catalog.first_passage(entry)) {
                places.push(doc, first + number);
            }
        }
        Ok(places)
    }

    fn push(&mut self, doc: u32, passage: u32) {
        match self.runs.last_mut() {
            Some(last) if (last.doc + last.length, last.passage + last.length) == (doc, passage) => last.length += 1,
            _ => self.runs.push(Run { doc, passage, length: 1 }),
        }
    }

    /// The passage that a document of tantivy's is.
    pub(super) fn passage(&self, doc: u32) -> Option<u32> {
        let run = self.runs.get(self.runs.partition_point(|run| run.doc <= doc).checked_sub(1)?)?;
        (doc - run.doc < run.length).then(|| run.passage + (doc - run.doc))
    }

    /// The documents of tantivy's, of `limit`, that are among these passages.
    pub(super) fn docs(&self, limit: u32, passages: &Bits) -> Bits {
        let mut docs = Bits::none(limit as usize);
        for run in &self.runs {
            let first = run.doc as usize;
            let passage = |doc: usize| run.passage as usize + (doc - first);
            docs.add(first..first + run.length as usize, |range| passages.at(passage(range.start)));
        }
        docs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_stand_for_what_they_were_made_of() {
        let mut places = Places::default();
        // Passages 50 to 199, then 0 to 49 with a gap in the segment, then one that came twice as late.
        let all: Vec<(u32, u32)> = (0..150).zip(50..200).chain((160..210).zip(0..50)).chain([(210, 400)]).collect();
        all.iter().for_each(|(doc, passage)| places.push(*doc, *passage));
        assert_eq!(places.runs.len(), 3);
        let of = |doc: u32| all.iter().find(|(is, _)| *is == doc).map(|(_, passage)| *passage);
        (0..300).for_each(|doc| assert_eq!(places.passage(doc), of(doc)));
        let mut odd = Bits::none(401);
        odd.add(0..401, |range| (0..).zip(range).fold(0, |all, (bit, n)| all | u64::from(n % 3 == 1) << bit));
        let docs: Vec<usize> = places.docs(211, &odd).within(0..300).collect();
        let wanted = all.iter().filter(|(_, passage)| passage % 3 == 1).map(|(doc, _)| *doc as usize);
        assert_eq!(docs, wanted.collect::<Vec<_>>());
    }
}
