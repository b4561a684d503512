//! A decider's state with what the shell has to remember beside it; loading from snapshot and log.

use std::collections::{BTreeMap, VecDeque};

use futures::StreamExt;
use lmao_events::{
    Category, CommandRef, Decider, DecodeError, EventSet, Head, IllegalHistory, Payload, Pending, Place, StreamId,
    Version,
};
use lmao_ports::{ReadError, Recorded, Unavailable, VaultError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{KeyringError, runtime::Stores};

/// Client commands remembered for idempotency.
const RECENT: usize = 64;

/// Why a stream cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The person was erased: no commands, no debts.
    #[error("the stream's person was erased")]
    Erased,
    /// A newer build wrote to it: this node must leave it alone.
    #[error("a newer build wrote to the stream")]
    Newer(#[source] DecodeError),
    /// The history cannot be read or folded, now and later.
    #[error("the stream's history is damaged: {0}")]
    Damaged(String),
    /// A store cannot be used now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(error) => Self::Unavailable(error),
            error @ ReadError::Damaged { .. } => Self::Damaged(error.to_string()),
        }
    }
}

impl From<KeyringError> for LoadError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Erased => Self::Erased,
            KeyringError::Vault(VaultError::Unavailable(error)) => Self::Unavailable(error),
            error => Self::Unavailable(Unavailable::new("vault", "a data key cannot be read", error)),
        }
    }
}

impl From<IllegalHistory> for LoadError {
    fn from(error: IllegalHistory) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// A client command that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recent {
    pub(crate) command: CommandRef,
    pub(crate) head: Head,
}

/// A snapshot as stored.
#[derive(Serialize, Deserialize)]
struct Sealed {
    owner: Uuid,
    #[serde(with = "serde_bytes")]
    nonce: Vec<u8>,
    #[serde(with = "serde_bytes")]
    sealed: Vec<u8>,
}

/// Where a chain of commits began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) correlation: Uuid,
    pub(crate) traceparent: Option<String>,
}

/// A stream's state, folded up to `head`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Loaded<D: Decider> {
    format: u16,
    pub(crate) head: Head,
    pub(crate) state: D::State,
    pub(crate) recent: VecDeque<Recent>,
    /// The origins of the effects that are pending, by the version that made them due.
    pub(crate) origins: BTreeMap<Version, Origin>,
    /// The version of the last snapshot.
    #[serde(skip)]
    pub(crate) saved: Version,
    /// What the state owes.
    #[serde(skip)]
    pub(crate) pending: Vec<Pending<D::Effect>>,
}

impl<D: Decider> Default for Loaded<D> {
    fn default() -> Self {
        Self {
            format: D::STATE_VERSION,
            head: Head::default(),
            state: D::State::default(),
            recent: VecDeque::new(),
            origins: BTreeMap::new(),
            saved: Version(0),
            pending: vec![],
        }
    }
}

impl<D: Decider> Loaded<D> {
    /// Loads a stream: its snapshot, if it fits the log, and what follows it.
    pub(crate) async fn load(stores: &Stores, stream: StreamId) -> Result<Self, LoadError> {
        if keeps_snapshots(stream.category)
            && let Some(snapshot) = Self::snapshot(stores, stream).await?
            && let Some(loaded) = Self::replay(stores, stream, snapshot).await?
        {
            return Ok(loaded);
        }
        Ok(Self::replay(stores, stream, Self::default()).await?.unwrap_or_default())
    }

    /// Folds what follows `base`; `None` when the log does not contain `base`.
    async fn replay(stores: &Stores, stream: StreamId, base: Self) -> Result<Option<Self>, LoadError> {
        let mut loaded = base;
        let mut anchored = loaded.head.version == Version(0);
        // The base's own record is read too: it proves that the snapshot belongs to this log.
        let mut records = stores.log.read_from(&stream, &loaded.head);
        while let Some(recorded) = records.next().await {
            let recorded = recorded?;
            if !anchored {
                if recorded.hash != loaded.head.hash {
                    return Ok(None);
                }
                loaded.head.position = recorded.position;
                anchored = true;
                continue;
            }
            loaded.take(stores, &recorded).await?;
        }
        Ok(anchored.then_some(loaded))
    }

