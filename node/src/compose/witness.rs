//! The witness: follows the log and keeps the digest of all its records in the vault, so that a later audit can tell when
//! the log's tail was cut or a whole stream is missing.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use lmao_actors::{at_leisure, audit::Rolling};
use lmao_ports::{EventLog, Filter, Vault, VaultError};
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};
use uuid::Uuid;

/// How often a checkpoint is kept while the log grows: each is a write to the vault.
const EVERY: Duration = Duration::from_secs(5);
/// How long it may take to get to the log's end when all ends.
const FINISH_WITHIN: Duration = Duration::from_secs(2);
/// The pause before the log is followed again after it could not be read.
const PAUSE: Duration = Duration::from_secs(10);

/// A running witness.
#[derive(Debug)]
pub(crate) struct Witness {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Witness {
    /// Goes on where the last checkpoint is.
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub(crate) async fn start(log: Arc<dyn EventLog>, vault: Arc<dyn Vault>) -> Result<Self, VaultError> {
        let rolling = Rolling::kept(vault.as_ref(), log.id()).await?.unwrap_or_default();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(log, vault, rolling, stopped));
        Ok(Self { stop, task })
    }

    /// Keeps a last checkpoint and ends.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the witness ended badly");
        }
    }
}

async fn run(log: Arc<dyn EventLog>, vault: Arc<dyn Vault>, mut rolling: Rolling, mut stopped: watch::Receiver<bool>) {
    let mut kept = rolling;
    let mut said = String::new();
    loop {
        let broken = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => None,
            error = follow(&log, vault.as_ref(), &mut rolling, &mut kept) => Some(error),
        };
        if broken.is_none() {
            // What it does not get to is the next start's.
            let _ = tokio::time::timeout(FINISH_WITHIN, finish(log.as_ref(), &mut rolling)).await;
        }
        keep(&rolling, &mut kept, vault.as_ref(), log.id()).await;
        let Some(error) = broken else { return };
        // Damage stays: it is said once, not with every try.
        if error != said {
            tracing::error!(error, "the witness cannot read the log; it tries again later");
            said = error;
        }
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Takes in records until the log cannot be read: why.
async fn follow(log: &Arc<dyn EventLog>, vault: &dyn Vault, rolling: &mut Rolling, kept: &mut Rolling) -> String {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batches = at_leisure(Arc::clone(log), rolling.position);
    loop {
        let batch = tokio::select! {
            _ = ticks.tick() => {
                keep(rolling, kept, vault, log.id()).await;
                continue;
            }
            batch = batches.next() => batch,
        };
        let Some(batch) = batch else { return "the subscription ended".to_owned() };
        for recorded in batch {
            match recorded {
                Ok(recorded) => rolling.take(&recorded),
                Err(error) => return error.to_string(),
            }
        }
    }
}

/// Takes in what the log holds by now.
async fn finish(log: &dyn EventLog, rolling: &mut Rolling) {
    let end = log.tail().await.unwrap_or_default();
    let mut records = log.subscribe(rolling.position, Filter::All);
    while rolling.position < end {
        let Some(Ok(recorded)) = records.next().await else { return };
        rolling.take(&recorded);
    }
}

async fn keep(rolling: &Rolling, kept: &mut Rolling, vault: &dyn Vault, log: Uuid) {
    if rolling == kept {
        return;
    }
    match rolling.keep(vault, log).await {
        Ok(()) => *kept = *rolling,
        Err(error) => tracing::error!(%error, "the audit checkpoint cannot be kept; it is tried again"),
    }
}
