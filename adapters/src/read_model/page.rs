//! Cursors: where the next page begins, as an opaque text of the last key that was shown.

use lmao_ports::{Page, PageRequest};
use uuid::Uuid;

/// Rows of one page.
const MAX_LIMIT: u32 = 200;

/// How many rows a request gets.
pub(crate) fn limit(request: &PageRequest) -> usize {
    request.limit.clamp(1, MAX_LIMIT) as usize
}

/// A key that rows are listed by: a number, then an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) i64, pub(crate) Uuid);

impl Key {
    fn encode(self) -> String {
        format!("{:016x}{:032x}", self.0, self.1.as_u128())
    }

    fn decode(text: &str) -> Option<Self> {
        let (number, id) = text.is_ascii().then(|| text.split_at_checked(16)).flatten()?;
        let number = u64::from_str_radix(number, 16).ok()?.cast_signed();
        (id.len() == 32).then(|| Some(Self(number, Uuid::try_parse(id).ok()?))).flatten()
    }

    /// Where a request begins: `first` without a cursor. A text that no page gave out is behind the end: `last`.
    pub(crate) fn of(request: &PageRequest, first: Self, last: Self) -> Self {
        request.cursor.as_ref().map_or(first, |cursor| Self::decode(cursor).unwrap_or(last))
    }
}

/// A page of rows, of which one more than `limit` were read to see whether there are more.
pub(crate) fn page<T>(mut items: Vec<T>, limit: usize, total: i64, key: impl Fn(&T) -> Key) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| key(item).encode());
    Page { items, next, total: total.cast_unsigned() }
}

/// How many rows to read for a page: one more than it has, to see whether there are more.
pub(crate) fn fetched(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_and_others_are_behind_the_end() {
        let (first, last) = (Key(0, Uuid::nil()), Key(i64::MAX, Uuid::max()));
        let request = |cursor: &str| PageRequest { limit: 1, cursor: Some(cursor.to_owned()) };
        for key in [first, last, Key(-5, Uuid::from_u128(7))] {
            assert_eq!(Key::of(&request(&key.encode()), first, last), key);
        }
        for wrong in ["", "x", "00", &"g".repeat(48), &"ä".repeat(24), &"0".repeat(49)] {
            assert_eq!(Key::of(&request(wrong), first, last), last, "{wrong}");
        }
        assert_eq!(Key::of(&PageRequest::default(), first, last), first);
    }
}
