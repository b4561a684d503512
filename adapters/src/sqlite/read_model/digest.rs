//! The digest of the content: BLAKE3 of every row of the eight tables, each in the order of its keys.

use futures::TryStreamExt as _;
use lmao_events::Hash;
use lmao_ports::Digest;
use sqlx::SqlitePool;

use super::sql::CONTENT;

/// Of one moment: all tables are read in one transaction.
pub(super) async fn of(readers: &SqlitePool) -> sqlx::Result<Digest> {
    let mut transaction = readers.begin().await?;
    let mut hasher = blake3::Hasher::new();
    for (table, rows) in CONTENT {
        hash(&mut hasher, table);
        let mut rows = sqlx::query_scalar::<_, String>(rows).fetch(&mut *transaction);
        while let Some(row) = rows.try_next().await? {
            hash(&mut hasher, &row);
        }
    }
    transaction.commit().await?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

/// With its length, so that no two lists of texts are one.
fn hash(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
}
