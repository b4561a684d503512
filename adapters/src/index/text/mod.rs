//! The keyword leg: a tantivy index that finds passages by BM25, and whose commits carry the state of everything else.
//!
//! It stores no text: a match is the document's entry and the passage's number in it, which the catalog turns into a passage.
//! What a filter allows is decided by the catalog, once a query, as a set of passages. It knows no vectors.

mod places;
mod query;
mod rank;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use lmao_ports::{ChunkRecord, IndexError, KeywordQuery};
use tantivy::{
    Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, Term,
    directory::{Directory, INDEX_WRITER_LOCK, MmapDirectory},
    index::SegmentId,
    indexer::IndexWriterOptions,
    schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions},
    tokenizer::{PreTokenizedString, Token},
};

use self::{places::Places, rank::Best};
use super::{
    bits::Bits,
    error,
    store::{Catalog, Document},
};
use crate::passages::{
    headings,
    terms::{Analyzer, Tongue},
};

/// What one indexing thread may hold before it writes a segment.
const MEMORY: usize = 64 << 20;
/// Places between two headings, so that no phrase goes from one to the next.
const GAP: usize = 100;

/// A passage that matched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Match {
    /// As the catalog counts.
    pub passage: u32,
    pub score: f32,
}

/// The keyword index as of one commit.
#[derive(Clone)]
pub(super) struct Searcher {
    index: tantivy::Searcher,
    /// Where passages lie in its segments, in their order; read when they are first needed.
    places: OnceLock<Vec<Arc<Places>>>,
    /// Those of segments that were there before.
    known: HashMap<SegmentId, Arc<Places>>,
}

impl std::fmt::Debug for Searcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Searcher").field(&self.index.generation()).finish()
    }
}

impl Searcher {
    fn new(index: tantivy::Searcher) -> Self {
        Self { index, places: OnceLock::new(), known: HashMap::new() }
    }

    /// Of a later commit. Its catalog counts passages as this one's did.
    pub(super) fn followed_by(&self, mut next: Self) -> Self {
        let segments = self.index.segment_readers().iter().map(tantivy::SegmentReader::segment_id);
        next.known = match self.places.get() {
            Some(places) => segments.zip(places.iter().map(Arc::clone)).collect(),
            None => self.known.clone(),
        };
        next
    }

    /// Reads what a query would have to. If that fails, the query says why.
    pub(super) fn prepare(&self, catalog: &Catalog) {
        drop(self.places(catalog));
    }

    /// Where passages lie in its segments; the catalog is of the same commit.
    fn places(&self, catalog: &Catalog) -> Result<&[Arc<Places>], IndexError> {
        if let Some(places) = self.places.get() {
            return Ok(places);
        }
        let read = |segment| match self.known.get(&tantivy::SegmentReader::segment_id(segment)) {
            Some(known) => Ok(Arc::clone(known)),
            None => Places::read(segment, catalog).map(Arc::new),
        };
        let places = self.index.segment_readers().iter().map(read).collect::<tantivy::Result<_>>();
        let places = places.map_err(|e| error::text("read the keyword index", e))?;
        // Whoever else has read them in the meantime has read the same.
        Ok(self.places.get_or_init(|| places))
    }
}

/// The keyword index, open.
pub(super) struct TextIndex {
    index: Index,
    reader: IndexReader,
    fields: Fields,
}

impl std::fmt::Debug for TextIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextIndex").field("index", &self.index).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
struct Fields {
    entry: Field,
    number: Field,
    headings: Field,
    content: Field,
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    // Texts come as terms already: which analyzer made them depends on the passage's language.
    let positions =
        TextFieldIndexing::default().set_tokenizer("raw").set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let text = TextOptions::default().set_indexing_options(positions);
    let fields = Fields {
        entry: schema.add_u64_field("entry", INDEXED | FAST),
        number: schema.add_u64_field("number", FAST),
        headings: schema.add_text_field("headings", text.clone()),
        content: schema.add_text_field("content", text),
    };
    (schema.build(), fields)
}

/// What is found in a directory before anything of it is read.
pub(super) enum Left {
    /// No index, or one of this schema without any commit.
    Nothing,
    /// An index of another schema without any commit: there is nothing in it to be lost.
    OtherSchema,
    /// What the last commit carried.
    Payload(String),
}

/// What an index in `dir` was left with, without reading anything else of it. No other process has it open.
pub(super) fn left_in(dir: &Path) -> Result<Left, IndexError> {
    let failed = |e| error::text("open the keyword index", e);
    let directory = MmapDirectory::open(dir).map_err(|e| failed(e.into()))?;
    if !Index::exists(&directory).map_err(|e| failed(e.into()))? {
        return Ok(Left::Nothing);
    }
    let lock = directory.acquire_lock(&INDEX_WRITER_LOCK);
    let _lock = lock.map_err(|e| failed(tantivy::TantivyError::LockFailure(e, None)))?;
    let index = Index::open(directory).map_err(failed)?;
    let metas = index.load_metas().map_err(failed)?;
    Ok(match metas.payload {
        Some(payload) => Left::Payload(payload),
        None if metas.segments.is_empty() && metas.schema != schema().0 => Left::OtherSchema,
        None => Left::Nothing,
    })
}

