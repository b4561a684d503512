//! The search index: a projection of published documents with two legs, keyword and vector.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use lmao_events::{Position, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Digest, ModelManifest, Unavailable};

/// A passage as it is indexed and returned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// Its id, derived from document and ordinal.
    pub chunk_id: Uuid,
    /// Its place in the document, from 0.
    pub ordinal: u32,
    /// The text that is searched and shown.
    pub content: String,
    /// What it is: `prose`, `heading`, `list`, `table`, `code`.
    pub chunk_type: String,
    /// 1-based page that it begins on, where the format has pages.
    pub page_number: Option<u32>,
    /// Headings from the outermost to the innermost, joined by ` > `.
    pub section: Option<String>,
    /// Byte offset of the content in the document's extracted text.
    pub start: u64,
    /// Byte offset behind it.
    pub end: u64,
    /// Where it goes on on another page, in order. The last field and left out where there are none: so are passages that
    /// were stored before there were any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub page_turns: Vec<PageTurn>,
}

/// A place within a text from which on it stands on another page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageTurn {
    /// Byte offset in the text.
    pub at: u32,
    /// The page, from 1.
    pub page: u32,
}

/// A document to be found.
#[derive(Debug, Clone)]
pub struct IndexedDocument {
    /// Its id.
    pub document_id: Uuid,
    /// Only this person finds it.
    pub owner: Uuid,
    /// The file's name.
    pub filename: String,
    /// What it is, by content.
    pub format: String,
    /// Programming language, or BCP 47 tag.
    pub language: Option<String>,
    /// What the uploader said of it.
    pub metadata: Value,
    /// When the file was handed in.
    pub created_at: Timestamp,
    /// Its passages.
    pub chunks: Vec<ChunkRecord>,
    /// Their vectors `[chunks, dims]`, in the same order; `None` without a model.
    pub vectors: Option<Vec<Vec<f32>>>,
}

/// Which passages a leg may return. Applied inside the legs, so that k results are k allowed ones.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchFilter {
    /// Whose documents.
    pub owner: Uuid,
    /// Only these documents; all if empty.
    pub document_ids: Vec<Uuid>,
    /// Only these file names; all if empty.
    pub filenames: Vec<String>,
    /// Only these formats (`pdf`, `code`, …); all if empty.
    pub formats: Vec<String>,
    /// Only these languages; all if empty.
    pub languages: Vec<String>,
    /// Only passages of these types; all if empty.
    pub chunk_types: Vec<String>,
}

impl SearchFilter {
    /// All documents of one person.
    #[must_use]
    pub const fn all_of(owner: Uuid) -> Self {
        Self { owner, document_ids: vec![], filenames: vec![], formats: vec![], languages: vec![], chunk_types: vec![] }
    }
}

/// A passage that a leg found, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct LegHit {
    /// The passage.
    pub chunk: Arc<ChunkRecord>,
    /// Its document.
    pub document_id: Uuid,
    /// The document's file name.
    pub filename: String,
    /// The leg's own score: BM25, or cosine similarity in [-1, 1].
    pub score: f32,
}

/// Why the index did not do it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The index holds vectors of another model: re-embed (`lmao models reembed`) or go back to it.
    #[error("the index holds vectors of {stored}, the model in use is {wanted}")]
    OtherModel {
        /// The model of the index.
        stored: String,
        /// The model of the request.
        wanted: String,
    },
    /// Stored files are not what was written: rebuild it (`lmao projections rebuild search`).
    #[error("the search index is damaged: {0}; rebuild it with `lmao projections rebuild search`")]
    Damaged(String),
    /// The document or the query makes no sense, and will not later: what is wrong with it.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be used now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An index of passages. Changes become visible and durable together, at `commit`, with the checkpoint.
#[async_trait]
pub trait SearchIndex: Debug + Send + Sync {
    /// The position that the last commit names; 0 for an empty index.
    async fn checkpoint(&self) -> Result<Position, IndexError>;

    /// The model whose vectors it holds; `None` while it holds none.
    async fn model(&self) -> Result<Option<ModelManifest>, IndexError>;

    /// Declares the model of all vectors from now on. Refused with [`IndexError::OtherModel`] while vectors of another
    /// model are held.
    async fn use_model(&self, manifest: &ModelManifest) -> Result<(), IndexError>;

    /// Adds a document, replacing any of the same id; visible after the next commit.
    async fn put(&self, document: IndexedDocument) -> Result<(), IndexError>;

    /// Removes a document; visible after the next commit.
    async fn delete(&self, document_id: Uuid) -> Result<(), IndexError>;

    /// Makes all changes since the last commit visible and durable, and names `checkpoint` as the position they reach. A
    /// checkpoint without changes may be known in memory only.
    async fn commit(&self, checkpoint: Position) -> Result<(), IndexError>;

    /// Writes the checkpoint down where it is known in memory only. Changes that are not committed stay so.
    async fn save(&self) -> Result<(), IndexError>;

    /// Forgets everything: documents, vectors, model, checkpoint.
    async fn reset(&self) -> Result<(), IndexError>;

    /// The `k` best passages by BM25 for `query`: plain words, `"phrases"`; any text is a valid query.
    async fn keyword(&self, query: &str, filter: &SearchFilter, k: usize) -> Result<Vec<LegHit>, IndexError>;

    /// The `k` passages nearest to `vector` (`[dims]`, length 1) by cosine similarity, exact.
    async fn nearest(&self, vector: &[f32], filter: &SearchFilter, k: usize) -> Result<Vec<LegHit>, IndexError>;

    /// Passages by document and ordinal, those that exist.
    async fn chunks(&self, wanted: &[(Uuid, u32)]) -> Result<Vec<LegHit>, IndexError>;

    /// Whether the document is there, with or without passages, as of the last commit.
    async fn holds(&self, document_id: Uuid) -> Result<bool, IndexError>;

    /// Passages indexed.
    async fn count(&self) -> Result<u64, IndexError>;

    /// Passages without a vector: indexed while there was no model, or with vectors of another one.
    async fn without_vectors(&self) -> Result<u64, IndexError>;

    /// Digest of the content: every document's passages and vectors, in the order of ids.
    async fn digest(&self) -> Result<Digest, IndexError>;
}
