//! What the gateway asks the tables. Whose a row is, is part of every question.

use async_trait::async_trait;
use lmao_events::{Timestamp, user::Role};
use lmao_ports::{
    DocumentRow, DocumentStatus, MessageRow, Page, PageRequest, ReadModel, SessionRow, Unavailable, UserRow,
};
use serde_json::Value;
use sqlx::{FromRow as _, Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    SqliteReadModel,
    apply::{json, uuid},
};
use crate::read_model::{
    fold::{DocumentRecord, status_name},
    page::{Key, fetched, limit, page},
};

#[async_trait]
impl ReadModel for SqliteReadModel {
    async fn user(&self, id: Uuid) -> Result<Option<UserRow>, Unavailable> {
        let row = sqlx::query("SELECT * FROM users WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.database.readers)
            .await;
        row.and_then(|row| row.as_ref().map(user).transpose()).map_err(|error| self.database.unavailable(error))
    }

    async fn session(&self, owner: Uuid, id: Uuid) -> Result<Option<SessionRow>, Unavailable> {
        let row = sqlx::query(
            "SELECT sessions.id, sessions.user_id, title, sessions.created_at, last_activity,
                 (SELECT count(*) FROM messages WHERE conversation_id = conversations.id) AS messages
             FROM sessions LEFT JOIN conversations ON conversations.session_id = sessions.id
             WHERE sessions.id = ? AND sessions.user_id = ?",
        )
        .bind(id.to_string())
        .bind(owner.to_string())
        .fetch_optional(&self.database.readers)
        .await;
        row.and_then(|row| row.as_ref().map(session).transpose()).map_err(|error| self.database.unavailable(error))
    }

    async fn sessions(&self, owner: Uuid, request: &PageRequest) -> Result<Page<SessionRow>, Unavailable> {
        self.page_of_sessions(owner, request).await.map_err(|error| self.database.unavailable(error))
    }

    async fn messages(
        &self,
        owner: Uuid,
        session: Uuid,
        request: &PageRequest,
    ) -> Result<Option<Page<MessageRow>>, Unavailable> {
        self.page_of_messages(owner, session, request).await.map_err(|error| self.database.unavailable(error))
    }

    async fn document(&self, owner: Uuid, id: Uuid) -> Result<Option<DocumentRow>, Unavailable> {
        let row = sqlx::query("SELECT * FROM documents WHERE id = ? AND user_id = ?")
            .bind(id.to_string())
            .bind(owner.to_string())
            .fetch_optional(&self.database.readers)
            .await;
        row.and_then(|row| row.as_ref().map(document).transpose()).map_err(|error| self.database.unavailable(error))
    }

    async fn documents(
        &self,
        owner: Uuid,
        status: Option<DocumentStatus>,
        request: &PageRequest,
    ) -> Result<Page<DocumentRow>, Unavailable> {
        self.page_of_documents(owner, status, request).await.map_err(|error| self.database.unavailable(error))
    }

    async fn documents_of_other_models(&self, model: &str) -> Result<Vec<Uuid>, Unavailable> {
        let rows = sqlx::query(
            "SELECT id FROM documents WHERE status IN ('ready', 'indexing') AND embedding_model IS NOT ? ORDER BY id",
        )
        .bind(model)
        .fetch_all(&self.database.readers)
        .await;
        rows.and_then(|rows| rows.iter().map(|row| uuid(row, "id")).collect())
            .map_err(|error| self.database.unavailable(error))
    }
}

impl SqliteReadModel {
    async fn page_of_sessions(&self, owner: Uuid, request: &PageRequest) -> sqlx::Result<Page<SessionRow>> {
        let begin = Key::of(request, Key(i64::MAX, Uuid::max()), Key(i64::MIN, Uuid::nil()));
        let limit = limit(request);
        let total: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions WHERE user_id = ?")
            .bind(owner.to_string())
            .fetch_one(&self.database.readers)
            .await?;
        let rows = sqlx::query(
            "SELECT page.id, page.user_id, title, page.created_at, last_activity,
                 (SELECT count(*) FROM messages WHERE conversation_id = conversations.id) AS messages
             FROM (SELECT * FROM sessions WHERE user_id = ? AND (created_at, id) < (?, ?)
                   ORDER BY created_at DESC, id DESC LIMIT ?) AS page
             LEFT JOIN conversations ON conversations.session_id = page.id
             ORDER BY page.created_at DESC, page.id DESC",
        )
        .bind(owner.to_string())
        .bind(begin.0)
        .bind(begin.1.to_string())
        .bind(fetched(limit))
        .fetch_all(&self.database.readers)
        .await?;
        let sessions = rows.iter().map(session).collect::<sqlx::Result<Vec<_>>>()?;
        Ok(page(sessions, limit, total, |session| Key(session.created_at.0, session.id)))
    }

