-- The log that the rows were computed from: tables that were given to another log are noticed, and never mixed.
CREATE TABLE computed_from (
    projection TEXT PRIMARY KEY,
    log        TEXT NOT NULL
) STRICT;
