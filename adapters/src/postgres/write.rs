//! The statements that write the read model. Each takes all rows of its kind in a batch as arrays, one for each column.
//! Parents come before their children, for the foreign keys.

use std::{collections::HashSet, time::Duration};

use lmao_events::{Position, Timestamp, user::Role};
use lmao_ports::ParkedStream;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    READ_MODEL,
    types::{Time, json, object, size, text},
};
use crate::read_model::fold::{
    AccountChange, Changes, DocumentRecord, ExecutionRecord, FinishedExecution, MessageRecord, OpenedRecord, Touch,
    UserRecord, status_name,
};

/// How long after its last activity a session says that it expires.
const EXPIRY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Bytes of one statement, about: a batch of large rows takes several.
const STATEMENT_BYTES: usize = 8 << 20;

/// Everything that changes, within the transaction that is open.
pub(super) async fn write(connection: &mut PgConnection, changes: &Changes) -> sqlx::Result<()> {
    register(connection, &changes.registered).await?;
    change_accounts(connection, changes.accounts.values()).await?;
    talk(connection, changes).await?;
    for executions in parts(&changes.executions, |call| size(&call.3)) {
        call(connection, executions).await?;
    }
    for finished in parts(&changes.finished, |end| end.2.as_ref().map_or(0, size)) {
        finish(connection, finished).await?;
    }
    let removed: Vec<Uuid> = changes.documents.iter().filter_map(|(id, row)| row.is_none().then_some(*id)).collect();
    remove(connection, "DELETE FROM documents WHERE id = ANY($1)", removed).await?;
    let documents: Vec<&DocumentRecord> = changes.documents.values().flatten().collect();
    for documents in parts(&documents, |document| {
        document.filename.len() + document.metadata.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>()
    }) {
        put_documents(connection, documents).await?;
    }
    remove(connection, "DELETE FROM users WHERE id = ANY($1)", changes.refused.clone()).await
}

/// Rows as they fit into one statement: at least one each.
fn parts<T>(mut rows: &[T], size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut left = STATEMENT_BYTES;
        let fit = rows.iter().take_while(|row| {
            let room = left > 0;
            left = left.saturating_sub(size(row));
            room
        });
        let (part, rest) = rows.split_at(fit.count());
        rows = rest;
        (!part.is_empty()).then_some(part)
    })
}

async fn register(connection: &mut PgConnection, users: &[UserRecord]) -> sqlx::Result<()> {
    if users.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO users (id, username, email, role, created_at, updated_at)
         SELECT id, username, email, role, at, at
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
             AS new (id, username, email, role, at)",
    )
    .bind(column(users, |user| user.0))
    .bind(column(users, |user| text(&user.1)))
    .bind(column(users, |user| text(&user.2)))
    .bind(column(users, |user| role(user.3)))
    .bind(column(users, |user| Time(user.4)))
    .execute(connection)
    .await?;
    Ok(())
}

async fn change_accounts(
    connection: &mut PgConnection,
    changes: impl ExactSizeIterator<Item = &AccountChange> + Clone,
) -> sqlx::Result<()> {
    if changes.len() == 0 {
        return Ok(());
    }
    sqlx::query(
        "UPDATE users SET
             updated_at = change.at,
             is_active = coalesce(change.active, is_active),
             last_login = coalesce(change.login, last_login)
         FROM unnest($1::uuid[], $2::timestamptz[], $3::boolean[], $4::timestamptz[])
             AS change (id, at, active, login)
         WHERE users.id = change.id",
    )
    .bind(column(changes.clone(), |change| change.0))
    .bind(column(changes.clone(), |change| Time(change.1)))
    .bind(column(changes.clone(), |change| change.2.map(|active| active == 1)))
    .bind(column(changes, |change| change.3.map(Time)))
    .execute(connection)
    .await?;
    Ok(())
}

/// A session that a batch opens, as the batch leaves it.
struct Opened<'c> {
    new: &'c OpenedRecord,
    last: Timestamp,
    title: Option<&'c str>,
}

impl<'c> Opened<'c> {
    fn of(new: &'c OpenedRecord, touched: Option<&'c Touch>) -> Self {
        let last = touched.map_or(new.3, |touch| touch.2.max(new.3));
        Self { new, last, title: touched.and_then(|touch| touch.3.as_deref()) }
    }
}

