-- log.db: the event log. Rows are added, never changed or removed.
CREATE TABLE log (
    position INTEGER PRIMARY KEY,          -- place in the whole log, 1, 2, 3 …
    stream   BLOB NOT NULL,                -- category byte and UUID, 17 bytes
    version  INTEGER NOT NULL,             -- place in the stream, 1, 2, 3 …
    hash     BLOB NOT NULL,                -- BLAKE3 of the record, 32 bytes
    record   BLOB NOT NULL                 -- the canonical bytes
) STRICT;

-- The fence: of two records for one version exactly one is accepted.
CREATE UNIQUE INDEX log_stream_version ON log (stream, version);

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
