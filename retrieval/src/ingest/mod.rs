//! Taking in documents: file to text, text to passages, passages to vectors. A step may be repeated at any time: the blobs
//! that it writes are named by their content.
//!
//! It knows no search index and no event log. Formats whose parsers cannot be trusted are read by a [`Worker`] process.

mod chunk;
mod decode;
mod detect;
mod embed;
mod extract;
mod store;
mod worker;

use std::{fs::File, io::Read, path::Path, sync::Arc};

use async_trait::async_trait;
use lmao_events::{BlobRef, Failure, document};
use lmao_ports::{
    Blobs, ChunkRecord, Embedder, EmbeddingCache, Folder, IndexedDocument, Ingestion, ParentChunk, STORAGE_UNAVAILABLE,
    SemanticState, Semantics, Space, Vectors, passage_id, section_id,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::text::TextDocument;
use chunk::{Nature, Passages, Program, Reader, Run, Sizer, Syntaxes};
use detect::{Format, HEAD_BYTES};
use extract::{Extraction, Source};
use store::{internal, missing, off_thread};
use worker::{FileRequest, Pool};
pub use worker::{Worker, worker_main};

pub use self::embed::Rejected;

/// Texts that are extracted or cut in this process at once: each may hold a few hundred megabytes.
const TEXTS_AT_ONCE: usize = 2;
/// Bytes of a section path in a passage's record.
const MAX_SECTION_BYTES: usize = 400;
/// Tokens that a model is taken to read as long as none is there.
const USUAL_MAX_TOKENS: usize = 512;
/// The format whose text is messages.
const MAIL: &str = "eml";
/// Tokens that a passage leaves for the headings above it.
const SECTION_TOKENS: usize = 32;

/// The steps of ingestion. Safe to share; each call is bounded in memory and may be dropped at any await.
#[derive(Debug)]
pub struct Ingest {
    blobs: Arc<dyn Blobs>,
    semantics: Arc<dyn Semantics>,
    cache: Arc<dyn EmbeddingCache>,
    workers: Pool,
    texts: Arc<Semaphore>,
    rejected: Arc<Rejected>,
}

impl Ingest {
    /// Over these stores and models; untrusted formats go through `worker`.
    #[must_use]
    pub fn new(
        blobs: Arc<dyn Blobs>,
        semantics: Arc<dyn Semantics>,
        cache: Arc<dyn EmbeddingCache>,
        worker: Worker,
    ) -> Self {
        let texts = Arc::new(Semaphore::new(TEXTS_AT_ONCE));
        Self { blobs, semantics, cache, workers: Pool::new(worker), texts, rejected: Arc::default() }
    }

    /// The count of passages that have no vector because the model's was refused.
    #[must_use]
    pub fn rejected(&self) -> Arc<Rejected> {
        Arc::clone(&self.rejected)
    }

    /// The vectors of a batch of so many passages.
    async fn stored_vectors(
        &self,
        folder: Folder,
        blob: &BlobRef,
        count: usize,
    ) -> Result<Vec<Option<Vec<f32>>>, Failure> {
        let bytes = store::read(&*self.blobs, folder, blob, "batch of vectors").await?;
        embed::from_bytes(&bytes, count).ok_or_else(|| missing("batch of vectors", blob))
    }

    /// The model of this space, if it is there now.
    fn model(&self, space: Space) -> Option<Arc<dyn Embedder>> {
        match self.semantics.state(space) {
            SemanticState::Ready(embedder) => Some(embedder),
            SemanticState::Loading(_) | SemanticState::Off(_) => None,
        }
    }

    /// What parsing tells of the programs of a document: nothing where the child that parses them fails, since code is found
    /// cut between lines, too.
    async fn syntaxes(&self, document_id: Uuid, programs: Vec<Program>) -> Syntaxes {
        if programs.is_empty() {
            return Syntaxes::default();
        }
        self.workers.syntaxes(programs).await.unwrap_or_else(|failure| {
            let Failure { reason, message, .. } = failure;
            tracing::warn!(%document_id, reason, message, "code cannot be parsed and is cut between lines");
            Syntaxes::default()
        })
    }

    /// Runs work on a whole text off the async threads, only so many at once. The permit stays with the work, since a
    /// dropped call does not stop it.
    async fn with_text<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let permit = Arc::clone(&self.texts).acquire_owned().await.map_err(|error| internal(&error.to_string()))?;
        off_thread(move || {
            let _permit = permit;
            work()
        })
        .await
    }
}