/// Sessions, conversations and messages: what most batches are, in one statement as a rule.
async fn talk(connection: &mut PgConnection, changes: &Changes) -> sqlx::Result<()> {
    let mut opened: Vec<Opened<'_>> =
        changes.opened.iter().map(|new| Opened::of(new, changes.touched.get(&new.0))).collect();
    let new: HashSet<Uuid> = changes.opened.iter().map(|new| new.0).collect();
    let mut touched: Vec<&Touch> = changes.touched.values().filter(|touch| !new.contains(&touch.0)).collect();
    for messages in parts(&changes.messages, |message| message.3.len() + size(&message.5)) {
        // The first takes the sessions along.
        say(connection, &std::mem::take(&mut opened), &std::mem::take(&mut touched), messages).await?;
    }
    if !opened.is_empty() || !touched.is_empty() {
        say(connection, &opened, &touched, &[]).await?;
    }
    Ok(())
}

async fn say(
    connection: &mut PgConnection,
    opened: &[Opened<'_>],
    touched: &[&Touch],
    messages: &[MessageRecord],
) -> sqlx::Result<()> {
    sqlx::query(SAY)
        .bind(column(opened, |opened| opened.new.0))
        .bind(column(opened, |opened| opened.new.1))
        .bind(column(opened, |opened| opened.new.2))
        .bind(column(opened, |opened| Time(opened.new.3)))
        .bind(column(opened, |opened| Time(opened.last)))
        .bind(column(opened, |opened| expiry(opened.last)))
        .bind(column(opened, |opened| opened.title.map(text)))
        .bind(column(touched, |touch| touch.0))
        .bind(column(touched, |touch| touch.1))
        .bind(column(touched, |touch| Time(touch.2)))
        .bind(column(touched, |touch| expiry(touch.2)))
        .bind(column(touched, |touch| touch.3.as_deref().map(text)))
        .bind(column(messages, |message| message.0))
        .bind(column(messages, |message| message.1))
        .bind(column(messages, |message| message.2))
        .bind(column(messages, |message| text(&message.3)))
        .bind(column(messages, |message| Time(message.4)))
        .bind(column(messages, |message| json(&message.5)))
        .bind(column(messages, |message| message.6.map(i64::from)))
        .bind(column(messages, |message| message.7.as_deref().map(text)))
        .bind(column(messages, |message| message.8))
        .execute(connection)
        .await?;
    Ok(())
}

/// $1 to $7 are new sessions, $8 to $12 those that were there before, $13 to $21 messages. Foreign keys are looked at when all of
/// it is done.
const SAY: &str = "
    WITH opened AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[],
                $6::timestamptz[], $7::text[])
            AS opened (id, conversation, owner, at, last, expires, title)
    ), new_sessions AS (
        INSERT INTO sessions (id, user_id, session_token, created_at, expires_at, last_activity)
        SELECT id, owner, id::text, at, expires, last FROM opened
    ), new_conversations AS (
        INSERT INTO conversations (id, session_id, user_id, created_at, updated_at, title)
        SELECT conversation, id, owner, at, last, title FROM opened
    ), touched AS (
        SELECT * FROM unnest($8::uuid[], $9::uuid[], $10::timestamptz[], $11::timestamptz[], $12::text[])
            AS touched (id, conversation, last, expires, title)
    ), changed_sessions AS (
        UPDATE sessions SET
            last_activity = greatest(last_activity, touched.last),
            expires_at = greatest(expires_at, touched.expires)
        FROM touched WHERE sessions.id = touched.id
    ), changed_conversations AS (
        UPDATE conversations SET
            updated_at = greatest(updated_at, touched.last),
            title = coalesce(conversations.title, touched.title)
        FROM touched WHERE conversations.id = touched.conversation
    )
    INSERT INTO messages
        (id, conversation_id, role, content, created_at, metadata, tokens_used, model_used, ordinal)
    SELECT id, conversation, role, content, at, metadata::jsonb, tokens, model, ordinal
    FROM unnest($13::uuid[], $14::uuid[], $15::text[], $16::text[], $17::timestamptz[], $18::text[], $19::bigint[],
            $20::text[], $21::bigint[])
        AS new (id, conversation, role, content, at, metadata, tokens, model, ordinal)
    ON CONFLICT (id) DO NOTHING";

async fn call(connection: &mut PgConnection, calls: &[ExecutionRecord]) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO tool_executions (id, session_id, tool_name, parameters, status, created_at)
         SELECT id, session, tool, parameters::jsonb, 'running', at
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[])
             AS new (id, session, tool, parameters, at)",
    )
    .bind(column(calls, |call| call.0))
    .bind(column(calls, |call| call.1))
    .bind(column(calls, |call| text(&call.2)))
    .bind(column(calls, |call| json(&call.3)))
    .bind(column(calls, |call| Time(call.4)))
    .execute(connection)
    .await?;
    Ok(())
}