impl TextIndex {
    /// Opens or creates the index in `dir`, which exists; what its last commit carried.
    pub(super) fn open(dir: &Path) -> Result<(Self, Option<String>), IndexError> {
        let failed = |e| error::text("open the keyword index", e);
        let directory = MmapDirectory::open(dir).map_err(|e| failed(e.into()))?;
        let (schema, fields) = schema();
        let index = Index::open_or_create(directory, schema).map_err(failed)?;
        let rotten = index.validate_checksum().map_err(failed)?;
        if let Some(path) = rotten.iter().next() {
            return Err(error::damaged(format!("{} was altered", dir.join(path).display())));
        }
        let metas = index.load_metas().map_err(failed)?;
        if metas.payload.is_none() && !metas.segments.is_empty() {
            return Err(error::damaged("its last commit names no vectors"));
        }
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(failed)?;
        Ok((Self { index, reader, fields }, metas.payload))
    }

    /// The writer; holds the lock that keeps other processes out.
    pub(super) fn writer(&self) -> Result<TextWriter, IndexError> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .num_merge_threads(1)
            .memory_budget_per_thread(MEMORY)
            .build();
        let writer = self.index.writer_with_options(options).map_err(|e| error::text("open the keyword index", e))?;
        Ok(TextWriter { writer, fields: self.fields })
    }

    /// Lets [`TextIndex::searcher`] give out the last commit.
    pub(super) fn reload(&self) -> Result<(), IndexError> {
        self.reader.reload().map_err(|e| error::text("reload the keyword index", e))
    }

    /// What there is to search, as of the last [`TextIndex::reload`].
    pub(super) fn searcher(&self) -> Searcher {
        Searcher::new(self.reader.searcher())
    }

    /// The `k` best matches among `allowed` passages, best first; the catalog is of the same commit as the searcher.
    pub(super) fn search(
        &self,
        searcher: &Searcher,
        (query, tongues): (&KeywordQuery, impl Iterator<Item = Tongue>),
        catalog: &Catalog,
        allowed: &Bits,
        k: usize,
    ) -> Result<Vec<Match>, IndexError> {
        let failed = |e| error::text("search the keyword index", e);
        let clauses = query::clauses(query, tongues, &searcher.index, self.fields).map_err(failed)?;
        let mut best = Best::new(k);
        let segments = searcher.index.segment_readers().iter().enumerate();
        for (segment, places) in segments.zip(searcher.places(catalog)?) {
            best.search(&clauses, segment, places, allowed).map_err(failed)?;
        }
        Ok(best.into_matches())
    }
}

/// Changes to the keyword index, none of them visible before [`TextWriter::commit`].
pub(super) struct TextWriter {
    writer: IndexWriter,
    fields: Fields,
}

impl std::fmt::Debug for TextWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextWriter").finish_non_exhaustive()
    }
}

impl TextWriter {
    /// Removes the passages of an entry.
    pub(super) fn remove(&self, entry: u64) {
        self.writer.delete_term(Term::from_field_u64(self.fields.entry, entry));
    }

    /// Removes everything.
    pub(super) fn clear(&self) -> Result<(), IndexError> {
        self.writer.delete_all_documents().map(drop).map_err(|e| error::text("clear the keyword index", e))
    }

    /// Adds passage `number` of a document.
    pub(super) fn add(&self, document: &Document, number: usize, passage: &ChunkRecord) -> Result<(), IndexError> {
        let fields = self.fields;
        let mut doc = TantivyDocument::new();
        doc.add_u64(fields.entry, document.entry);
        doc.add_u64(fields.number, number as u64);
        let language = passage.language.as_ref().or(document.language.as_ref());
        let mut analyzer = Analyzer::new(Tongue::of(language.map(String::as_str)));
        let headings = headings(passage.section.as_deref(), document.title.as_deref(), &document.filename);
        doc.add_pre_tokenized_text(fields.headings, tokens(&mut analyzer, &headings));
        doc.add_pre_tokenized_text(fields.content, tokens(&mut analyzer, &[&passage.content]));
        self.writer.add_document(doc).map(drop).map_err(|e| error::text("write to the keyword index", e))
    }

    /// Makes all changes durable, together with `payload`. A plain `commit()` would lose the payload.
    pub(super) fn commit(&mut self, payload: &str) -> Result<(), IndexError> {
        let failed = |e| error::text("commit to the keyword index", e);
        let mut prepared = self.writer.prepare_commit().map_err(failed)?;
        prepared.set_payload(payload);
        prepared.commit().map(drop).map_err(failed)
    }
}

/// The terms of texts that stand apart.
fn tokens(analyzer: &mut Analyzer, texts: &[&str]) -> PreTokenizedString {
    let mut tokens: Vec<Token> = Vec::new();
    let mut next = 0;
    for text in texts {
        let words = analyzer.words(text).into_iter().map(|word| Token {
            offset_from: word.from,
            offset_to: word.to,
            position: next + word.position,
            text: word.term,
            position_length: 1,
        });
        tokens.extend(words);
        next = tokens.last().map_or(0, |last| last.position + GAP);
    }
    PreTokenizedString { text: String::new(), tokens }
}
