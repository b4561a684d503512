//! The read model: the spec's eight tables, as the gateway asks them.

use std::fmt::Debug;

use async_trait::async_trait;
use lmao_events::{Timestamp, user::Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Projection, Unavailable};

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Rows wanted, 1 to 200.
    pub limit: u32,
    /// The `next` of the page before; `None` for the first.
    pub cursor: Option<String>,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; `None` when this is the last.
    pub next: Option<String>,
    /// Rows in all pages.
    pub total: u64,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// Its id.
    pub id: Uuid,
    /// The name to log in with.
    pub username: String,
    /// The address.
    pub email: String,
    /// What it may do.
    pub role: Role,
    /// When it was opened.
    pub created_at: Timestamp,
    /// The last login.
    pub last_login: Option<Timestamp>,
    /// Whether it can be used.
    pub is_active: bool,
}

/// A chat session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub user_id: Uuid,
    /// The first message's beginning.
    pub title: Option<String>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// The last message.
    pub last_activity: Timestamp,
    /// Messages of both sides.
    pub messages: u64,
}

/// A message of either side.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageRow {
    /// Its id.
    pub id: Uuid,
    /// The session.
    pub session_id: Uuid,
    /// `user` or `assistant`.
    pub role: String,
    /// What was said; empty when no answer came.
    pub content: String,
    /// When.
    pub created_at: Timestamp,
    /// Of an answer: the spec's chat metadata (`plan_id`, `citations`, …) or the failure.
    pub metadata: Value,
    /// Tokens, when a language model wrote it.
    pub tokens_used: Option<u32>,
    /// Who wrote it.
    pub model_used: Option<String>,
}

/// Where a document stands, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentStatus {
    /// Waits for its turn.
    Queued,
    /// File to text.
    Extracting,
    /// Text to passages.
    Chunking,
    /// Passages to vectors.
    Embedding,
    /// Into the search index.
    Indexing,
    /// It can be found.
    Ready,
    /// It cannot; see the failure.
    Failed,
}

/// A document.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentRow {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub user_id: Uuid,
    /// The name it came with.
    pub filename: String,
    /// What it is, by content; by name until that is known.
    pub file_type: String,
    /// Bytes.
    pub file_size: u64,
    /// SHA-256, hexadecimal.
    pub content_hash: String,
    /// When it was handed in.
    pub uploaded_at: Timestamp,
    /// When it became ready or failed.
    pub processed_at: Option<Timestamp>,
    /// Where it stands.
    pub status: DocumentStatus,
    /// What the uploader said, what was extracted (`title`, `pages`, `words`, `warnings`), progress
    /// (`batches_done`, `batches`) and the `failure`.
    pub metadata: Value,
    /// Passages, once they are known.
    pub chunks_count: Option<u32>,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolExecutionRow {
    /// Its id.
    pub id: Uuid,
    /// The session, if it has one.
    pub session_id: Option<Uuid>,
    /// The tool.
    pub tool_name: String,
    /// `running`, `success`, `error`, `timeout`, `uncertain`.
    pub status: String,
    /// Seconds.
    pub execution_time: Option<f64>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// The spec's tables. A row of somebody else's is as absent as one that does not exist.
#[async_trait]
pub trait ReadModel: Projection {
    /// An account.
    async fn user(&self, id: Uuid) -> Result<Option<UserRow>, Unavailable>;

    /// A session of `owner`.
    async fn session(&self, owner: Uuid, id: Uuid) -> Result<Option<SessionRow>, Unavailable>;

    /// The sessions of `owner`, newest first by when they were opened: a place in that order never changes.
    async fn sessions(&self, owner: Uuid, page: &PageRequest) -> Result<Page<SessionRow>, Unavailable>;

    /// The messages of a session of `owner`, oldest first; `None` when there is no such session.
    async fn messages(
        &self,
        owner: Uuid,
        session: Uuid,
        page: &PageRequest,
    ) -> Result<Option<Page<MessageRow>>, Unavailable>;

    /// A document of `owner`.
    async fn document(&self, owner: Uuid, id: Uuid) -> Result<Option<DocumentRow>, Unavailable>;

    /// The documents of `owner`, newest first, of one status or all.
    async fn documents(
        &self,
        owner: Uuid,
        status: Option<DocumentStatus>,
        page: &PageRequest,
    ) -> Result<Page<DocumentRow>, Unavailable>;

    /// Every document whose vectors are not of `model`, of all owners: those to re-embed. `model` is a name as
    /// [`document::models_name`](lmao_events::document::models_name) makes it.
    async fn documents_of_other_models(&self, model: &str) -> Result<Vec<Uuid>, Unavailable>;
}
