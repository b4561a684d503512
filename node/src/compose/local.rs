//! The administrator of a data directory. Who can read its vault holds every key in it, the one that signs tokens too: no password
//! is asked for, nobody logs in, and nothing is written.

use std::sync::Arc;

use anyhow::Context as _;
use futures::StreamExt as _;
use lmao_actors::KEYED_IDS;
use lmao_adapters::clock::{OsEntropy, SystemClock};
use lmao_events::{
    AnyEvent, Decider as _, Place, Version,
    claim::{self, Claim},
    user::{Field, Role, canonical, claim_of},
};
use lmao_ports::{Journal, Secret, Vault};
use uuid::Uuid;

use super::{ADMIN, Reader};
use crate::config::Config;

/// The administrator, as the vault of a data directory lets one act.
pub(crate) struct LocalAdmin {
    vault: Arc<dyn Vault>,
    account: Uuid,
}

impl LocalAdmin {
    /// Of the data directory, beside the server that runs on it. `None` where there is no such account, or where the vault is
    /// shared with other nodes.
    ///
    /// # Errors
    /// When log or vault cannot be read.
    pub(crate) async fn beside(config: &Config) -> anyhow::Result<Option<Self>> {
        if config.is_distributed() {
            return Ok(None);
        }
        let reader = Reader::open(config).await?;
        Self::of(reader.vault, &reader.journal).await
    }

    /// Whoever holds the first administrator's name; `None` when nobody does.
    ///
    /// # Errors
    /// When log or vault cannot be read.
    pub(crate) async fn of(vault: Arc<dyn Vault>, journal: &dyn Journal) -> anyhow::Result<Option<Self>> {
        let Some(Secret(key)) = vault.get(KEYED_IDS).await? else { return Ok(None) };
        let key: [u8; 32] = key.try_into().ok().with_context(|| format!("{KEYED_IDS} in the vault is no key"))?;
        let name = claim_of(&key, Field::Username, &canonical(ADMIN));
        let mut state = claim::State::default();
        let mut commits = journal.read(name, Version(1));
        while let Some(commit) = commits.next().await.transpose()? {
            let events = commit.events.map_err(|_| anyhow::anyhow!("the claim on {ADMIN} cannot be read"))?;
            for (index, event) in (0..).zip(events) {
                let AnyEvent::Claim(event) = event else { continue };
                let place = Place { version: commit.header.version, index, time: commit.header.time };
                state = Claim::evolve(state, &event, place)?;
            }
        }
        Ok(state.holder.map(|account| Self { vault, account }))
    }

    /// A token of half an hour.
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub(crate) async fn token(&self) -> Result<String, lmao_gateway::Error> {
        lmao_gateway::local_token(self.vault.as_ref(), &SystemClock, &OsEntropy, self.account, Role::Admin).await
    }
}
