//! Which build reads which events: the numbered sets of all events, and the set that an event in some version came with.
//!
//! Nodes of two builds work on one log while a system is upgraded. Each says which set it reads, and what some live node
//! cannot read is not written.

use super::EventData;

/// The version of the set of all events: raised whenever some event gets a new name or version, with an entry in [`SINCE`]. A
/// node says in its lease which set it reads, and what is new is written only once every live node reads it.
pub const EVENT_SET: u32 = 2;

/// What came after the first set: name, version, and the set that it came with.
const SINCE: &[(&str, u16, u32)] = &[("Extracted", 2, 2), ("Embedded", 2, 2), ("Published", 3, 2)];

/// The set that this process reads: [`EVENT_SET`], but in tests of upgrades.
#[must_use]
pub fn readable_set() -> u32 {
    EVENT_SET + u32::from(next::is_on())
}

/// The first set that holds this event in its version.
#[must_use]
pub fn set_of(stored: &EventData) -> u32 {
    if next::is_bumped(&stored.name) {
        return EVENT_SET + 1;
    }
    let since = SINCE.iter().find(|(name, version, _)| *name == stored.name && *version == stored.version);
    since.map_or(1, |(_, _, set)| *set)
}

/// What the version of this event is raised by in this process.
pub(super) fn bump(name: &str) -> u16 {
    u16::from(next::is_bumped(name))
}

#[cfg(debug_assertions)]
pub use next::pretend_next_build;

/// The build after this one, for tests of upgrades: it writes one event in a version more, and reads what it wrote before.
#[cfg(debug_assertions)]
mod next {
    use std::sync::OnceLock;

    static BUMPED: OnceLock<String> = OnceLock::new();

    /// From now on this process is a build in which this event has a version more. Only in builds with debug assertions; the
    /// first call counts.
    pub fn pretend_next_build(event: String) {
        // A second call is one of the same test.
        let _ = BUMPED.set(event);
    }

    pub(super) fn is_on() -> bool {
        BUMPED.get().is_some()
    }

    pub(super) fn is_bumped(name: &str) -> bool {
        BUMPED.get().is_some_and(|bumped| bumped == name)
    }
}

#[cfg(not(debug_assertions))]
mod next {
    pub(super) const fn is_on() -> bool {
        false
    }

    pub(super) const fn is_bumped(_: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventSet, document};

    #[test]
    fn what_came_later_is_an_event_of_today_and_in_a_set_that_is_read() {
        let today = document::Event::schemas();
        for (name, version, set) in SINCE {
            assert!(today.iter().any(|(known, current, _)| known == name && current >= version), "{name} {version}");
            assert!((2..=EVENT_SET).contains(set), "{name} {version}: {set}");
            let stored = |version| EventData { name: (*name).to_owned(), version, data: vec![] };
            assert_eq!((set_of(&stored(*version)), set_of(&stored(version - 1))), (*set, 1));
        }
        assert!(SINCE.iter().any(|(_, _, set)| *set == EVENT_SET), "a set without anything new");
    }
}
