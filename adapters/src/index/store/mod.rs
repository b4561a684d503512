//! Documents, passages and vectors on disk: four files that only grow, and the state that a commit names.
//!
//! `journal-N` tells which documents were put and deleted, `text-N` holds their passages, `codes-M` and `floats-M` their
//! vectors, one row for a passage. A commit names the files and how many bytes of each are its own; what is behind them was
//! never committed. This module keeps that true and knows neither tantivy nor queries.

mod catalog;
mod compact;
mod file;
mod journal;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use lmao_events::Hash;
use lmao_ports::{ChunkRecord, IndexError, IndexedDocument};
use serde::{Deserialize, Serialize};

pub(super) use self::{
    catalog::Catalog,
    file::{Mapped, sync_directory},
    journal::{Change, Document, checksum},
};
use self::{
    file::AppendFile,
    journal::{Place, Run, VectorRun},
};
use super::{
    error,
    vectors::{Metric, Rows, encode},
};
use crate::passages::content::{self, Head, check, no_model, row};

/// Vectors that are encoded before they are written: bounds the memory that a long document takes beside itself.
const BATCH: usize = 512;
/// What a processor's integers hold, see the scan.
const MAX_DIMENSIONS: usize = 8_192;
const CHECKSUM: usize = size_of::<u64>();

/// What a commit names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Number of the journal and the text file.
    number: u64,
    journal_bytes: u64,
    /// End of the journal's chain, hexadecimal.
    journal_chain: String,
    text_bytes: u64,
    vectors: Option<VectorState>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct VectorState {
    /// Number of the two vector files.
    number: u64,
    dimensions: usize,
    rows: u64,
}

#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    number: u64,
    journal: AppendFile,
    chain: Hash,
    text: AppendFile,
    vectors: Option<VectorFiles>,
}

#[derive(Debug)]
struct VectorFiles {
    number: u64,
    dims: usize,
    rows: u64,
    codes: AppendFile,
    floats: AppendFile,
}

/// The committed part of the files, mapped.
#[derive(Debug, Default)]
pub(super) struct Maps {
    pub text: Mapped,
    pub dims: usize,
    codes: Mapped,
    floats: Mapped,
}

impl Store {
    /// Empty, in files of this number. Nothing refers to them before a commit does.
    pub(super) fn create(dir: &Path, number: u64) -> Result<Self, IndexError> {
        let journal = AppendFile::create(dir.join(format!("journal-{number}")))?;
        let text = AppendFile::create(dir.join(format!("text-{number}")))?;
        Ok(Self { dir: dir.to_owned(), number, journal, chain: Hash::default(), text, vectors: None })
    }

    /// As a commit left it, with the catalog that follows from it.
    pub(super) fn open(dir: &Path, state: &State) -> Result<(Self, Catalog), IndexError> {
        let mut journal = AppendFile::open(dir.join(format!("journal-{}", state.number)), state.journal_bytes)?;
        let text = AppendFile::open(dir.join(format!("text-{}", state.number)), state.text_bytes)?;
        let vectors = state.vectors.as_ref().map(|vectors| VectorFiles::open(dir, vectors)).transpose()?;
        let mut catalog = Catalog::default();
        let chain = journal::decode(&journal.map()?, |change| {
            catalog.apply(&change);
            Ok(())
        })?;
        if chain.to_string() != state.journal_chain {
            return Err(error::damaged("its journal is not the one that the last commit names"));
        }
        let mut store = Self { dir: dir.to_owned(), number: state.number, journal, chain, text, vectors };
        store.verify(&catalog)?;
        Ok((store, catalog))
    }

    /// Every document lies within the files, and the codes, which every query reads, are what was written. Floats and text
    /// are checked when they are read.
    fn verify(&mut self, catalog: &Catalog) -> Result<(), IndexError> {
        let maps = self.map()?;
        let number = self.vectors.as_ref().map(|vectors| vectors.number);
        for document in catalog.documents() {
            let end = document.text.start.checked_add(document.text.bytes);
            if end.is_none_or(|end| end > self.text.end()) {
                return Err(error::damaged(format!("{} is shorter than its journal says", self.text.path().display())));
            }
            let Some(run) = document.vectors else { continue };
            if number != Some(run.file) || maps.codes_of(document).is_none_or(|codes| checksum(codes) != run.codes) {
                return Err(error::damaged(format!("the vectors of document {} were altered", document.document_id)));
            }
        }
        Ok(())
    }

    /// What a commit must name to find all this again.
    pub(super) fn state(&self) -> State {
        State {
            number: self.number,
            journal_bytes: self.journal.end(),
            journal_chain: self.chain.to_string(),
            text_bytes: self.text.end(),
            vectors: self.vectors.as_ref().map(|vectors| VectorState {
                number: vectors.number,
                dimensions: vectors.dims,
                rows: vectors.rows,
            }),
        }
    }

    /// A number that no file has.
    pub(super) fn next_number(&self) -> u64 {
        self.number.max(self.vectors.as_ref().map_or(0, |vectors| vectors.number)) + 1
    }

