//! The read model on Postgres, for many nodes: the specification's eight tables, their checkpoint and the streams set aside, in
//! one schema of one database.
//!
//! Rows and checkpoint move in one transaction that holds the checkpoint's row: two projectors at once stay correct, and
//! [`Leadership`] makes them rare. Connect to the server itself, or to a pooler that keeps sessions: what waits for a position
//! listens, and what leads holds a lock of its session.

mod apply;
mod digest;
mod error;
mod leadership;
mod migrate;
mod query;
mod server;
#[cfg(test)]
mod tests;
mod types;
mod watch;
mod write;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lmao_events::{Category, Position, StreamId};
use lmao_ports::{
    Committed, Digest, Journal, ParkedStream, Progress, Projection, ProjectionError, Unavailable, Unparked,
};
use sqlx::PgPool;

pub use leadership::{Guard, Leadership};
pub use migrate::migrate;

use crate::read_model;
use server::{Server, of_pool};
use watch::Watch;

/// The projection's name.
const READ_MODEL: &str = "read_model";

/// The read model in one schema of a database, as one process uses it. Cancelled half-way, a call leaves all of its change or
/// nothing.
#[derive(Debug)]
pub struct PostgresReadModel {
    pool: PgPool,
    /// For those who wait in this process.
    progress: Arc<Progress>,
    watch: Watch,
    parked: Mutex<apply::Parked>,
    /// The furthest checkpoint that whoever feeds it here may go on from.
    fed: AtomicU64,
}

impl PostgresReadModel {
    /// Which categories it needs opened: workflows and claims have no rows.
    #[must_use]
    pub fn wants(category: Category) -> bool {
        read_model::wants(category)
    }

    /// Opens the tables that [`migrate`] has prepared, at `postgres://user:password@host:port/database`. Of the parameters
    /// behind a `?`, `schema` names the schema (`public` without), `sslmode` (`disable`, `prefer`, `require`, `verify-ca`,
    /// `verify-full`), `sslrootcert`, `sslcert` and `sslkey` ask for TLS.
    ///
    /// At most 10 connections are open at once, a request waits 3 s for one, and a statement may take 30 s. A server that
    /// restarts is found again by the next call.
    ///
    /// # Errors
    /// [`Unavailable`]: the URL is wrong, the server cannot be reached or refuses, or the tables are not of this build.
    pub async fn open(url: &str) -> Result<Self, Unavailable> {
        let server = Server::at(url)?;
        let pool = server.pool();
        migrate::must_be_current(&pool).await.map_err(|error| error.at(&server))?;
        let progress = Arc::new(Progress::at(Position::default()));
        let watch = Watch::new(pool.clone(), server.schema, Arc::clone(&progress));
        Ok(Self { pool, progress, watch, parked: Mutex::default(), fed: AtomicU64::new(0) })
    }

    /// Closes all connections, after what they are at.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn unavailable(&self, error: sqlx::Error) -> Unavailable {
        of_pool(&self.pool, error)
    }

    fn failed(&self, error: sqlx::Error) -> ProjectionError {
        self.unavailable(error).into()
    }
}

#[async_trait]
impl Projection for PostgresReadModel {
    fn name(&self) -> &'static str {
        READ_MODEL
    }

    /// As the server has it: also where other processes feed it.
    async fn checkpoint(&self) -> Result<Position, ProjectionError> {
        let checkpoint = apply::checkpoint(&self.pool).await.map_err(|error| self.failed(error))?;
        self.fed.fetch_max(checkpoint.0, Ordering::Relaxed);
        Ok(checkpoint)
    }

    /// Also where others apply at once: what they have taken in is skipped. The checkpoint is written with every batch, for
    /// other processes wait for it. Tables that have gone back behind what was applied here (reset by somebody, or the server
    /// lost its last moments) are [`Unavailable`] once: whoever feeds them has to ask for the checkpoint again.
    async fn apply(&self, batch: &[Committed]) -> Result<(), ProjectionError> {
        self.take_in(batch).await
    }

    async fn park(&self, parked: &ParkedStream) -> Result<(), ProjectionError> {
        self.put_aside(parked).await
    }

    async fn parked(&self) -> Result<Vec<ParkedStream>, ProjectionError> {
        apply::parked(&self.pool).await.map_err(|error| self.failed(error))
    }

    async fn unpark(&self, stream: StreamId, log: &dyn Journal) -> Result<Unparked, ProjectionError> {
        self.take_in_again(stream, log).await
    }

    async fn reset(&self) -> Result<(), ProjectionError> {
        self.empty().await
    }

    /// At most 10 minutes.
    async fn digest(&self) -> Result<Digest, ProjectionError> {
        digest::of(&self.pool).await.map_err(|error| self.failed(error))
    }

    /// Also on a node that feeds nothing: every checkpoint is told to those who listen (`NOTIFY` in the transaction that moves
    /// it), and while somebody waits it is asked for each 100 ms as well, should a notice be lost.
    async fn wait_for(&self, position: Position, at_most: Duration) -> bool {
        if self.progress.checkpoint() < position {
            self.watch.start();
        }
        self.progress.wait_for(position, at_most).await
    }
}
