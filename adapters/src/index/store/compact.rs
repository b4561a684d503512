//! Compaction: the live documents, copied into new files.
//!
//! It runs before a commit when more than half of what was written is dead. The old files stay as they are until the commit
//! that names the new ones, so a crash at any line costs nothing. Everything copied is verified, so that damage is found
//! and not carried over.

use std::{collections::HashMap, sync::Arc};

use lmao_ports::{IndexError, Space};
use uuid::Uuid;

use super::{Catalog, Change, Document, Maps, Store, error};
use crate::{index::vectors::Metric, passages::spaces::BySpace};

impl Store {
    /// The store and catalog that hold what is alive after `staged`, in new files, not synced yet. `maps` covers everything
    /// written so far.
    pub(in crate::index) fn compacted(
        &self,
        maps: &Maps,
        catalog: &Catalog,
        staged: &[Change],
    ) -> Result<(Self, Catalog), IndexError> {
        let mut next = Self::create(&self.dir, self.next_number())?;
        for (space, vectors) in self.vectors.iter() {
            if let Some(vectors) = vectors {
                next.start_vectors(space, vectors.dims)?;
            }
        }
        let mut fresh = Catalog::default();
        for (document, metrics) in alive(catalog, staged) {
            let change = Change::Put(next.copy(maps, document)?.into(), metrics);
            next.record(std::slice::from_ref(&change))?;
            fresh.apply(&change);
        }
        Ok((next, fresh))
    }

    fn copy(&mut self, maps: &Maps, document: &Document) -> Result<Document, IndexError> {
        maps.head_bytes(document)?;
        for number in 0..document.chunks.len() {
            maps.passage_bytes(document, number)?;
        }
        let start = usize::try_from(document.text.start).unwrap_or(usize::MAX);
        let bytes = usize::try_from(document.text.bytes).unwrap_or(usize::MAX);
        let text =
            maps.text.get(start..start.saturating_add(bytes)).ok_or_else(|| error::damaged("its text is cut off"))?;
        let mut copy = document.clone();
        copy.text.start = self.text.append(text)?;
        for space in Space::ALL {
            if let (Some(run), Some(files)) = (copy.vectors.of_mut(space), self.vectors.of_mut(space)) {
                files.codes.append(maps.codes_of(document, space)?)?;
                files.sketches.append(maps.sketches_of(document, space)?)?;
                files.floats.append(maps.floats_of(document, space)?)?;
                (run.file, run.first_row) = (files.number, files.rows);
                files.rows += u64::from(run.rows);
            }
        }
        Ok(copy)
    }
}

/// The documents that are alive after `staged`, in the order in which they were written, with their metrics.
fn alive<'a>(catalog: &'a Catalog, staged: &'a [Change]) -> Vec<(&'a Arc<Document>, BySpace<Vec<Metric>>)> {
    let last: HashMap<Uuid, &Change> = staged.iter().map(|change| (change.document_id(), change)).collect();
    let untouched = catalog.documents().filter(|document| !last.contains_key(&document.document_id));
    let mut alive: Vec<_> = untouched.map(|document| (document, catalog.metrics_of(document))).collect();
    alive.extend(last.values().filter_map(|change| match change {
        Change::Put(document, metrics) => Some((document, metrics.clone())),
        Change::Delete(_) => None,
    }));
    alive.sort_unstable_by_key(|(document, _)| document.text.start);
    alive
}
