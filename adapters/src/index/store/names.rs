//! Numbers in the place of names, so that a filter compares numbers.

use std::{collections::HashMap, sync::Arc};

use crate::passages::sections::enclosing;

/// A document's own names, few.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<String, u32>,
}

impl Names {
    /// The number of a name, a new one if it is new. There are no more than passages times three, which 32 bits count.
    pub(super) fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// All of them, in the order of their numbers.
    pub(super) fn into_vec(self) -> Vec<String> {
        let mut names: Vec<_> = self.numbers.into_iter().collect();
        names.sort_unstable_by_key(|(_, number)| *number);
        names.into_iter().map(|(name, _)| name).collect()
    }
}

/// The names of all documents. One that nobody has any more stays until the next compaction.
#[derive(Debug, Clone, Default)]
pub(super) struct Dictionary {
    numbers: HashMap<Arc<str>, u32>,
}

impl Dictionary {
    /// The number of a name, a new one if it is new.
    pub(super) fn number(&mut self, name: &str) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        match self.numbers.get(name) {
            Some(number) => *number,
            None => *self.numbers.entry(name.into()).or_insert(next),
        }
    }

    /// The numbers of those names that there are, in order.
    pub(super) fn known<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Vec<u32> {
        let mut known: Vec<u32> = names.into_iter().filter_map(|name| self.numbers.get(&**name).copied()).collect();
        known.sort_unstable();
        known.dedup();
        known
    }
}

/// Section paths, and which lies in which.
#[derive(Debug, Clone, Default)]
pub(super) struct Sections {
    paths: Dictionary,
    /// By number, the section around it; its own number where there is none. Always a smaller number.
    around: Vec<u32>,
}

impl Sections {
    /// The number of a path. Whatever it lies in has a smaller one.
    pub(super) fn number(&mut self, path: &str) -> u32 {
        if let Some(number) = self.paths.numbers.get(path) {
            return *number;
        }
        let mut around = None;
        for path in enclosing(path) {
            let number = self.paths.number(path);
            if number as usize == self.around.len() {
                self.around.push(around.unwrap_or(number));
            }
            around = Some(number);
        }
        around.unwrap_or_default()
    }

    /// By number, whether it is or lies in one of these paths.
    pub(super) fn within(&self, wanted: &[String]) -> Vec<bool> {
        let mut within = vec![false; self.around.len()];
        for number in self.paths.known(wanted) {
            within[number as usize] = true;
        }
        for number in 0..within.len() {
            within[number] |= within[self.around[number] as usize];
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_lie_in_what_is_above_them() {
        let mut sections = Sections::default();
        let paths = ["A > B > C", "A > B", "A > D", "E", "A > B", "AB"];
        let numbers = paths.map(|path| sections.number(path) as usize);
        let within = |wanted: &str| {
            let within = sections.within(&[wanted.to_owned()]);
            numbers.map(|number| within[number])
        };
        assert_eq!(within("A"), [true, true, true, false, true, false]);
        assert_eq!(within("A > B"), [true, true, false, false, true, false]);
        assert_eq!(within("A > B > C > D"), [false; 6]);
        assert_eq!(within("E"), [false, false, false, true, false, false]);
    }

    #[test]
    fn names_keep_their_numbers() {
        let mut names = Names::default();
        assert_eq!(["b", "a", "b", "c"].map(|name| names.number(name)), [0, 1, 0, 2]);
        assert_eq!(names.into_vec(), ["b", "a", "c"]);
    }
}
