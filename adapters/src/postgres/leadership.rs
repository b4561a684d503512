//! Who feeds a projection: one node at a time, by a lock that the server holds for its session. The others stand by.
//!
//! This saves work and nothing else: [`super::PostgresReadModel`] is correct with two that lead. The session speaks each
//! second, and the server ends one that was silent for 5 s; so a node that vanished or hangs loses the lead to the next.

use std::time::Duration;

use lmao_ports::Unavailable;
use sqlx::{Connection as _, PgConnection};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::{
    error::{STORE, unavailable},
    server::Server,
};

/// How often those who stand by ask for the lead.
const ASK: Duration = Duration::from_millis(500);
/// How often the one who leads says that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// How long the server may take to hear it. With [`BEAT`], less than [`SILENCE`]: who lost the lead knows first.
const HEARD: Duration = Duration::from_secs(3);
/// After this much silence the server gives the lead to others.
const SILENCE: &str = "5s";

/// The lead over the projections that are kept in one schema of a database. PostgreSQL 14 or newer.
#[derive(Debug, Clone)]
pub struct Leadership {
    server: Server,
}

/// The lead over one projection, until it is dropped or lost.
#[derive(Debug)]
pub struct Guard {
    lost: watch::Receiver<bool>,
    /// Dropped, it ends the session.
    _stop: oneshot::Sender<()>,
}

impl Leadership {
    /// For projections at this URL, written as for [`super::PostgresReadModel::open`]. Connects when somebody wants to lead.
    ///
    /// # Errors
    /// [`Unavailable`]: the URL is wrong.
    pub fn new(url: &str) -> Result<Self, Unavailable> {
        Ok(Self { server: Server::at(url)?.with("idle_session_timeout", SILENCE) })
    }

    /// Waits, however long it takes, until this process leads `projection`. Dropped, it waits no more.
    ///
    /// # Errors
    /// [`Unavailable`]: the server cannot be reached, or was lost while waiting; ask again after a pause.
    pub async fn hold(&self, projection: &str) -> Result<Guard, Unavailable> {
        let mut connection = self.server.connect().await?;
        let key = key(&self.server.schema, projection);
        while !ask(&mut connection, key).await? {
            sleep(ASK).await;
        }
        let (lost, seen) = watch::channel(false);
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(async move {
            tokio::select! {
                _ = stopped => {
                    // The session ends, and the lock with it.
                    let _ = timeout(HEARD, connection.close()).await;
                }
                () = beat(&mut connection) => {
                    lost.send_replace(true);
                }
            }
        });
        Ok(Guard { lost: seen, _stop: stop })
    }
}

impl Guard {
    /// Resolves when the lead is lost: the connection broke, or the server was silent. Cancel-safe.
    pub async fn lost(&self) {
        // The task that ends without a word has lost it as well.
        let _ = self.lost.clone().wait_for(|lost| *lost).await;
    }

    /// Whether this process leads, as far as it knows.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !*self.lost.borrow() && self.lost.has_changed().is_ok()
    }
}

async fn ask(connection: &mut PgConnection, key: i64) -> Result<bool, Unavailable> {
    let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(key).fetch_one(connection);
    match timeout(HEARD, asked).await {
        Ok(answer) => answer.map_err(unavailable),
        Err(late) => Err(Unavailable::new(STORE, "the server does not answer; look at its load", late)),
    }
}

/// Speaks as long as somebody listens.
async fn beat(connection: &mut PgConnection) {
    loop {
        sleep(BEAT).await;
        if !matches!(timeout(HEARD, connection.ping()).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// The lock's number: the server knows no names.
fn key(schema: &str, projection: &str) -> i64 {
    let hash = blake3::hash(format!("lmao leads {schema} {projection}").as_bytes());
    let mut key = [0; 8];
    key.copy_from_slice(&hash.as_bytes()[..8]);
    i64::from_be_bytes(key)
}
