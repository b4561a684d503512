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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Claim, Claimed, Command, Event, Released};
    use crate::testing::{World, given, id, illegal};

    fn claim(n: u128) -> Command {
        Command::Claim { holder: id(n) }
    }

    fn release(n: u128) -> Command {
        Command::Release { holder: id(n) }
    }

    fn claimed(n: u128) -> Event {
        Claimed { holder: id(n) }.into()
    }

    fn released(n: u128) -> Event {
        Released { holder: id(n) }.into()
    }

    #[test]
    fn the_first_holds_it_until_it_is_released() {
        given::<Claim>(vec![])
            .when(claim(1))
            .then(vec![claimed(1)])
            .when(claim(1))
            .then_nothing()
            .when(claim(2))
            .then_refused("taken")
            .when(release(2))
            .then_nothing()
            .when(release(1))
            .then(vec![released(1)])
            .when(release(1))
            .then_nothing()
            .when(claim(2))
            .then(vec![claimed(2)]);
    }

    #[test]
    fn histories_that_are_no_claims_are_refused() {
        illegal::<Claim>(
            vec![vec![claimed(1)]],
            claimed(2),
            "Claimed cannot follow a held claim in a claim history (version 2, event 0)",
        );
        illegal::<Claim>(
            vec![vec![claimed(1)]],
            released(2),
            "Released cannot follow a held claim in a claim history (version 2, event 0)",
        );
        illegal::<Claim>(
            vec![],
            released(1),
            "Released cannot follow a free claim in a claim history (version 1, event 0)",
        );
    }

    proptest! {
        #[test]
        fn any_claim_has_one_holder_at_a_time(steps in proptest::collection::vec((any::<bool>(), 0..3_u128), 0..30)) {
            let mut world = World::<Claim>::new(|effect, _| match *effect {});
            for (takes, holder) in steps {
                let before = world.state.holder;
                let _ = world.send(if takes { claim(holder) } else { release(holder) });
                let after = world.state.holder;
                prop_assert!(before == after || before.is_none() || after.is_none(), "it is never taken away");
            }
            world.check();
        }
    }
}