    /// Begins new vector files; no document may have vectors in the old ones.
    pub(super) fn start_vectors(&mut self, dims: usize) -> Result<(), IndexError> {
        if dims == 0 || dims > MAX_DIMENSIONS {
            return Err(IndexError::Invalid(format!(
                "a model of {dims} dimensions; 1 to {MAX_DIMENSIONS} can be indexed"
            )));
        }
        self.vectors = Some(VectorFiles::create(&self.dir, self.next_number(), dims)?);
        Ok(())
    }

    /// Writes a document behind the rest. On an error it is as if nothing was written.
    pub(super) fn write(&mut self, entry: u64, document: &IndexedDocument) -> Result<Change, IndexError> {
        check(document)?;
        let text_end = self.text.end();
        let written = self.write_text(entry, document).and_then(|mut written| {
            let metrics = match content::general(document) {
                Some(vectors) => {
                    let (run, metrics) = self.write_vectors(&vectors)?;
                    written.vectors = Some(run);
                    metrics
                }
                None => Vec::new(),
            };
            Ok(Change::Put(written.into(), metrics))
        });
        if written.is_err() {
            self.text.rewind(text_end);
        }
        written
    }

    fn write_text(&mut self, entry: u64, document: &IndexedDocument) -> Result<Document, IndexError> {
        let head = Head::of(document);
        let mut bytes = Vec::new();
        let head = push_record(&mut bytes, &head)?;
        let mut types: Vec<String> = Vec::new();
        let mut chunks = Vec::with_capacity(document.chunks.len());
        for chunk in &document.chunks {
            let kind = types.iter().position(|kind| *kind == chunk.chunk_type).unwrap_or_else(|| {
                types.push(chunk.chunk_type.clone());
                types.len() - 1
            });
            let kind = u16::try_from(kind).map_err(|_| too_large(document))?;
            let offset = u32::try_from(bytes.len()).map_err(|_| too_large(document))?;
            let bytes = push_record(&mut bytes, chunk)?;
            chunks.push(Place { ordinal: chunk.ordinal, offset, bytes, kind });
        }
        let start = self.text.append(&bytes)?;
        Ok(Document {
            entry,
            document_id: document.document_id,
            owner: document.owner,
            filename: document.filename.clone(),
            format: document.format.clone(),
            language: document.language.clone(),
            types,
            chunks,
            text: Run { start, bytes: bytes.len() as u64 },
            head,
            vectors: None,
        })
    }

    fn write_vectors(&mut self, vectors: &[Vec<f32>]) -> Result<(VectorRun, Vec<Metric>), IndexError> {
        let files = self.vectors.as_mut().ok_or_else(no_model)?;
        let (codes_end, floats_end) = (files.codes.end(), files.floats.end());
        let written = files.append(vectors);
        if written.is_err() {
            files.codes.rewind(codes_end);
            files.floats.rewind(floats_end);
        }
        written
    }

    /// Appends records to the journal. On an error it is as if nothing was written.
    pub(super) fn record(&mut self, changes: &[Change]) -> Result<(), IndexError> {
        let mut bytes = Vec::new();
        let mut chain = self.chain;
        for change in changes {
            chain = journal::encode(change, chain, &mut bytes)?;
        }
        self.journal.append(&bytes)?;
        self.chain = chain;
        Ok(())
    }

    /// Where the journal ends now, to come back to when a commit fails.
    pub(super) fn mark(&self) -> (u64, Hash) {
        (self.journal.end(), self.chain)
    }

    /// Forgets what the journal got after `mark`.
    pub(super) fn rewind(&mut self, (end, chain): (u64, Hash)) {
        self.journal.rewind(end);
        self.chain = chain;
    }

    /// Makes everything written so far durable, the files' names included.
    pub(super) fn sync(&mut self) -> Result<(), IndexError> {
        self.text.sync()?;
        if let Some(vectors) = &mut self.vectors {
            vectors.codes.sync()?;
            vectors.floats.sync()?;
        }
        self.journal.sync()?;
        sync_directory(&self.dir)
    }

    pub(super) fn map(&mut self) -> Result<Maps, IndexError> {
        let mut maps = Maps { text: self.text.map()?, ..Maps::default() };
        if let Some(vectors) = &mut self.vectors {
            maps.dims = vectors.dims;
            maps.codes = vectors.codes.map()?;
            maps.floats = vectors.floats.map()?;
        }
        Ok(maps)
    }

    /// Removes the files that this store does not use: they were replaced, or never committed.
    pub(super) fn sweep(&self) {
        let mut used: HashSet<&Path> = HashSet::from([self.journal.path(), self.text.path()]);
        if let Some(vectors) = &self.vectors {
            used.extend([vectors.codes.path(), vectors.floats.path()]);
        }
        let Ok(files) = fs::read_dir(&self.dir) else { return };
        for path in files.flatten().map(|file| file.path()).filter(|path| !used.contains(path.as_path())) {
            // Harmless if it stays: nothing names it, and the next sweep tries again.
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "could not remove an unused index file");
            }
        }
    }
}