async fn finish(connection: &mut PgConnection, ends: &[FinishedExecution]) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE tool_executions SET
             status = ended.status,
             result = ended.result::jsonb,
             execution_time = ended.millis::double precision / 1000,
             error_message = ended.error
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[])
             AS ended (id, status, result, millis, error)
         WHERE tool_executions.id = ended.id",
    )
    .bind(column(ends, |end| end.0))
    .bind(column(ends, |end| end.1))
    .bind(column(ends, |end| end.2.as_ref().map(json)))
    .bind(column(ends, |end| end.3.cast_signed()))
    .bind(column(ends, |end| end.4.as_deref().map(text)))
    .execute(connection)
    .await?;
    Ok(())
}

async fn put_documents(connection: &mut PgConnection, documents: &[&DocumentRecord]) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO documents
             (id, user_id, filename, file_type, file_size, content_hash, uploaded_at, processed_at, status, metadata,
              chunks_count, embedding_model)
         SELECT id, owner, filename, file_type, size, hash, uploaded, processed, status, metadata::jsonb, chunks, model
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::timestamptz[],
                 $8::timestamptz[], $9::text[], $10::text[], $11::bigint[], $12::text[])
             AS new (id, owner, filename, file_type, size, hash, uploaded, processed, status, metadata, chunks, model)
         ON CONFLICT (id) DO UPDATE SET
             user_id = excluded.user_id, filename = excluded.filename, file_type = excluded.file_type,
             file_size = excluded.file_size, content_hash = excluded.content_hash, uploaded_at = excluded.uploaded_at,
             processed_at = excluded.processed_at, status = excluded.status, metadata = excluded.metadata,
             chunks_count = excluded.chunks_count, embedding_model = excluded.embedding_model",
    )
    .bind(column(documents, |document| document.id))
    .bind(column(documents, |document| document.user_id))
    .bind(column(documents, |document| text(&document.filename)))
    .bind(column(documents, |document| text(&document.file_type)))
    .bind(column(documents, |document| document.file_size.cast_signed()))
    .bind(column(documents, |document| document.content_hash.as_str()))
    .bind(column(documents, |document| Time(document.uploaded_at)))
    .bind(column(documents, |document| document.processed_at.map(Time)))
    .bind(column(documents, |document| status_name(document.status)))
    .bind(column(documents, |document| object(&document.metadata)))
    .bind(column(documents, |document| document.chunks_count.map(i64::from)))
    .bind(column(documents, |document| document.embedding_model.as_deref().map(text)))
    .execute(connection)
    .await?;
    Ok(())
}

async fn remove(connection: &mut PgConnection, statement: &'static str, ids: Vec<Uuid>) -> sqlx::Result<()> {
    if !ids.is_empty() {
        sqlx::query(statement).bind(ids).execute(connection).await?;
    }
    Ok(())
}

/// Remembers a parked stream, unless it is parked already.
pub(super) async fn set_aside(connection: &mut PgConnection, parked: &ParkedStream) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO parked (stream, version, position, reason) VALUES ($1, $2, $3, $4) ON CONFLICT (stream) DO NOTHING",
    )
    .bind(parked.stream.to_string())
    .bind(parked.version.0.cast_signed())
    .bind(parked.position.0.cast_signed())
    .bind(text(&parked.reason))
    .execute(connection)
    .await?;
    Ok(())
}

/// The channel on which every checkpoint is told, as `position schema`.
pub(super) const CHANNEL: &str = "lmao_read_model";

/// Moves the checkpoint, and tells those who wait for it when the transaction is done.
pub(super) async fn move_checkpoint(connection: &mut PgConnection, to: Position) -> sqlx::Result<()> {
    sqlx::query(
        "WITH moved AS (UPDATE projection SET position = $1 WHERE name = $2)
         SELECT pg_notify($3, $1 || ' ' || current_schema())",
    )
    .bind(to.0.cast_signed())
    .bind(READ_MODEL)
    .bind(CHANNEL)
    .execute(connection)
    .await?;
    Ok(())
}

/// One value of each row.
fn column<'r, T: 'r, V>(rows: impl IntoIterator<Item = &'r T>, value: impl FnMut(&'r T) -> V) -> Vec<V> {
    rows.into_iter().map(value).collect()
}

fn expiry(last: Timestamp) -> Time {
    Time(last.after(EXPIRY))
}

/// A role as it is stored.
const fn role(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_rows_take_several_statements() {
        let rows = [1, STATEMENT_BYTES, 5, STATEMENT_BYTES * 2, 1, 1];
        let lengths: Vec<usize> = parts(&rows, |row| *row).map(<[usize]>::len).collect();
        assert_eq!(lengths, [2, 2, 2]);
        assert_eq!(parts(&[] as &[usize], |row| *row).count(), 0);
    }

    #[test]
    fn roles_are_stored_by_their_names() {
        for one in [Role::User, Role::Admin] {
            assert_eq!(serde_json::to_value(one).unwrap(), role(one));
        }
    }
}
