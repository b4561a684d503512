//! Accounts.

use lmao_events::{
    Timestamp,
    user::{Event, Role},
};
use serde::Serialize;
use uuid::Uuid;

use super::{At, Changes};

/// A new account, not yet active: id, name, address, role, when.
#[derive(Debug, Serialize)]
pub(crate) struct UserRecord(
    pub(crate) Uuid,
    pub(crate) String,
    pub(crate) String,
    pub(crate) Role,
    pub(crate) Timestamp,
);

/// What changes of an account: id, when, whether it became active, its last login.
#[derive(Debug, Serialize)]
pub(crate) struct AccountChange(
    pub(crate) Uuid,
    pub(crate) Timestamp,
    pub(crate) Option<u8>,
    pub(crate) Option<Timestamp>,
);

pub(super) fn take(changes: &mut Changes, at: At, event: &Event) {
    match event {
        Event::Registered(registered) => changes.registered.push(UserRecord(
            at.id,
            registered.username.clone(),
            registered.email.clone(),
            registered.role,
            at.time,
        )),
        Event::Activated(_) => change(changes, at).2 = Some(1),
        Event::LoggedIn(_) => change(changes, at).3 = Some(at.time),
        Event::RegistrationRefused(_) => changes.refused.push(at.id),
        Event::ClaimGranted(_) | Event::ClaimReleased(_) => {}
    }
}

fn change(changes: &mut Changes, at: At) -> &mut AccountChange {
    let change = changes.accounts.entry(at.id).or_insert(AccountChange(at.id, at.time, None, None));
    change.1 = at.time;
    change
}
