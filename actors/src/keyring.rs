//! The data keys of persons, from the vault, remembered for at most a minute so that an erasure takes effect soon.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lmao_events::DataKey;
use lmao_ports::{Entropy, Secret, Unavailable, Vault, VaultError};
use tokio::time::Instant;
use uuid::Uuid;

/// The vault's name of the secret behind keyed ids (documents by content, claims by value): 32 bytes.
pub const KEYED_IDS: &str = "system/keyed-ids";

const REMEMBERED: Duration = Duration::from_secs(60);
const REMEMBERED_KEYS: usize = 10_000;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The person was erased.
    #[error("the data key was destroyed")]
    Erased,
    /// There is no key, and nobody destroyed it: the vault is not the one that belongs to this log.
    #[error("the vault has no data key for {0}; restore the vault that belongs to this log")]
    Missing(Uuid),
    /// The vault did not answer.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Hands out data keys. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keyring {
    vault: Arc<dyn Vault>,
    entropy: Arc<dyn Entropy>,
    known: Arc<Mutex<HashMap<Uuid, (DataKey, Instant)>>>,
}

impl Keyring {
    /// A keyring over this vault.
    #[must_use]
    pub fn new(vault: Arc<dyn Vault>, entropy: Arc<dyn Entropy>) -> Self {
        Self { vault, entropy, known: Arc::default() }
    }

    /// The key of a person who has one.
    ///
    /// # Errors
    /// [`KeyringError::Erased`] where it was destroyed; [`KeyringError::Vault`].
    pub async fn get(&self, person: Uuid) -> Result<DataKey, KeyringError> {
        if let Some(key) = self.remembered(person) {
            return Ok(key);
        }
        let secret = self.vault.get(&name(person)).await?.ok_or(KeyringError::Missing(person))?;
        self.remember(person, &secret)
    }

    /// The key of a person, made now if there is none yet. An erased person gets none again.
    ///
    /// # Errors
    /// As [`Keyring::get`].
    pub async fn get_or_create(&self, person: Uuid) -> Result<DataKey, KeyringError> {
        if let Some(key) = self.remembered(person) {
            return Ok(key);
        }
        let mut fresh = vec![0; 32];
        self.entropy.fill(&mut fresh);
        let secret = self.vault.put_new(&name(person), &Secret(fresh)).await?;
        self.remember(person, &secret)
    }

    /// Erases a person: from now on (on other nodes within a minute) nobody can read what the key seals. What stays in
    /// the vault is an empty secret, so that no new key is ever made.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn erase(&self, person: Uuid) -> Result<(), VaultError> {
        self.vault.put(&name(person), &Secret(vec![])).await?;
        self.lock().remove(&person);
        Ok(())
    }

    /// The secret behind keyed ids, made now if there is none yet.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn keyed_ids(&self) -> Result<[u8; 32], VaultError> {
        let mut fresh = vec![0; 32];
        self.entropy.fill(&mut fresh);
        let secret = self.vault.put_new(KEYED_IDS, &Secret(fresh)).await?;
        secret.0.try_into().map_err(|_| VaultError::Sealed(format!("{KEYED_IDS} does not have 32 bytes")))
    }

    fn remembered(&self, person: Uuid) -> Option<DataKey> {
        let known = self.lock();
        let (key, since) = known.get(&person)?;
        (since.elapsed() < REMEMBERED).then(|| key.clone())
    }

    fn remember(&self, person: Uuid, secret: &Secret) -> Result<DataKey, KeyringError> {
        if secret.0.is_empty() {
            return Err(KeyringError::Erased);
        }
        let bytes: [u8; 32] = secret.0.as_slice().try_into().map_err(|_| {
            let message = format!("the data key of {person} does not have 32 bytes");
            KeyringError::Vault(VaultError::Unavailable(Unavailable::plain("vault", message)))
        })?;
        let key = DataKey::new(bytes);
        let mut known = self.lock();
        if known.len() >= REMEMBERED_KEYS {
            known.clear();
        }
        known.insert(person, (key.clone(), Instant::now()));
        Ok(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, (DataKey, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(person: Uuid) -> String {
    format!("data-key/{person}")
}
