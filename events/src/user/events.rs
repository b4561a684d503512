//! What happened to an account, as it is stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::event_set;

/// An account was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// The account's id.
    pub id: Uuid,
    /// The name to log in with.
    pub username: String,
    /// The address.
    pub email: String,
    /// What it may do.
    pub role: Role,
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything that concerns this person alone.
    User,
    /// Also what concerns everyone.
    Admin,
}

/// A value that no two accounts share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The name to log in with.
    Username,
    /// The address.
    Email,
}

/// The account has this value to itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimGranted {
    /// Of which field.
    pub field: Field,
}

/// The account can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Activated {}

/// There is no account: a value was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistrationRefused {
    /// Which.
    pub field: Field,
}

/// A refused account has given a value back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimReleased {
    /// Of which field.
    pub field: Field,
}

/// The person logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoggedIn {}

event_set! {
    /// What can happen to an account.
    User {
        Registered = 1,
        ClaimGranted = 1,
        Activated = 1,
        RegistrationRefused = 1,
        ClaimReleased = 1,
        LoggedIn = 1,
    } upcasters &[]
}
