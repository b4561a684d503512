//! What happened to a document, as it is stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    BlobRef, Failure, Timestamp,
    event::{Upcaster, event_set},
};

/// A file was handed in; its bytes lie in a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Uploaded {
    /// Whose it is.
    pub owner: Uuid,
    /// The name it came with; no path.
    pub filename: String,
    /// The file.
    pub content: BlobRef,
    /// What the uploader said of it: a JSON object.
    pub metadata: Value,
    /// The attempt to hand it in, whose own folder all blobs of the document lie in. `None` before version 2: they lie in
    /// the document's folder.
    pub attempt: Option<Uuid>,
}

/// Its text was extracted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Extracted {
    /// The text with its structure, as a blob of the retrieval pipeline.
    pub text: BlobRef,
    /// What it is, by content: `pdf`, `html`, `markdown`, `text`, `code`.
    pub format: String,
    /// Its title, where it has one.
    pub title: Option<String>,
    /// Pages, where the format has pages.
    pub pages: Option<u32>,
    /// Programming language of code; BCP 47 tag of a text.
    pub language: Option<String>,
    /// Words.
    pub words: u64,
    /// What was lost: pages without text, characters that were no UTF-8.
    pub warnings: Vec<String>,
    /// Who wrote it, as the file says. None before version 2.
    pub authors: Vec<String>,
    /// When it was written, as the file says: an RFC 3339 date, with or without time. None before version 2.
    pub written: Option<String>,
    /// Words to find it by, as the file says. None before version 2.
    pub tags: Vec<String>,
}

/// Its text was cut into passages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chunked {
    /// The passages, in batches of the retrieval pipeline.
    pub batches: Vec<BlobRef>,
    /// How many passages.
    pub chunks: u32,
}

/// A batch of passages has its vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Embedded {
    /// Which batch, from 0.
    pub batch: u32,
    /// The vectors: f32 little-endian, `[passages of the batch, dims]`; a row of zeros where a passage has none, because it
    /// is only in the domain model's space.
    pub vectors: BlobRef,
    /// The model's id with its quantization.
    pub model: String,
    /// How many of them came from the cache.
    pub cached: u32,
    /// The vectors in the domain model's space, where there is such a model. None before version 2.
    pub domain: Option<DomainVectors>,
}

/// The vectors of a batch in the domain model's space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DomainVectors {
    /// Like those of the general model; a row of zeros where a passage has none, and no rows at all where none has.
    pub vectors: BlobRef,
    /// The model's id with its quantization.
    pub model: String,
}

/// Passages stay without vectors, because there is no model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EmbeddingSkipped {
    /// Why.
    pub reason: String,
}

/// Everything that search needs is ready. Says all of it, so that a search index can be built from this event alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// Whose it is: only this person finds it.
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
    pub uploaded_at: Timestamp,
    /// How many passages.
    pub chunks: u32,
    /// The passages, in batches.
    pub batches: Vec<BlobRef>,
    /// The vectors of each batch; none without a model.
    pub vectors: Vec<BlobRef>,
    /// The model of the vectors.
    pub model: Option<String>,
    /// The attempt in whose folder the blobs lie; `None` as in [`Uploaded`].
    pub attempt: Option<Uuid>,
    /// Its title, where it has one. None before version 3.
    pub title: Option<String>,
    /// Who wrote it, as the file says. None before version 3.
    pub authors: Vec<String>,
    /// Words to find it by: the uploader's and the file's, each once. None before version 3.
    pub tags: Vec<String>,
    /// The vectors of each batch in the domain model's space; empty without such a model. None before version 3.
    pub domain_vectors: Vec<Option<BlobRef>>,
    /// The domain model.
    pub domain_model: Option<String>,
}

/// It can be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Indexed {}

/// A step failed and is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepFailed {
    /// Which.
    pub step: Step,
    /// Why.
    pub failure: Failure,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// It cannot be made searchable, unless somebody asks for another try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    /// The step that failed.
    pub step: Step,
    /// Why.
    pub failure: Failure,
}

/// Another try was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetryRequested {}

/// New vectors were asked for: another model is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReembedRequested {}

/// It was deleted: no projection shows it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {}

/// Its blobs are gone too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlobsRemoved {}

/// The steps from a file to a document that can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// File to text.
    Extract,
    /// Text to passages.
    Chunk,
    /// Passages to vectors.
    Embed,
    /// Into the search index.
    Index,
    /// Out of the blob store, after deletion.
    RemoveBlobs,
}

const UPCASTERS: &[Upcaster] = &[
    ("Uploaded", 1, in_the_document_s_folder),
    ("Published", 1, in_the_document_s_folder),
    ("Extracted", 1, says_nothing_of_itself),
    ("Embedded", 1, in_one_space),
    ("Published", 2, without_tags_in_one_space),
];

/// Before version 2, nothing was read of who wrote a file, when, and about what.
fn says_nothing_of_itself(mut old: Value) -> Value {
    old["authors"] = json!([]);
    old["written"] = Value::Null;
    old["tags"] = json!([]);
    old
}

/// Before version 2, there was no domain model.
fn in_one_space(mut old: Value) -> Value {
    old["domain"] = Value::Null;
    old
}

/// Before version 3, there was neither.
fn without_tags_in_one_space(mut old: Value) -> Value {
    old["title"] = Value::Null;
    old["authors"] = json!([]);
    old["tags"] = json!([]);
    old["domain_vectors"] = json!([]);
    old["domain_model"] = Value::Null;
    old
}

/// Before version 2, every attempt to hand in a content had the same folder.
fn in_the_document_s_folder(mut old: Value) -> Value {
    old["attempt"] = Value::Null;
    old
}

event_set! {
    /// What can happen to a document.
    Document {
        Uploaded = 2,
        Extracted = 2,
        Chunked = 1,
        Embedded = 2,
        EmbeddingSkipped = 1,
        Published = 3,
        Indexed = 1,
        StepFailed = 1,
        Failed = 1,
        RetryRequested = 1,
        ReembedRequested = 1,
        Deleted = 1,
        BlobsRemoved = 1,
    } upcasters UPCASTERS
}
