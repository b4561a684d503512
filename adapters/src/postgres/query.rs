//! What the gateway asks the tables. Whose a row is, is part of every question.

use async_trait::async_trait;
use lmao_events::Timestamp;
use lmao_ports::{
    DocumentRow, DocumentStatus, MessageRow, Page, PageRequest, ReadModel, SessionRow, Unavailable, UserRow,
};
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    PostgresReadModel,
    apply::{count, document, named, string, time},
    types::{Time, json_said, said, text},
};
use crate::read_model::{
    fold::status_name,
    page::{Key, fetched, limit, page},
};

pub(super) const MESSAGES: &str =
    "SELECT * FROM messages WHERE conversation_id = $1 AND ordinal > $2 ORDER BY ordinal LIMIT $3";
pub(super) const CONVERSATION: &str =
    "SELECT id, (SELECT count(*) FROM messages WHERE conversation_id = conversations.id)
     FROM conversations WHERE session_id = $1 AND user_id = $2";
/// One person's sessions are few enough to be sorted.
const SESSIONS: &str = "SELECT page.id, page.user_id, title, page.created_at, last_activity,
         (SELECT count(*) FROM messages WHERE conversation_id = conversations.id) AS messages
     FROM (SELECT * FROM sessions WHERE user_id = $1 AND (created_at, id) < ($2, $3)
           ORDER BY created_at DESC, id DESC LIMIT $4) AS page
     LEFT JOIN conversations ON conversations.session_id = page.id
     ORDER BY page.created_at DESC, page.id DESC";
pub(super) const ALL_DOCUMENTS: &str = "SELECT * FROM documents WHERE user_id = $1 AND (uploaded_at, id) < ($2, $3)
     ORDER BY uploaded_at DESC, id DESC LIMIT $4";
pub(super) const DOCUMENTS_OF_STATUS: &str =
    "SELECT * FROM documents WHERE user_id = $1 AND (uploaded_at, id) < ($2, $3) AND status = $5
     ORDER BY uploaded_at DESC, id DESC LIMIT $4";

#[async_trait]
impl ReadModel for PostgresReadModel {
    async fn user(&self, id: Uuid) -> Result<Option<UserRow>, Unavailable> {
        self.asked(async {
            let row = sqlx::query("SELECT * FROM users WHERE id = $1").bind(id).fetch_optional(&self.pool).await?;
            row.as_ref().map(user).transpose()
        })
        .await
    }

    async fn session(&self, owner: Uuid, id: Uuid) -> Result<Option<SessionRow>, Unavailable> {
        self.asked(async {
            let row = sqlx::query(
                "SELECT sessions.id, sessions.user_id, title, sessions.created_at, last_activity,
                     (SELECT count(*) FROM messages WHERE conversation_id = conversations.id) AS messages
                 FROM sessions LEFT JOIN conversations ON conversations.session_id = sessions.id
                 WHERE sessions.id = $1 AND sessions.user_id = $2",
            )
            .bind(id)
            .bind(owner)
            .fetch_optional(&self.pool)
            .await?;
            row.as_ref().map(session).transpose()
        })
        .await
    }

    async fn sessions(&self, owner: Uuid, request: &PageRequest) -> Result<Page<SessionRow>, Unavailable> {
        self.asked(self.page_of_sessions(owner, request)).await
    }

    async fn messages(
        &self,
        owner: Uuid,
        session: Uuid,
        request: &PageRequest,
    ) -> Result<Option<Page<MessageRow>>, Unavailable> {
        self.asked(self.page_of_messages(owner, session, request)).await
    }

    async fn document(&self, owner: Uuid, id: Uuid) -> Result<Option<DocumentRow>, Unavailable> {
        self.asked(async {
            let row = sqlx::query("SELECT * FROM documents WHERE id = $1 AND user_id = $2")
                .bind(id)
                .bind(owner)
                .fetch_optional(&self.pool)
                .await?;
            Ok(row.as_ref().map(document).transpose()?.map(DocumentRow::from))
        })
        .await
    }

    async fn documents(
        &self,
        owner: Uuid,
        status: Option<DocumentStatus>,
        request: &PageRequest,
    ) -> Result<Page<DocumentRow>, Unavailable> {
        self.asked(self.page_of_documents(owner, status, request)).await
    }

    async fn documents_of_other_models(&self, model: &str) -> Result<Vec<Uuid>, Unavailable> {
        let listed = sqlx::query_scalar(
            "SELECT id FROM documents
             WHERE status IN ('ready', 'indexing') AND embedding_model IS DISTINCT FROM $1 ORDER BY id",
        );
        self.asked(listed.bind(text(model)).fetch_all(&self.pool)).await
    }
}

