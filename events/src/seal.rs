//! Sealing: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) with the data key of the person that a stream belongs to.

use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload as Sealed},
};
use uuid::Uuid;

/// Bytes of a nonce: long enough to be drawn at random for every record.
pub const NONCE_BYTES: usize = 24;
/// The key of what belongs to no person: claims.
pub const SYSTEM_KEY: Uuid = Uuid::nil();

/// A person's data key. Destroying it erases the person from every payload.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey([u8; 32]);

/// Why a payload cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The authentication tag does not match: another key, or changed bytes.
    #[error("the payload was altered or sealed with another key")]
    Altered,
    /// Written by a newer build.
    #[error("the payload's codec {0} is newer than this build")]
    Codec(u16),
    /// The opened bytes are not a payload.
    #[error("the opened payload does not parse")]
    Decode(#[source] rmp_serde::decode::Error),
}

impl DataKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Seals `text`, bound to `associated`; the nonce must never repeat under one key.
    #[must_use]
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], associated: &[u8], text: &[u8]) -> Vec<u8> {
        self.cipher()
            .encrypt(&XNonce::from(*nonce), Sealed { msg: text, aad: associated })
            .unwrap_or_else(|_| unreachable!("records are far below the cipher's limit of 256 GiB"))
    }

    /// Opens what [`DataKey::seal`] sealed.
    ///
    /// # Errors
    /// [`OpenError::Altered`].
    pub fn open(&self, nonce: &[u8; NONCE_BYTES], associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.cipher()
            .decrypt(&XNonce::from(*nonce), Sealed { msg: sealed, aad: associated })
            .map_err(|_| OpenError::Altered)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(self.0))
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(…)")
    }
}
