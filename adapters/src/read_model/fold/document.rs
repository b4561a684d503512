//! Documents: each event is a step of one row.

use lmao_events::{
    Timestamp,
    document::{Event, Step, Uploaded, models_name},
};
use lmao_ports::{DocumentRow, DocumentStatus};
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{At, Changes, Misfit};

/// A document's row, in the order of the statement's columns.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DocumentRecord {
    pub(crate) id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) filename: String,
    pub(crate) file_type: String,
    pub(crate) file_size: u64,
    pub(crate) content_hash: String,
    pub(crate) uploaded_at: Timestamp,
    pub(crate) processed_at: Option<Timestamp>,
    pub(crate) status: DocumentStatus,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) chunks_count: Option<u32>,
    pub(crate) embedding_model: Option<String>,
}

/// A status as it is stored.
pub(crate) const fn status_name(status: DocumentStatus) -> &'static str {
    match status {
        DocumentStatus::Queued => "queued",
        DocumentStatus::Extracting => "extracting",
        DocumentStatus::Chunking => "chunking",
        DocumentStatus::Embedding => "embedding",
        DocumentStatus::Indexing => "indexing",
        DocumentStatus::Ready => "ready",
        DocumentStatus::Failed => "failed",
    }
}

impl From<DocumentRecord> for DocumentRow {
    fn from(record: DocumentRecord) -> Self {
        Self {
            id: record.id,
            user_id: record.user_id,
            filename: record.filename,
            file_type: record.file_type,
            file_size: record.file_size,
            content_hash: record.content_hash,
            uploaded_at: record.uploaded_at,
            processed_at: record.processed_at,
            status: record.status,
            metadata: Value::Object(record.metadata),
            chunks_count: record.chunks_count,
        }
    }
}

pub(super) fn take(changes: &mut Changes, at: At, event: &Event) -> Result<(), Misfit> {
    let row = changes.documents.entry(at.id).or_default();
    match (event, row.as_mut()) {
        (Event::Uploaded(uploaded), _) => *row = Some(queued(at, uploaded)),
        (Event::Deleted(_), _) => *row = None,
        // What follows a deletion concerns blobs only.
        (Event::BlobsRemoved(_) | Event::StepFailed(_), None) => {}
        (event, Some(row)) => step(row, at, event),
        (event, None) => {
            return Err(Misfit { event: lmao_events::AnyEvent::Document(event.clone()).name(), what: "document" });
        }
    }
    Ok(())
}

fn queued(at: At, uploaded: &Uploaded) -> DocumentRecord {
    DocumentRecord {
        id: at.id,
        user_id: uploaded.owner,
        filename: uploaded.filename.clone(),
        file_type: extension(&uploaded.filename),
        file_size: uploaded.content.size,
        content_hash: uploaded.content.sha256.to_string(),
        uploaded_at: at.time,
        processed_at: None,
        status: DocumentStatus::Queued,
        metadata: uploaded.metadata.as_object().cloned().unwrap_or_default(),
        chunks_count: None,
        embedding_model: None,
    }
}

/// What a name says of the content, until the content was looked at.
fn extension(filename: &str) -> String {
    let known = filename.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
    known.filter(|extension| (1..=10).contains(&extension.chars().count())).unwrap_or_else(|| "unknown".to_owned())
}

fn step(row: &mut DocumentRecord, at: At, event: &Event) {
    let facts = &mut row.metadata;
    if !matches!(event, Event::StepFailed(_) | Event::RetryRequested(_)) {
        facts.remove("retrying");
    }
    match event {
        Event::Extracted(extracted) => {
            row.status = DocumentStatus::Chunking;
            row.file_type.clone_from(&extracted.format);
            set(facts, "title", extracted.title.as_ref().map(|title| json!(title)));
            set(facts, "pages", extracted.pages.map(|pages| json!(pages)));
            set(facts, "language", extracted.language.as_ref().map(|language| json!(language)));
            set(facts, "authors", listed(&extracted.authors));
            set(facts, "written", extracted.written.as_ref().map(|written| json!(written)));
            facts.insert("words".to_owned(), json!(extracted.words));
            facts.insert("warnings".to_owned(), json!(extracted.warnings));
        }
        Event::Chunked(chunked) => {
            row.status = DocumentStatus::Embedding;
            row.chunks_count = Some(chunked.chunks);
            facts.insert("batches".to_owned(), json!(chunked.batches.len()));
            facts.insert("batches_done".to_owned(), json!(0));
        }
        Event::Embedded(embedded) => {
            row.status = DocumentStatus::Embedding;
            facts.insert("batches_done".to_owned(), json!(embedded.batch + 1));
        }
        Event::EmbeddingSkipped(skipped) => {
            facts.insert("embedding_skipped".to_owned(), json!(skipped.reason));
        }
        Event::Published(published) => {
            row.status = DocumentStatus::Indexing;
            let domain = published.domain_model.as_deref();
            row.embedding_model = published.model.as_ref().map(|model| models_name(model, domain));
            set(facts, "tags", listed(&published.tags));
        }
        Event::Indexed(_) => {
            row.status = DocumentStatus::Ready;
            row.processed_at = Some(at.time);
        }
        Event::StepFailed(failed) => {
            let (reason, message) = (&failed.failure.reason, &failed.failure.message);
            let retrying = json!({ "step": failed.step, "reason": reason, "message": message, "at": failed.retry_at });
            facts.insert("retrying".to_owned(), retrying);
        }
        Event::Failed(failed) => {
            row.status = DocumentStatus::Failed;
            row.processed_at = Some(at.time);
            let (reason, message) = (&failed.failure.reason, &failed.failure.message);
            facts.insert("failure".to_owned(), json!({ "step": failed.step, "reason": reason, "message": message }));
        }
        Event::RetryRequested(_) => {
            let failure = facts.remove("failure");
            let step = failure.and_then(|failure| serde_json::from_value(failure.get("step")?.clone()).ok());
            row.status = status_of(step.unwrap_or(Step::Extract));
            row.processed_at = None;
        }
        Event::ReembedRequested(_) => {
            row.status = DocumentStatus::Embedding;
            facts.insert("batches_done".to_owned(), json!(0));
            facts.remove("embedding_skipped");
        }
        Event::Uploaded(_) | Event::Deleted(_) | Event::BlobsRemoved(_) => {}
    }
}

/// A list, unless there is nothing in it.
fn listed(items: &[String]) -> Option<Value> {
    (!items.is_empty()).then(|| json!(items))
}

/// What is known wins over what the uploader said; what is not known leaves it.
fn set(facts: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        facts.insert(name.to_owned(), value);
    }
}

const fn status_of(step: Step) -> DocumentStatus {
    match step {
        Step::Extract | Step::RemoveBlobs => DocumentStatus::Extracting,
        Step::Chunk => DocumentStatus::Chunking,
        Step::Embed => DocumentStatus::Embedding,
        Step::Index => DocumentStatus::Indexing,
    }
}
