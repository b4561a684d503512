//! How deciders are tested: given a history, when a command comes, then these events follow. And a world that runs any
//! sequence of commands and checks after each one what must hold of every decider.

mod golden;
mod record;
pub(crate) mod samples;
mod turn;
mod upcast;

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::{
    DataKey, Decider, EffectId, Hash, Head, Header, IllegalHistory, Payload, Pending, Place, Record, Rejection,
    StreamId, Timestamp, Version, event::EventSet, id::CommitId, owes,
};

/// A person, a message, a call: anything with a number.
pub(crate) const fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// The time of the commit at this version: one second after the one before.
pub(crate) const fn time(version: u64) -> Timestamp {
    Timestamp(version as i64 * 1_000_000)
}

/// The effect that event `event` of commit `version` made due.
pub(crate) const fn effect(version: u64, event: u16) -> EffectId {
    Place { version: Version(version), index: event, time: time(version) }.effect(0)
}

/// Folds commits.
pub(crate) fn fold<D: Decider>(commits: &[Vec<D::Event>]) -> Result<D::State, IllegalHistory> {
    let mut state = D::State::default();
    for (version, events) in (1..).zip(commits) {
        for (index, event) in (0..).zip(events) {
            state = D::evolve(state, event, Place { version: Version(version), index, time: time(version) })?;
        }
    }
    Ok(state)
}

/// A history, one inner list per commit.
pub(crate) fn given<D: Decider>(commits: Vec<Vec<D::Event>>) -> World<D> {
    let mut world = World::untold();
    for events in commits {
        world.take_in(events);
    }
    world
}

/// Asserts that `event` cannot follow the history, and that the error says so in these words.
#[track_caller]
pub(crate) fn illegal<D: Decider>(mut commits: Vec<Vec<D::Event>>, event: impl Into<D::Event>, words: &str) {
    fold::<D>(&commits).expect("the history before is legal");
    commits.push(vec![event.into()]);
    assert_eq!(fold::<D>(&commits).expect_err("must be illegal").to_string(), words);
}

/// What a command led to.
#[derive(Debug)]
pub(crate) struct Outcome<D: Decider> {
    pub(crate) world: World<D>,
    result: Result<Vec<D::Event>, Rejection>,
}

impl<D: Decider> Outcome<D> {
    /// Exactly these events.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "tests write the list where they say it")]
    pub(crate) fn then(self, expected: Vec<D::Event>) -> World<D> {
        assert_eq!(self.result.as_ref(), Ok(&expected));
        self.world
    }

    /// Nothing: it had been carried out, or concerns nobody.
    #[track_caller]
    pub(crate) fn then_nothing(self) -> World<D> {
        self.then(vec![])
    }

    /// A refusal with this reason.
    #[track_caller]
    pub(crate) fn then_refused(self, reason: &str) -> World<D> {
        assert_eq!(self.result.as_ref().map_err(|rejection| rejection.reason.as_str()), Err(reason));
        self.world
    }
}

/// Whether an event is an outcome of an effect.
type OutcomeOf<D> = fn(&<D as Decider>::Effect, &<D as Decider>::Event) -> bool;

/// A stream in memory, with what was ever owed.
#[derive(Debug)]
pub(crate) struct World<D: Decider> {
    pub(crate) state: D::State,
    pub(crate) history: Vec<Vec<D::Event>>,
    settled: BTreeSet<EffectId>,
    outcome_of: Option<OutcomeOf<D>>,
    head: Head,
}

impl<D: Decider> World<D> {
    /// An empty stream whose debts are watched: each is owed until an event of its outcome, and not after.
    pub(crate) fn new(outcome_of: OutcomeOf<D>) -> Self {
        Self { outcome_of: Some(outcome_of), ..Self::untold() }
    }

    /// An empty stream of which it is not known what settles its debts.
    pub(crate) fn untold() -> Self {
        Self {
            state: D::State::default(),
            history: vec![],
            settled: BTreeSet::new(),
            outcome_of: None,
            head: Head::default(),
        }
    }

    /// Decides a command and takes in the events, if any.
    pub(crate) fn when(mut self, command: D::Command) -> Outcome<D> {
        let result = self.send(command);
        Outcome { world: self, result }
    }

