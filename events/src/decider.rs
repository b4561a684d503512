//! What it means to decide: the trait that every actor runs, and effects as data.

use std::{fmt::Debug, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{Category, Owes, StreamId, Timestamp, Version, derive_id, event::EventSet};

/// A thing that decides. Pure: the same state and command give the same events, everywhere and always.
///
/// The state is a fold of the events; what it still owes the world is computed from it, so that a restart is nothing
/// but loading the history again.
pub trait Decider: 'static {
    /// The category of this decider's streams.
    const CATEGORY: Category;
    /// The fold of a history. Its serialized form is a snapshot.
    type State: Default + Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync;
    /// What it can be asked to do, with every time, id and random number that the answer needs.
    type Command: Clone + Debug + Send + Sync;
    /// What can have happened.
    type Event: EventSet;
    /// What it can owe the world.
    type Effect: Clone + Debug + PartialEq + Send + Sync;

    /// The version of [`Decider::State`]'s shape: a snapshot of another version is ignored.
    const STATE_VERSION: u16;

    /// The events that `command` leads to in `state`; none when it has been carried out already.
    ///
    /// # Errors
    /// [`Rejection`]: the command is refused, and nothing has happened.
    fn decide(state: &Self::State, command: Self::Command) -> Result<Vec<Self::Event>, Rejection>;

    /// The state after `event`, which stands at `place` in the history.
    ///
    /// # Errors
    /// [`IllegalHistory`] when no decision of this decider can have led from `state` to `event`.
    fn evolve(state: Self::State, event: &Self::Event, place: Place) -> Result<Self::State, IllegalHistory>;

    /// What the state owes the world, in the order in which it is to be done.
    fn pending(state: &Self::State) -> Vec<Pending<Self::Effect>>;

    /// Whose data key seals this stream; `None` before the first event and for what belongs to no person.
    fn owner(state: &Self::State) -> Option<Uuid>;

    /// The person that a first command makes the owner.
    fn owner_of(command: &Self::Command) -> Option<Uuid>;

    /// Whether nearly every stream begins with such a command: it is decided on the empty state before anything is read,
    /// and again on what stands there should the append meet a conflict.
    fn begins(_command: &Self::Command) -> bool {
        false
    }
}

/// A refused command. Refusals are answers, not failures: nothing was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// What kind of refusal, which decides the HTTP status.
    pub kind: RejectionKind,
    /// A stable string that clients may branch on: `session_not_found`, `username_taken`.
    pub reason: String,
    /// What happened, and what to do, for people.
    pub message: String,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionKind {
    /// It does not exist, or not for this person.
    NotFound,
    /// The state does not allow it (now).
    Conflict,
    /// The command itself makes no sense.
    Invalid,
    /// A limit is reached; the same command may succeed later.
    Busy,
}

impl Rejection {
    /// A refusal of this kind.
    #[must_use]
    pub fn new(kind: RejectionKind, reason: &str, message: impl Into<String>) -> Self {
        Self { kind, reason: reason.to_owned(), message: message.into() }
    }
}

/// An event that no decision can have led to from the state before it: the history is not this decider's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot follow {state} in a {category} history (version {}, event {})", place.version, place.index)]
pub struct IllegalHistory {
    /// Whose rules are broken.
    pub category: Category,
    /// The event's name.
    pub event: &'static str,
    /// The state it was applied to, in a word or two.
    pub state: String,
    /// Where it stands.
    pub place: Place,
}

/// Where an event stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The commit's version.
    pub version: Version,
    /// The event's index in the commit.
    pub index: u16,
    /// The commit's time.
    pub time: Timestamp,
}

impl Place {
    /// The id of the `n`-th effect that the event here makes due.
    #[must_use]
    pub const fn effect(self, n: u16) -> EffectId {
        EffectId { version: self.version, index: ((self.index as u32) << 16) | n as u32 }
    }
}

/// An effect's identity within its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectId {
    /// The commit that made it due.
    pub version: Version,
    /// Which of that commit's effects.
    pub index: u32,
}

impl EffectId {
    /// The effect's id in the whole system: the idempotency key that a tool or endpoint is given.
    #[must_use]
    pub fn global(self, stream: StreamId) -> Uuid {
        derive_id(stream.id, &format!("effect {} {} {}", stream.category, self.version, self.index))
    }
}

/// When an effect is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Due {
    /// As soon as possible.
    Now,
    /// Not before this moment: timers, retries, expiries.
    At(Timestamp),
}

/// One thing that is owed.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending<E> {
    /// Its identity: stays until its outcome is recorded, and is never used again.
    pub id: EffectId,
    /// When.
    pub due: Due,
    /// What.
    pub effect: E,
}

/// What a header says of these effects.
#[must_use]
pub fn owes<E>(pending: &[Pending<E>]) -> Owes {
    let mut earliest: Option<Timestamp> = None;
    for effect in pending {
        match effect.due {
            Due::Now => return Owes::Now,
            Due::At(time) => earliest = Some(earliest.map_or(time, |known| known.min(time))),
        }
    }
    earliest.map_or(Owes::Nothing, Owes::At)
}

/// The pause before attempt `failures + 1` of a repeatable effect: 1, 2, 4 … seconds, at most a minute.
#[must_use]
pub(crate) fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1_u64 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}
