//! The vault: secrets that must be erasable and are therefore never events: password hashes, data keys, the signing key.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::Unavailable;

/// Secret bytes; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why the vault did not do it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The master key does not fit, or a stored secret was altered.
    #[error("the vault does not open: {0}")]
    Sealed(String),
    /// It cannot be used now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A durable key-value store of secrets, each wrapped by a master key that is kept elsewhere and bound to its name.
///
/// Keys are ASCII, at most 200 bytes, parts separated by `/`; secrets at most 4 KiB. What is put is durable before the
/// call returns; what is destroyed is gone, with no earlier revision kept.
#[async_trait]
pub trait Vault: Debug + Send + Sync {
    /// The secret under `key`.
    async fn get(&self, key: &str) -> Result<Option<Secret>, VaultError>;

    /// Stores a secret, replacing any before it.
    async fn put(&self, key: &str, secret: &Secret) -> Result<(), VaultError>;

    /// Stores a secret unless there is one; returns the one that stands. Of two at once, one wins for both.
    async fn put_new(&self, key: &str, secret: &Secret) -> Result<Secret, VaultError>;

    /// Destroys a secret; fine if there is none.
    async fn destroy(&self, key: &str) -> Result<(), VaultError>;

    /// The keys of all secrets that it keeps, in any order.
    async fn keys(&self) -> Result<Vec<String>, VaultError>;
}
