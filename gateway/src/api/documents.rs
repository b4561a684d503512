//! Documents: listed, shown, tried again, deleted.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lmao_events::{Category, StreamId, document};
use lmao_ports::{DocumentRow, DocumentStatus};
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Header, Path, Query},
    types::Any,
};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Tag,
    messages::{next_of, page_of},
    upload::{Ingested, UploadResponse, deadline},
};
use crate::{
    app::date,
    context::{Context, User},
    error::ApiError,
    position::Reads,
    reply::{DoneOrAccepted, Gone, Reply},
    watch::Watch,
};

/// What cursors call the list of documents.
const LIST: &str = "documents";
/// How long a deletion waits until no search finds the document any more.
const UNTIL_GONE: Duration = Duration::from_secs(5);

/// Where a document stands.
#[derive(Debug, Clone, Copy, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
enum Status {
    Queued,
    Extracting,
    Chunking,
    Embedding,
    Indexing,
    Ready,
    Failed,
}

impl From<DocumentStatus> for Status {
    fn from(status: DocumentStatus) -> Self {
        match status {
            DocumentStatus::Queued => Self::Queued,
            DocumentStatus::Extracting => Self::Extracting,
            DocumentStatus::Chunking => Self::Chunking,
            DocumentStatus::Embedding => Self::Embedding,
            DocumentStatus::Indexing => Self::Indexing,
            DocumentStatus::Ready => Self::Ready,
            DocumentStatus::Failed => Self::Failed,
        }
    }
}

impl From<Status> for DocumentStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Queued => Self::Queued,
            Status::Extracting => Self::Extracting,
            Status::Chunking => Self::Chunking,
            Status::Embedding => Self::Embedding,
            Status::Indexing => Self::Indexing,
            Status::Ready => Self::Ready,
            Status::Failed => Self::Failed,
        }
    }
}

/// A document.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Document")]
struct DocumentBody {
    document_id: Uuid,
    filename: String,
    /// What it is, by its content; null until that was looked at, and where it cannot be read.
    file_type: Option<String>,
    /// Bytes.
    file_size: u64,
    /// SHA-256, hexadecimal.
    content_hash: String,
    uploaded_at: DateTime<Utc>,
    /// When it became ready or failed.
    #[oai(nullable)]
    processed_at: Option<DateTime<Utc>>,
    status: Status,
    /// As the file says, where it does; the same for what follows. Until it is read, as the uploader said.
    #[oai(nullable)]
    title: Option<String>,
    authors: Vec<String>,
    /// The uploader's and the file's.
    tags: Vec<String>,
    /// Programming language of code; BCP 47 tag of a text.
    #[oai(nullable)]
    language: Option<String>,
    #[oai(nullable)]
    pages: Option<u64>,
    #[oai(nullable)]
    words: Option<u64>,
    /// What was lost when it was read.
    warnings: Vec<String>,
    /// What the uploader said, what was extracted, progress, and the `failure`.
    metadata: Any<Value>,
    /// Passages, once they are known.
    #[oai(nullable)]
    chunks_count: Option<u32>,
}

/// What a document is by its content, once that was read: until then the tables have the ending of its name.
pub(super) fn format_of(row: &DocumentRow) -> Option<&str> {
    let is_read = match row.status {
        DocumentStatus::Queued | DocumentStatus::Extracting => false,
        DocumentStatus::Failed => row.metadata["failure"]["step"] != "extract",
        _ => true,
    };
    is_read.then_some(row.file_type.as_str())
}

impl From<DocumentRow> for DocumentBody {
    fn from(row: DocumentRow) -> Self {
        let text = |name: &str| row.metadata[name].as_str().map(str::to_owned);
        // One text stands for a list of one, as uploaders may send it.
        let texts = |name: &str| match &row.metadata[name] {
            Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::String(text) => vec![text.clone()],
            _ => vec![],
        };
        Self {
            document_id: row.id,
            filename: row.filename.clone(),
            file_type: format_of(&row).map(str::to_owned),
            file_size: row.file_size,
            content_hash: row.content_hash,
            uploaded_at: date(row.uploaded_at),
            processed_at: row.processed_at.map(date),
            status: row.status.into(),
            title: text("title"),
            authors: texts("authors"),
            tags: texts("tags"),
            language: text("language"),
            pages: row.metadata["pages"].as_u64(),
            words: row.metadata["words"].as_u64(),
            warnings: texts("warnings"),
            metadata: Any(row.metadata),
            chunks_count: row.chunks_count,
        }
    }
}

/// A part of the documents.
#[derive(Debug, Object, Serialize)]
struct DocumentsResponse {
    /// Newest first.
    documents: Vec<DocumentBody>,
    /// The `cursor` of the next page; `null` on the last.
    #[oai(nullable)]
    next: Option<String>,
    /// Documents in all pages.
    total: u64,
}

pub(super) fn no_document() -> ApiError {
    ApiError::not_found("document_not_found", "there is no such document; GET /api/v1/documents lists yours")
}

pub(super) fn document_id(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| no_document())
}

super::routes! {
    /// `/api/v1/documents`
    Documents
}