#[async_trait]
impl Ingestion for Ingest {
    async fn extract(&self, folder: Folder, file: &document::Uploaded) -> Result<document::Extracted, Failure> {
        let path = store::local(&*self.blobs, folder, &file.content, "uploaded file").await?;
        let (content, filename) = (file.content, file.filename.clone());
        let format = {
            let (path, filename) = (path.clone(), filename.clone());
            off_thread(move || detect::detect(&head(&path, &content)?, &filename)).await?
        };
        let (format, extraction) = if extract::is_harmless(format, content.size) {
            let source = Source::Blob(path, content);
            self.with_text(move || extract::extract(format, &filename, source)).await?
        } else {
            extract::check_size(format, content.size)?;
            self.workers.extract(FileRequest { path, content, filename, format }).await?
        };
        let (extraction, words, bytes) = off_thread(move || {
            let bytes = extraction.document.encode().map_err(|error| internal(&error.to_string()))?;
            let words = extraction.words();
            Ok((extraction, words, bytes))
        })
        .await?;
        let text = store::put(&*self.blobs, folder, bytes).await?;
        let Extraction { title, pages, language, warnings, authors, written, tags, .. } = extraction;
        let format = format.name().to_owned();
        Ok(document::Extracted { text, format, title, pages, language, words, warnings, authors, written, tags })
    }

    async fn chunk(
        &self,
        folder: Folder,
        file: &document::Uploaded,
        extracted: &document::Extracted,
    ) -> Result<document::Chunked, Failure> {
        let bytes = store::read(&*self.blobs, folder, &extracted.text, "extracted text").await?;
        let (text, document_id) = (extracted.text, folder.document);
        let general = self.model(Space::General);
        // The general model reads code, too, as long as there is no other.
        let domain = self.model(Space::Domain);
        let content = file.content.sha256.to_string();
        let format = extracted.format.clone();
        let language = extracted.language.clone().filter(|_| format == Format::Code.name());
        let is_mail = format == MAIL;
        let decode = move |bytes: &[u8]| TextDocument::decode(bytes).map_err(|_| missing("extracted text", &text));
        let (bytes, programs, language) = self
            .with_text(move || {
                let nature = Nature { language: language.as_deref(), is_mail };
                let programs = chunk::programs(&decode(&bytes)?, nature);
                Ok((bytes, programs, language))
            })
            .await?;
        // No turn at texts is held meanwhile: files that keep a child busy hold up nothing else.
        let syntaxes = self.syntaxes(document_id, programs).await;
        let (batches, chunks) = self
            .with_text(move || {
                let document = decode(&bytes)?;
                drop(bytes);
                let usual = USUAL_MAX_TOKENS - SECTION_TOKENS;
                let sizer = Sizer::new(general.map(reader), domain.map(reader), usual);
                let nature = Nature { language: language.as_deref(), is_mail };
                let passages = chunk::cut(&document, &sizer, nature, &syntaxes, document::MAX_CHUNKS);
                let passages = passages.ok_or_else(too_many)?;
                let mut records = records(&document, &passages, document_id, &content);
                let mut batches = vec![];
                loop {
                    let batch: Vec<ChunkRecord> = records.by_ref().take(document::BATCH_CHUNKS).collect();
                    if batch.is_empty() {
                        return Ok((batches, passages.spans.len()));
                    }
                    batches.push(rmp_serde::to_vec(&batch).map_err(|error| internal(&error.to_string()))?);
                }
            })
            .await?;
        let mut stored = Vec::with_capacity(batches.len());
        for batch in batches {
            stored.push(store::put(&*self.blobs, folder, batch).await?);
        }
        Ok(document::Chunked { batches: stored, chunks: u32::try_from(chunks).unwrap_or(u32::MAX) })
    }

    async fn embed(
        &self,
        folder: Folder,
        batch: u32,
        chunks: &BlobRef,
        model: Option<&str>,
    ) -> Result<document::StepOutcome, Failure> {
        let models = match embed::in_use(&*self.semantics).await? {
            Ok(models) => models,
            Err(reason) => {
                return Ok(document::StepOutcome::EmbeddingSkipped(document::EmbeddingSkipped { reason }));
            }
        };
        let general = models.general.manifest();
        if let Some(before) = model.filter(|before| *before != general.id) {
            tracing::info!(before, now = general.id, "the embedding model changed within a document");
        }
        let records: Vec<ChunkRecord> = store::load(&*self.blobs, folder, chunks, "batch of passages").await?;
        let made = embed::vectors(&models, &*self.cache, &self.rejected, records).await?;
        let bytes = embed::to_bytes(&made.general, general.dimensions);
        let vectors = store::put(&*self.blobs, folder, bytes).await?;
        let domain = match (&models.domain, made.domain) {
            (Some(embedder), Some(vectors)) => {
                let manifest = embedder.manifest();
                let bytes = embed::to_bytes(&vectors, manifest.dimensions);
                let vectors = store::put(&*self.blobs, folder, bytes).await?;
                Some(document::DomainVectors { vectors, model: manifest.id.clone() })
            }
            _ => None,
        };
        let (model, cached) = (general.id.clone(), made.cached);
        Ok(document::StepOutcome::Embedded(document::Embedded { batch, vectors, model, cached, domain }))
    }

