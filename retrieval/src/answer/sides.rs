//! The two sides of a comparison: an answer about one of them alone compares nothing.

use std::collections::BTreeSet;

use lmao_ports::Hit;

use crate::search::terms::{coverage, terms};

/// What stands before the first side, and between the two.
const FORMS: [(&str, &str); 14] = [
    ("difference between ", " and "),
    ("differences between ", " and "),
    ("distinguishes ", " from "),
    ("distinguish ", " from "),
    ("compare ", " and "),
    ("compare ", " with "),
    ("compare ", " to "),
    ("", " versus "),
    ("", " vs. "),
    ("", " vs "),
    ("", " compared to "),
    ("", " compared with "),
    ("", " differ from "),
    ("unterschied zwischen ", " und "),
];

/// The share of a side's words that a text about it has.
const ABOUT: f32 = 0.5;

/// What is compared: the words that only one of both has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sides([BTreeSet<String>; 2]);

impl Sides {
    /// Of this question; `None` where it does not name two things.
    pub(super) fn of(question: &str) -> Option<Self> {
        let question = question.to_lowercase();
        FORMS.iter().find_map(|(before, between)| {
            let from = question.find(before)? + before.len();
            let (one, other) = question[from..].split_once(between)?;
            let (one, other) = (terms(one), terms(other));
            let only = [&one - &other, &other - &one];
            only.iter().all(|side| !side.is_empty()).then_some(Self(only))
        })
    }

    /// The words of both.
    pub(super) fn words(&self) -> BTreeSet<String> {
        &self.0[0] | &self.0[1]
    }

    /// For each side whether a text with these words speaks of it.
    pub(super) fn spoken_of(&self, words: &BTreeSet<String>) -> [bool; 2] {
        self.0.each_ref().map(|side| coverage(side, words) >= ABOUT)
    }

    /// The best passage of each side before all others, which keep their order.
    pub(super) fn first_of_each(&self, hits: Vec<Hit>) -> Vec<Hit> {
        let spoken: Vec<[bool; 2]> = hits
            .iter()
            .map(|hit| {
                self.spoken_of(&terms(&format!("{} {}", hit.section.as_deref().unwrap_or_default(), hit.content)))
            })
            .collect();
        let first: BTreeSet<usize> = (0..2).filter_map(|side| spoken.iter().position(|spoken| spoken[side])).collect();
        let (mut ranked, rest): (Vec<_>, Vec<_>) = hits.into_iter().enumerate().partition(|(n, _)| first.contains(n));
        ranked.extend(rest);
        ranked.into_iter().map(|(_, hit)| hit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::fakes::hit;

    #[test]
    fn two_things_are_two_sides() {
        for (question, sides) in [
            ("What is the difference between a Mutex and an RwLock?", [vec!["mutex"], vec!["rwlock"]]),
            ("Stack vs. heap", [vec!["stack"], vec!["heap"]]),
            ("compare TCP sockets with UDP sockets", [vec!["tcp"], vec!["udp"]]),
            ("Was ist der Unterschied zwischen Brot und Kuchen?", [vec!["brot"], vec!["kuchen"]]),
        ] {
            let found = Sides::of(question).unwrap_or_else(|| panic!("{question}"));
            assert_eq!(
                found.0.map(|side| side.into_iter().collect::<Vec<_>>()),
                sides.map(|side| { side.into_iter().map(str::to_owned).collect::<Vec<_>>() }),
                "{question}"
            );
        }
        for question in ["What is a mutex?", "compare", "difference between and", "the kiln vs the kiln"] {
            assert_eq!(Sides::of(question), None, "{question}");
        }
    }

    #[test]
    fn the_best_passage_of_each_side_comes_first() {
        let hits: Vec<_> = (0..)
            .zip(["nothing", "a mutex", "the mutex again", "an rwlock"])
            .map(|(n, content)| hit(1, n, "", "prose", content))
            .collect();
        let ranked = Sides::of("Mutex vs RwLock").unwrap().first_of_each(hits);
        assert_eq!(ranked.iter().map(|hit| hit.ordinal).collect::<Vec<_>>(), [1, 3, 0, 2]);
    }
}
