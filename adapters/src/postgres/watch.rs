//! How far the tables are, for those who wait in a process that may not feed them: told by the server, asked for besides.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use lmao_events::Position;
use lmao_ports::Progress;
use sqlx::{PgPool, postgres::PgListener};
use tokio::task::AbortHandle;

use super::{apply::checkpoint, write::CHANNEL};

/// How often the checkpoint is asked for while somebody waits.
const POLL: Duration = Duration::from_millis(100);
/// How long a server that nobody can listen to is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// A task that follows the checkpoint, once somebody has waited for it, and ends with this.
#[derive(Debug)]
pub(super) struct Watch {
    pool: PgPool,
    schema: String,
    progress: Arc<Progress>,
    task: OnceLock<AbortHandle>,
}

impl Watch {
    pub(super) fn new(pool: PgPool, schema: String, progress: Arc<Progress>) -> Self {
        Self { pool, schema, progress, task: OnceLock::new() }
    }

    /// Follows the checkpoint from now on.
    pub(super) fn start(&self) {
        self.task.get_or_init(|| {
            let (pool, progress) = (self.pool.clone(), Arc::clone(&self.progress));
            let listening = listen(pool.clone(), self.schema.clone(), Arc::clone(&progress));
            tokio::spawn(async move { tokio::join!(listening, poll(&pool, &progress)) }).abort_handle()
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Listens until the pool is closed; again whenever the connection is lost.
async fn listen(pool: PgPool, schema: String, progress: Arc<Progress>) {
    loop {
        match hear(&pool, &schema, &progress).await {
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => tracing::warn!(%error, "postgres tells no checkpoints; they are asked for"),
            Ok(()) => tracing::info!("postgres closed the connection that tells checkpoints; they are asked for"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Listens as long as the connection lasts.
async fn hear(pool: &PgPool, schema: &str, progress: &Progress) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    // Whoever waited before this will be told by the one who asks.
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    while let Some(notice) = listener.try_recv().await? {
        match told(notice.payload(), schema) {
            // Somebody forgot everything.
            Some(Position(0)) => progress.reach(Position(0)),
            // Whoever feeds it here may be further.
            Some(position) => progress.rise(position),
            None => {}
        }
    }
    Ok(())
}

/// The checkpoint of this schema, if the notice is about it.
fn told(notice: &str, schema: &str) -> Option<Position> {
    let (position, of) = notice.split_once(' ')?;
    (of == schema).then(|| position.parse().ok().map(Position)).flatten()
}

/// Asks while somebody waits, until the pool is closed.
async fn poll(pool: &PgPool, progress: &Progress) {
    loop {
        progress.awaited().await;
        match checkpoint(pool).await {
            Ok(position) => progress.rise(position),
            Err(sqlx::Error::PoolClosed) => return,
            // Whoever waits gives up at their time; the next one hears what is the matter from their own question.
            Err(_) => {}
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_for_one_schema() {
        assert_eq!(told("42 chat", "chat"), Some(Position(42)));
        assert_eq!(told("42 chats", "chat"), None);
        assert_eq!(told("42", "chat"), None);
        assert_eq!(told("x chat", "chat"), None);
    }
}
