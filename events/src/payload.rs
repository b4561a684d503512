//! What a record seals: the command it answered and the events it decided.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{EventData, Hash, OpenError};

/// A client's command as remembered for idempotency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRef {
    /// UUIDv5 of user, route and idempotency key.
    pub id: Uuid,
    /// Hash of the request's body: the same key with another body is an error.
    pub body: Hash,
}

/// The events of one decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The client's command, when it came with an idempotency key.
    pub command: Option<CommandRef>,
    /// The events, in the order decided.
    pub events: Vec<EventData>,
}

impl Payload {
    /// MessagePack, structs as arrays.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec(self).unwrap_or_else(|error| unreachable!("payloads encode: {error}"))
    }

    /// The inverse of [`Payload::encode`].
    ///
    /// # Errors
    /// [`OpenError::Decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        rmp_serde::from_slice(bytes).map_err(OpenError::Decode)
    }
}
