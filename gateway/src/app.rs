//! What all routes share: the ports, the keys, and the gates that bound what clients can have going on at once.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use lmao_events::Timestamp;
use lmao_ports::{Clock, Entropy, Secret, Vault};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{Limits, State, error::ApiError, password::Passwords, token::Tokens};

/// The vault's name of the key that signs tokens.
const JWT_KEY: &str = "system/jwt";
/// The vault's name of the key of keyed ids; the actors use the same.
const KEYED_IDS: &str = "system/keyed-ids";

/// How long an answer takes at most when the wait for an outcome is over: with the wait, less than the half minute after which a
/// client gives up.
pub(crate) const BEYOND_WAIT: Duration = Duration::from_secs(4);

/// What all routes share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) state: State,
    pub(crate) log: Uuid,
    pub(crate) tokens: Tokens,
    pub(crate) keyed_ids: [u8; 32],
    pub(crate) passwords: Passwords,
    pub(crate) gates: Gates,
    pub(crate) started: Instant,
    /// Cancelled when the process is to end: sockets and streams end with it.
    pub(crate) closing: CancellationToken,
    /// Sockets and streams, which outlive their requests.
    pub(crate) tasks: TaskTracker,
}

/// How much may go on at once.
#[derive(Debug)]
pub(crate) struct Gates {
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) sockets: Arc<Semaphore>,
    pub(crate) followers: Arc<Semaphore>,
}

impl Gates {
    fn new(limits: &Limits) -> Self {
        let gate = |places| Arc::new(Semaphore::new(places));
        Self {
            requests: gate(limits.requests),
            uploads: gate(limits.uploads),
            sockets: gate(limits.sockets),
            followers: gate(limits.followers),
        }
    }
}

impl App {
    pub(crate) async fn new(state: State) -> Result<Self, ApiError> {
        let tokens = Tokens::new(&signing_key(&*state.vault, &*state.entropy).await?);
        let keyed_ids = key(&*state.vault, &*state.entropy, KEYED_IDS).await?;
        Ok(Self {
            log: state.journal.log_id(),
            tokens,
            keyed_ids,
            passwords: Passwords::new(&*state.entropy).await?,
            gates: Gates::new(&state.limits),
            started: Instant::now(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            state,
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    pub(crate) fn fresh_id(&self) -> Uuid {
        self.state.entropy.id(self.now())
    }
}

/// The key that signs tokens: made once, so that tokens outlive a restart.
pub(crate) async fn signing_key(vault: &dyn Vault, entropy: &dyn Entropy) -> Result<[u8; 32], ApiError> {
    key(vault, entropy, JWT_KEY).await
}

async fn key(vault: &dyn Vault, entropy: &dyn Entropy, name: &str) -> Result<[u8; 32], ApiError> {
    let mut fresh = [0; 32];
    entropy.fill(&mut fresh);
    let Secret(standing) = vault.put_new(name, &Secret(fresh.to_vec())).await?;
    standing.try_into().map_err(|_| ApiError::internal(format!("the vault's {name} is not a key of 32 bytes")))
}

/// A stored moment as clients see it.
pub(crate) fn date(time: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.0).unwrap_or_default()
}

/// Now, as clients see it.
pub(crate) fn today(clock: &dyn Clock) -> DateTime<Utc> {
    date(clock.now())
}
