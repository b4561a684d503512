//! Opening a store's file: connections with its durability, its schema and the schema's version.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use lmao_ports::Unavailable;
use rusqlite::OpenFlags;
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard};

use super::error::{Failure, explain, unavailable};

/// Connections that read one store at once; more requests wait for them.
const READERS: u32 = 4;
/// How long a request waits for one of them.
const READER_WAIT: Duration = Duration::from_secs(10);
/// How long a statement waits for a lock of another process.
const BUSY: Duration = Duration::from_secs(5);
/// What every connection is told.
const PRAGMAS: [(&str, &str); 3] = [
    ("cache_size", "-16384"),
    // Fewer, larger checkpoints (pages of 4 KiB), and a log file that shrinks again after them.
    ("wal_autocheckpoint", "4000"),
    ("journal_size_limit", "67108864"),
];

/// What is to be known about one kind of file.
#[derive(Debug)]
pub(super) struct Store {
    /// Its name for people: `log.db`.
    pub(super) name: &'static str,
    /// The statements that make an empty one.
    pub(super) schema: &'static str,
    /// The version of that schema, in `PRAGMA user_version`; one more with each change.
    pub(super) version: i64,
    /// What to do with a damaged one.
    pub(super) when_damaged: &'static str,
}

/// A file's path with its way of being used.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) store: &'static Store,
    pub(super) path: PathBuf,
    options: SqliteConnectOptions,
    /// Pages that it may grow to.
    #[cfg(test)]
    max_pages: Option<u32>,
}

impl File {
    fn new(store: &'static Store, path: &Path, options: SqliteConnectOptions) -> Self {
        Self {
            store,
            path: path.to_owned(),
            options,
            #[cfg(test)]
            max_pages: None,
        }
    }

    /// A file in WAL mode that this process writes.
    pub(super) fn wal(store: &'static Store, path: &Path, synchronous: SqliteSynchronous) -> Self {
        let options =
            common(path).create_if_missing(true).journal_mode(SqliteJournalMode::Wal).synchronous(synchronous);
        Self::new(store, path, options)
    }

    /// A file whose destroyed content leaves no trace: overwritten in place, no log of old pages kept.
    pub(super) fn forgetful(store: &'static Store, path: &Path) -> Self {
        let options = common(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Delete)
            // Also syncs the folder once the journal is gone: else a power cut could bring the old content back.
            .synchronous(SqliteSynchronous::Extra)
            .pragma("secure_delete", "ON");
        Self::new(store, path, options)
    }

    /// A file that another process may be writing.
    pub(super) fn read_only(store: &'static Store, path: &Path) -> Self {
        Self::new(store, path, common(path).read_only(true))
    }

    /// A disk with room for this many pages of 4 KiB.
    #[cfg(test)]
    pub(super) fn limited_to_pages(mut self, pages: u32) -> Self {
        self.options = self.options.pragma("max_page_count", pages.to_string());
        self.max_pages = Some(pages);
        self
    }

    /// One connection.
    pub(super) async fn connect(&self) -> Result<SqliteConnection, Unavailable> {
        self.options.connect().await.map_err(|error| self.cannot_open(error))
    }

    /// A connection to a WAL file that exists, for a thread that may block. What it commits is synced (`synchronous=FULL`).
    pub(super) fn connect_blocking(&self) -> Result<rusqlite::Connection, Unavailable> {
        let connected = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = rusqlite::Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", "ON")?;
            for (name, value) in PRAGMAS {
                connection.pragma_update(None, name, value)?;
            }
            #[cfg(test)]
            if let Some(pages) = self.max_pages {
                connection.pragma_update(None, "max_page_count", pages)?;
            }
            Ok(connection)
        };
        connected().map_err(|error: rusqlite::Error| self.cannot_open(error))
    }

    /// Connections for reading, opened when they are needed.
    pub(super) fn readers(&self) -> SqlitePool {
        SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(READER_WAIT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(self.options.clone().pragma("query_only", "ON"))
    }

    /// Makes the schema in an empty file; refuses one that a newer build wrote.
    pub(super) async fn prepare(&self, connection: &mut SqliteConnection) -> Result<(), Unavailable> {
        if self.version(connection).await? == 0 {
            let made = self.make_schema(connection).await;
            made.map_err(|error| self.cannot_open(error))?;
        }
        Ok(())
    }

    /// The version of the schema; 0 for an empty file.
    pub(super) async fn version(&self, connection: &mut SqliteConnection) -> Result<i64, Unavailable> {
        let version: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(connection)
            .await
            .map_err(|error| self.cannot_open(error))?;
        if version > self.store.version {
            let message = format!(
                "{} was written by a newer build (schema {version}, this build knows {}): upgrade lmao",
                self.path.display(),
                self.store.version
            );
            return Err(Unavailable::plain(self.store.name, message));
        }
        Ok(version)
    }

    async fn make_schema(&self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(self.store.schema).execute(&mut *transaction).await?;
        let version = format!("PRAGMA user_version = {}", self.store.version);
        sqlx::raw_sql(sqlx::AssertSqlSafe(version)).execute(&mut *transaction).await?;
        transaction.commit().await
    }

    pub(super) fn cannot_open(&self, error: impl Failure) -> Unavailable {
        let message = format!("cannot open {}: {}", self.path.display(), explain(self.store, &error));
        Unavailable::new(self.store.name, message, error)
    }

    /// A file that is not there cannot be read.
    pub(super) fn must_exist(&self) -> Result<(), Unavailable> {
        if self.path.is_file() {
            return Ok(());
        }
        let message = format!("there is no {}; `lmao serve` creates it", self.path.display());
        Err(Unavailable::plain(self.store.name, message))
    }
}

