//! The catalog: the fold of the journal, in memory. Which documents there are, whose, and which rows are theirs.
//!
//! About 80 bytes for a passage and 500 for a document. It answers which passages a filter allows, exactly, for both legs:
//! before any vector is looked at, and for each match that would be among the best. It knows no files.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use lmao_ports::{SearchFilter, Space};
use uuid::Uuid;

use super::{
    super::vectors::Metric,
    columns::{Columns, Conditions, NONE, line},
    journal::{Change, Document, Place},
};
use crate::passages::{spaces::BySpace, terms::Tongue};

/// Dead weight that is always tolerated: below it, compaction is not worth its syncs.
const TOLERATED: u64 = 1_000;

#[derive(Debug, Clone, Default)]
pub(in crate::index) struct Catalog {
    documents: BTreeMap<Uuid, Arc<Document>>,
    /// By line, the dead as none.
    lines: Vec<Option<Arc<Document>>>,
    columns: Columns,
    /// Lines by entry.
    entries: HashMap<u64, u32>,
    owners: HashMap<Uuid, Owner>,
    rows: BySpace<SpaceRows>,
    passages: u64,
    bare: u64,
    live_weight: u64,
    written_weight: u64,
}

#[derive(Debug, Clone, Default)]
struct Owner {
    /// Lines of documents, in order.
    documents: Vec<u32>,
    /// Passages in other languages than English.
    tongues: BTreeMap<Tongue, u64>,
}

/// Rows of vectors in one space, dead rows included.
#[derive(Debug, Clone, Default)]
struct SpaceRows {
    metrics: Vec<Metric>,
    /// The passage that a row belongs to, by its line.
    passages: Vec<u32>,
    /// By line of a document, its first row and how many there are.
    runs: Vec<(u32, u32)>,
    live: u64,
}

impl Catalog {
    /// Takes in a record of the journal.
    pub(in crate::index) fn apply(&mut self, change: &Change) {
        self.remove(change.document_id());
        match change {
            Change::Put(document, metrics) => self.add(document, metrics),
            Change::Delete(_) => self.written_weight += 1,
        }
    }

    fn add(&mut self, document: &Arc<Document>, metrics: &BySpace<Vec<Metric>>) {
        self.written_weight += document.weight();
        self.live_weight += document.weight();
        self.passages += document.chunks.len() as u64;
        self.bare += document.bare();
        let number = line(self.columns.documents());
        let first_passage = self.columns.push(number, document);
        self.lines.push(Some(Arc::clone(document)));
        let owner = self.owners.entry(document.owner).or_default();
        owner.documents.push(number);
        for tongue in tongues(document) {
            *owner.tongues.entry(tongue).or_default() += 1;
        }
        for space in Space::ALL {
            let (rows, run) = (self.rows.of_mut(space), document.vectors.of(space).as_ref());
            rows.runs.push(run.map_or((0, 0), |run| (line(row_index(run.first_row)), run.rows)));
            let Some(run) = run else { continue };
            let first = row_index(run.first_row);
            // Rows begin at 0 again in new vector files, which begin only when no document has rows in older ones.
            rows.metrics.resize(first, Metric::default());
            rows.metrics.extend_from_slice(metrics.of(space));
            rows.passages.resize(first, NONE);
            rows.passages.extend(run.numbers().map(|passage| first_passage + passage));
            rows.live += u64::from(run.rows);
        }
        self.entries.insert(document.entry, number);
        self.documents.insert(document.document_id, Arc::clone(document));
    }

    fn remove(&mut self, document_id: Uuid) {
        let Some(document) = self.documents.remove(&document_id) else { return };
        self.live_weight -= document.weight();
        self.passages -= document.chunks.len() as u64;
        self.bare -= document.bare();
        for space in Space::ALL {
            self.rows.of_mut(space).live -= document.rows(space);
        }
        let Some(number) = self.entries.remove(&document.entry) else { return };
        self.lines[number as usize] = None;
        if let Some(owner) = self.owners.get_mut(&document.owner) {
            if let Ok(place) = owner.documents.binary_search(&number) {
                owner.documents.remove(place);
            }
            for tongue in tongues(&document) {
                owner.tongues.entry(tongue).and_modify(|passages| *passages -= 1);
            }
            owner.tongues.retain(|_, passages| *passages > 0);
            if owner.documents.is_empty() {
                self.owners.remove(&document.owner);
            }
        }
    }

