//! Computed vectors on SQLite, so that the same text is never embedded twice. Bounded: the oldest are dropped first.

use std::{path::Path, sync::LazyLock};

use async_trait::async_trait;
use lmao_ports::{EmbeddingCache, EmbeddingKey, Unavailable};
use sqlx::{
    Arguments as _,
    sqlite::{SqliteArguments, SqliteSynchronous},
};

use crate::metrics::looked_up;

use super::{
    file::{Database, File, Store},
    ladder::{Ladder, MAX_ROWS},
};

const STORE: Store = Store {
    name: "cache.db",
    schema: include_str!("../../../migrations/sqlite/embeddings.sql"),
    version: 1,
    when_damaged: "stop the server and delete cache.db with its -wal and -shm: vectors are computed again",
};

static GET: LazyLock<Ladder> =
    LazyLock::new(|| Ladder::new("SELECT key, vector FROM embeddings WHERE key IN (VALUES {})", 1));

static PUT: LazyLock<Ladder> = LazyLock::new(|| {
    Ladder::new(
        "INSERT INTO embeddings (key, vector)
         SELECT column1, column2 FROM (VALUES {}) WHERE column1 IS NOT NULL
         ON CONFLICT (key) DO NOTHING",
        2,
    )
});

/// A tenth of all, the oldest.
const EVICT: &str = "DELETE FROM embeddings
    WHERE id <= (SELECT min(id) FROM embeddings) + (SELECT (max(id) - min(id)) / 10 FROM embeddings)";

/// Bytes of the file that are in use.
const USED: &str = "SELECT (page_count - freelist_count) * page_size
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size";

/// The cache in one file.
#[derive(Debug)]
pub struct SqliteEmbeddingCache {
    database: Database,
    max_bytes: u64,
}

impl SqliteEmbeddingCache {
    /// Opens the file at `path`; makes it if there is none. It is kept at about `max_bytes`.
    ///
    /// # Errors
    /// [`Unavailable`]: it cannot be opened, is damaged, or was written by a newer build.
    pub async fn open(path: &Path, max_bytes: u64) -> Result<Self, Unavailable> {
        let database = Database::open(&File::wal(&STORE, path, SqliteSynchronous::Normal)).await?;
        Ok(Self { database, max_bytes })
    }

    async fn evict(&self) -> Result<(), Unavailable> {
        let failed = |error| self.database.unavailable(error);
        let mut writer = self.database.writer().await?;
        loop {
            let used: i64 = sqlx::query_scalar(USED).fetch_one(writer.connection()).await.map_err(failed)?;
            if used.cast_unsigned() <= self.max_bytes
                || writer.run(EVICT, SqliteArguments::default()).await.map_err(failed)? == 0
            {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl EmbeddingCache for SqliteEmbeddingCache {
    async fn get(&self, keys: &[EmbeddingKey]) -> Result<Vec<Option<Vec<f32>>>, Unavailable> {
        let mut found = std::collections::HashMap::with_capacity(keys.len());
        for keys in keys.chunks(MAX_ROWS) {
            let mut query = sqlx::query_as(GET.with_room_for(keys.len()));
            for key in keys {
                query = query.bind(key.to_vec());
            }
            let rows: Vec<(Vec<u8>, Vec<u8>)> =
                query.fetch_all(&self.database.readers).await.map_err(|error| self.database.unavailable(error))?;
            found.extend(rows);
        }
        looked_up("embeddings", keys.len(), found.len());
        Ok(keys.iter().map(|key| found.get(key.as_slice()).map(|bytes| floats(bytes))).collect())
    }

    async fn put(&self, entries: &[(EmbeddingKey, Vec<f32>)]) -> Result<(), Unavailable> {
        let failed = |error| self.database.unavailable(error);
        for entries in entries.chunks(MAX_ROWS) {
            let mut arguments = SqliteArguments::default();
            for (key, vector) in entries {
                let added = arguments.add(key.to_vec()).and_then(|()| arguments.add(bytes(vector)));
                added.map_err(|error| failed(sqlx::Error::Encode(error)))?;
            }
            let sql = PUT.with_room_for(entries.len());
            self.database.writer().await?.run(sql, arguments).await.map_err(failed)?;
        }
        self.evict().await
    }
}

fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lmao_ports::conformance::embedding_cache as suite;

    use super::*;

    async fn open(path: &Path, max_bytes: u64) -> SqliteEmbeddingCache {
        SqliteEmbeddingCache::open(path, max_bytes).await.unwrap()
    }

    #[tokio::test]
    async fn keeps_what_every_cache_promises_also_when_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.db");
        suite::all(async || Arc::new(open(&path, 1 << 30).await) as Arc<dyn EmbeddingCache>).await;
        open(&path, 1 << 30).await.put(&[([1; 32], vec![0.5])]).await.unwrap();
        assert_eq!(open(&path, 1 << 30).await.get(&[[1; 32]]).await.unwrap(), [Some(vec![0.5])]);
    }

    #[tokio::test]
    async fn the_oldest_make_room_for_the_newest() {
        const MAX: u64 = 1024 * 1024;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.db");
        let cache = open(&path, MAX).await;
        let key = |n: u32| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            key
        };
        for batch in 0..40_u32 {
            let entries: Vec<_> = (0..32).map(|n| (key(batch * 32 + n), vec![1.0; 384])).collect();
            cache.put(&entries).await.unwrap();
        }
        let found = cache.get(&[key(0), key(40 * 32 - 1)]).await.unwrap();
        assert!(found[0].is_none() && found[1].is_some());
        let file = std::fs::metadata(&path).unwrap().len();
        assert!(file < 2 * MAX, "{file} bytes");
        // Less than one vector: nothing stays, nothing fails.
        drop(cache);
        let tiny = open(&path, 1).await;
        tiny.put(&[(key(9999), vec![2.0])]).await.unwrap();
        assert_eq!(tiny.get(&[key(9999)]).await.unwrap(), [None]);
    }
}