    async fn load(&self, folder: Folder, published: &document::Published) -> Result<IndexedDocument, Failure> {
        let (mut chunks, mut vectors): (Vec<ChunkRecord>, _) = (vec![], Vectors::default());
        for (at, batch) in published.batches.iter().enumerate() {
            let records: Vec<ChunkRecord> = store::load(&*self.blobs, folder, batch, "batch of passages").await?;
            if published.model.is_some() {
                let blob = published.vectors.get(at).ok_or_else(|| missing("vectors of a batch of passages", batch))?;
                vectors.general.extend(self.stored_vectors(folder, blob, records.len()).await?);
            }
            if published.domain_model.is_some() {
                vectors.domain.extend(match published.domain_vectors.get(at).copied().flatten() {
                    Some(blob) => self.stored_vectors(folder, &blob, records.len()).await?,
                    None => vec![None; records.len()],
                });
            }
            chunks.extend(records);
        }
        for space in Space::ALL {
            if vectors.of(space).iter().all(Option::is_none) {
                vectors.of_mut(space).clear();
            }
        }
        if chunks.len() != published.chunks as usize {
            return Err(internal(&format!(
                "{} passages are stored, {} were published",
                chunks.len(),
                published.chunks
            )));
        }
        Ok(IndexedDocument {
            document_id: folder.document,
            owner: published.owner,
            filename: published.filename.clone(),
            format: published.format.clone(),
            language: published.language.clone(),
            metadata: published.metadata.clone(),
            created_at: published.uploaded_at,
            title: published.title.clone(),
            authors: published.authors.clone(),
            tags: published.tags.clone(),
            chunks,
            vectors,
        })
    }
}

/// The beginning of a file. Blocks.
fn head(path: &Path, content: &BlobRef) -> Result<Vec<u8>, Failure> {
    let mut head = vec![];
    let file = File::open(path).map_err(|_| missing("uploaded file", content))?;
    let read = file.take(HEAD_BYTES as u64).read_to_end(&mut head);
    read.map_err(|error| {
        Failure::passing(STORAGE_UNAVAILABLE, format!("The uploaded file cannot be read now ({error})."))
    })?;
    // An emptied blob must not pass for an empty upload.
    if head.is_empty() && content.size > 0 { Err(missing("uploaded file", content)) } else { Ok(head) }
}

fn too_many() -> Failure {
    Failure::lasting(
        "document_too_large",
        format!("The document has more than {} passages. Split it into parts.", document::MAX_CHUNKS),
    )
}

/// A model as cutting needs to know it.
fn reader(model: Arc<dyn Embedder>) -> Reader {
    let manifest = model.manifest();
    let reads = embed::reads(manifest, model.tokens(&manifest.passage_prefix).len()).saturating_sub(SECTION_TOKENS);
    Reader { model, reads }
}

/// Passages as they are stored, one after the other.
fn records<'a>(
    document: &'a TextDocument,
    passages: &'a Passages<'a>,
    document_id: Uuid,
    content: &'a str,
) -> impl Iterator<Item = ChunkRecord> + 'a {
    // Bounded by MAX_CHUNKS.
    let number = |ordinal: usize| u32::try_from(ordinal).unwrap_or(u32::MAX);
    let parent = move |Run { first, last }: Run| {
        let (first, last) = (number(first), number(last));
        ParentChunk { chunk_id: section_id(document_id, content, first, last), first, last }
    };
    let parents = chunk::parents(&passages.spans, &passages.outline);
    passages.spans.iter().zip(parents).enumerate().map(move |(ordinal, (span, run))| {
        let path = passages.outline.path(span.section);
        let section = path[..path.floor_char_boundary(MAX_SECTION_BYTES)].to_owned();
        ChunkRecord {
            chunk_id: passage_id(document_id, content, number(ordinal)),
            ordinal: number(ordinal),
            content: document.text[span.start..span.end].to_owned(),
            chunk_type: span.kind.name().to_owned(),
            page_number: document.page_at(span.start),
            section: (!section.is_empty()).then_some(section),
            start: span.start as u64,
            end: span.end as u64,
            page_turns: document.turns_within(span.start..span.end),
            language: span.language.map(str::to_owned),
            parent: run.map(parent),
        }
    })
}

#[cfg(test)]
mod tests;
