//! The journal of documents: what was put and deleted, in order, each record chained to the one before it.
//!
//! A record is `length (u32) | BLAKE3 of the chain so far and the body, first 8 bytes | body (MessagePack)`, little-endian.
//! It knows the layout of records, not what the catalog makes of them.

use std::sync::Arc;

use lmao_events::{Hash, Timestamp};
use lmao_ports::{IndexError, Space};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{error, vectors::Metric};
use crate::passages::spaces::BySpace;

/// A document as the catalog knows it: where its passages and vectors lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::index) struct Document {
    /// Unique to this version of the document, for ever: the keyword part refers to it.
    pub entry: u64,
    pub document_id: Uuid,
    pub owner: Uuid,
    pub filename: String,
    pub format: String,
    pub language: Option<String>,
    pub title: Option<String>,
    pub authors: Vec<String>,
    pub tags: Vec<String>,
    pub created_at: Timestamp,
    /// The distinct types, languages and sections of passages; places refer to them by number.
    pub names: Vec<String>,
    /// Its passages, in the order of their ordinals.
    pub chunks: Vec<Place>,
    /// Its bytes in the text file: the head, then the passages.
    pub text: Run,
    /// Bytes of the head, at the beginning of `text`.
    pub head: u32,
    pub vectors: BySpace<Option<VectorRun>>,
}

/// Where a passage lies, and what it is filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(in crate::index) struct Place {
    pub ordinal: u32,
    /// From the beginning of the document's text.
    pub offset: u32,
    pub bytes: u32,
    /// Number of its type's name.
    pub kind: u32,
    /// Likewise of its language's, the document's if it has none of its own.
    pub language: Option<u32>,
    /// Likewise of its section path.
    pub section: Option<u32>,
    pub page: Option<u32>,
}

/// Adjoining bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(in crate::index) struct Run {
    pub start: u64,
    pub bytes: u64,
}

/// Adjoining rows of a set of vector files, one for each passage that has a vector of that space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::index) struct VectorRun {
    /// Number of the files.
    pub file: u64,
    pub first_row: u64,
    pub rows: u32,
    /// Numbers of the passages that have one, in order; `None` where all do.
    pub passages: Option<Vec<u32>>,
    /// Of the rows' codes, sketches and floats, [`checksum`].
    pub codes: u64,
    pub sketches: u64,
    pub floats: u64,
}

impl VectorRun {
    /// The numbers of its passages, in order.
    pub(in crate::index) fn numbers(&self) -> impl Iterator<Item = u32> {
        (0..self.rows).map(|n| self.passages.as_ref().map_or(n, |passages| passages[n as usize]))
    }

    /// The row of a passage, counted from the first.
    pub(in crate::index) fn place_of(&self, number: u32) -> Option<u32> {
        match &self.passages {
            None => (number < self.rows).then_some(number),
            Some(passages) => passages.binary_search(&number).ok().and_then(|place| u32::try_from(place).ok()),
        }
    }

    /// Whether rows and passages fit a document of so many passages.
    fn fits(&self, passages: usize) -> bool {
        match &self.passages {
            None => self.rows as usize == passages,
            Some(numbers) => {
                numbers.len() == self.rows as usize
                    && numbers.is_sorted_by(|a, b| a < b)
                    && numbers.last().is_none_or(|last| (*last as usize) < passages)
            }
        }
    }
}

impl Document {
    /// Rows of vectors in a space.
    pub(in crate::index) fn rows(&self, space: Space) -> u64 {
        self.vectors.of(space).as_ref().map_or(0, |run| u64::from(run.rows))
    }

    /// Passages without a vector in any space.
    pub(in crate::index) fn bare(&self) -> u64 {
        let has_vector =
            |number| self.vectors.iter().any(|(_, run)| run.as_ref().is_some_and(|run| run.place_of(number).is_some()));
        let mut runs = self.vectors.iter().filter_map(|(_, run)| run.as_ref());
        if runs.any(|run| run.passages.is_none()) {
            return 0;
        }
        (0_u32..).zip(&self.chunks).filter(|(number, _)| !has_vector(*number)).count() as u64
    }

    /// A name that a place refers to.
    pub(in crate::index) fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", |name| name)
    }

    /// What it costs to keep, in journal records and passages: the measure by which compaction decides.
    pub(super) fn weight(&self) -> u64 {
        1 + self.chunks.len() as u64
    }
}

/// A record of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::index) enum Change {
    /// A document, replacing any of the same id, and what the scan needs to know of its rows.
    Put(Arc<Document>, BySpace<Vec<Metric>>),
    /// A document is gone.
    Delete(Uuid),
}

impl Change {
    pub(in crate::index) fn document_id(&self) -> Uuid {
        match self {
            Self::Put(document, _) => document.document_id,
            Self::Delete(id) => *id,
        }
    }

    /// Rows of vectors in a space.
    pub(in crate::index) fn rows(&self, space: Space) -> u64 {
        match self {
            Self::Put(document, _) => document.rows(space),
            Self::Delete(_) => 0,
        }
    }

    /// Whether its parts fit each other, so that nobody need look again.
    fn is_whole(&self) -> bool {
        let Self::Put(document, metrics) = self else { return true };
        document.vectors.iter().all(|(space, run)| {
            let rows = metrics.of(space).len();
            run.as_ref().map_or(rows == 0, |run| run.rows as usize == rows && run.fits(document.chunks.len()))
        })
    }
}

/// First 8 bytes of BLAKE3: against rot and cut files, not against forgers.
pub(in crate::index) fn checksum(bytes: &[u8]) -> u64 {
    first_bytes(blake3::hash(bytes).as_bytes())
}

pub(super) fn first_bytes(hash: &[u8; 32]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|n| hash[n]))
}

fn link(chain: Hash, body: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&chain.0).update(body);
    Hash(*hasher.finalize().as_bytes())
}

/// The record's bytes and the chain's new end.
pub(super) fn encode(change: &Change, chain: Hash, out: &mut Vec<u8>) -> Result<Hash, IndexError> {
    let body =
        rmp_serde::to_vec(change).map_err(|e| IndexError::Invalid(format!("a document cannot be stored: {e}")))?;
    let length = u32::try_from(body.len()).map_err(|_| {
        IndexError::Invalid("a document has too many passages for one journal record (4 GiB)".to_owned())
    })?;
    let chain = link(chain, &body);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&first_bytes(&chain.0).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(chain)
}

/// Reads all records, in order; the chain's end.
pub(super) fn decode(
    mut bytes: &[u8],
    mut each: impl FnMut(Change) -> Result<(), IndexError>,
) -> Result<Hash, IndexError> {
    let altered = || error::damaged("its journal was altered");
    let mut chain = Hash::default();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk().ok_or_else(altered)?;
        let (sum, rest) = rest.split_first_chunk().ok_or_else(altered)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (body, rest) = rest.split_at_checked(length).ok_or_else(altered)?;
        chain = link(chain, body);
        if first_bytes(&chain.0) != u64::from_le_bytes(*sum) {
            return Err(altered());
        }
        let change: Change = rmp_serde::from_slice(body).map_err(|_| altered())?;
        each(Some(change).filter(Change::is_whole).ok_or_else(altered)?)?;
        bytes = rest;
    }
    Ok(chain)
}
