//! The read model on SQLite: the specification's eight tables, their checkpoint and the streams set aside, in one file.
//!
//! Rows and checkpoint move in one transaction. `synchronous=NORMAL`: a power cut may take the file back to an earlier
//! checkpoint, from which the log is taken in again. A checkpoint without rows is not worth a transaction: it waits in
//! memory for the next rows, or for [`Projection::save`].

mod apply;
mod digest;
mod query;
mod sql;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lmao_events::{Category, Position, StreamId, Version};
use lmao_ports::{
    Committed, Digest, Journal, ParkedStream, Progress, Projection, ProjectionError, Unavailable, Unparked,
};
use sqlx::{
    SqliteConnection,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteArguments, SqliteSynchronous},
};
use uuid::Uuid;

use super::{
    error::explain,
    file::{Database, File, Store, Writer},
};
use crate::read_model;

const STORE: Store = Store {
    name: "read.db",
    // The migrations make it, and keep its version themselves.
    schema: "",
    version: 0,
    when_damaged: "stop the server and delete read.db with its -wal and -shm: it is rebuilt from the log",
};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// How often a read model that another process writes is asked how far it is.
const POLL: Duration = Duration::from_millis(20);

/// The read model in one file.
#[derive(Debug)]
pub struct SqliteReadModel {
    database: Database,
    progress: Progress,
    /// The streams set aside, each with the first version that was not taken in.
    parked: Mutex<HashMap<StreamId, Version>>,
    /// A change was begun and not seen to its end: the file may be ahead of the two above.
    unsure: AtomicBool,
    /// The checkpoint is ahead of the one in the file.
    unsaved: AtomicBool,
}

impl SqliteReadModel {
    /// Which categories it needs opened: workflows and claims have no rows.
    #[must_use]
    pub fn wants(category: Category) -> bool {
        read_model::wants(category)
    }

    /// Opens the file at `path`; makes it if there is none, and brings an older one up to date.
    ///
    /// # Errors
    /// [`Unavailable`]: it cannot be opened, is damaged, or was written by a newer build.
    pub async fn open(path: &Path) -> Result<Self, Unavailable> {
        let file = File::wal(&STORE, path, SqliteSynchronous::Normal);
        let mut connection = file.connect().await?;
        MIGRATIONS.run(&mut connection).await.map_err(|error| cannot_migrate(&file, error))?;
        Self::of(&file, Some(connection)).await
    }

    /// Opens the file at `path` for reading, beside the process that writes it or without one.
    ///
    /// # Errors
    /// [`Unavailable`]: there is none, it cannot be opened, is damaged, or another build wrote it.
    pub async fn open_read_only(path: &Path) -> Result<Self, Unavailable> {
        let file = File::read_only(&STORE, path);
        file.must_exist()?;
        let mut connection = file.connect().await?;
        let found = migrated_to(&mut connection).await.map_err(|error| file.cannot_open(error))?;
        let known = MIGRATIONS.iter().map(|migration| migration.version).max();
        if found != known {
            let message = format!("{} was written by another build; start that one, or upgrade", path.display());
            return Err(Unavailable::plain(STORE.name, message));
        }
        Self::of(&file, None).await
    }

    async fn of(file: &File, writer: Option<SqliteConnection>) -> Result<Self, Unavailable> {
        let model = Self {
            database: Database::of(file, writer),
            progress: Progress::at(Position::default()),
            parked: Mutex::default(),
            unsure: AtomicBool::new(false),
            unsaved: AtomicBool::new(false),
        };
        model.reload().await.map_err(|error| model.database.unavailable(error))?;
        Ok(model)
    }

    /// Reads parked streams and checkpoint, unless the one in memory is ahead.
    async fn reload(&self) -> sqlx::Result<()> {
        let parked = self.stored_parked().await?;
        *self.parked_streams() = parked.into_iter().map(|parked| (parked.stream, parked.version)).collect();
        let stored = self.stored_checkpoint().await?;
        if stored >= self.progress.checkpoint() {
            self.saved(stored);
        }
        Ok(())
    }

    /// The checkpoint is this, and the file says so.
    fn saved(&self, checkpoint: Position) {
        self.unsaved.store(false, Ordering::Relaxed);
        self.progress.reach(checkpoint);
    }

