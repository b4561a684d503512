//! The vector files of one space: rows of codes and of floats, appended document by document.

use std::path::Path;

use lmao_ports::IndexError;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        error,
        vectors::{Metric, encode},
    },
    file::{AppendFile, Mapped},
    journal::{self, VectorRun},
};
use crate::passages::content::row;

/// Vectors that are encoded before they are written: bounds the memory that a long document takes beside itself.
const BATCH: usize = 512;
/// Rows are counted in 32 bits in memory.
const MOST_ROWS: u64 = u32::MAX as u64 - 1;

/// What a commit names of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct VectorState {
    /// Number of the two files.
    number: u64,
    dimensions: usize,
    rows: u64,
}

#[derive(Debug)]
pub(super) struct VectorFiles {
    pub number: u64,
    pub dims: usize,
    pub rows: u64,
    pub codes: AppendFile,
    pub floats: AppendFile,
}

/// The committed part of them, mapped.
#[derive(Debug, Default)]
pub(super) struct VectorMaps {
    pub dims: usize,
    pub codes: Mapped,
    pub floats: Mapped,
}

impl VectorFiles {
    pub(super) fn create(dir: &Path, number: u64, dims: usize) -> Result<Self, IndexError> {
        let codes = AppendFile::create(dir.join(format!("codes-{number}")))?;
        let floats = AppendFile::create(dir.join(format!("floats-{number}")))?;
        Ok(Self { number, dims, rows: 0, codes, floats })
    }

    pub(super) fn open(dir: &Path, state: &VectorState) -> Result<Self, IndexError> {
        let &VectorState { number, dimensions: dims, rows } = state;
        let bytes = rows.checked_mul(dims as u64).filter(|bytes| bytes.checked_mul(4).is_some() && rows <= MOST_ROWS);
        let bytes = bytes.ok_or_else(|| error::damaged("its commit names more vectors than there can be"))?;
        let codes = AppendFile::open(dir.join(format!("codes-{number}")), bytes)?;
        let floats = AppendFile::open(dir.join(format!("floats-{number}")), bytes * 4)?;
        Ok(Self { number, dims, rows, codes, floats })
    }

    pub(super) fn state(&self) -> VectorState {
        VectorState { number: self.number, dimensions: self.dims, rows: self.rows }
    }

    pub(super) fn map(&mut self) -> Result<VectorMaps, IndexError> {
        Ok(VectorMaps { dims: self.dims, codes: self.codes.map()?, floats: self.floats.map()? })
    }

    /// How far they reach, to come back to.
    pub(super) fn end(&self) -> (u64, u64, u64) {
        (self.rows, self.codes.end(), self.floats.end())
    }

    /// Forgets what was appended behind `end`.
    pub(super) fn rewind(&mut self, &(rows, codes, floats): &(u64, u64, u64)) {
        self.rows = rows;
        self.codes.rewind(codes);
        self.floats.rewind(floats);
    }

    /// Appends the vectors of a document's passages, those that have one. On an error, to be rewound.
    pub(super) fn append(&mut self, vectors: &[Option<Vec<f32>>]) -> Result<(VectorRun, Vec<Metric>), IndexError> {
        let present: Vec<(u32, &[f32])> =
            (0..).zip(vectors).filter_map(|(n, vector)| Some((n, vector.as_deref()?))).collect();
        let rows = u32::try_from(present.len()).ok().filter(|rows| self.rows + u64::from(*rows) <= MOST_ROWS);
        let rows = rows.ok_or_else(|| IndexError::Invalid("more vectors than one index can hold".to_owned()))?;
        let mut metrics = Vec::with_capacity(present.len());
        let (mut codes_hash, mut floats_hash) = (blake3::Hasher::new(), blake3::Hasher::new());
        for batch in present.chunks(BATCH) {
            let (mut codes, mut floats) = (Vec::new(), Vec::new());
            for (_, vector) in batch {
                let row = row(vector, self.dims)?;
                let encoded = encode(&row);
                codes.extend(encoded.codes.iter().map(|code| code.cast_unsigned()));
                floats.extend(row.iter().flat_map(|value| value.to_le_bytes()));
                metrics.push(encoded.metric);
            }
            codes_hash.update(&codes);
            floats_hash.update(&floats);
            self.codes.append(&codes)?;
            self.floats.append(&floats)?;
        }
        let sum = |hasher: &blake3::Hasher| journal::first_bytes(hasher.finalize().as_bytes());
        let is_full = present.len() == vectors.len();
        let run = VectorRun {
            file: self.number,
            first_row: self.rows,
            rows,
            passages: (!is_full).then(|| present.iter().map(|(n, _)| *n).collect()),
            codes: sum(&codes_hash),
            floats: sum(&floats_hash),
        };
        self.rows += u64::from(rows);
        Ok((run, metrics))
    }
}

impl VectorMaps {
    /// A document's codes, if they are there.
    pub(super) fn codes_of(&self, run: &VectorRun) -> Option<&[u8]> {
        rows_of(&self.codes, run, self.dims)
    }

    /// A document's floats, if they are there.
    pub(super) fn floats_of(&self, run: &VectorRun) -> Option<&[u8]> {
        rows_of(&self.floats, run, self.dims * 4)
    }
}

fn rows_of<'a>(file: &'a [u8], run: &VectorRun, width: usize) -> Option<&'a [u8]> {
    let start = usize::try_from(run.first_row).ok()?.checked_mul(width)?;
    file.get(start..start.checked_add((run.rows as usize).checked_mul(width)?)?)
}