    /// As [`World::when`], without consuming the world.
    #[track_caller]
    pub(crate) fn send(&mut self, command: D::Command) -> Result<Vec<D::Event>, Rejection> {
        let owner = D::owner(&self.state).or_else(|| D::owner_of(&command));
        let events = D::decide(&self.state, command)?;
        if !events.is_empty() {
            self.take_in(events.clone());
            assert!(owner.is_some(), "what was decided has an owner");
            assert_eq!(D::owner(&self.state), owner, "the owner stays");
        }
        Ok(events)
    }

    pub(crate) fn pending(&self) -> Vec<Pending<D::Effect>> {
        D::pending(&self.state)
    }

    /// The id of the first effect that is due.
    #[track_caller]
    pub(crate) fn first_debt(&self) -> EffectId {
        self.pending().first().expect("something is owed").id
    }

    #[track_caller]
    fn take_in(&mut self, events: Vec<D::Event>) {
        let before = self.pending();
        self.history.push(events);
        let events = self.history.last().expect("pushed above");
        let version = Version(self.history.len() as u64);
        for (index, event) in (0..).zip(events) {
            let place = Place { version, index, time: time(version.0) };
            self.state = D::evolve(self.state.clone(), event, place).expect("what is decided can be folded");
        }
        let after = self.pending();
        for debt in &before {
            let remains = after.iter().any(|other| other.id == debt.id);
            if let Some(outcome_of) = self.outcome_of {
                let settled = events.iter().any(|event| outcome_of(&debt.effect, event));
                assert!(settled || remains, "{debt:?} is forgotten by {events:?}");
                assert!(!settled || !remains, "{debt:?} is owed still after {events:?}");
            }
            if !remains {
                self.settled.insert(debt.id);
            }
        }
        for debt in &after {
            assert!(!self.settled.contains(&debt.id), "{debt:?} is owed again");
            assert_eq!(after.iter().filter(|other| other.id == debt.id).count(), 1, "{debt:?} is owed twice");
        }
        self.store();
    }

    /// The last commit survives sealing, and the state survives being a snapshot.
    #[track_caller]
    fn store(&mut self) {
        let events = self.history.last().expect("there is a commit");
        let payload = Payload { command: None, events: events.iter().map(EventSet::encode).collect() };
        let header = header(StreamId::new(D::CATEGORY, id(9)), self.head, owes(&self.pending()));
        let key = DataKey::new([7; 32]);
        let record = Record::seal(header, &payload, &key, [3; 24]).expect("one decision fits one record");
        let stored = Record::parse(record.bytes().to_vec()).expect("parses");
        let opened = stored.open(&key).expect("opens");
        let decoded: Vec<_> = opened.events.iter().map(|event| D::Event::decode(event).expect("decodes")).collect();
        assert_eq!(decoded, *events);
        self.head = Head { version: record.header().version, hash: record.hash(), ..Head::default() };

        let snapshot = rmp_serde::to_vec_named(&self.state).expect("states encode");
        assert!(snapshot.len() <= 1 << 20, "a snapshot of {} bytes", snapshot.len());
        assert_eq!(rmp_serde::from_slice::<D::State>(&snapshot).expect("states decode"), self.state);
    }

    /// What holds of every accepted history.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(fold::<D>(&self.history).as_ref(), Ok(&self.state), "replayed, it is the same state");
        for commits in 0..self.history.len() {
            fold::<D>(&self.history[..commits]).expect("a prefix of commits folds");
            let mut torn = self.history[..=commits].to_vec();
            while torn[commits].pop().is_some() {
                fold::<D>(&torn).expect("a prefix of events folds");
            }
        }
    }
}

/// The header of the record after `head`.
pub(crate) fn header(stream: StreamId, head: Head, owes: crate::Owes) -> Header {
    let version = head.version.next();
    Header {
        id: CommitId(id(u128::from(version.0))),
        stream,
        version,
        codec: crate::CODEC,
        time: time(version.0),
        who: Some(id(1)),
        key: id(1),
        causation: id(2),
        correlation: id(3),
        traceparent: None,
        prev: if head.version.0 == 0 { Hash::default() } else { head.hash },
        owes,
    }
}