    /// The writer, to change rows, checkpoint or parked streams. Whoever is cancelled before [`Self::changed`] may have
    /// written or not; the next one reads what holds.
    async fn change(&self) -> Result<tokio::sync::MutexGuard<'_, Writer>, ProjectionError> {
        let writer = self.database.writer().await?;
        if self.unsure.swap(true, Ordering::Relaxed) {
            self.reload().await.map_err(|error| self.failed(error))?;
        }
        Ok(writer)
    }

    /// What is in memory is what is in the file. Called with the writer held.
    fn changed(&self) {
        self.unsure.store(false, Ordering::Relaxed);
    }

    async fn stored_checkpoint(&self) -> sqlx::Result<Position> {
        let position: Option<i64> = sqlx::query_scalar("SELECT position FROM projection WHERE name = 'read_model'")
            .fetch_optional(&self.database.readers)
            .await?;
        Ok(Position(position.unwrap_or(0).cast_unsigned()))
    }

    async fn stored_parked(&self) -> sqlx::Result<Vec<ParkedStream>> {
        let rows: Vec<(String, i64, i64, String)> =
            sqlx::query_as("SELECT stream, version, position, reason FROM parked ORDER BY position, stream")
                .fetch_all(&self.database.readers)
                .await?;
        rows.into_iter()
            .map(|(stream, version, position, reason)| {
                let stream =
                    stream.parse().map_err(|error: lmao_events::ParseError| sqlx::Error::Decode(error.into()))?;
                let (version, position) = (Version(version.cast_unsigned()), Position(position.cast_unsigned()));
                Ok(ParkedStream { stream, version, position, reason })
            })
            .collect()
    }

    fn parked_streams(&self) -> MutexGuard<'_, HashMap<StreamId, Version>> {
        // Nothing panics half-way through a change of it.
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: sqlx::Error) -> ProjectionError {
        self.database.unavailable(error).into()
    }
}

/// The last migration that was run, in a file that has any.
async fn migrated_to(connection: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(connection).await
}

fn cannot_migrate(file: &File, error: MigrateError) -> Unavailable {
    let path = file.path.display();
    let message = match &error {
        MigrateError::VersionMissing(_) => format!("{path} was written by a newer build: upgrade lmao"),
        MigrateError::VersionMismatch(_) | MigrateError::Dirty(_) => {
            format!("{path} was made by another build; {}", STORE.when_damaged)
        }
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            format!("cannot open {path}: {}", explain(&STORE, cause))
        }
        _ => format!("cannot open {path}; {}", STORE.when_damaged),
    };
    Unavailable::new(STORE.name, message, error)
}

#[async_trait]
impl Projection for SqliteReadModel {
    fn name(&self) -> &'static str {
        "read_model"
    }

    async fn computed_from(&self, log: Uuid) -> Result<Uuid, ProjectionError> {
        let mut writer = self.database.writer().await?;
        let claimed = async {
            sqlx::query("INSERT INTO computed_from (projection, log) VALUES ('read_model', ?) ON CONFLICT DO NOTHING")
                .bind(log.to_string())
                .execute(writer.connection())
                .await?;
            sqlx::query_scalar::<_, String>("SELECT log FROM computed_from WHERE projection = 'read_model'")
                .fetch_one(writer.connection())
                .await
        };
        let owner = claimed.await.map_err(|error| self.failed(error))?;
        let damaged = |error: uuid::Error| self.failed(sqlx::Error::Decode(error.into()));
        owner.parse().map_err(damaged)
    }

    async fn checkpoint(&self) -> Result<Position, ProjectionError> {
        if self.database.writes() {
            return Ok(self.progress.checkpoint());
        }
        self.stored_checkpoint().await.map_err(|error| self.failed(error))
    }

    async fn apply(&self, batch: &[Committed]) -> Result<(), ProjectionError> {
        self.take_in(batch).await
    }

    async fn save(&self) -> Result<(), ProjectionError> {
        if self.unsaved.load(Ordering::Relaxed) {
            self.write_checkpoint().await?;
        }
        Ok(())
    }

    async fn park(&self, parked: &ParkedStream) -> Result<(), ProjectionError> {
        let mut writer = self.change().await?;
        apply::set_aside(&mut writer, parked).await.map_err(|error| self.failed(error))?;
        self.parked_streams().entry(parked.stream).or_insert(parked.version);
        self.changed();
        Ok(())
    }

    async fn parked(&self) -> Result<Vec<ParkedStream>, ProjectionError> {
        self.stored_parked().await.map_err(|error| self.failed(error))
    }

    async fn unpark(&self, stream: StreamId, log: &dyn Journal) -> Result<Unparked, ProjectionError> {
        self.take_in_again(stream, log).await
    }

    async fn reset(&self) -> Result<(), ProjectionError> {
        let mut writer = self.change().await?;
        // Before the file: whoever is cancelled finds the later one of the two.
        self.progress.reach(Position::default());
        writer.run(sql::RESET, SqliteArguments::default()).await.map_err(|error| self.failed(error))?;
        self.parked_streams().clear();
        self.saved(Position::default());
        self.changed();
        Ok(())
    }

    async fn digest(&self) -> Result<Digest, ProjectionError> {
        digest::of(&self.database.readers).await.map_err(|error| self.failed(error))
    }

    async fn wait_for(&self, position: Position, at_most: Duration) -> bool {
        if self.database.writes() {
            return self.progress.wait_for(position, at_most).await;
        }
        let reached = async {
            while self.stored_checkpoint().await.is_ok_and(|checkpoint| checkpoint < position) {
                tokio::time::sleep(POLL).await;
            }
            self.stored_checkpoint().await.is_ok_and(|checkpoint| checkpoint >= position)
        };
        tokio::time::timeout(at_most, reached).await.unwrap_or(false)
    }

    async fn awaited(&self) {
        self.progress.awaited().await;
    }
}
