-- read.db: the eight tables of the specification, as SQLite has them. Every row follows from the event log.
--
-- Types: a UUID is its hyphenated text, a TIMESTAMP an INTEGER of microseconds since 1970 UTC, JSONB is JSON text.
-- Deviations, each with its reason:
--   users.password_hash         always 'vault': the hash lives in the vault, where it can be erased
--   users.username, users.email unique among active accounts: what two requests at once ask for is decided by claims in the
--                               log, and the refused one has a row until it is refused
--   sessions                    are conversations, not logins (those live with the user): session_token is the session's id,
--                               expires_at is 30 days after the last activity and expires nothing
--   conversations               one to each session
--   messages.ordinal            added: the place in the session's history, which time alone does not give
--   documents.content_hash      unique for each owner: what another person has is nobody else's business
--   documents.embedding_model   added: the model of the vectors that were published last
--   feedback, system_metrics    empty until there are events for them
-- Indexes have the names and leading columns of the specification; some have more columns, to serve pages without sorting.

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    username      TEXT NOT NULL,
    email         TEXT NOT NULL,
    password_hash TEXT NOT NULL DEFAULT 'vault',
    role          TEXT NOT NULL DEFAULT 'user',
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    last_login    INTEGER,
    is_active     INTEGER NOT NULL DEFAULT 0 CHECK (is_active IN (0, 1))
) STRICT;

CREATE TABLE sessions (
    id            TEXT PRIMARY KEY,
    user_id       TEXT NOT NULL REFERENCES users (id),
    session_token TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    last_activity INTEGER NOT NULL,
    metadata      TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE TABLE conversations (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    user_id    TEXT NOT NULL REFERENCES users (id),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    title      TEXT,
    metadata   TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE TABLE messages (
    id              TEXT PRIMARY KEY,
    conversation_id TEXT NOT NULL REFERENCES conversations (id),
    role            TEXT NOT NULL,
    content         TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    metadata        TEXT NOT NULL DEFAULT '{}',
    tokens_used     INTEGER,
    model_used      TEXT,
    ordinal         INTEGER NOT NULL
) STRICT;

CREATE TABLE tool_executions (
    id             TEXT PRIMARY KEY,
    session_id     TEXT REFERENCES sessions (id),
    tool_name      TEXT NOT NULL,
    parameters     TEXT NOT NULL,
    result         TEXT,
    status         TEXT NOT NULL,
    execution_time REAL,
    created_at     INTEGER NOT NULL,
    error_message  TEXT
) STRICT;

CREATE TABLE documents (
    id              TEXT PRIMARY KEY,
    user_id         TEXT NOT NULL REFERENCES users (id),
    filename        TEXT NOT NULL,
    file_type       TEXT NOT NULL,
    file_size       INTEGER NOT NULL,
    content_hash    TEXT NOT NULL,
    uploaded_at     INTEGER NOT NULL,
    processed_at    INTEGER,
    status          TEXT NOT NULL,
    metadata        TEXT NOT NULL DEFAULT '{}',
    chunks_count    INTEGER,
    embedding_model TEXT
) STRICT;

CREATE TABLE feedback (
    id            TEXT PRIMARY KEY,
    user_id       TEXT REFERENCES users (id),
    session_id    TEXT REFERENCES sessions (id),
    message_id    TEXT REFERENCES messages (id),
    rating        INTEGER CHECK (rating >= 1 AND rating <= 5),
    feedback_text TEXT,
    category      TEXT,
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE system_metrics (
    id           TEXT PRIMARY KEY,
    metric_name  TEXT NOT NULL,
    metric_value REAL NOT NULL,
    metric_type  TEXT NOT NULL,
    timestamp    INTEGER NOT NULL,
    metadata     TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE UNIQUE INDEX idx_users_username ON users (username) WHERE is_active;
CREATE UNIQUE INDEX idx_users_email ON users (email) WHERE is_active;
CREATE INDEX idx_sessions_user_id ON sessions (user_id);
CREATE UNIQUE INDEX idx_sessions_token ON sessions (session_token);
CREATE INDEX idx_conversations_session_id ON conversations (session_id);
CREATE INDEX idx_conversations_user_id ON conversations (user_id);
CREATE INDEX idx_messages_conversation_id ON messages (conversation_id, ordinal);
CREATE INDEX idx_messages_created_at ON messages (created_at);
CREATE INDEX idx_tool_executions_session_id ON tool_executions (session_id);
CREATE INDEX idx_documents_user_id ON documents (user_id, uploaded_at, id);
CREATE INDEX idx_documents_user_status ON documents (user_id, status, uploaded_at, id);
CREATE UNIQUE INDEX idx_documents_content_hash ON documents (content_hash, user_id);
CREATE INDEX idx_feedback_user_id ON feedback (user_id);
CREATE INDEX idx_system_metrics_name_timestamp ON system_metrics (metric_name, timestamp);

-- The projection's own: how far the log was taken in, and which streams were set aside.
CREATE TABLE projection (
    name     TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT;

CREATE TABLE parked (
    stream   TEXT PRIMARY KEY,
    version  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    reason   TEXT NOT NULL
) STRICT;