    /// Whether, after `staged`, more is dead than alive.
    pub(in crate::index) fn wants_compaction(&self, staged: &[Change]) -> bool {
        let (mut written, mut live) = (self.written_weight, self.live_weight);
        let mut last: HashMap<Uuid, u64> = HashMap::new();
        for change in staged {
            let id = change.document_id();
            let before = last.get(&id).copied().or_else(|| self.documents.get(&id).map(|d| d.weight())).unwrap_or(0);
            let (record, after) = match change {
                Change::Put(document, _) => (document.weight(), document.weight()),
                Change::Delete(_) => (1, 0),
            };
            written += record;
            live = live + after - before;
            last.insert(id, after);
        }
        written - live > live + TOLERATED
    }

    pub(in crate::index) fn document(&self, id: &Uuid) -> Option<&Arc<Document>> {
        self.documents.get(id)
    }

    pub(in crate::index) fn entry(&self, entry: u64) -> Option<&Arc<Document>> {
        self.lines[*self.entries.get(&entry)? as usize].as_ref()
    }

    /// What the scan knows of a document's rows.
    pub(in crate::index) fn metrics_of(&self, document: &Document) -> BySpace<Vec<Metric>> {
        BySpace::each(|space| {
            let range = document
                .vectors
                .of(space)
                .as_ref()
                .map(|run| row_index(run.first_row)..row_index(run.first_row + u64::from(run.rows)));
            range.and_then(|range| self.rows.of(space).metrics.get(range)).unwrap_or_default().to_vec()
        })
    }

    /// All documents in the order of their ids.
    pub(in crate::index) fn documents(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.documents.values()
    }

    pub(in crate::index) fn metrics(&self, space: Space) -> &[Metric] {
        &self.rows.of(space).metrics
    }

    pub(in crate::index) fn passages(&self) -> u64 {
        self.passages
    }

    /// Passages without a vector in any space.
    pub(in crate::index) fn bare(&self) -> u64 {
        self.bare
    }

    pub(in crate::index) fn live_rows(&self, space: Space) -> u64 {
        self.rows.of(space).live
    }

    /// Whether any document is this person's.
    pub(in crate::index) fn is_owner(&self, owner: &Uuid) -> bool {
        self.owners.contains_key(owner)
    }

    /// The languages, English aside, of a person's passages.
    pub(in crate::index) fn tongues_of(&self, owner: &Uuid) -> impl Iterator<Item = Tongue> {
        self.owners.get(owner).into_iter().flat_map(|owner| owner.tongues.keys().copied())
    }

    /// The document to which a row belongs, and the number of the passage in it.
    pub(in crate::index) fn at_row(&self, space: Space, row: usize) -> Option<(&Arc<Document>, usize)> {
        let passage = *self.rows.of(space).passages.get(row)?;
        let (line, number) = self.columns.place_of(passage)?;
        Some((self.lines[line as usize].as_ref()?, number as usize))
    }

    /// The row of a document's passage.
    pub(in crate::index) fn row_of(&self, space: Space, document: &Document, number: usize) -> Option<usize> {
        let run = document.vectors.of(space).as_ref()?;
        Some(row_index(run.first_row) + run.place_of(u32::try_from(number).ok()?)? as usize)
    }

