-- snapshots.db: states and indexes that can be computed again.
CREATE TABLE snapshots (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