#[OpenApi(tag = "Tag::Documents", prefix_path = "/api/v1/documents")]
impl Documents {
    /// List documents
    #[oai(path = "/", method = "get", operation_id = "list_documents")]
    async fn list(
        &self,
        user: User,
        /// Only those that stand here.
        status: Query<Option<Status>>,
        /// 1 to 200, 50 unless given.
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        cursor: Query<Option<String>>,
        /// See at least this state.
        #[oai(name = "LMAO-Position")]
        position: Header<Option<String>>,
    ) -> Result<Reply<DocumentsResponse>, ApiError> {
        let app = self.app()?;
        let page = page_of(LIST, limit.0, cursor.0)?;
        app.catch_up(position.0.as_deref(), Reads::Tables).await?;
        let found = app.state.read_model.documents(user.0.id, status.0.map(Into::into), &page).await?;
        Ok(Reply::ok(DocumentsResponse {
            documents: found.items.into_iter().map(Into::into).collect(),
            next: next_of(LIST, found.next),
            total: found.total,
        }))
    }

    /// Show a document
    #[oai(path = "/:id", method = "get", operation_id = "get_document")]
    async fn get(
        &self,
        user: User,
        id: Path<String>,
        /// See at least this state.
        #[oai(name = "LMAO-Position")]
        position: Header<Option<String>>,
    ) -> Result<Reply<DocumentBody>, ApiError> {
        let app = self.app()?;
        let id = document_id(&id.0)?;
        app.catch_up(position.0.as_deref(), Reads::Tables).await?;
        let row = app.state.read_model.document(user.0.id, id).await?.ok_or_else(no_document)?;
        Ok(Reply::ok(row.into()))
    }

    /// Delete a document, or stop taking it in
    ///
    /// Answers once no read and no search shows it any more, or after five seconds.
    #[oai(path = "/:id", method = "delete", operation_id = "delete_document")]
    async fn delete(&self, context: Context, user: User, id: Path<String>) -> Result<Gone, ApiError> {
        let app = self.app()?;
        let stream = StreamId::new(Category::Document, document_id(&id.0)?);
        let owner = user.0.id;
        let command = document::Command::Delete { owner };
        let position = app.send(stream, command, context.meta(Some(owner), None)).await?.head.position;
        let state = &app.state;
        futures::join!(state.read_model.wait_for(position, UNTIL_GONE), state.search.wait_for(position, UNTIL_GONE));
        Ok(Gone(app.position(position)))
    }

    /// Try a failed document again
    #[oai(path = "/:id/retry", method = "post", operation_id = "retry_document")]
    async fn retry(
        &self,
        context: Context,
        user: User,
        id: Path<String>,
        /// Seconds to wait for the outcome, 0 to 60; 25 unless given.
        wait: Query<Option<u64>>,
    ) -> Result<Reply<UploadResponse, DoneOrAccepted>, ApiError> {
        let app = self.app()?;
        let deadline = deadline(app, Instant::now(), wait.0)?;
        let stream = StreamId::new(Category::Document, document_id(&id.0)?);
        let owner = user.0.id;
        // The whole history: how many passages there are may have been known before the failure.
        let watch = Watch::open(app, stream).await;
        let command = document::Command::Retry { owner };
        let receipt = app.send(stream, command, context.meta(Some(owner), None)).await?;
        Ingested { stream, duplicate: false, since: app.now(), position: receipt.head.position }
            .wait(app, watch, deadline)
            .await
    }
}

#[cfg(test)]
mod tests {
    use lmao_events::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_known_of_a_file_has_fields_of_its_own() {
        let of = |status, metadata: Value| {
            DocumentBody::from(DocumentRow {
                id: Uuid::nil(),
                user_id: Uuid::nil(),
                filename: "a.pdf".to_owned(),
                file_type: "pdf".to_owned(),
                file_size: 1,
                content_hash: String::new(),
                uploaded_at: Timestamp(0),
                processed_at: None,
                status,
                metadata,
                chunks_count: None,
            })
        };
        let shown = |metadata| of(DocumentStatus::Ready, metadata);
        let known = shown(json!({
            "title": "Tides", "authors": ["Ada", "Bo"], "tags": "sea", "language": "en", "pages": 3, "words": 900,
            "warnings": ["page 2 has no text"],
        }));
        assert_eq!((known.title.as_deref(), known.language.as_deref()), (Some("Tides"), Some("en")));
        assert_eq!(
            (known.authors.as_slice(), known.tags.as_slice()),
            (["Ada", "Bo"].map(str::to_owned).as_slice(), ["sea".to_owned()].as_slice())
        );
        assert_eq!((known.pages, known.words, known.warnings.len()), (Some(3), Some(900), 1));
        // An uploader may have said anything under these names.
        let odd = shown(json!({ "title": 7, "authors": { "a": 1 }, "tags": [1, "x"], "pages": "many" }));
        assert_eq!((odd.title, odd.authors.len(), odd.tags, odd.pages), (None, 0, vec!["x".to_owned()], None));
        // Until it was read there is only the ending of its name.
        for (status, step, format) in [
            (DocumentStatus::Extracting, None, None),
            (DocumentStatus::Failed, Some("extract"), None),
            (DocumentStatus::Failed, Some("index"), Some("pdf")),
            (DocumentStatus::Embedding, None, Some("pdf")),
        ] {
            let metadata = step.map_or(json!({}), |step| json!({ "failure": { "step": step } }));
            assert_eq!(of(status, metadata).file_type.as_deref(), format, "{status:?} {step:?}");
        }
    }
}