    async fn take(&mut self, stores: &Stores, recorded: &Recorded) -> Result<(), LoadError> {
        let header = recorded.record.header();
        if header.version != self.head.version.next() || header.prev != self.head.hash {
            return Err(LoadError::Damaged(format!("version {} does not continue the chain", header.version)));
        }
        let key = stores.keyring.get(header.key).await?;
        let payload = recorded.record.open(&key).map_err(|error| LoadError::Damaged(error.to_string()))?;
        let events = decode::<D>(&payload)?;
        let place = |index| Place { version: header.version, index, time: header.time };
        let mut state = std::mem::take(&mut self.state);
        for (index, event) in (0..).zip(&events) {
            state = D::evolve(state, event, place(index))?;
        }
        let origin = Origin { correlation: header.correlation, traceparent: header.traceparent.clone() };
        let pending = D::pending(&state);
        self.advance(state, pending, recorded.head(), payload.command, origin);
        Ok(())
    }

    /// The state after a commit.
    pub(crate) fn advance(
        &mut self,
        state: D::State,
        pending: Vec<Pending<D::Effect>>,
        head: Head,
        command: Option<CommandRef>,
        origin: Origin,
    ) {
        self.state = state;
        self.head = head;
        if let Some(command) = command {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(Recent { command, head });
        }
        self.origins.insert(head.version, origin);
        self.origins.retain(|version, _| pending.iter().any(|effect| effect.id.version == *version));
        self.pending = pending;
    }

    /// The snapshot as stored: sealed with the data key that seals the stream, so that an erasure covers it too.
    pub(crate) async fn encode(&self, stores: &Stores, stream: StreamId) -> Option<Vec<u8>> {
        let owner = D::owner(&self.state)?;
        let key = stores.keyring.get(owner).await.ok()?;
        let nonce = stores.entropy.nonce();
        let text = rmp_serde::to_vec_named(self).ok()?;
        let sealed = key.seal(&nonce, snapshot_key(stream).as_bytes(), &text);
        rmp_serde::to_vec(&Sealed { owner, nonce: nonce.to_vec(), sealed }).ok()
    }

    /// The stream's snapshot. Snapshots are disposable: one that cannot be read is as good as none, unless its person
    /// was erased.
    async fn snapshot(stores: &Stores, stream: StreamId) -> Result<Option<Self>, LoadError> {
        let Ok(Some(bytes)) = stores.snapshots.get(&snapshot_key(stream)).await else { return Ok(None) };
        let Ok(Sealed { owner, nonce, sealed }) = rmp_serde::from_slice(&bytes) else { return Ok(None) };
        let key = stores.keyring.get(owner).await?;
        let Ok(nonce) = nonce.try_into() else { return Ok(None) };
        let Ok(text) = key.open(&nonce, snapshot_key(stream).as_bytes(), &sealed) else { return Ok(None) };
        let Ok(mut loaded) = rmp_serde::from_slice::<Self>(&text) else { return Ok(None) };
        loaded.saved = loaded.head.version;
        loaded.pending = D::pending(&loaded.state);
        Ok((loaded.format == D::STATE_VERSION).then_some(loaded))
    }
}

/// Whether streams of this category grow long enough to be worth a snapshot. Of the others each ends after a few commits,
/// and looking for a snapshot costs as much as reading them.
pub(crate) fn keeps_snapshots(category: Category) -> bool {
    match category {
        Category::Session | Category::Document | Category::User => true,
        Category::Workflow | Category::ToolCall | Category::Claim => false,
    }
}

/// Where a stream's snapshot lies.
pub(crate) fn snapshot_key(stream: StreamId) -> String {
    format!("state/{stream}")
}

fn decode<D: Decider>(payload: &Payload) -> Result<Vec<D::Event>, LoadError> {
    payload
        .events
        .iter()
        .map(|stored| {
            D::Event::decode(stored).map_err(|error| match error {
                DecodeError::Newer { .. } => LoadError::Newer(error),
                DecodeError::Data { .. } => LoadError::Damaged(error.to_string()),
            })
        })
        .collect()
}
