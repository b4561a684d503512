//! The vector files of one space: rows of codes, of sketches and of floats, appended document by document.

use std::path::Path;

use lmao_ports::IndexError;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        error,
        vectors::{Metric, encode, sketch_width},
    },
    MAX_DIMENSIONS,
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
    /// Number of the three files.
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
    pub sketches: AppendFile,
    pub floats: AppendFile,
}

/// How far they reach.
#[derive(Debug)]
pub(super) struct VectorEnds {
    rows: u64,
    codes: u64,
    sketches: u64,
    floats: u64,
}

/// The committed part of them, mapped.
#[derive(Debug, Default)]
pub(super) struct VectorMaps {
    pub dims: usize,
    pub codes: Mapped,
    pub sketches: Mapped,
    pub floats: Mapped,
}

impl VectorFiles {
    pub(super) fn create(dir: &Path, number: u64, dims: usize) -> Result<Self, IndexError> {
        let codes = AppendFile::create(dir.join(format!("codes-{number}")))?;
        let sketches = AppendFile::create(dir.join(format!("sketches-{number}")))?;
        let floats = AppendFile::create(dir.join(format!("floats-{number}")))?;
        Ok(Self { number, dims, rows: 0, codes, sketches, floats })
    }

    pub(super) fn open(dir: &Path, state: &VectorState) -> Result<Self, IndexError> {
        let &VectorState { number, dimensions: dims, rows } = state;
        if dims > MAX_DIMENSIONS || rows > MOST_ROWS {
            return Err(error::damaged("its commit names more vectors than there can be"));
        }
        let open =
            |name: &str, width: usize| AppendFile::open(dir.join(format!("{name}-{number}")), rows * width as u64);
        let (codes, sketches, floats) =
            (open("codes", dims)?, open("sketches", sketch_width(dims))?, open("floats", dims * 4)?);
        Ok(Self { number, dims, rows, codes, sketches, floats })
    }

    pub(super) fn state(&self) -> VectorState {
        VectorState { number: self.number, dimensions: self.dims, rows: self.rows }
    }

    pub(super) fn map(&mut self) -> Result<VectorMaps, IndexError> {
        Ok(VectorMaps {
            dims: self.dims,
            codes: self.codes.map()?,
            sketches: self.sketches.map()?,
            floats: self.floats.map()?,
        })
    }

    /// To come back to.
    pub(super) fn ends(&self) -> VectorEnds {
        let Self { rows, codes, sketches, floats, .. } = self;
        VectorEnds { rows: *rows, codes: codes.end(), sketches: sketches.end(), floats: floats.end() }
    }

    /// Forgets what was appended behind `ends`.
    pub(super) fn rewind(&mut self, ends: &VectorEnds) {
        self.rows = ends.rows;
        self.codes.rewind(ends.codes);
        self.sketches.rewind(ends.sketches);
        self.floats.rewind(ends.floats);
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&mut self) -> Result<(), IndexError> {
        self.codes.sync()?;
        self.sketches.sync()?;
        self.floats.sync()
    }

    /// Where they lie.
    pub(super) fn paths(&self) -> [&Path; 3] {
        [self.codes.path(), self.sketches.path(), self.floats.path()]
    }

    /// Appends the vectors of a document's passages, those that have one. On an error, to be rewound.
    pub(super) fn append(&mut self, vectors: &[Option<Vec<f32>>]) -> Result<(VectorRun, Vec<Metric>), IndexError> {
        let present: Vec<(u32, &[f32])> =
            (0..).zip(vectors).filter_map(|(n, vector)| Some((n, vector.as_deref()?))).collect();
        let rows = u32::try_from(present.len()).ok().filter(|rows| self.rows + u64::from(*rows) <= MOST_ROWS);
        let rows = rows.ok_or_else(|| IndexError::Invalid("more vectors than one index can hold".to_owned()))?;
        let mut metrics = Vec::with_capacity(present.len());
        let mut hashes: [_; 3] = std::array::from_fn(|_| blake3::Hasher::new());
        for batch in present.chunks(BATCH) {
            let (mut codes, mut sketches, mut floats) = (Vec::new(), Vec::new(), Vec::new());
            for (_, vector) in batch {
                let row = row(vector, self.dims)?;
                let encoded = encode(&row);
                codes.extend(encoded.codes.iter().map(|code| code.cast_unsigned()));
                sketches.extend(encoded.sketch);
                floats.extend(row.iter().flat_map(|value| value.to_le_bytes()));
                metrics.push(encoded.metric);
            }
            for (hash, bytes) in hashes.iter_mut().zip([&codes, &sketches, &floats]) {
                hash.update(bytes);
            }
            self.codes.append(&codes)?;
            self.sketches.append(&sketches)?;
            self.floats.append(&floats)?;
        }
        let [codes, sketches, floats] = hashes.map(|hash| journal::first_bytes(hash.finalize().as_bytes()));
        let is_full = present.len() == vectors.len();
        let run = VectorRun {
            file: self.number,
            first_row: self.rows,
            rows,
            passages: (!is_full).then(|| present.iter().map(|(n, _)| *n).collect()),
            codes,
            sketches,
            floats,
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

    /// A document's sketches, if they are there.
    pub(super) fn sketches_of(&self, run: &VectorRun) -> Option<&[u8]> {
        rows_of(&self.sketches, run, sketch_width(self.dims))
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
