//! The keyword leg: a tantivy index that finds passages by BM25, and whose commits carry the state of everything else.
//!
//! It stores no text: a match is a pair of numbers, the document's entry and the passage's ordinal, which the catalog turns
//! into a passage. It knows the catalog's filters, no vectors.

mod query;

use std::{path::Path, sync::Arc};

use lmao_ports::{ChunkRecord, IndexError, SearchFilter};
use tantivy::{
    DocAddress, Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, Term,
    collector::TopDocs,
    columnar::Column,
    directory::MmapDirectory,
    indexer::IndexWriterOptions,
    schema::{FAST, Field, INDEXED, IndexRecordOption, STRING, Schema, TextFieldIndexing, TextOptions},
};

use super::{
    error,
    store::{Catalog, Document},
};
use crate::passages::terms::analyzer;

/// What one indexing thread may hold before it writes a segment.
const MEMORY: usize = 64 << 20;
/// The analyzer's name; a part of the stored schema.
const ANALYZER: &str = "lmao_text";

/// The keyword index as of one commit.
#[derive(Clone)]
pub(super) struct Searcher(tantivy::Searcher);

impl std::fmt::Debug for Searcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Searcher").field(&self.0.generation()).finish()
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
    ordinal: Field,
    owner: Field,
    filename: Field,
    format: Field,
    language: Field,
    chunk_type: Field,
    section: Field,
    content: Field,
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let positions =
        TextFieldIndexing::default().set_tokenizer(ANALYZER).set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let text = TextOptions::default().set_indexing_options(positions);
    let fields = Fields {
        entry: schema.add_u64_field("entry", INDEXED | FAST),
        ordinal: schema.add_u64_field("ordinal", FAST),
        owner: schema.add_text_field("owner", STRING),
        filename: schema.add_text_field("filename", STRING),
        format: schema.add_text_field("format", STRING),
        language: schema.add_text_field("language", STRING),
        chunk_type: schema.add_text_field("chunk_type", STRING),
        section: schema.add_text_field("section", text.clone()),
        content: schema.add_text_field("content", text),
    };
    (schema.build(), fields)
}

/// A passage that matched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Match {
    pub entry: u64,
    pub ordinal: u32,
    pub score: f32,
}

impl TextIndex {
    /// Opens or creates the index in `dir`, which exists; what its last commit carried.
    pub(super) fn open(dir: &Path) -> Result<(Self, Option<String>), IndexError> {
        let failed = |e| error::text("open the keyword index", e);
        let directory = MmapDirectory::open(dir).map_err(|e| failed(e.into()))?;
        let (schema, fields) = schema();
        let index = Index::open_or_create(directory, schema).map_err(failed)?;
        index.tokenizers().register(ANALYZER, analyzer());
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
        Searcher(self.reader.searcher())
    }

    /// The `k` best matches, best first; `catalog` is of the same commit as the searcher.
    pub(super) fn search(
        &self,
        Searcher(searcher): &Searcher,
        text: &str,
        filter: &SearchFilter,
        catalog: &Catalog,
        k: usize,
    ) -> Result<Vec<Match>, IndexError> {
        let Some(query) = query::build(text, filter, catalog, self.fields) else { return Ok(Vec::new()) };
        let failed = |e| error::text("search the keyword index", e);
        let found = searcher.search(&*query, &TopDocs::with_limit(k).order_by_score()).map_err(failed)?;
        let mut columns = Columns::new(searcher);
        let matches: Result<Vec<_>, _> = found.into_iter().map(|(score, at)| columns.read(at, score)).collect();
        let mut matches = matches.map_err(failed)?;
        // Equal scores come in an order that changes when segments merge; ours does not.
        matches.sort_by(|a, b| b.score.total_cmp(&a.score).then((a.entry, a.ordinal).cmp(&(b.entry, b.ordinal))));
        Ok(matches)
    }
}

/// The two numbers of a match, read from columns that are opened once for a segment.
struct Columns<'a> {
    searcher: &'a tantivy::Searcher,
    open: Vec<Option<(Column<u64>, Column<u64>)>>,
}

impl<'a> Columns<'a> {
    fn new(searcher: &'a tantivy::Searcher) -> Self {
        Self { searcher, open: searcher.segment_readers().iter().map(|_| None).collect() }
    }

    fn read(&mut self, at: DocAddress, score: f32) -> tantivy::Result<Match> {
        let missing = || tantivy::TantivyError::InternalError("a match without entry and ordinal".to_owned());
        let slot = self.open.get_mut(at.segment_ord as usize).ok_or_else(missing)?;
        let (entry, ordinal) = match slot {
            Some(columns) => columns,
            None => {
                let fast = self.searcher.segment_reader(at.segment_ord).fast_fields();
                slot.insert((fast.u64("entry")?, fast.u64("ordinal")?))
            }
        };
        let entry = entry.first(at.doc_id).ok_or_else(missing)?;
        let ordinal = ordinal.first(at.doc_id).and_then(|n| u32::try_from(n).ok()).ok_or_else(missing)?;
        Ok(Match { entry, ordinal, score })
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

    /// Adds a passage of a document.
    pub(super) fn add(&self, document: &Arc<Document>, passage: &ChunkRecord) -> Result<(), IndexError> {
        let fields = self.fields;
        let mut doc = TantivyDocument::new();
        doc.add_u64(fields.entry, document.entry);
        doc.add_u64(fields.ordinal, u64::from(passage.ordinal));
        doc.add_text(fields.owner, document.owner.simple().to_string());
        doc.add_text(fields.filename, &document.filename);
        doc.add_text(fields.format, &document.format);
        if let Some(language) = &document.language {
            doc.add_text(fields.language, language);
        }
        doc.add_text(fields.chunk_type, &passage.chunk_type);
        if let Some(section) = &passage.section {
            doc.add_text(fields.section, section);
        }
        doc.add_text(fields.content, &passage.content);
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
