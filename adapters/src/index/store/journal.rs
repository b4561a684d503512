//! The journal of documents: what was put and deleted, in order, each record chained to the one before it.
//!
//! A record is `length (u32) | BLAKE3 of the chain so far and the body, first 8 bytes | body (MessagePack)`, little-endian.
//! It knows the layout of records, not what the catalog makes of them.

use std::sync::Arc;

use lmao_events::Hash;
use lmao_ports::IndexError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{error, vectors::Metric};

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
    /// The distinct chunk types; places refer to them by number.
    pub types: Vec<String>,
    /// Its passages, in the order of their ordinals.
    pub chunks: Vec<Place>,
    /// Its bytes in the text file: the head, then the passages.
    pub text: Run,
    /// Bytes of the head, at the beginning of `text`.
    pub head: u32,
    pub vectors: Option<VectorRun>,
}

/// Where a passage lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(in crate::index) struct Place {
    pub ordinal: u32,
    /// From the beginning of the document's text.
    pub offset: u32,
    pub bytes: u32,
    /// Number of its type.
    pub kind: u16,
}

/// Adjoining bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(in crate::index) struct Run {
    pub start: u64,
    pub bytes: u64,
}

/// Adjoining rows of a pair of vector files, one for each passage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(in crate::index) struct VectorRun {
    /// Number of the files.
    pub file: u64,
    pub first_row: u64,
    /// Of the rows' codes and floats, [`checksum`].
    pub codes: u64,
    pub floats: u64,
}

impl Document {
    /// Rows of vectors.
    pub(in crate::index) fn rows(&self) -> u64 {
        if self.vectors.is_some() { self.chunks.len() as u64 } else { 0 }
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
    Put(Arc<Document>, Vec<Metric>),
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
        each(rmp_serde::from_slice(body).map_err(|_| altered())?)?;
        bytes = rest;
    }
    Ok(chain)
}