impl PostgresReadModel {
    /// The answer to a question.
    async fn asked<T>(&self, question: impl Future<Output = sqlx::Result<T>>) -> Result<T, Unavailable> {
        self.guarded(async { question.await.map_err(|error| self.unavailable(error)) }).await
    }

    async fn page_of_sessions(&self, owner: Uuid, request: &PageRequest) -> sqlx::Result<Page<SessionRow>> {
        let begin = Key::of(request, Key(i64::MAX, Uuid::max()), Key(i64::MIN, Uuid::nil()));
        let limit = limit(request);
        let counted = sqlx::query_scalar("SELECT count(*) FROM sessions WHERE user_id = $1").bind(owner);
        let total: i64 = counted.fetch_one(&self.pool).await?;
        let rows = behind(SESSIONS, owner, begin, limit).fetch_all(&self.pool).await?;
        let sessions = rows.iter().map(session).collect::<sqlx::Result<Vec<_>>>()?;
        Ok(page(sessions, limit, total, |session| Key(session.created_at.0, session.id)))
    }

    async fn page_of_messages(
        &self,
        owner: Uuid,
        session: Uuid,
        request: &PageRequest,
    ) -> sqlx::Result<Option<Page<MessageRow>>> {
        let found: Option<(Uuid, i64)> =
            sqlx::query_as(CONVERSATION).bind(session).bind(owner).fetch_optional(&self.pool).await?;
        let Some((conversation, total)) = found else { return Ok(None) };
        let begin = Key::of(request, Key(i64::MIN, Uuid::nil()), Key(i64::MAX, Uuid::nil()));
        let limit = limit(request);
        let rows =
            sqlx::query(MESSAGES).bind(conversation).bind(begin.0).bind(fetched(limit)).fetch_all(&self.pool).await?;
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
        let (counted, listed) = match status.map(status_name) {
            None => (
                sqlx::query_scalar("SELECT count(*) FROM documents WHERE user_id = $1").bind(owner),
                behind(ALL_DOCUMENTS, owner, begin, limit),
            ),
            Some(status) => (
                sqlx::query_scalar("SELECT count(*) FROM documents WHERE user_id = $1 AND status = $2")
                    .bind(owner)
                    .bind(status),
                behind(DOCUMENTS_OF_STATUS, owner, begin, limit).bind(status),
            ),
        };
        let total: i64 = counted.fetch_one(&self.pool).await?;
        let rows = listed.fetch_all(&self.pool).await?;
        let documents =
            rows.iter().map(|row| document(row).map(DocumentRow::from)).collect::<sqlx::Result<Vec<_>>>()?;
        Ok(page(documents, limit, total, |document| Key(document.uploaded_at.0, document.id)))
    }
}

/// The rows of a list by time that come behind this key.
fn behind(
    question: &'static str,
    owner: Uuid,
    Key(time, id): Key,
    limit: usize,
) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(question).bind(owner).bind(Time(Timestamp(time))).bind(id).bind(fetched(limit))
}

fn user(row: &PgRow) -> sqlx::Result<UserRow> {
    Ok(UserRow {
        id: row.try_get("id")?,
        username: string(row, "username")?,
        email: string(row, "email")?,
        role: named(row, "role")?,
        created_at: time(row, "created_at")?,
        last_login: row.try_get::<Option<Time>, _>("last_login")?.map(|time| time.0),
        is_active: row.try_get("is_active")?,
    })
}

fn session(row: &PgRow) -> sqlx::Result<SessionRow> {
    Ok(SessionRow {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        title: row.try_get::<Option<&str>, _>("title")?.map(|title| said(title).into_owned()),
        created_at: time(row, "created_at")?,
        last_activity: time(row, "last_activity")?,
        messages: row.try_get::<i64, _>("messages")?.cast_unsigned(),
    })
}

/// A message with its place.
fn message(session: Uuid, row: &PgRow) -> sqlx::Result<(i64, MessageRow)> {
    let message = MessageRow {
        id: row.try_get("id")?,
        session_id: session,
        role: row.try_get("role")?,
        content: string(row, "content")?,
        created_at: time(row, "created_at")?,
        metadata: json_said(row.try_get("metadata")?),
        tokens_used: count(row, "tokens_used")?,
        model_used: row.try_get::<Option<&str>, _>("model_used")?.map(|model| said(model).into_owned()),
    };
    Ok((row.try_get("ordinal")?, message))
}
