//! The catalog: the fold of the journal, in memory. Which documents there are, whose, and which rows are theirs.
//!
//! About 90 bytes for a passage and 500 for a document. It answers which passages a filter allows, exactly, for both legs,
//! before any vector or word is looked at. It knows no files.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use lmao_ports::{SearchFilter, Space};
use uuid::Uuid;

use super::{
    super::{bits::Bits, vectors::Metric},
    columns::{Columns, NONE, line},
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
    /// Lines by id: a filter may name a thousand.
    named: HashMap<Uuid, u32>,
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
        self.named.insert(document.document_id, number);
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
        self.named.remove(&document_id);
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

    /// The first passage of the document with this entry.
    pub(in crate::index) fn first_passage(&self, entry: u64) -> Option<u32> {
        Some(self.columns.first_passage(*self.entries.get(&entry)?))
    }

    /// The document of a passage that is alive, and the passage's number in it.
    pub(in crate::index) fn at_passage(&self, passage: u32) -> Option<(&Arc<Document>, usize)> {
        let (line, number) = self.columns.place_of(passage)?;
        Some((self.lines[line as usize].as_ref()?, number as usize))
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
        self.at_passage(*self.rows.of(space).passages.get(row)?)
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
        let mut documents = if filter.document_ids.is_empty() {
            owner.documents.clone()
        } else {
            let mut lines: Vec<u32> = filter.document_ids.iter().filter_map(|id| self.named.get(id).copied()).collect();
            lines.sort_unstable();
            lines.dedup();
            // Both in order.
            let mut own = owner.documents.iter().peekable();
            lines.retain(|line| {
                while own.next_if(|own| *own < line).is_some() {}
                own.peek() == Some(&line)
            });
            lines
        };
        documents.retain(|line| conditions.allows_document(*line));
        let mut passages = Bits::none(self.columns.passages());
        let runs = joined(documents.iter().map(|line| self.columns.passages_of(*line)));
        runs.into_iter().for_each(|run| conditions.let_through(run, &mut passages));
        (!documents.is_empty()).then(|| Allowed {
            catalog: self,
            documents,
            passages,
            is_about_passages: conditions.is_about_passages(),
        })
    }
}

/// The passages that a filter allows.
#[derive(Debug)]
pub(in crate::index) struct Allowed<'a> {
    catalog: &'a Catalog,
    /// Lines of documents, in order.
    documents: Vec<u32>,
    passages: Bits,
    /// Whether not all passages of these documents are allowed.
    is_about_passages: bool,
}

impl Allowed<'_> {
    /// They themselves.
    pub(in crate::index) fn passages(&self) -> &Bits {
        &self.passages
    }

    /// Their rows in a space.
    pub(in crate::index) fn rows(&self, space: Space) -> Bits {
        let all = self.catalog.rows.of(space);
        let run = |line: &u32| {
            let (first, count) = all.runs[*line as usize];
            first as usize..first as usize + count as usize
        };
        let mut rows = Bits::none(all.passages.len());
        for run in joined(self.documents.iter().map(run)) {
            rows.add(run, |rows| if self.is_about_passages { self.let_through(&all.passages[rows]) } else { u64::MAX });
        }
        rows
    }

    /// Which of these passages, at most 64 in order, are allowed.
    fn let_through(&self, passages: &[u32]) -> u64 {
        match (passages.first(), passages.last()) {
            // All in a row, as where each has a vector.
            (Some(first), Some(last)) if (last - first) as usize + 1 == passages.len() => {
                self.passages.at(*first as usize)
            }
            _ => {
                let is_allowed = |passage: &u32| u64::from(self.passages.contains(*passage as usize));
                (0..).zip(passages).fold(0, |all, (bit, passage)| all | is_allowed(passage) << bit)
            }
        }
    }
}

/// Ranges in order, adjoining ones as one.
fn joined(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for next in ranges {
        match joined.last_mut() {
            Some(last) if last.end == next.start => last.end = next.end,
            _ if next.is_empty() => {}
            _ => joined.push(next),
        }
    }
    joined
}

/// The languages of a document's passages, English aside.
fn tongues(document: &Document) -> impl Iterator<Item = Tongue> {
    let by_name: Vec<Tongue> = document.names.iter().map(|name| Tongue::of(Some(name))).collect();
    let of = move |place: &Place| place.language.and_then(|n| by_name.get(n as usize).copied());
    document.chunks.iter().filter_map(of).filter(|tongue| *tongue != Tongue::English)
}

/// Rows are counted in memory too, so they fit.
fn row_index(row: u64) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
