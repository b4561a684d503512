//! The commit record: one canonical byte string for one decision, identical in every adapter.
//!
//! ```text
//! "LMR1"  u32 BE header length  header (MessagePack array)  nonce (24 bytes)  sealed payload
//! '-------------- associated data of the seal ------------'
//! ```
//! The record's hash and every signature cover exactly these bytes. A position in the log is not part of them, so that
//! records can be copied from one log to another as they are.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{CommitId, DataKey, Hash, NONCE_BYTES, OpenError, Payload, Position, StreamId, Timestamp, Version};

/// The payload's encoding: MessagePack, [`Payload`], sealed by XChaCha20-Poly1305.
pub const CODEC: u16 = 1;
/// The largest record that any adapter accepts, in bytes.
pub const MAX_RECORD_BYTES: usize = 512 * 1024;

const MAGIC: &[u8; 4] = b"LMR1";

/// What a stream still owes the world after a commit, readable without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Owes {
    /// Nothing: the stream may sleep.
    #[serde(rename = "n")]
    Nothing,
    /// Something is due now.
    #[serde(rename = "w")]
    Now,
    /// The earliest due effect waits for this moment.
    #[serde(rename = "t")]
    At(Timestamp),
}

/// The clear part of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The commit's identity.
    pub id: CommitId,
    /// Whose history this continues.
    pub stream: StreamId,
    /// The commit's place in that history; 1 is the first.
    pub version: Version,
    /// How the payload is encoded, see [`CODEC`].
    pub codec: u16,
    /// When the decision was taken.
    pub time: Timestamp,
    /// The person who asked for it; `None` when the system did.
    pub who: Option<Uuid>,
    /// Whose data key seals the payload: the person the stream belongs to, or [`crate::SYSTEM_KEY`].
    pub key: Uuid,
    /// The command or commit that this follows from.
    pub causation: Uuid,
    /// The request at the beginning of the chain.
    pub correlation: Uuid,
    /// W3C trace context of the request, if it had one.
    pub traceparent: Option<String>,
    /// The hash of the stream's previous record; zero in the first.
    pub prev: Hash,
    /// What the stream owes after this commit.
    pub owes: Owes,
}

/// Where a stream ends: the expectation that an append names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last commit's version; 0 for a stream that does not exist.
    pub version: Version,
    /// The last commit's position.
    pub position: Position,
    /// The last record's hash.
    pub hash: Hash,
}

/// A record as stored: its canonical bytes and what their header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    header: Header,
    bytes: Vec<u8>,
    sealed_at: usize,
}

/// Why bytes are no record, or a record could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The bytes do not have the layout of a record.
    #[error("not a commit record: {0}")]
    Malformed(&'static str),
    /// The header does not parse, or is not in its canonical form.
    #[error("the header of a commit record does not parse")]
    Header(#[source] rmp_serde::decode::Error),
    /// One decision that is larger than any adapter accepts.
    #[error("a commit of {size} bytes is over the limit of {MAX_RECORD_BYTES}")]
    TooLarge {
        /// The record's size in bytes.
        size: usize,
    },
}

impl Record {
    /// Seals `payload` under `key` with this fresh random `nonce`, bound to the header.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`].
    pub fn seal(
        header: Header,
        payload: &Payload,
        key: &DataKey,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Self, RecordError> {
        let mut bytes = clear_part(&header);
        let sealed_at = bytes.len();
        let sealed = key.seal(&nonce, &bytes, &payload.encode());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge { size: bytes.len() });
        }
        Ok(Self { header, bytes, sealed_at })
    }

    /// Reads a record from its stored bytes; refuses any that this build would have written differently.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], [`RecordError::Header`] or [`RecordError::TooLarge`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge { size: bytes.len() });
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(RecordError::Malformed("it does not begin with LMR1"))?;
        let (length, rest) =
            rest.split_first_chunk::<4>().ok_or(RecordError::Malformed("it ends before its header"))?;
        let length = u32::from_be_bytes(*length) as usize;
        if rest.len() < length.saturating_add(NONCE_BYTES) {
            return Err(RecordError::Malformed("it ends before its payload"));
        }
        let header: Header = rmp_serde::from_slice(&rest[..length]).map_err(RecordError::Header)?;
        let sealed_at = MAGIC.len() + 4 + length;
        if bytes[..sealed_at] != *clear_part(&header) {
            return Err(RecordError::Malformed("its header is not in canonical form"));
        }
        Ok(Self { header, bytes, sealed_at })
    }

    /// Opens the payload.
    ///
    /// # Errors
    /// [`OpenError`] when the key does not fit, the bytes were altered, or the codec is newer than this build.
    pub fn open(&self, key: &DataKey) -> Result<Payload, OpenError> {
        if self.header.codec != CODEC {
            return Err(OpenError::Codec(self.header.codec));
        }
        let (clear, rest) = self.bytes.split_at(self.sealed_at);
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Altered)?;
        Payload::decode(&key.open(nonce, clear, sealed)?)
    }

    /// The clear part.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The canonical bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// BLAKE3 of the canonical bytes: the next record's `prev`.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }
}

fn clear_part(header: &Header) -> Vec<u8> {
    let encoded = rmp_serde::to_vec(header).unwrap_or_else(|error| unreachable!("headers encode: {error}"));
    let mut bytes = Vec::with_capacity(encoded.len() + 512);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&encoded);
    bytes
}
