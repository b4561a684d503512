//! A document: one file of one owner, from upload to deletion.
//!
//! The stream's id is derived from a keyed hash of owner and content, so that a second upload of the same content meets
//! the first one in its stream: the stream itself is the claim on the content, and deletion releases it.

mod decide;
mod events;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use decide::Document;
pub use events::{
    BlobsRemoved, Chunked, Deleted, DomainVectors, Embedded, EmbeddingSkipped, Event, Extracted, Failed, Indexed,
    Published, ReembedRequested, RetryRequested, Step, StepFailed, Uploaded,
};

use crate::{BlobRef, Category, ContentHash, EffectId, Failure, StreamId, Timestamp, keyed_id};

/// How often a step is tried before the document is failed.
pub const MAX_ATTEMPTS: u32 = 3;
/// Passages of one batch: what a crash can cost in repeated embedding.
pub const BATCH_CHUNKS: usize = 64;
/// Passages of one document.
pub const MAX_CHUNKS: usize = 100_000;
/// Batches of one document: `Published` names them all, twice, and has to fit one record.
pub const MAX_BATCHES: usize = MAX_CHUNKS.div_ceil(BATCH_CHUNKS);
/// Bytes of a document's metadata, as JSON.
pub const MAX_METADATA_BYTES: usize = 32 * 1024;
/// Bytes of a title, of a language tag and of one warning that extraction may report; longer ones are cut.
pub const MAX_NOTE_BYTES: usize = 500;
/// Warnings of one extraction; those beyond are dropped.
pub const MAX_WARNINGS: usize = 100;
/// Tags of one document, and authors.
pub const MAX_TAGS: usize = 32;
/// Bytes of a tag, and of an author's name; longer ones are cut.
pub const MAX_TAG_BYTES: usize = 100;
/// Bytes of a file name.
pub const MAX_FILENAME_BYTES: usize = 500;

/// What can be asked of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Take in a file. Refused with `duplicate` while the document exists.
    Upload(Uploaded),
    /// Record a step's outcome.
    RecordStep {
        /// The debt that was worked on; an outcome of another one is ignored.
        effect: EffectId,
        /// What it led to.
        outcome: StepOutcome,
        /// When.
        at: Timestamp,
    },
    /// Try again after a failure. Embedding begins anew, because another model may be in use by now.
    Retry {
        /// Who asks.
        owner: Uuid,
    },
    /// Make new vectors unless they are, or are becoming, of these models.
    Reembed {
        /// The general model in use.
        model: String,
        /// The domain model in use, if there is one. None in commands of before there were any.
        #[serde(default)]
        domain: Option<String>,
    },
    /// Delete it, or stop taking it in.
    Delete {
        /// Who asks.
        owner: Uuid,
    },
}

/// What a step led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum StepOutcome {
    /// The text.
    Extracted(Extracted),
    /// The passages.
    Chunked(Chunked),
    /// A batch's vectors. Of another model than the batches before: embedding begins anew.
    Embedded(Embedded),
    /// No vectors, because there is no model.
    EmbeddingSkipped(EmbeddingSkipped),
    /// It can be found.
    Indexed,
    /// The blobs are gone.
    BlobsRemoved,
    /// The step failed.
    Failed(Failure),
}

/// The fold of a document's history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The file; `None` before an upload and after a deletion.
    pub file: Option<File>,
    /// Where it stands.
    pub phase: Phase,
    /// Failures of the step that is next.
    pub failures: u32,
    /// When to try it again; now if `None`.
    pub retry_at: Option<Timestamp>,
    /// The debt to go on; `None` when nothing is to be done.
    pub effect: Option<EffectId>,
    /// The person who uploaded it first: for ever the owner of this stream.
    pub owner: Option<Uuid>,
    /// The attempt in whose folder the blobs lie, until they are removed.
    pub attempt: Option<Uuid>,
}

impl State {
    /// Whether the document needs the folder of this attempt, be it to remove it.
    #[must_use]
    pub fn keeps(&self, attempt: Option<Uuid>) -> bool {
        self.phase != Phase::Absent && self.attempt == attempt
    }
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// As it was handed in.
    pub uploaded: Uploaded,
    /// When.
    pub uploaded_at: Timestamp,
    /// Once it is extracted.
    pub extracted: Option<Extracted>,
    /// Once it is cut.
    pub chunked: Option<Chunked>,
    /// The vectors of the batches embedded so far, in order.
    pub vectors: Vec<BlobRef>,
    /// Their model.
    pub model: Option<String>,
    /// The same in the domain model's space; one for each of `vectors`.
    pub domain_vectors: Vec<Option<BlobRef>>,
    /// The domain model, once a batch has such vectors.
    pub domain_model: Option<String>,
}

/// Where a document stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// There is none (any more).
    #[default]
    Absent,
    /// This step is next.
    Doing(Step),
    /// It can be found.
    Ready,
    /// It cannot be found, for a reason that stays; the step that failed.
    Failed(Step),
    /// Deleted; its blobs remain to be removed.
    Deleted,
}

/// What a document owes.
#[expect(clippy::large_enum_variant, reason = "a document owes one or a few of them, and each is moved once")]
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// File to text.
    Extract {
        /// The file.
        file: Uploaded,
    },
    /// Text to passages.
    Chunk {
        /// The file.
        file: Uploaded,
        /// Its text.
        extracted: Extracted,
    },
    /// A batch of passages to vectors.
    Embed {
        /// Whose.
        owner: Uuid,
        /// In whose folder the blobs lie.
        attempt: Option<Uuid>,
        /// Which batch, from 0.
        batch: u32,
        /// The passages.
        chunks: BlobRef,
        /// The model of the batches before: another one may not be mixed in.
        model: Option<String>,
    },
    /// Wait until the search index has passed what was published at this version.
    AwaitIndexed,
    /// Delete the document's blobs.
    RemoveBlobs {
        /// Whose.
        owner: Uuid,
        /// In whose folder they lie.
        attempt: Option<Uuid>,
    },
}

/// The models of a document's vectors as one name, by which documents of other models are found: the general model's id,
/// and the domain model's behind it where there is one.
#[must_use]
pub fn models_name(model: &str, domain: Option<&str>) -> String {
    domain.map_or_else(|| model.to_owned(), |domain| format!("{model} + {domain}"))
}

/// The field of a document's metadata that says where its file comes from: a text of the uploader's, for example a URL.
pub const ORIGIN: &str = "origin";

/// The stream of `owner`'s document with this content, from this place where one is told: files that are alike in two places are
/// two documents, of which one may change or go without the other. `key` is the secret of the system's keyed ids.
#[must_use]
pub fn stream_of(key: &[u8; 32], owner: Uuid, content: &ContentHash, origin: Option<&str>) -> StreamId {
    let value = [owner.as_bytes().as_slice(), &content.0, origin.unwrap_or_default().as_bytes()].concat();
    StreamId::new(Category::Document, keyed_id(key, "document", &value))
}
