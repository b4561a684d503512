//! JSON Schemas of every event, for `schemas/events/`.

use schemars::Schema;

use crate::{claim, document, event::EventSet, session, tool_call, user, workflow};

/// `(file name, schema)` of every event in its current version: `session.MessageReceived.v1.json`.
#[must_use]
pub fn all() -> Vec<(String, Schema)> {
    fn of<E: EventSet>() -> impl Iterator<Item = (String, Schema)> {
        E::schemas()
            .into_iter()
            .map(|(name, version, schema)| (format!("{}.{name}.v{version}.json", E::CATEGORY), schema))
    }
    of::<session::Event>()
        .chain(of::<workflow::Event>())
        .chain(of::<document::Event>())
        .chain(of::<tool_call::Event>())
        .chain(of::<user::Event>())
        .chain(of::<claim::Event>())
        .collect()
}
