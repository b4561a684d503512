//! The vault in a bucket of JetStream: secrets sealed by the master key, one revision of each.
//!
//! Each write names the revision that it replaces, so that one that was delayed cannot bring an old secret back. What is
//! destroyed is overwritten on the server's disk; of what is replaced, the sealed bytes go with the server's next compaction.

use async_trait::async_trait;
use bytes::Bytes;
use lmao_ports::{Secret, Unavailable, Vault, VaultError};

use super::{Limits, Nats, STORE, keys, migrate::Definition, stream::Stream};
use crate::sqlite::{MasterKey, PROBE, probe};

/// How often a write is tried again because others wrote the same secret.
const CONTENTION: usize = 64;

/// The vault in a bucket.
#[derive(Debug, Clone)]
pub struct NatsVault {
    key: MasterKey,
    stream: Stream,
}

impl NatsVault {
    /// Opens the bucket that [`super::migrate`] made.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] when its secrets were sealed with another master key; [`VaultError::Unavailable`] when it
    /// cannot be reached, or was not made.
    pub async fn open(nats: &Nats, key: &MasterKey) -> Result<Self, VaultError> {
        let stream = Stream::open(nats, Definition::Vault, Limits::default()).await?;
        let vault = Self { key: key.clone(), stream };
        probe(&vault, &format!("the vault on {}", nats.servers())).await?;
        Ok(vault)
    }

    fn subject(&self, key: &str) -> Result<String, Unavailable> {
        Ok(self.stream.subject(&keys::encode(key)?))
    }

    fn contended(key: &str) -> VaultError {
        Unavailable::plain(STORE, format!("others keep writing {key} in the vault; try again")).into()
    }
}

#[async_trait]
impl Vault for NatsVault {
    async fn get(&self, key: &str) -> Result<Option<Secret>, VaultError> {
        let stored = self.stream.last(&self.subject(key)?).await?;
        stored.map(|stored| self.key.open(key, &stored.payload)).transpose()
    }

    async fn put(&self, key: &str, secret: &Secret) -> Result<(), VaultError> {
        let subject = self.subject(key)?;
        let sealed = Bytes::from(self.key.seal(STORE, key, secret)?);
        for _ in 0..CONTENTION {
            let revision = self.stream.last(&subject).await?.map_or(0, |stored| stored.sequence);
            if self.stream.publish_once(&subject, sealed.clone(), revision).await?.is_some() {
                return Ok(());
            }
        }
        Err(Self::contended(key))
    }

    async fn put_new(&self, key: &str, secret: &Secret) -> Result<Secret, VaultError> {
        let subject = self.subject(key)?;
        let sealed = Bytes::from(self.key.seal(STORE, key, secret)?);
        for _ in 0..CONTENTION {
            if let Some(stored) = self.stream.last(&subject).await? {
                return self.key.open(key, &stored.payload);
            }
            if self.stream.publish_once(&subject, sealed.clone(), 0).await?.is_some() {
                return Ok(secret.clone());
            }
        }
        Err(Self::contended(key))
    }

    async fn destroy(&self, key: &str) -> Result<(), VaultError> {
        let subject = self.subject(key)?;
        for _ in 0..CONTENTION {
            let Some(stored) = self.stream.last(&subject).await? else { return Ok(()) };
            self.stream.erase(stored.sequence).await?;
        }
        Err(Self::contended(key))
    }

    async fn keys(&self) -> Result<Vec<String>, VaultError> {
        let subjects = self.stream.subjects(&self.stream.subject(">")).await?;
        let keys = subjects.iter().filter_map(|subject| keys::decode(self.stream.rest(subject)?));
        Ok(keys.filter(|key| key != PROBE).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lmao_ports::conformance::vault as suite;

    use super::{super::testing, *};
    use crate::sqlite::MAX_SECRET;

    const KEY: MasterKey = MasterKey::new([5; 32]);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keeps_what_every_vault_promises() {
        let nats = testing::migrated().await;
        suite::all(async || Arc::new(NatsVault::open(&nats, &KEY).await.unwrap()) as Arc<dyn Vault>).await;
    }

    #[tokio::test]
    async fn another_master_key_does_not_fit() {
        let nats = testing::migrated().await;
        let vault = NatsVault::open(&nats, &KEY).await.unwrap();
        vault.put("a", &Secret(b"kept".to_vec())).await.unwrap();
        let error = NatsVault::open(&nats, &MasterKey::new([6; 32])).await.unwrap_err();
        assert!(matches!(&error, VaultError::Sealed(text) if text.contains("master key")), "{error}");
        assert!(vault.put("large", &Secret(vec![0; MAX_SECRET + 1])).await.is_err());
    }

    #[tokio::test]
    async fn one_revision_is_kept_and_a_destroyed_one_is_gone() {
        let nats = testing::migrated().await;
        let vault = NatsVault::open(&nats, &KEY).await.unwrap();
        let messages = async || vault.stream.handle().get_info().await.unwrap().state.messages;
        let before = messages().await;
        for byte in 0..3 {
            vault.put("a", &Secret(vec![byte])).await.unwrap();
        }
        assert_eq!(messages().await, before + 1);
        vault.destroy("a").await.unwrap();
        assert_eq!(messages().await, before);
    }

    #[tokio::test]
    async fn secrets_are_bound_to_their_names() {
        let nats = testing::migrated().await;
        let vault = NatsVault::open(&nats, &KEY).await.unwrap();
        vault.put("password/ada", &Secret(b"one".to_vec())).await.unwrap();
        let stored = vault.stream.last(&vault.subject("password/ada").unwrap()).await.unwrap().unwrap();
        let other = vault.subject("password/admin").unwrap();
        vault.stream.publish_once(&other, stored.payload, 0).await.unwrap().unwrap();
        assert!(matches!(vault.get("password/admin").await, Err(VaultError::Sealed(_))));
    }
}
