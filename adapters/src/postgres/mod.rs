//! The read model on Postgres, for many nodes: the specification's eight tables, their checkpoint and the streams set aside, in
//! one schema of one database.
//!
//! Rows and checkpoint move in one transaction that holds the checkpoint's row: two projectors at once stay correct. Connect to the
//! server itself, or to a pooler that keeps sessions: what waits for a position listens.

mod apply;
mod digest;
mod error;
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
use tokio::sync::OnceCell;
use uuid::Uuid;

pub use migrate::migrate;

use crate::{
    breaker::{Breaker, Standing},
    read_model,
};
use error::{STORE, Silence};
use server::{Server, of_pool};
use watch::Watch;

/// The projection's name.
const READ_MODEL: &str = "read_model";
/// How long a question or a batch may take: as long as a statement, and a connection for it.
const AT_MOST: Duration = Duration::from_secs(40);

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
    server: Server,
    /// Set once the tables were found to be of this build.
    is_current: OnceCell<()>,
    breaker: Breaker,
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
    /// At most 10 connections are open at once, a request waits 1.5 s for one, and a statement may take 30 s. A server that
    /// restarts is found again by the next call. One that is away is no error: it is looked at once it answers; calls fail until
    /// then, at once while nobody answers.
    ///
    /// # Errors
    /// [`Unavailable`]: the URL is wrong, the server refuses, or the tables are not of this build.
    pub async fn open(url: &str) -> Result<Self, Unavailable> {
        let server = Server::at(url)?;
        let pool = server.pool();
        let progress = Arc::new(Progress::at(Position::default()));
        let watch = Watch::new(pool.clone(), server.schema.clone(), Arc::clone(&progress));
        let (fed, parked) = (AtomicU64::new(0), Mutex::default());
        let opened = Self {
            pool,
            progress,
            watch,
            parked,
            fed,
            server,
            is_current: OnceCell::new(),
            breaker: Breaker::default(),
        };
        match opened.guarded(async { Ok(()) }).await {
            Err::<(), Unavailable>(error) if error.is_silence() => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the tables' server is away; it is used as soon as it answers");
            }
            found => found?,
        }
        Ok(opened)
    }

    /// How the server stands, as far as is known without asking it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.breaker.standing()
    }

    /// Does this on a server that answers and tables of this build; at most [`AT_MOST`].
    async fn guarded<T, E: Silence>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        if !self.breaker.permits() {
            let message = "there was no answer lately, it is asked again within seconds; check that the server runs";
            return Err(Unavailable::plain(STORE, message).into());
        }
        let looked = async {
            let current =
                || async { migrate::must_be_current(&self.pool).await.map_err(|error| error.at(&self.server)) };
            self.is_current.get_or_try_init(current).await?;
            work.await
        };
        let done = tokio::time::timeout(AT_MOST, looked).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} s; look at the server's load", AT_MOST.as_secs());
            Err(Unavailable::new(STORE, message, sqlx::Error::PoolTimedOut).into())
        });
        match &done {
            Err(error) if error.is_silence() => self.breaker.failed(&error.to_string()),
            _ => self.breaker.answered(),
        }
        done
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

    /// A batch is a few statements, however many commits it has: measured, four times the usual are a third faster.
    fn batch(&self) -> usize {
        2_000
    }

    async fn computed_from(&self, log: Uuid) -> Result<Uuid, ProjectionError> {
        self.guarded(self.claim(log)).await
    }

    /// As the server has it: also where other processes feed it.
    async fn checkpoint(&self) -> Result<Position, ProjectionError> {
        let asked = async { apply::checkpoint(&self.pool).await.map_err(|error| self.failed(error)) };
        let checkpoint = self.guarded(asked).await?;
        self.fed.fetch_max(checkpoint.0, Ordering::Relaxed);
        Ok(checkpoint)
    }

    /// Also where others apply at once: what they have taken in is skipped. The checkpoint is written with every batch, for
    /// other processes wait for it. Tables that have gone back behind what was applied here (reset by somebody, or the server
    /// lost its last moments) are [`Unavailable`] once: whoever feeds them has to ask for the checkpoint again.
    async fn apply(&self, batch: &[Committed]) -> Result<(), ProjectionError> {
        self.guarded(self.take_in(batch)).await
    }

    async fn park(&self, parked: &ParkedStream) -> Result<(), ProjectionError> {
        self.guarded(self.put_aside(parked)).await
    }

    async fn parked(&self) -> Result<Vec<ParkedStream>, ProjectionError> {
        self.guarded(async { apply::parked(&self.pool).await.map_err(|error| self.failed(error)) }).await
    }

    async fn unpark(&self, stream: StreamId, log: &dyn Journal) -> Result<Unparked, ProjectionError> {
        self.guarded(self.take_in_again(stream, log)).await
    }

    async fn reset(&self) -> Result<(), ProjectionError> {
        self.guarded(self.empty()).await
    }

    /// At most 10 minutes, whatever the server's load.
    async fn digest(&self) -> Result<Digest, ProjectionError> {
        digest::of(&self.pool).await.map_err(|error| self.failed(error))
    }

    /// Also on a node that feeds nothing: every checkpoint is told to those who listen (`NOTIFY` in the transaction that moves
    /// it), and while somebody waits it is asked for each 100 ms as well, should a notice be lost. Nobody waits for a server that
    /// does not answer.
    async fn wait_for(&self, position: Position, at_most: Duration) -> bool {
        if self.breaker.is_open() && self.progress.checkpoint() < position {
            return false;
        }
        if self.progress.checkpoint() < position {
            self.watch.start();
        }
        self.progress.wait_for(position, at_most).await
    }
}