impl VectorFiles {
    fn create(dir: &Path, number: u64, dims: usize) -> Result<Self, IndexError> {
        let codes = AppendFile::create(dir.join(format!("codes-{number}")))?;
        let floats = AppendFile::create(dir.join(format!("floats-{number}")))?;
        Ok(Self { number, dims, rows: 0, codes, floats })
    }

    fn open(dir: &Path, state: &VectorState) -> Result<Self, IndexError> {
        let &VectorState { number, dimensions: dims, rows } = state;
        let bytes = rows.checked_mul(dims as u64).filter(|bytes| bytes.checked_mul(4).is_some());
        let bytes = bytes.ok_or_else(|| error::damaged("its commit names more vectors than there can be"))?;
        let codes = AppendFile::open(dir.join(format!("codes-{number}")), bytes)?;
        let floats = AppendFile::open(dir.join(format!("floats-{number}")), bytes * 4)?;
        Ok(Self { number, dims, rows, codes, floats })
    }

    fn append(&mut self, vectors: &[Vec<f32>]) -> Result<(VectorRun, Vec<Metric>), IndexError> {
        let mut metrics = Vec::with_capacity(vectors.len());
        let (mut codes_hash, mut floats_hash) = (blake3::Hasher::new(), blake3::Hasher::new());
        for batch in vectors.chunks(BATCH) {
            let (mut codes, mut floats) = (Vec::new(), Vec::new());
            for vector in batch {
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
        let run =
            VectorRun { file: self.number, first_row: self.rows, codes: sum(&codes_hash), floats: sum(&floats_hash) };
        self.rows += vectors.len() as u64;
        Ok((run, metrics))
    }
}

fn too_large(document: &IndexedDocument) -> IndexError {
    IndexError::Invalid(format!("document {} is too large to index: more than 4 GiB of text", document.document_id))
}

/// Appends `checksum | MessagePack`; its length.
fn push_record(out: &mut Vec<u8>, record: &impl Serialize) -> Result<u32, IndexError> {
    let body = content::record(record)?;
    out.extend_from_slice(&checksum(&body).to_le_bytes());
    out.extend_from_slice(&body);
    u32::try_from(CHECKSUM + body.len()).map_err(|_| IndexError::Invalid("a passage of more than 4 GiB".to_owned()))
}

impl Maps {
    fn rows_of<'a>(file: &'a [u8], document: &Document, width: usize) -> Option<&'a [u8]> {
        let start = usize::try_from(document.vectors?.first_row).ok()?.checked_mul(width)?;
        file.get(start..start.checked_add(document.chunks.len().checked_mul(width)?)?)
    }

    fn codes_of(&self, document: &Document) -> Option<&[u8]> {
        Self::rows_of(&self.codes, document, self.dims)
    }

    /// The document's vectors as written, verified.
    pub(super) fn floats_of(&self, document: &Document) -> Result<&[u8], IndexError> {
        let floats = Self::rows_of(&self.floats, document, self.dims * 4).unwrap_or_default();
        match document.vectors {
            Some(run) if checksum(floats) == run.floats => Ok(floats),
            None => Ok(&[]),
            Some(_) => Err(error::damaged(format!("the vectors of document {} were altered", document.document_id))),
        }
    }

    /// For the scan.
    pub(super) fn rows<'a>(&'a self, catalog: &'a Catalog) -> Rows<'a> {
        Rows { dims: self.dims, codes: &self.codes, floats: &self.floats, metrics: catalog.metrics() }
    }

    fn record(&self, document: &Document, offset: u32, bytes: u32) -> Result<&[u8], IndexError> {
        let start = usize::try_from(document.text.start).ok().and_then(|start| start.checked_add(offset as usize));
        let record = start.and_then(|start| self.text.get(start..start.checked_add(bytes as usize)?));
        record
            .and_then(|record| record.split_first_chunk())
            .filter(|(sum, body)| checksum(body) == u64::from_le_bytes(**sum))
            .map(|(_, body)| body)
            .ok_or_else(|| error::damaged(format!("the text of document {} was altered", document.document_id)))
    }

    /// A passage's stored bytes, verified.
    pub(super) fn passage_bytes(&self, document: &Document, number: usize) -> Result<&[u8], IndexError> {
        let place = document.chunks.get(number).ok_or_else(|| error::damaged("a passage is missing"))?;
        self.record(document, place.offset, place.bytes)
    }

    /// A document's stored head, verified.
    pub(super) fn head_bytes(&self, document: &Document) -> Result<&[u8], IndexError> {
        self.record(document, 0, document.head)
    }

    pub(super) fn passage(&self, document: &Document, number: usize) -> Result<ChunkRecord, IndexError> {
        rmp_serde::from_slice(self.passage_bytes(document, number)?)
            .map_err(|_| error::damaged(format!("the text of document {} is not readable", document.document_id)))
    }
}
