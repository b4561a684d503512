//! Two of a thing, one for each space of vectors.

use lmao_ports::Space;
use serde::{Deserialize, Serialize};

/// One for each space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BySpace<T> {
    pub general: T,
    pub domain: T,
}

impl<T> BySpace<T> {
    /// What `make` makes for each.
    pub(crate) fn each(mut make: impl FnMut(Space) -> T) -> Self {
        Self { general: make(Space::General), domain: make(Space::Domain) }
    }

    /// Likewise, unless one cannot be made.
    pub(crate) fn try_each<E>(mut make: impl FnMut(Space) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self { general: make(Space::General)?, domain: make(Space::Domain)? })
    }

    /// That of one space.
    pub(crate) const fn of(&self, space: Space) -> &T {
        match space {
            Space::General => &self.general,
            Space::Domain => &self.domain,
        }
    }

    /// That of one space, to be changed.
    pub(crate) const fn of_mut(&mut self, space: Space) -> &mut T {
        match space {
            Space::General => &mut self.general,
            Space::Domain => &mut self.domain,
        }
    }

    /// Both, with their spaces.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Space, &T)> {
        Space::ALL.into_iter().map(|space| (space, self.of(space)))
    }
}
