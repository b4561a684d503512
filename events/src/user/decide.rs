//! What an account decides: its claims on name and address, how they end, and its logins.

use uuid::Uuid;

use super::{
    Activated, ClaimGranted, ClaimReleased, Command, Effect, Event, Field, LoggedIn, Phase, Registered,
    RegistrationRefused, State, canonical,
};
use crate::{
    Category, Decider, Due, IllegalHistory, Pending, Place, Rejection, decider::RejectionKind, event::EventSet,
};

/// Characters of a user name or an e-mail address, as the spec's tables have it.
const MAX_CHARS: usize = 255;

/// The decider of accounts.
#[derive(Debug)]
pub struct User;

impl Decider for User {
    const CATEGORY: Category = Category::User;
    const STATE_VERSION: u16 = 1;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Effect = Effect;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Register(registered) => register(state, registered),
            Command::RecordClaim { effect, granted } => Ok(match &state.phase {
                Phase::Claiming { field, effect: due } if *due == effect => claimed(*field, granted),
                _ => vec![],
            }),
            Command::RecordRelease { effect } => Ok(match &state.phase {
                Phase::Refused { release: Some(due), .. } if *due == effect => {
                    vec![ClaimReleased { field: Field::Username }.into()]
                }
                _ => vec![],
            }),
            Command::LogIn { .. } => match state.phase {
                Phase::Active => Ok(vec![LoggedIn {}.into()]),
                _ => Err(Rejection::new(RejectionKind::NotFound, "user_not_found", "there is no such account")),
            },
        }
    }

    fn evolve(mut state: State, event: &Event, place: Place) -> Result<State, IllegalHistory> {
        state.phase = match (&state.phase, event) {
            (Phase::Absent, Event::Registered(registered)) => {
                state.registered = Some(registered.clone());
                Phase::Claiming { field: Field::Username, effect: place.effect(0) }
            }
            (Phase::Claiming { field: Field::Username, .. }, Event::ClaimGranted(granted))
                if granted.field == Field::Username =>
            {
                Phase::Claiming { field: Field::Email, effect: place.effect(0) }
            }
            (Phase::Claiming { field: Field::Email, effect }, Event::ClaimGranted(granted))
                if granted.field == Field::Email =>
            {
                Phase::Claiming { field: Field::Email, effect: *effect }
            }
            (Phase::Claiming { field: Field::Email, .. }, Event::Activated(_)) => Phase::Active,
            (Phase::Claiming { field, .. }, Event::RegistrationRefused(refused)) if *field == refused.field => {
                let release = (*field == Field::Email).then(|| place.effect(0));
                Phase::Refused { field: *field, release }
            }
            (Phase::Refused { field, release: Some(_) }, Event::ClaimReleased(released))
                if released.field == Field::Username =>
            {
                Phase::Refused { field: *field, release: None }
            }
            (Phase::Active, Event::LoggedIn(_)) => Phase::Active,
            (phase, event) => {
                return Err(IllegalHistory {
                    category: Self::CATEGORY,
                    event: event.name(),
                    state: match phase {
                        Phase::Absent => "no account",
                        Phase::Claiming { .. } => "an account whose values are being claimed",
                        Phase::Active => "an active account",
                        Phase::Refused { .. } => "a refused account",
                    }
                    .to_owned(),
                    place,
                });
            }
        };
        Ok(state)
    }

    fn pending(state: &State) -> Vec<Pending<Effect>> {
        let Some(registered) = &state.registered else { return vec![] };
        let id = registered.id;
        let value = |field| {
            canonical(match field {
                Field::Username => &registered.username,
                Field::Email => &registered.email,
            })
        };
        match state.phase {
            Phase::Claiming { field, effect } => vec![Pending {
                id: effect,
                due: Due::Now,
                effect: Effect::Claim { field, value: value(field), holder: id },
            }],
            Phase::Refused { release: Some(effect), .. } => vec![Pending {
                id: effect,
                due: Due::Now,
                effect: Effect::Release { field: Field::Username, value: value(Field::Username), holder: id },
            }],
            _ => vec![],
        }
    }

    fn owner(state: &State) -> Option<Uuid> {
        state.registered.as_ref().map(|registered| registered.id)
    }

    fn owner_of(command: &Command) -> Option<Uuid> {
        match command {
            Command::Register(registered) => Some(registered.id),
            _ => None,
        }
    }
}

fn register(state: &State, registered: Registered) -> Result<Vec<Event>, Rejection> {
    if let Some(known) = &state.registered {
        return if *known == registered {
            Ok(vec![])
        } else {
            Err(Rejection::new(RejectionKind::Conflict, "user_exists", "this account exists with other values"))
        };
    }
    let invalid = |reason: &str, message: &str| Err(Rejection::new(RejectionKind::Invalid, reason, message));
    let name = &registered.username;
    if name.trim() != name || name.is_empty() || name.chars().count() > MAX_CHARS || name.chars().any(char::is_control)
    {
        return invalid(
            "bad_username",
            "a user name has 1 to 255 characters, no control characters, no space around it",
        );
    }
    let email = &registered.email;
    let plausible = email.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    if !plausible || email.chars().count() > MAX_CHARS || email.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return invalid("bad_email", "an e-mail address looks like name@example.org and has at most 255 characters");
    }
    Ok(vec![registered.into()])
}

fn claimed(field: Field, granted: bool) -> Vec<Event> {
    if !granted {
        return vec![RegistrationRefused { field }.into()];
    }
    let mut events: Vec<Event> = vec![ClaimGranted { field }.into()];
    if field == Field::Email {
        events.push(Activated {}.into());
    }
    events
}
