//! Starts of steps that may take the whole process with them, counted until the step ends: so a restart knows which files were
//! being read when the process before it died.
//!
//! The counts lie in the snapshots and not in the log. A record would cost each step of each document a sync and another
//! version of the document; a count that is lost, with a power cut or a deleted `snapshots.db`, costs some more starts and never truth.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lmao_ports::{Snapshots, Unavailable};
use tokio::runtime::Handle;

use super::EffectContext;

/// How often a step is started without an end before it is not started again.
pub(crate) const MAX_STARTS: u8 = 3;
/// The prefix of the counts' keys.
const PREFIX: &str = "starts/";
/// How long a process that ends in order takes at most to say that its steps did not end it.
const FORGET_WITHIN: Duration = Duration::from_secs(5);

/// The counts of all steps, and which of them this process has begun.
#[derive(Debug)]
pub(crate) struct Starts {
    snapshots: Arc<dyn Snapshots>,
    /// Bounded by the steps that run at once.
    begun: Mutex<HashMap<String, u64>>,
    /// A count that is being written or forgotten: in order, or a late end would undo a new start.
    writing: tokio::sync::Mutex<()>,
    /// Starts so far.
    turns: AtomicU64,
}

impl Starts {
    pub(crate) fn new(snapshots: Arc<dyn Snapshots>) -> Arc<Self> {
        Arc::new(Self {
            snapshots,
            begun: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            turns: AtomicU64::new(0),
        })
    }

    /// How often this effect was started without an end. Another try is another effect, and counted by itself.
    pub(crate) async fn without_end(&self, context: &EffectContext) -> Result<u8, Unavailable> {
        let count = self.snapshots.get(&key(context)).await?;
        Ok(count.and_then(|count| count.first().copied()).unwrap_or_default())
    }

    /// Counts a start, before it happens. Dropped, the start has an end, whatever it is: only a process that dies leaves it
    /// without one.
    pub(crate) async fn begin(self: &Arc<Self>, context: &EffectContext, before: u8) -> Result<Start, Unavailable> {
        let _alone = self.writing.lock().await;
        let (key, turn) = (key(context), self.turns.fetch_add(1, Ordering::Relaxed));
        self.lock().insert(key.clone(), turn);
        let start = Start { starts: Arc::clone(self), key, turn };
        self.snapshots.put(&start.key, Bytes::from(vec![before.saturating_add(1)])).await?;
        Ok(start)
    }

    /// Forgets what this process has begun: it ends in order, and what it broke off did not end it.
    pub(crate) async fn forget_all(&self) {
        let begun: Vec<(String, u64)> = self.lock().iter().map(|(key, turn)| (key.clone(), *turn)).collect();
        let forget = futures::future::join_all(begun.iter().map(|(key, turn)| self.forget(key, *turn)));
        if tokio::time::timeout(FORGET_WITHIN, forget).await.is_err() {
            tracing::warn!(
                steps = begun.len(),
                "steps that were broken off are counted as if they had ended this process"
            );
        }
    }

    /// Unless the step was begun anew meanwhile.
    async fn forget(&self, key: &str, turn: u64) {
        let _alone = self.writing.lock().await;
        if self.lock().get(key) != Some(&turn) {
            return;
        }
        match self.snapshots.delete(key).await {
            Ok(()) => _ = self.lock().remove(key),
            // A later death is counted on top of it.
            Err(error) => tracing::warn!(key, %error, "the starts of a step are not forgotten"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step that was started; dropped when it ends or is broken off.
#[derive(Debug)]
pub(crate) struct Start {
    starts: Arc<Starts>,
    key: String,
    /// Which start it is.
    turn: u64,
}

impl Drop for Start {
    fn drop(&mut self) {
        // Not waited for: whoever ends in order forgets what is left. Without a runtime the process is over.
        let Ok(runtime) = Handle::try_current() else { return };
        let (starts, key, turn) = (Arc::clone(&self.starts), std::mem::take(&mut self.key), self.turn);
        runtime.spawn(async move { starts.forget(&key, turn).await });
    }
}

fn key(context: &EffectContext) -> String {
    format!("{PREFIX}{}/{}.{}", context.stream, context.id.version, context.id.index)
}
