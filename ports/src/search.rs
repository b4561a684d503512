//! The search index: a projection of published documents with a keyword leg and one vector leg for each space of vectors.

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
    /// What it is: `prose`, `heading`, `list`, `table`, `code`, `mixed`, `message`.
    pub chunk_type: String,
    /// 1-based page, slide or sheet that it begins on, where the format has such.
    pub page_number: Option<u32>,
    /// Headings from the outermost to the innermost, joined by ` > `.
    pub section: Option<String>,
    /// Byte offset of the content in the document's extracted text.
    pub start: u64,
    /// Byte offset behind it.
    pub end: u64,
    /// Where it goes on on another page, in order. This field and those below come last, with defaults: passages were
    /// stored before there were any.
    #[serde(default)]
    pub page_turns: Vec<PageTurn>,
    /// The language of this passage where it is known and may differ from the document's: a programming language, or a
    /// BCP 47 tag.
    #[serde(default)]
    pub language: Option<String>,
    /// The section that it is a part of; `None` where the document has none that holds more than this passage.
    #[serde(default)]
    pub parent: Option<ParentChunk>,
}

/// The level above a passage: a section, which is its passages in a row. Passages are searched, sections give context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentChunk {
    /// Its id, derived from the document and its place.
    pub chunk_id: Uuid,
    /// Its first passage's ordinal.
    pub first: u32,
    /// Its last passage's ordinal.
    pub last: u32,
}

/// A space of vectors: those of one model, comparable with each other only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// Of the general model: prose, and everything else where there is no other.
    General,
    /// Of the domain model: code.
    Domain,
}

impl Space {
    /// Both.
    pub const ALL: [Self; 2] = [Self::General, Self::Domain];

    /// As it is shown: `general`, `domain`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Domain => "domain",
        }
    }
}

/// The vectors of a document's passages, in each space. A space is empty, or has one entry for each passage; a passage has
/// vectors in the spaces that suit it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vectors {
    /// `[passages]`, each `[dims]` or none.
    pub general: Vec<Option<Vec<f32>>>,
    /// `[passages]`, each `[dims]` or none.
    pub domain: Vec<Option<Vec<f32>>>,
}

impl Vectors {
    /// Those of one space.
    #[must_use]
    pub fn of(&self, space: Space) -> &[Option<Vec<f32>>] {
        match space {
            Space::General => &self.general,
            Space::Domain => &self.domain,
        }
    }

    /// Those of one space, to be changed.
    pub const fn of_mut(&mut self, space: Space) -> &mut Vec<Option<Vec<f32>>> {
        match space {
            Space::General => &mut self.general,
            Space::Domain => &mut self.domain,
        }
    }

    /// One general vector for each passage.
    #[must_use]
    pub fn general(vectors: Vec<Vec<f32>>) -> Self {
        Self { general: vectors.into_iter().map(Some).collect(), domain: vec![] }
    }
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
    /// Its title, where it has one.
    pub title: Option<String>,
    /// Who wrote it, as the file says.
    pub authors: Vec<String>,
    /// Words to find it by: of the uploader, of the file itself. At most [`document::MAX_TAGS`](lmao_events::document::MAX_TAGS).
    pub tags: Vec<String>,
    /// When the file was handed in.
    pub created_at: Timestamp,
    /// Its passages.
    pub chunks: Vec<ChunkRecord>,
    /// Their vectors, in the same order.
    pub vectors: Vectors,
}

/// Which passages a leg may return. Applied inside the legs, so that k results are k allowed ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Only documents with any of these tags; all if empty.
    pub tags: Vec<String>,
    /// Only documents by any of these authors; all if empty.
    pub authors: Vec<String>,
    /// Only passages that begin on these pages, both ends included; all if none. What has no page is on none.
    pub pages: Option<(u32, u32)>,
    /// Only documents that were handed in at or after this time.
    pub created_from: Option<Timestamp>,
    /// Only documents that were handed in before this time.
    pub created_before: Option<Timestamp>,
    /// Only passages in one of these sections: each is a section path, `Guide > Install`, and holds what is below it. All if
    /// empty.
    pub sections: Vec<String>,
}

impl SearchFilter {
    /// All documents of one person.
    #[must_use]
    pub const fn all_of(owner: Uuid) -> Self {
        Self {
            owner,
            document_ids: vec![],
            filenames: vec![],
            formats: vec![],
            languages: vec![],
            chunk_types: vec![],
            tags: vec![],
            authors: vec![],
            pages: None,
            created_from: None,
            created_before: None,
            sections: vec![],
        }
    }