    /// Which passages a filter allows; `None` if it allows none.
    pub(in crate::index) fn allowed<'a>(&'a self, filter: &SearchFilter) -> Option<Allowed<'a>> {
        let owner = self.owners.get(&filter.owner)?;
        let conditions = self.columns.compile(filter)?;
        let named = (!filter.document_ids.is_empty()).then(|| {
            let named = filter.document_ids.iter().filter_map(|id| self.documents.get(id));
            let own = named.filter(|document| document.owner == filter.owner);
            let mut lines: Vec<u32> = own.filter_map(|document| self.entries.get(&document.entry).copied()).collect();
            lines.sort_unstable();
            lines.dedup();
            lines
        });
        if named.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let is_everything = *filter == SearchFilter::all_of(filter.owner) && self.owners.len() == 1;
        Some(Allowed { catalog: self, owner, owner_id: filter.owner, conditions, named, is_everything })
    }
}

/// The passages that a filter allows.
#[derive(Debug)]
pub(in crate::index) struct Allowed<'a> {
    catalog: &'a Catalog,
    owner: &'a Owner,
    owner_id: Uuid,
    conditions: Conditions<'a>,
    /// Lines of the documents that it names, in order, if it does.
    named: Option<Vec<u32>>,
    is_everything: bool,
}

impl Allowed<'_> {
    /// Whether nothing that is alive is left out.
    pub(in crate::index) fn is_everything(&self) -> bool {
        self.is_everything
    }

    /// Whether it allows this passage, by its document's entry.
    pub(in crate::index) fn allows(&self, entry: u64, number: u32) -> bool {
        let Some(line) = self.catalog.entries.get(&entry) else { return false };
        if self.is_everything {
            return true;
        }
        let is_own =
            self.catalog.lines[*line as usize].as_ref().is_some_and(|document| document.owner == self.owner_id);
        is_own
            && self.named.as_ref().is_none_or(|named| named.binary_search(line).is_ok())
            && self.conditions.allows_document(*line)
            && self.conditions.allows_passage(self.catalog.columns.first_passage(*line) + number)
    }

    /// The entries of the documents that it names, if it does.
    pub(in crate::index) fn named_entries(&self) -> Option<Vec<u64>> {
        let document = |line: &u32| self.catalog.lines[*line as usize].as_ref().map(|document| document.entry);
        self.named.as_ref().map(|named| named.iter().filter_map(document).collect())
    }

    /// Passages of the documents that it names, if it does.
    pub(in crate::index) fn named_passages(&self) -> Option<usize> {
        let passages =
            |line: &u32| self.catalog.lines[*line as usize].as_ref().map_or(0, |document| document.chunks.len());
        self.named.as_ref().map(|named| named.iter().map(passages).sum())
    }

    /// Its rows in a space, in order, adjoining ones joined.
    pub(in crate::index) fn rows(&self, space: Space) -> Vec<Range<usize>> {
        let all = self.catalog.rows.of(space);
        // Nothing to leave out: no need to look at each document.
        if self.is_everything && all.live == all.metrics.len() as u64 {
            return std::iter::once(0..all.metrics.len()).collect();
        }
        let mut rows = Vec::new();
        for line in self.named.as_ref().unwrap_or(&self.owner.documents) {
            if !self.conditions.allows_document(*line) {
                continue;
            }
            let (first, count) = all.runs[*line as usize];
            let run = first as usize..first as usize + count as usize;
            if !self.conditions.is_about_passages() {
                join(&mut rows, run);
                continue;
            }
            for (row, passage) in run.clone().zip(&all.passages[run]) {
                if self.conditions.allows_passage(*passage) {
                    join(&mut rows, row..row + 1);
                }
            }
        }
        rows
    }
}

/// The languages of a document's passages, English aside.
fn tongues(document: &Document) -> impl Iterator<Item = Tongue> {
    let by_name: Vec<Tongue> = document.names.iter().map(|name| Tongue::of(Some(name))).collect();
    let of = move |place: &Place| place.language.and_then(|n| by_name.get(n as usize).copied());
    document.chunks.iter().filter_map(of).filter(|tongue| *tongue != Tongue::English)
}

fn join(rows: &mut Vec<Range<usize>>, next: Range<usize>) {
    match rows.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ if next.is_empty() => {}
        _ => rows.push(next),
    }
}

/// Rows are counted in memory too, so they fit.
fn row_index(row: u64) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
