//! The catalog: the fold of the journal, in memory. Which documents there are, whose, and which rows are theirs.
//!
//! About 24 bytes for a passage and 300 for a document. It answers which rows a filter allows, exactly, before any vector is
//! looked at. It knows no files.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use lmao_ports::SearchFilter;
use uuid::Uuid;

use super::{
    super::vectors::Metric,
    journal::{Change, Document},
};

/// Dead weight that is always tolerated: below it, compaction is not worth its syncs.
const TOLERATED: u64 = 1_000;

#[derive(Debug, Clone, Default)]
pub(in crate::index) struct Catalog {
    documents: BTreeMap<Uuid, Arc<Document>>,
    entries: HashMap<u64, Arc<Document>>,
    owners: HashMap<Uuid, Owner>,
    /// By row, dead rows included.
    metrics: Vec<Metric>,
    passages: u64,
    live_rows: u64,
    live_weight: u64,
    written_weight: u64,
}

#[derive(Debug, Clone, Default)]
struct Owner {
    documents: HashSet<Uuid>,
    /// Documents with vectors, by first row.
    runs: BTreeMap<u64, Arc<Document>>,
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

    fn add(&mut self, document: &Arc<Document>, metrics: &[Metric]) {
        self.written_weight += document.weight();
        self.live_weight += document.weight();
        self.passages += document.chunks.len() as u64;
        self.live_rows += document.rows();
        let owner = self.owners.entry(document.owner).or_default();
        owner.documents.insert(document.document_id);
        if let Some(vectors) = document.vectors {
            let first = row_index(vectors.first_row);
            // Rows begin at 0 again in new vector files, which begin only when no document has rows in older ones.
            self.metrics.resize(first, Metric::default());
            self.metrics.extend_from_slice(metrics);
            if !document.chunks.is_empty() {
                owner.runs.insert(vectors.first_row, Arc::clone(document));
            }
        }
        self.entries.insert(document.entry, Arc::clone(document));
        self.documents.insert(document.document_id, Arc::clone(document));
    }

    fn remove(&mut self, document_id: Uuid) {
        let Some(document) = self.documents.remove(&document_id) else { return };
        self.entries.remove(&document.entry);
        self.live_weight -= document.weight();
        self.passages -= document.chunks.len() as u64;
        self.live_rows -= document.rows();
        if let Some(owner) = self.owners.get_mut(&document.owner) {
            owner.documents.remove(&document_id);
            if let Some(vectors) = document.vectors.filter(|_| !document.chunks.is_empty()) {
                owner.runs.remove(&vectors.first_row);
            }
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
        self.entries.get(&entry)
    }

    /// What the scan knows of a document's rows.
    pub(in crate::index) fn metrics_of(&self, document: &Document) -> &[Metric] {
        let Some(vectors) = document.vectors else { return &[] };
        let first = row_index(vectors.first_row);
        self.metrics.get(first..first + document.chunks.len()).unwrap_or_default()
    }

    /// All documents in the order of their ids.
    pub(in crate::index) fn documents(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.documents.values()
    }

    pub(in crate::index) fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    pub(in crate::index) fn passages(&self) -> u64 {
        self.passages
    }

    pub(in crate::index) fn live_rows(&self) -> u64 {
        self.live_rows
    }

    /// Whether any document is this person's.
    pub(in crate::index) fn is_owner(&self, owner: &Uuid) -> bool {
        self.owners.contains_key(owner)
    }

    /// Whether all documents are this person's.
    pub(in crate::index) fn is_sole_owner(&self, owner: &Uuid) -> bool {
        self.owners.len() == 1 && self.owners.contains_key(owner)
    }

    /// The owner's document to which a row belongs, and the number of the passage in it.
    pub(in crate::index) fn at_row(&self, owner: &Uuid, row: u64) -> Option<(&Arc<Document>, usize)> {
        let (first, document) = self.owners.get(owner)?.runs.range(..=row).next_back()?;
        let number = usize::try_from(row - first).ok()?;
        (number < document.chunks.len()).then_some((document, number))
    }

    /// The entries of the filter's documents that are the owner's.
    pub(in crate::index) fn entries_of(&self, filter: &SearchFilter) -> Vec<u64> {
        let named = filter.document_ids.iter().filter_map(|id| self.documents.get(id));
        named.filter(|document| document.owner == filter.owner).map(|document| document.entry).collect()
    }

    /// The rows that a filter allows, in order, adjoining ones joined.
    pub(in crate::index) fn rows(&self, filter: &SearchFilter) -> Vec<Range<usize>> {
        // Nothing to leave out: no need to look at each document.
        let (everything, all) = (SearchFilter::all_of(filter.owner), self.metrics.len());
        if *filter == everything && self.is_sole_owner(&filter.owner) && self.live_rows == all as u64 {
            return std::iter::once(0..all).collect();
        }
        let mut rows = Vec::new();
        for (first, document) in self.runs(filter) {
            if filter.chunk_types.is_empty() {
                join(&mut rows, first..first + document.chunks.len());
                continue;
            }
            let wanted: Vec<bool> = document.types.iter().map(|kind| filter.chunk_types.contains(kind)).collect();
            for (number, place) in document.chunks.iter().enumerate() {
                if wanted.get(usize::from(place.kind)).is_some_and(|wanted| *wanted) {
                    join(&mut rows, first + number..first + number + 1);
                }
            }
        }
        rows
    }

    /// First row and document of those that have vectors and that the filter allows, passages' types aside.
    fn runs<'a>(&'a self, filter: &'a SearchFilter) -> Vec<(usize, &'a Arc<Document>)> {
        let Some(owner) = self.owners.get(&filter.owner) else { return Vec::new() };
        if filter.document_ids.is_empty() {
            let matching = owner.runs.iter().filter(|(_, document)| document.matches(filter));
            return matching.map(|(first, document)| (row_index(*first), document)).collect();
        }
        // A few documents of many: by their ids, not by going through all.
        let named = filter.document_ids.iter().filter_map(|id| self.documents.get(id));
        let own =
            named.filter(|document| document.owner == filter.owner && document.matches(filter) && document.rows() > 0);
        let mut runs: Vec<_> =
            own.filter_map(|document| Some((row_index(document.vectors?.first_row), document))).collect();
        runs.sort_unstable_by_key(|(first, _)| *first);
        runs.dedup_by_key(|(first, _)| *first);
        runs
    }
}

impl Document {
    fn matches(&self, filter: &SearchFilter) -> bool {
        let among = |wanted: &[String], value: Option<&String>| {
            wanted.is_empty() || value.is_some_and(|value| wanted.contains(value))
        };
        among(&filter.filenames, Some(&self.filename))
            && among(&filter.formats, Some(&self.format))
            && among(&filter.languages, self.language.as_ref())
    }
}

fn join(rows: &mut Vec<Range<usize>>, next: Range<usize>) {
    match rows.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => rows.push(next),
    }
}

/// Rows are counted in memory too, so they fit.
fn row_index(row: u64) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