    /// Whether a passage of this section path is let through: any if no section is asked for.
    #[must_use]
    pub fn allows_section(&self, path: Option<&str>) -> bool {
        let below = |wanted: &String| {
            path.and_then(|path| path.strip_prefix(wanted.as_str()))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(" > "))
        };
        self.sections.is_empty() || self.sections.iter().any(below)
    }
}

/// What the keyword leg is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeywordQuery {
    /// Plain words, `"phrases"`; any text is a valid query.
    pub text: String,
    /// More words with what each is worth beside one of `text`, which is 1: found by expansion. Analysed like the text; not
    /// negative.
    pub boosted: Vec<(String, f32)>,
}

impl From<&str> for KeywordQuery {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), boosted: vec![] }
    }
}

/// One way of looking for passages.
#[derive(Debug, Clone, PartialEq)]
pub enum Leg {
    /// By words, see [`SearchIndex::keyword`].
    Keyword(KeywordQuery),
    /// By a vector of this space, see [`SearchIndex::nearest`].
    Nearest(Space, Vec<f32>),
}

/// A passage that a leg found, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct LegHit {
    /// The passage. Its language is its document's where it has none of its own.
    pub chunk: Arc<ChunkRecord>,
    /// Its document.
    pub document_id: Uuid,
    /// The document's file name.
    pub filename: String,
    /// The document's title, where it has one.
    pub title: Option<String>,
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

    /// Which log its content is computed from: `log`, if it was of none before. It stays so until a reset. One that keeps no
    /// note of it takes every log for its own.
    async fn computed_from(&self, log: Uuid) -> Result<Uuid, IndexError> {
        Ok(log)
    }

    /// The model whose vectors it holds in this space; `None` while it holds none.
    async fn model(&self, space: Space) -> Result<Option<ModelManifest>, IndexError>;

    /// Declares the model of all vectors of this space from now on. Refused with [`IndexError::OtherModel`] while vectors of
    /// another model are held there.
    async fn use_model(&self, space: Space, manifest: &ModelManifest) -> Result<(), IndexError>;

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

    /// The `k` best passages by BM25.
    async fn keyword(&self, query: &KeywordQuery, filter: &SearchFilter, k: usize) -> Result<Vec<LegHit>, IndexError>;

    /// The `k` passages nearest to `vector` (`[dims]`, length 1) in this space by cosine similarity, exact; an index may miss one of
    /// them with a probability of less than one in a million. Passages without a vector there are not found.
    async fn nearest(
        &self,
        space: Space,
        vector: &[f32],
        filter: &SearchFilter,
        k: usize,
    ) -> Result<Vec<LegHit>, IndexError>;

    /// Several legs at once, `k` passages each, in the order asked for: what [`keyword`](Self::keyword) and
    /// [`nearest`](Self::nearest) would give. One that fails says so in its place; the others do not suffer. Where the index is
    /// on a server they are one request, elsewhere they run beside each other.
    async fn legs(&self, legs: &[Leg], filter: &SearchFilter, k: usize) -> Vec<Result<Vec<LegHit>, IndexError>> {
        let asked = legs.iter().map(|leg| async move {
            match leg {
                Leg::Keyword(query) => self.keyword(query, filter, k).await,
                Leg::Nearest(space, vector) => self.nearest(*space, vector, filter, k).await,
            }
        });
        futures::future::join_all(asked).await
    }

    /// The vectors of passages by document and ordinal, in the order asked for; `None` where there is no such passage, or
    /// none of its vectors in this space. At most a few hundred at once.
    async fn vectors(&self, space: Space, wanted: &[(Uuid, u32)]) -> Result<Vec<Option<Vec<f32>>>, IndexError>;

    /// Passages by document and ordinal, those that exist.
    async fn chunks(&self, wanted: &[(Uuid, u32)]) -> Result<Vec<LegHit>, IndexError>;

    /// Whether the document is there, with or without passages, as of the last commit.
    async fn holds(&self, document_id: Uuid) -> Result<bool, IndexError>;

    /// Passages indexed.
    async fn count(&self) -> Result<u64, IndexError>;

    /// Passages without a vector in any space: indexed while there was no model, or with vectors of another one.
    async fn without_vectors(&self) -> Result<u64, IndexError>;

    /// Digest of the content: every document's passages and vectors of both spaces, in the order of ids.
    async fn digest(&self) -> Result<Digest, IndexError>;
}
