//! Claims: the exclusive use of one value, such as a user name, by one holder.
//!
//! The stream's id is derived from a keyed hash of the value, so that two claims of one value meet in one stream and the
//! log's own fence decides between them. The value itself is never stored here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Category, Decider, IllegalHistory, Pending, Place, Rejection, SYSTEM_KEY,
    decider::RejectionKind,
    event::{EventSet, event_set},
};

/// The value belongs to this holder from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Claimed {
    /// Whose it is.
    pub holder: Uuid,
}

/// The value is free again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// Whose it was.
    pub holder: Uuid,
}

event_set! {
    /// What can happen to a claim.
    Claim { Claimed = 1, Released = 1 } upcasters &[]
}

/// What can be asked of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Take the value, unless somebody else holds it.
    Claim {
        /// For whom.
        holder: Uuid,
    },
    /// Give the value back; nothing happens unless this holder has it.
    Release {
        /// Who gives it back.
        holder: Uuid,
    },
}

/// Who holds the value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The holder; `None` when it is free.
    pub holder: Option<Uuid>,
}

/// Claims owe nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {}

/// The decider of claims.
#[derive(Debug)]
pub struct Claim;

impl Decider for Claim {
    const CATEGORY: Category = Category::Claim;
    const STATE_VERSION: u16 = 1;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Effect = Effect;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Claim { holder } => match state.holder {
                None => Ok(vec![Claimed { holder }.into()]),
                Some(known) if known == holder => Ok(vec![]),
                Some(_) => Err(Rejection::new(RejectionKind::Conflict, "taken", "the value is in use")),
            },
            Command::Release { holder } if state.holder == Some(holder) => Ok(vec![Released { holder }.into()]),
            Command::Release { .. } => Ok(vec![]),
        }
    }

    fn evolve(state: State, event: &Event, place: Place) -> Result<State, IllegalHistory> {
        match (state.holder, event) {
            (None, Event::Claimed(Claimed { holder })) => Ok(State { holder: Some(*holder) }),
            (Some(known), Event::Released(Released { holder })) if known == *holder => Ok(State::default()),
            (holder, event) => Err(IllegalHistory {
                category: Self::CATEGORY,
                event: event.name(),
                state: if holder.is_some() { "a held claim" } else { "a free claim" }.to_owned(),
                place,
            }),
        }
    }

    fn pending(_: &State) -> Vec<Pending<Effect>> {
        vec![]
    }

    fn owner(_: &State) -> Option<Uuid> {
        Some(SYSTEM_KEY)
    }

    fn owner_of(_: &Command) -> Option<Uuid> {
        Some(SYSTEM_KEY)
    }
}
