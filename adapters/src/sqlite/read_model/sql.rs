//! The statements that write the read model.
//!
//! A batch is written by one script: it goes to the driver's thread once, whatever the number of rows. Rows come as JSON arrays,
//! so that the text of a script never changes and stays prepared. Parents come before their children, for the foreign keys.

/// What a script does. Parameters: $1 new users, $2 changed accounts, $3 opened sessions, $4 touched sessions, $5 messages,
/// $6 tool calls, $7 ended tool calls, $8 documents, $9 removed documents, $10 removed users, $11 the checkpoint.
///
/// Written `$n`, not `?n`: SQLite counts the latter up to n within each statement, and the driver would bind the gaps too.
macro_rules! chat {
    () => {
        "INSERT INTO sessions (id, user_id, session_token, created_at, expires_at, last_activity)
         SELECT value ->> 0, value ->> 2, value ->> 0, value ->> 3, (value ->> 3) + 2592000000000, value ->> 3
         FROM json_each($3);

         INSERT INTO conversations (id, session_id, user_id, created_at, updated_at)
         SELECT value ->> 1, value ->> 0, value ->> 2, value ->> 3, value ->> 3 FROM json_each($3);

         UPDATE sessions SET
             last_activity = max(last_activity, touch.value ->> 2),
             expires_at = max(expires_at, (touch.value ->> 2) + 2592000000000)
         FROM json_each($4) AS touch WHERE sessions.id = touch.value ->> 0;

         UPDATE conversations SET
             updated_at = max(updated_at, touch.value ->> 2),
             title = coalesce(title, touch.value ->> 3)
         FROM json_each($4) AS touch WHERE conversations.id = touch.value ->> 1;

         INSERT INTO messages
             (id, conversation_id, role, content, created_at, metadata, tokens_used, model_used, ordinal)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value -> 5, value ->> 6, value ->> 7,
             value ->> 8
         FROM json_each($5) WHERE true
         ON CONFLICT (id) DO NOTHING;"
    };
}

macro_rules! users {
    () => {
        "INSERT INTO users (id, username, email, role, created_at, updated_at)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 4 FROM json_each($1);

         UPDATE users SET
             updated_at = change.value ->> 1,
             is_active = coalesce(change.value ->> 2, is_active),
             last_login = coalesce(change.value ->> 3, last_login)
         FROM json_each($2) AS change WHERE users.id = change.value ->> 0;"
    };
}

macro_rules! the_rest {
    () => {
        "INSERT INTO tool_executions (id, session_id, tool_name, parameters, status, created_at)
         SELECT value ->> 0, value ->> 1, value ->> 2, value -> 3, 'running', value ->> 4 FROM json_each($6);

         UPDATE tool_executions SET
             status = ended.value ->> 1,
             result = CASE WHEN ended.value ->> 1 = 'success' THEN ended.value -> 2 END,
             execution_time = (ended.value ->> 3) / 1000.0,
             error_message = ended.value ->> 4
         FROM json_each($7) AS ended WHERE tool_executions.id = ended.value ->> 0;

         DELETE FROM documents WHERE id IN (SELECT value FROM json_each($9));

         INSERT INTO documents
             (id, user_id, filename, file_type, file_size, content_hash, uploaded_at, processed_at, status, metadata,
              chunks_count, embedding_model)
         SELECT value ->> '$.id', value ->> '$.user_id', value ->> '$.filename', value ->> '$.file_type',
             value ->> '$.file_size', value ->> '$.content_hash', value ->> '$.uploaded_at', value ->> '$.processed_at',
             value ->> '$.status', value -> '$.metadata', value ->> '$.chunks_count', value ->> '$.embedding_model'
         FROM json_each($8) WHERE true
         ON CONFLICT (id) DO UPDATE SET
             user_id = excluded.user_id, filename = excluded.filename, file_type = excluded.file_type,
             file_size = excluded.file_size, content_hash = excluded.content_hash, uploaded_at = excluded.uploaded_at,
             processed_at = excluded.processed_at, status = excluded.status, metadata = excluded.metadata,
             chunks_count = excluded.chunks_count, embedding_model = excluded.embedding_model;

         DELETE FROM users WHERE id IN (SELECT value FROM json_each($10));"
    };
}

macro_rules! checkpoint {
    () => {
        "INSERT INTO projection (name, position) VALUES ('read_model', $11)
         ON CONFLICT (name) DO UPDATE SET position = excluded.position;"
    };
}

/// The rows of one commit, within a transaction that is open.
pub(super) const STEP: &str = concat!(users!(), chat!(), the_rest!());

/// Only the checkpoint moves.
pub(super) const CHECKPOINT: &str = checkpoint!();

/// Sessions, messages and the checkpoint: what most batches are.
pub(super) const CHAT: &str = concat!("BEGIN IMMEDIATE;", chat!(), checkpoint!(), "COMMIT");

/// Everything.
pub(super) const ALL: &str = concat!("BEGIN IMMEDIATE;", users!(), chat!(), the_rest!(), checkpoint!(), "COMMIT");

/// Everything is forgotten, children first.
pub(super) const RESET: &str = "BEGIN IMMEDIATE;
    DELETE FROM feedback; DELETE FROM messages; DELETE FROM conversations; DELETE FROM tool_executions;
    DELETE FROM sessions; DELETE FROM documents; DELETE FROM users; DELETE FROM system_metrics;
    DELETE FROM parked; DELETE FROM projection; DELETE FROM computed_from;
    COMMIT";
