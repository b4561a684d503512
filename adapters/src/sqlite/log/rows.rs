//! The statements of the writer.

use std::sync::LazyLock;

use crate::sqlite::ladder::Ladder;

/// One transaction that appends rows of position, stream, version, hash, record.
pub(super) static APPEND: LazyLock<Ladder> = LazyLock::new(|| {
    Ladder::new(
        "BEGIN IMMEDIATE;
         INSERT INTO log (position, stream, version, hash, record)
         SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL;
         COMMIT",
        5,
    )
});

/// The last row of each stream that has one: stream, version, position, hash.
pub(super) static HEADS: LazyLock<Ladder> = LazyLock::new(|| {
    Ladder::new(
        "SELECT log.stream, log.version, log.position, log.hash
         FROM (SELECT column1 AS stream FROM (VALUES {})) AS wanted
         CROSS JOIN log ON log.position =
             (SELECT last.position FROM log AS last WHERE last.stream = wanted.stream ORDER BY last.version DESC LIMIT 1)",
        1,
    )
});
