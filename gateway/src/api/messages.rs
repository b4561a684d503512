//! What was said in a session.

use chrono::{DateTime, Utc};
use lmao_events::Hash;
use lmao_ports::{MessageRow, PageRequest};
use poem_openapi::{
    Object, OpenApi,
    param::{Header, Path, Query},
    types::Any,
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::Tag;
use crate::{
    app::date,
    context::User,
    error::ApiError,
    position::Reads,
    reply::Reply,
    turn::{no_session, session_id},
};

/// Rows of a page, unless asked otherwise.
const PAGE: u32 = 50;
/// Rows of a page, at most.
const MAX_PAGE: u32 = 200;

/// A part of a session.
#[derive(Debug, Object, Serialize)]
struct MessagesResponse {
    session_id: Uuid,
    /// Oldest first.
    messages: Vec<MessageBody>,
    /// The `cursor` of the next page; `null` on the last.
    #[oai(nullable)]
    next: Option<String>,
    /// Messages in all pages.
    total: u64,
}

/// A message of either side.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Message")]
struct MessageBody {
    id: Uuid,
    /// `user` or `assistant`.
    role: String,
    /// Empty when no answer came: then `metadata` has the failure.
    content: String,
    created_at: DateTime<Utc>,
    /// Of an answer, as in the reply to the message.
    metadata: Any<Value>,
    #[oai(nullable)]
    tokens_used: Option<u32>,
    #[oai(nullable)]
    model_used: Option<String>,
}

impl From<MessageRow> for MessageBody {
    fn from(row: MessageRow) -> Self {
        Self {
            id: row.id,
            role: row.role,
            content: row.content,
            created_at: date(row.created_at),
            metadata: Any(row.metadata),
            tokens_used: row.tokens_used,
            model_used: row.model_used,
        }
    }
}

/// Hexadecimal digits by which a cursor is told from one of another list, or of none.
const MARK: usize = 8;

/// Which part of this list is wanted. A cursor leads on only in the list that gave it out, by [`next_of`].
pub(super) fn page_of(list: &str, limit: Option<u32>, cursor: Option<String>) -> Result<PageRequest, ApiError> {
    let page = page(limit, cursor)?;
    let opened = |cursor: String| {
        let (mark, rest) = cursor.split_once('-').ok_or_else(bad_cursor)?;
        if mark == mark_of(list, rest) { Ok(rest.to_owned()) } else { Err(bad_cursor()) }
    };
    Ok(PageRequest { cursor: page.cursor.map(opened).transpose()?, ..page })
}

/// The cursor of this list's next page as clients get it.
pub(super) fn next_of(list: &str, next: Option<String>) -> Option<String> {
    next.map(|cursor| format!("{}-{cursor}", mark_of(list, &cursor)))
}

fn mark_of(list: &str, cursor: &str) -> String {
    Hash::of(format!("{list} {cursor}").as_bytes()).to_string().chars().take(MARK).collect()
}

fn bad_cursor() -> ApiError {
    let text = "cursor is the `next` of the page before, as it was received; leave it out to begin again";
    ApiError::bad_request("bad_parameter", text).with("parameter", "cursor")
}

/// Which part of a list is wanted.
fn page(limit: Option<u32>, cursor: Option<String>) -> Result<PageRequest, ApiError> {
    let limit = limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let text = format!("limit is a number from 1 to {MAX_PAGE}");
        return Err(ApiError::bad_request("bad_parameter", text).with("parameter", "limit"));
    }
    if cursor.as_ref().is_some_and(|cursor| cursor.len() > 512 || !cursor.bytes().all(|b| b.is_ascii_graphic())) {
        return Err(bad_cursor());
    }
    Ok(PageRequest { limit, cursor: cursor.filter(|cursor| !cursor.is_empty()) })
}

super::routes! {
    /// `/api/v1/sessions`
    Messages
}

#[OpenApi(tag = "Tag::Chat")]
impl Messages {
    /// What was said
    #[oai(path = "/api/v1/sessions/:id/messages", method = "get", operation_id = "list_messages")]
    async fn list(
        &self,
        user: User,
        id: Path<String>,
        /// 1 to 200, 50 unless given.
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        cursor: Query<Option<String>>,
        /// See at least this state.
        #[oai(name = "LMAO-Position")]
        position: Header<Option<String>>,
    ) -> Result<Reply<MessagesResponse>, ApiError> {
        let app = self.app()?;
        let session = session_id(&id.0)?;
        let list = format!("messages {session}");
        let page = page_of(&list, limit.0, cursor.0)?;
        app.catch_up(position.0.as_deref(), Reads::Tables).await?;
        let found = app.state.read_model.messages(user.0.id, session, &page).await?.ok_or_else(no_session)?;
        Ok(Reply::ok(MessagesResponse {
            session_id: session,
            messages: found.items.into_iter().map(Into::into).collect(),
            next: next_of(&list, found.next),
            total: found.total,
        }))
    }
}