/// Moves what a store's write-ahead log holds into the store's file, so that a copy of that file alone is whole. Called
/// when this process uses the store no more.
///
/// # Errors
/// [`Unavailable`]: the file cannot be written, or somebody still reads it. Nothing is lost then; the next one to open it
/// goes on with both.
pub async fn merge_wal(path: &Path) -> Result<(), Unavailable> {
    let message = || format!("the write-ahead log of {} stays beside it", path.display());
    let merged = async {
        let mut connection = common(path).connect().await?;
        let (busy, _, _): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut connection).await?;
        // The last one out removes it.
        connection.close().await.map(|()| busy != 0)
    };
    match merged.await {
        Ok(false) => Ok(()),
        Ok(true) => Err(Unavailable::plain("sqlite", format!("{}: it is still being read", message()))),
        Err(error) => Err(Unavailable::new("sqlite", message(), error)),
    }
}

fn common(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(BUSY);
    let options = PRAGMAS.into_iter().fold(options, |options, (name, value)| options.pragma(name, value));
    options.disable_statement_logging()
}

/// One writing connection, unless the file is only read, and some that read.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) store: &'static Store,
    pub(super) readers: SqlitePool,
    writer: Option<Mutex<Writer>>,
}

/// The one connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    connection: SqliteConnection,
    /// A transaction was begun and not seen to its end: an error within, or a cancelled caller.
    unfinished: bool,
}

impl Database {
    /// Opens a file of a store that makes its own schema.
    pub(super) async fn open(file: &File) -> Result<Self, Unavailable> {
        let mut connection = file.connect().await?;
        file.prepare(&mut connection).await?;
        Ok(Self::of(file, Some(connection)))
    }

    /// With this connection for writing, if any.
    pub(super) fn of(file: &File, connection: Option<SqliteConnection>) -> Self {
        let writer = connection.map(|connection| Mutex::new(Writer { connection, unfinished: false }));
        Self { store: file.store, readers: file.readers(), writer }
    }

    /// Whether this process writes the file.
    pub(super) fn writes(&self) -> bool {
        self.writer.is_some()
    }

    pub(super) async fn writer(&self) -> Result<MutexGuard<'_, Writer>, Unavailable> {
        let Some(writer) = &self.writer else {
            return Err(Unavailable::plain(self.store.name, "it was opened for reading only"));
        };
        let mut writer = writer.lock().await;
        writer.settle().await;
        Ok(writer)
    }

    pub(super) fn unavailable(&self, error: sqlx::Error) -> Unavailable {
        unavailable(self.store, error)
    }
}

impl Writer {
    /// Runs statements that are, or make, one transaction. After an error nothing of it remains.
    pub(super) async fn run(&mut self, sql: &'static str, arguments: SqliteArguments) -> sqlx::Result<u64> {
        self.unfinished = true;
        let done = sqlx::query_with(sql, arguments).execute(&mut self.connection).await;
        match &done {
            Ok(_) => self.unfinished = false,
            Err(_) => self.settle().await,
        }
        done.map(|done| done.rows_affected())
    }

    /// Opens a transaction for [`Writer::step`]. Whoever does not reach [`Writer::commit`] has it rolled back.
    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        self.unfinished = true;
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
        Ok(())
    }

    /// Runs statements within the transaction that is open.
    pub(super) async fn step(&mut self, sql: &'static str, arguments: SqliteArguments) -> sqlx::Result<()> {
        sqlx::query_with(sql, arguments).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Closes the transaction.
    pub(super) async fn commit(&mut self) -> sqlx::Result<()> {
        sqlx::raw_sql("COMMIT").execute(&mut self.connection).await?;
        self.unfinished = false;
        Ok(())
    }

    /// The connection itself, for reading.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Rolls back what was left open.
    pub(super) async fn settle(&mut self) {
        if self.unfinished {
            // Fails when SQLite has rolled back already, which is as well.
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await;
            self.unfinished = false;
        }
    }
}
