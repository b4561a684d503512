//! A user: an account. Its name and e-mail address are claimed in streams of their own before it becomes active.
//!
//! Passwords and their hashes are never events; they live in the vault.

mod decide;
mod events;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use decide::User;
pub use events::{
    Activated, ClaimGranted, ClaimReleased, Event, Field, LoggedIn, Registered, RegistrationRefused, Role,
};

use crate::{Category, EffectId, StreamId, Timestamp, keyed_id};

/// What can be asked of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Open the account. Said twice, it is opened once.
    Register(Registered),
    /// Record how a claim ended.
    RecordClaim {
        /// The debt that was worked on; an outcome of another one is ignored.
        effect: EffectId,
        /// Whether the value is this account's.
        granted: bool,
    },
    /// Record that a claim was given back.
    RecordRelease {
        /// The debt that was worked on.
        effect: EffectId,
    },
    /// Record a login.
    LogIn {
        /// When.
        at: Timestamp,
    },
}

/// The fold of an account's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What was registered; `None` before.
    pub registered: Option<Registered>,
    /// Where it stands.
    pub phase: Phase,
}

/// Where an account stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// There is none.
    #[default]
    Absent,
    /// This field is being claimed.
    Claiming {
        /// Which.
        field: Field,
        /// The debt to claim it.
        effect: EffectId,
    },
    /// It can be used.
    Active,
    /// It was refused, because this field is taken; the claims of the fields before it are given back.
    Refused {
        /// Which field.
        field: Field,
        /// The debt to give back the user name.
        release: Option<EffectId>,
    },
}

/// What an account owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Claim a value.
    Claim {
        /// Of which field.
        field: Field,
        /// The value, in the form that is compared.
        value: String,
        /// For whom.
        holder: Uuid,
    },
    /// Give a value back.
    Release {
        /// Of which field.
        field: Field,
        /// The value, in the form that is compared.
        value: String,
        /// By whom.
        holder: Uuid,
    },
}

/// The form of a user name or e-mail address that is compared: two that differ in case only are one.
#[must_use]
pub fn canonical(value: &str) -> String {
    value.trim().to_lowercase()
}

/// The claim on `value` (see [`canonical`]) of this field. `key` is the secret of the system's keyed ids.
#[must_use]
pub fn claim_of(key: &[u8; 32], field: Field, value: &str) -> StreamId {
    let scope = match field {
        Field::Username => "username",
        Field::Email => "email",
    };
    StreamId::new(Category::Claim, keyed_id(key, scope, value.as_bytes()))
}
