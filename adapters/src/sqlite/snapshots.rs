//! Snapshots on SQLite: WAL, `synchronous=NORMAL`, or FULL for what is put durably. A power cut may lose the last ones, never
//! half of one.

use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use lmao_ports::{Snapshots, Unavailable};
use sqlx::{
    Arguments as _,
    sqlite::{SqliteArguments, SqliteSynchronous},
};

use super::file::{Database, File, Store};

const STORE: Store = Store {
    name: "snapshots.db",
    schema: include_str!("../../../migrations/sqlite/snapshots.sql"),
    version: 1,
    when_damaged: "stop the server and delete snapshots.db with its -wal and -shm: it is made again",
};

const PUT: &str =
    "INSERT INTO snapshots (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// The largest value, in bytes.
const MAX_VALUE: usize = 1024 * 1024;

/// Snapshots in one file.
#[derive(Debug)]
pub struct SqliteSnapshots {
    database: Database,
}

impl SqliteSnapshots {
    /// Opens the file at `path`; makes it if there is none.
    ///
    /// # Errors
    /// [`Unavailable`]: it cannot be opened, is damaged, or was written by a newer build.
    pub async fn open(path: &Path) -> Result<Self, Unavailable> {
        Ok(Self { database: Database::open(&File::wal(&STORE, path, SqliteSynchronous::Normal)).await? })
    }

    async fn write(&self, sql: &'static str, arguments: SqliteArguments) -> Result<(), Unavailable> {
        self.database.writer().await?.run(sql, arguments).await.map_err(|error| self.database.unavailable(error))?;
        Ok(())
    }

    /// Both arguments of [`PUT`], if the value may be stored.
    fn pair(&self, key: &str, value: &[u8]) -> Result<SqliteArguments, Unavailable> {
        if value.len() > MAX_VALUE {
            let message = format!("the value of {key} has {} bytes; at most {MAX_VALUE} are taken", value.len());
            return Err(Unavailable::plain(STORE.name, message));
        }
        self.arguments(key, Some(value))
    }

    fn arguments(&self, key: &str, value: Option<&[u8]>) -> Result<SqliteArguments, Unavailable> {
        let mut arguments = SqliteArguments::default();
        let mut added = arguments.add(key);
        if let (Ok(()), Some(value)) = (&added, value) {
            added = arguments.add(value);
        }
        added.map_err(|error| self.database.unavailable(sqlx::Error::Encode(error)))?;
        Ok(arguments)
    }
}

#[async_trait]
impl Snapshots for SqliteSnapshots {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable> {
        let value: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM snapshots WHERE key = ?")
            .bind(key)
            .fetch_optional(&self.database.readers)
            .await
            .map_err(|error| self.database.unavailable(error))?;
        Ok(value.map(Bytes::from))
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<(), Unavailable> {
        self.write(PUT, self.pair(key, &value)?).await
    }

    async fn put_durable(&self, key: &str, value: Bytes) -> Result<(), Unavailable> {
        let arguments = self.pair(key, &value)?;
        let mut writer = self.database.writer().await?;
        // The commit syncs the write-ahead log, and with it what was committed there before. Whoever is cancelled in between
        // leaves the connection more careful than it has to be.
        let put = async {
            sqlx::raw_sql("PRAGMA synchronous = FULL").execute(writer.connection()).await?;
            let put = writer.run(PUT, arguments).await;
            sqlx::raw_sql("PRAGMA synchronous = NORMAL").execute(writer.connection()).await?;
            put
        };
        put.await.map(drop).map_err(|error| self.database.unavailable(error))
    }

    async fn delete(&self, key: &str) -> Result<(), Unavailable> {
        self.write("DELETE FROM snapshots WHERE key = ?", self.arguments(key, None)?).await
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, Unavailable> {
        // Keys are ASCII: none that begins with the prefix is behind the prefix and the last character there is.
        let pairs: Vec<(String, Vec<u8>)> =
            sqlx::query_as("SELECT key, value FROM snapshots WHERE key >= ? AND key < ? ORDER BY key")
                .bind(prefix)
                .bind(format!("{prefix}{}", char::MAX))
                .fetch_all(&self.database.readers)
                .await
                .map_err(|error| self.database.unavailable(error))?;
        Ok(pairs.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lmao_ports::conformance::snapshots as suite;

    use super::*;

    #[tokio::test]
    async fn keep_what_every_store_promises_also_when_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshots.db");
        suite::all(async || Arc::new(SqliteSnapshots::open(&path).await.unwrap()) as Arc<dyn Snapshots>).await;
        let store = SqliteSnapshots::open(&path).await.unwrap();
        store.put("a", Bytes::from_static(b"kept")).await.unwrap();
        let error = store.put("b", vec![0; MAX_VALUE + 1].into()).await.unwrap_err();
        assert!(error.to_string().contains("at most 1048576"), "{error}");
        drop(store);
        let store = SqliteSnapshots::open(&path).await.unwrap();
        assert_eq!(store.get("a").await.unwrap(), Some(Bytes::from_static(b"kept")));
    }

    #[tokio::test]
    async fn only_what_is_put_durably_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteSnapshots::open(&folder.path().join("snapshots.db")).await.unwrap();
        let synchronous = async || -> i64 {
            let mut writer = store.database.writer().await.unwrap();
            sqlx::query_scalar("PRAGMA synchronous").fetch_one(writer.connection()).await.unwrap()
        };
        store.put_durable("a", Bytes::new()).await.unwrap();
        assert_eq!(synchronous().await, 1);
        store.put_durable("b", vec![0; MAX_VALUE + 1].into()).await.unwrap_err();
        assert_eq!(synchronous().await, 1);
    }

    #[tokio::test]
    async fn a_damaged_file_may_be_deleted_and_the_error_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshots.db");
        std::fs::write(&path, [7; 8192]).unwrap();
        let error = SqliteSnapshots::open(&path).await.unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("delete snapshots.db"), "{error}");
    }
}