    async fn page_of_messages(
        &self,
        owner: Uuid,
        session: Uuid,
        request: &PageRequest,
    ) -> sqlx::Result<Option<Page<MessageRow>>> {
        let found: Option<(String, i64)> = sqlx::query_as(
            "SELECT id, (SELECT count(*) FROM messages WHERE conversation_id = conversations.id)
             FROM conversations WHERE session_id = ? AND user_id = ?",
        )
        .bind(session.to_string())
        .bind(owner.to_string())
        .fetch_optional(&self.database.readers)
        .await?;
        let Some((conversation, total)) = found else { return Ok(None) };
        let begin = Key::of(request, Key(i64::MIN, Uuid::nil()), Key(i64::MAX, Uuid::nil()));
        let limit = limit(request);
        let rows =
            sqlx::query("SELECT * FROM messages WHERE conversation_id = ? AND ordinal > ? ORDER BY ordinal LIMIT ?")
                .bind(conversation)
                .bind(begin.0)
                .bind(fetched(limit))
                .fetch_all(&self.database.readers)
                .await?;
        let messages = rows.iter().map(|row| message(session, row)).collect::<sqlx::Result<Vec<_>>>()?;
        let page = page(messages, limit, total, |(ordinal, _)| Key(*ordinal, Uuid::nil()));
        let items = page.items.into_iter().map(|(_, message)| message).collect();
        Ok(Some(Page { items, next: page.next, total: page.total }))
    }

    async fn page_of_documents(
        &self,
        owner: Uuid,
        status: Option<DocumentStatus>,
        request: &PageRequest,
    ) -> sqlx::Result<Page<DocumentRow>> {
        let begin = Key::of(request, Key(i64::MAX, Uuid::max()), Key(i64::MIN, Uuid::nil()));
        let limit = limit(request);
        let (count, list) = match status {
            None => (
                "SELECT count(*) FROM documents WHERE user_id = ?1",
                "SELECT * FROM documents WHERE user_id = ?1 AND (uploaded_at, id) < (?2, ?3)
                 ORDER BY uploaded_at DESC, id DESC LIMIT ?4",
            ),
            Some(_) => (
                "SELECT count(*) FROM documents WHERE user_id = ?1 AND status = ?2",
                "SELECT * FROM documents WHERE user_id = ?1 AND status = ?5 AND (uploaded_at, id) < (?2, ?3)
                 ORDER BY uploaded_at DESC, id DESC LIMIT ?4",
            ),
        };
        let status = status.map(status_name);
        let total: i64 =
            sqlx::query_scalar(count).bind(owner.to_string()).bind(status).fetch_one(&self.database.readers).await?;
        let rows = sqlx::query(list)
            .bind(owner.to_string())
            .bind(begin.0)
            .bind(begin.1.to_string())
            .bind(fetched(limit))
            .bind(status)
            .fetch_all(&self.database.readers)
            .await?;
        let documents = rows.iter().map(document).collect::<sqlx::Result<Vec<_>>>()?;
        Ok(page(documents, limit, total, |document| Key(document.uploaded_at.0, document.id)))
    }
}

fn time(row: &SqliteRow, column: &str) -> sqlx::Result<Timestamp> {
    row.try_get(column).map(Timestamp)
}

fn user(row: &SqliteRow) -> sqlx::Result<UserRow> {
    let role: &str = row.try_get("role")?;
    let role: Role = serde_json::from_value(Value::from(role)).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(UserRow {
        id: uuid(row, "id")?,
        username: row.try_get("username")?,
        email: row.try_get("email")?,
        role,
        created_at: time(row, "created_at")?,
        last_login: row.try_get::<Option<i64>, _>("last_login")?.map(Timestamp),
        is_active: row.try_get("is_active")?,
    })
}

fn session(row: &SqliteRow) -> sqlx::Result<SessionRow> {
    Ok(SessionRow {
        id: uuid(row, "id")?,
        user_id: uuid(row, "user_id")?,
        title: row.try_get("title")?,
        created_at: time(row, "created_at")?,
        last_activity: time(row, "last_activity")?,
        messages: row.try_get::<i64, _>("messages")?.cast_unsigned(),
    })
}

/// A message with its place.
fn message(session: Uuid, row: &SqliteRow) -> sqlx::Result<(i64, MessageRow)> {
    let message = MessageRow {
        id: uuid(row, "id")?,
        session_id: session,
        role: row.try_get("role")?,
        content: row.try_get("content")?,
        created_at: time(row, "created_at")?,
        metadata: json(row, "metadata")?,
        tokens_used: row.try_get("tokens_used")?,
        model_used: row.try_get("model_used")?,
    };
    Ok((row.try_get("ordinal")?, message))
}

fn document(row: &SqliteRow) -> sqlx::Result<DocumentRow> {
    DocumentRecord::from_row(row).map(DocumentRow::from)
}
