-- cache.db: vectors that were computed before.
CREATE TABLE embeddings (
    id     INTEGER PRIMARY KEY,            -- grows with time: the smallest are dropped first
    key    BLOB NOT NULL UNIQUE,           -- 32 bytes
    vector BLOB NOT NULL                   -- f32 little-endian
) STRICT;
