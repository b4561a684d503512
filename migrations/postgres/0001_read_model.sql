-- The eight tables of the specification, as Postgres has them, in the schema that the URL names. Every row follows from the
-- event log.
--
-- Deviations, each with its reason:
--   VARCHAR(n)                  is text: what is too long is refused before it becomes an event; a table that refused it later
--                               than the log took it would set its stream aside
--   TIMESTAMP                   is timestamptz
--   INTEGER                     is bigint where a file's size, a count or a number of tokens may outgrow it
--   DEFAULT                     only where the projection leaves the column out; ids and times come from events
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
-- Neither text nor jsonb holds a zero character, and jsonb spells numbers anew. Where that would change what was said, a field
-- holds it behind U+10FFFF: that and 0 for a zero character, that and 1 for itself, that, n and digits for a number.
-- Rows that change often find room for it beside them (fillfactor), and their indexes stay as they are.
-- Indexes have the names and leading columns of the specification; some have more columns, to serve pages without sorting.

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    username      text NOT NULL,
    email         text NOT NULL,
    password_hash text NOT NULL DEFAULT 'vault',
    role          text NOT NULL DEFAULT 'user',
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    last_login    timestamptz,
    is_active     boolean NOT NULL DEFAULT false
);

CREATE TABLE sessions (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users (id),
    session_token text NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    last_activity timestamptz NOT NULL,
    metadata      jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 80);

CREATE TABLE conversations (
    id         uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions (id),
    user_id    uuid NOT NULL REFERENCES users (id),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    title      text,
    metadata   jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 80);

CREATE TABLE messages (
    id              uuid PRIMARY KEY,
    conversation_id uuid NOT NULL REFERENCES conversations (id),
    role            text NOT NULL,
    content         text NOT NULL,
    created_at      timestamptz NOT NULL,
    metadata        jsonb NOT NULL DEFAULT '{}',
    tokens_used     bigint,
    model_used      text,
    ordinal         bigint NOT NULL
);

CREATE TABLE tool_executions (
    id             uuid PRIMARY KEY,
    session_id     uuid REFERENCES sessions (id),
    tool_name      text NOT NULL,
    parameters     jsonb NOT NULL,
    result         jsonb,
    status         text NOT NULL,
    execution_time double precision,
    created_at     timestamptz NOT NULL,
    error_message  text
);

CREATE TABLE documents (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL REFERENCES users (id),
    filename        text NOT NULL,
    file_type       text NOT NULL,
    file_size       bigint NOT NULL,
    content_hash    text NOT NULL,
    uploaded_at     timestamptz NOT NULL,
    processed_at    timestamptz,
    status          text NOT NULL,
    metadata        jsonb NOT NULL DEFAULT '{}',
    chunks_count    bigint,
    embedding_model text
);

CREATE TABLE feedback (
    id            uuid PRIMARY KEY,
    user_id       uuid REFERENCES users (id),
    session_id    uuid REFERENCES sessions (id),
    message_id    uuid REFERENCES messages (id),
    rating        bigint CHECK (rating >= 1 AND rating <= 5),
    feedback_text text,
    category      text,
    created_at    timestamptz NOT NULL
);

CREATE TABLE system_metrics (
    id           uuid PRIMARY KEY,
    metric_name  text NOT NULL,
    metric_value double precision NOT NULL,
    metric_type  text NOT NULL,
    timestamp    timestamptz NOT NULL,
    metadata     jsonb NOT NULL DEFAULT '{}'
);

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

-- The projection's own: how far the log was taken in, and which streams were set aside. Its row is locked by whoever changes
-- either. `parkings` counts the changes of `parked`, so that others see that what they remember of it is old.
CREATE TABLE projection (
    name     text PRIMARY KEY,
    position bigint NOT NULL,
    parkings bigint NOT NULL DEFAULT 0
);

INSERT INTO projection (name, position) VALUES ('read_model', 0);

CREATE TABLE parked (
    stream   text PRIMARY KEY,
    version  bigint NOT NULL,
    position bigint NOT NULL,
    reason   text NOT NULL
);
