//! Where recently used streams end, so that most appends are checked without reading.

use std::collections::HashMap;

use lmao_events::{Head, StreamId};

/// Streams of one generation. Two generations are kept: what was not used while this many others were is forgotten.
const GENERATION: usize = 32 * 1024;

/// A bounded map in which the least recently used half is forgotten at once: no bookkeeping for each use.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    young: HashMap<StreamId, Head>,
    old: HashMap<StreamId, Head>,
}

impl Heads {
    pub(crate) fn get(&mut self, stream: &StreamId) -> Option<Head> {
        if let Some(head) = self.young.get(stream) {
            return Some(*head);
        }
        let head = self.old.remove(stream)?;
        self.put(*stream, head);
        Some(head)
    }

    pub(crate) fn put(&mut self, stream: StreamId, head: Head) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream, head);
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use lmao_events::{Category, Hash, Position, Version};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let stream = |n: usize| StreamId::new(Category::Session, Uuid::from_u128(n as u128));
        let head = |n: usize| Head { version: Version(n as u64), position: Position(0), hash: Hash::default() };
        let mut heads = Heads::default();
        for n in 0..3 * GENERATION {
            heads.put(stream(n), head(n));
            assert_eq!(heads.get(&stream(0)), Some(head(0)));
        }
        assert_eq!(heads.get(&stream(1)), None);
        assert!(heads.young.len() + heads.old.len() <= 2 * GENERATION);
    }
}
