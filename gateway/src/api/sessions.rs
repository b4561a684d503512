//! The sessions of a person.

use chrono::{DateTime, Utc};
use lmao_ports::SessionRow;
use poem_openapi::{
    Object, OpenApi,
    param::{Header, Query},
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    Tag,
    messages::{next_of, page_of},
};
use crate::{app::date, context::User, error::ApiError, position::Reads, reply::Reply};

/// A session.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Session")]
struct SessionBody {
    session_id: Uuid,
    /// How its first message begins; null while nothing was said.
    #[oai(nullable)]
    title: Option<String>,
    created_at: DateTime<Utc>,
    /// The last message.
    last_activity: DateTime<Utc>,
    /// Messages of both sides.
    messages: u64,
}

impl From<SessionRow> for SessionBody {
    fn from(row: SessionRow) -> Self {
        Self {
            session_id: row.id,
            title: row.title,
            created_at: date(row.created_at),
            last_activity: date(row.last_activity),
            messages: row.messages,
        }
    }
}

/// A part of the sessions.
#[derive(Debug, Object, Serialize)]
struct SessionsResponse {
    /// By when they were opened, the newest first.
    sessions: Vec<SessionBody>,
    /// The `cursor` of the next page; null on the last.
    #[oai(nullable)]
    next: Option<String>,
    /// Sessions in all pages.
    total: u64,
}

super::routes! {
    /// `/api/v1/sessions`
    Sessions
}

#[OpenApi(tag = "Tag::Chat")]
impl Sessions {
    /// List sessions
    #[oai(path = "/api/v1/sessions", method = "get", operation_id = "list_sessions")]
    async fn list(
        &self,
        user: User,
        /// 1 to 200, 50 unless given.
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        cursor: Query<Option<String>>,
        /// See at least this state.
        #[oai(name = "LMAO-Position")]
        position: Header<Option<String>>,
    ) -> Result<Reply<SessionsResponse>, ApiError> {
        let app = self.app()?;
        let page = page_of("sessions", limit.0, cursor.0)?;
        app.catch_up(position.0.as_deref(), Reads::Tables).await?;
        let found = app.state.read_model.sessions(user.0.id, &page).await?;
        Ok(Reply::ok(SessionsResponse {
            sessions: found.items.into_iter().map(Into::into).collect(),
            next: next_of("sessions", found.next),
            total: found.total,
        }))
    }
}
