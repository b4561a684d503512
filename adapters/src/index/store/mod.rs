//! Documents, passages and vectors on disk: files that only grow, and the state that a commit names.
//!
//! `journal-N` tells which documents were put and deleted, `text-N` holds their passages, `codes-M`, `sketches-M` and
//! `floats-M` their vectors of one space, one row for a passage that has one. A commit names the files and how many bytes of each
//! are its own; what is behind them was never committed. This module keeps that true and knows neither tantivy nor queries.

mod catalog;
mod columns;
mod compact;
mod file;
mod journal;
mod names;
mod rows;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use lmao_events::Hash;
use lmao_ports::{ChunkRecord, IndexError, IndexedDocument, Space};
use serde::{Deserialize, Serialize};

pub(super) use self::{
    catalog::Catalog,
    file::{Mapped, sync_directory},
    journal::{Change, Document, checksum},
};
use self::{
    file::AppendFile,
    journal::{Place, Run},
    names::Names,
    rows::{VectorFiles, VectorMaps, VectorState},
};
use super::{error, vectors::Rows};
use crate::passages::{
    content::{self, Head, check, no_model},
    spaces::BySpace,
};

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
    vectors: BySpace<Option<VectorState>>,
}

#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    number: u64,
    journal: AppendFile,
    chain: Hash,
    text: AppendFile,
    vectors: BySpace<Option<VectorFiles>>,
}

/// The committed part of the files, mapped.
#[derive(Debug, Default)]
pub(super) struct Maps {
    pub text: Mapped,
    vectors: BySpace<VectorMaps>,
}

impl Store {
    /// Empty, in files of this number. Nothing refers to them before a commit does.
    pub(super) fn create(dir: &Path, number: u64) -> Result<Self, IndexError> {
        let journal = AppendFile::create(dir.join(format!("journal-{number}")))?;
        let text = AppendFile::create(dir.join(format!("text-{number}")))?;
        Ok(Self { dir: dir.to_owned(), number, journal, chain: Hash::default(), text, vectors: BySpace::default() })
    }

    /// As a commit left it, with the catalog that follows from it.
    pub(super) fn open(dir: &Path, state: &State) -> Result<(Self, Catalog), IndexError> {
        let mut journal = AppendFile::open(dir.join(format!("journal-{}", state.number)), state.journal_bytes)?;
        let text = AppendFile::open(dir.join(format!("text-{}", state.number)), state.text_bytes)?;
        let open = |space| state.vectors.of(space).as_ref().map(|state| VectorFiles::open(dir, state)).transpose();
        let vectors = BySpace::try_each(open)?;
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

    /// Every document lies within the files, and codes and sketches, which every query reads, are what was written. Floats and
    /// text are checked when they are read.
    fn verify(&mut self, catalog: &Catalog) -> Result<(), IndexError> {
        let maps = self.map()?;
        for document in catalog.documents() {
            let end = document.text.start.checked_add(document.text.bytes);
            if end.is_none_or(|end| end > self.text.end()) {
                return Err(error::damaged(format!("{} is shorter than its journal says", self.text.path().display())));
            }
            for (space, run) in document.vectors.iter() {
                let Some(run) = run else { continue };
                let number = self.vectors.of(space).as_ref().map(|files| files.number);
                let written = (checksum(maps.codes_of(document, space)?), checksum(maps.sketches_of(document, space)?));
                if number != Some(run.file) || written != (run.codes, run.sketches) {
                    return Err(altered(document));
                }
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
            vectors: BySpace::each(|space| self.vectors.of(space).as_ref().map(VectorFiles::state)),
        }
    }

    /// A number that no file has.
    pub(super) fn next_number(&self) -> u64 {
        let vectors = self.vectors.iter().filter_map(|(_, files)| files.as_ref()).map(|files| files.number);
        vectors.fold(self.number, u64::max) + 1
    }

    /// Begins new vector files of a space; no document may have vectors in the old ones.
    pub(super) fn start_vectors(&mut self, space: Space, dims: usize) -> Result<(), IndexError> {
        if dims == 0 || dims > MAX_DIMENSIONS {
            return Err(IndexError::Invalid(format!(
                "a model of {dims} dimensions; 1 to {MAX_DIMENSIONS} can be indexed"
            )));
        }
        *self.vectors.of_mut(space) = Some(VectorFiles::create(&self.dir, self.next_number(), dims)?);
        Ok(())
    }

    /// Writes a document behind the rest. On an error it is as if nothing was written.
    pub(super) fn write(&mut self, entry: u64, document: &IndexedDocument) -> Result<Change, IndexError> {
        check(document)?;
        let text_end = self.text.end();
        let written = self.write_text(entry, document).and_then(|text| self.write_vectors(text, document));
        if written.is_err() {
            self.text.rewind(text_end);
        }
        written
    }

    fn write_text(&mut self, entry: u64, document: &IndexedDocument) -> Result<Document, IndexError> {
        let head = Head::of(document);
        let mut bytes = Vec::new();
        let head = push_record(&mut bytes, &head)?;
        let mut names = Names::default();
        let mut chunks = Vec::with_capacity(document.chunks.len());
        for chunk in &document.chunks {
            let offset = u32::try_from(bytes.len()).map_err(|_| too_large(document))?;
            let bytes = push_record(&mut bytes, chunk)?;
            chunks.push(Place {
                ordinal: chunk.ordinal,
                offset,
                bytes,
                kind: names.number(&chunk.chunk_type),
                language: chunk.language.as_ref().or(document.language.as_ref()).map(|name| names.number(name)),
                section: chunk.section.as_ref().map(|name| names.number(name)),
                page: chunk.page_number,
            });
        }
        let start = self.text.append(&bytes)?;
        Ok(Document {
            entry,
            document_id: document.document_id,
            owner: document.owner,
            filename: document.filename.clone(),
            format: document.format.clone(),
            language: document.language.clone(),
            title: document.title.clone(),
            authors: document.authors.clone(),
            tags: document.tags.clone(),
            created_at: document.created_at,
            names: names.into_vec(),
            chunks,
            text: Run { start, bytes: bytes.len() as u64 },
            head,
            vectors: BySpace::default(),
        })
    }

    /// Writes the vectors of a document whose text is written: those of both spaces, or none.
    fn write_vectors(&mut self, mut written: Document, document: &IndexedDocument) -> Result<Change, IndexError> {
        let mut metrics = BySpace::default();
        let ends = BySpace::each(|space| self.vectors.of(space).as_ref().map(VectorFiles::ends));
        for space in Space::ALL {
            let vectors = document.vectors.of(space);
            if vectors.iter().all(Option::is_none) {
                continue;
            }
            let appended =
                self.vectors.of_mut(space).as_mut().ok_or_else(no_model).and_then(|files| files.append(vectors));
            match appended {
                Ok((run, of_rows)) => {
                    *written.vectors.of_mut(space) = Some(run);
                    *metrics.of_mut(space) = of_rows;
                }
                Err(error) => {
                    for (space, end) in ends.iter() {
                        if let (Some(files), Some(end)) = (self.vectors.of_mut(space), end) {
                            files.rewind(end);
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(Change::Put(written.into(), metrics))
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
        for space in Space::ALL {
            if let Some(files) = self.vectors.of_mut(space) {
                files.sync()?;
            }
        }
        self.journal.sync()?;
        sync_directory(&self.dir)
    }

    pub(super) fn map(&mut self) -> Result<Maps, IndexError> {
        let map = |space| self.vectors.of_mut(space).as_mut().map(VectorFiles::map).transpose();
        let vectors = BySpace::try_each(map)?;
        Ok(Maps {
            text: self.text.map()?,
            vectors: BySpace {
                general: vectors.general.unwrap_or_default(),
                domain: vectors.domain.unwrap_or_default(),
            },
        })
    }

    /// Removes the files that this store does not use: they were replaced, or never committed.
    pub(super) fn sweep(&self) {
        let mut used: HashSet<&Path> = HashSet::from([self.journal.path(), self.text.path()]);
        for files in self.vectors.iter().filter_map(|(_, files)| files.as_ref()) {
            used.extend(files.paths());
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

fn altered(document: &Document) -> IndexError {
    error::damaged(format!("the vectors of document {} were altered", document.document_id))
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
    /// Dimensions of a space's vectors, 0 if it has none.
    pub(super) fn dims(&self, space: Space) -> usize {
        self.vectors.of(space).dims
    }

    /// The codes of a document's vectors, none where it has no vectors.
    fn codes_of(&self, document: &Document, space: Space) -> Result<&[u8], IndexError> {
        let run = document.vectors.of(space).as_ref();
        run.map_or(Ok(&[]), |run| self.vectors.of(space).codes_of(run).ok_or_else(|| altered(document)))
    }

    /// Likewise their sketches.
    fn sketches_of(&self, document: &Document, space: Space) -> Result<&[u8], IndexError> {
        let run = document.vectors.of(space).as_ref();
        run.map_or(Ok(&[]), |run| self.vectors.of(space).sketches_of(run).ok_or_else(|| altered(document)))
    }

    /// The document's vectors as written, verified; none where it has no vectors.
    pub(super) fn floats_of(&self, document: &Document, space: Space) -> Result<&[u8], IndexError> {
        let Some(run) = document.vectors.of(space) else { return Ok(&[]) };
        let floats = self.vectors.of(space).floats_of(run).filter(|floats| checksum(floats) == run.floats);
        floats.ok_or_else(|| altered(document))
    }

    /// For the scan.
    pub(super) fn rows<'a>(&'a self, catalog: &'a Catalog, space: Space) -> Rows<'a> {
        let VectorMaps { dims, codes, sketches, floats } = self.vectors.of(space);
        Rows { dims: *dims, codes, sketches, floats, metrics: catalog.metrics(space) }
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
