//! Sub-queries: a question that asks several things is also asked in parts, so that a passage that answers one part well is
//! not outdone by one that touches all of them a little.
//!
//! Parted are several questions in a row, two questions joined by "and", and the two sides of a comparison.

use lmao_ports::{ChatMessage, ChatRole};

use super::{super::terms::terms, MAX_PARTS, standalone::standalone, words};

/// Bytes of a question that is parted; a longer text is no question of a person.
const MAX_BYTES: usize = 1024;
/// Terms of a part that is a question.
const MIN_TERMS: usize = 2;
/// Terms of one side of a comparison; what is longer is mostly no name of a thing.
const MAX_SIDE: usize = 6;

/// What stands before the first side of a comparison, and between the two.
const SIDES: [(&str, &str); 14] = [
    ("difference between ", " and "),
    ("differences between ", " and "),
    ("different between ", " and "),
    ("distinguish between ", " and "),
    ("distinguishes ", " from "),
    ("compare ", " and "),
    ("compare ", " with "),
    ("compare ", " to "),
    ("comparison of ", " and "),
    ("comparison between ", " and "),
    ("", " versus "),
    ("", " vs. "),
    ("", " vs "),
    ("", " compared to "),
];

/// Words that a question begins with.
const ASKING: [&str; 16] = [
    "how", "what", "why", "when", "where", "which", "who", "whose", "is", "are", "does", "do", "can", "should", "did",
    "will",
];

/// The questions that a text is made of, at most [`MAX_PARTS`]; none where it is one.
pub(super) fn parts(text: &str) -> Vec<String> {
    if text.len() > MAX_BYTES {
        return vec![];
    }
    let parts = sides(text).or_else(|| in_a_row(text)).or_else(|| joined(text)).unwrap_or_default();
    let mut parts: Vec<String> = parts.into_iter().filter(|part| part != text).collect();
    parts.dedup();
    parts.truncate(MAX_PARTS);
    if parts.len() > 1 { parts } else { vec![] }
}

/// The two sides of a comparison.
fn sides(text: &str) -> Option<Vec<String>> {
    // Of the same length in bytes, so that places in one are places in the other.
    let lower = text.to_ascii_lowercase();
    SIDES.iter().find_map(|(before, between)| {
        let from = lower.find(before)? + before.len();
        let middle = from + lower[from..].find(between)?;
        let ends = [&text[from..middle], &text[middle + between.len()..]];
        let sides =
            ends.map(|side| side.trim_matches(|c: char| c.is_whitespace() || matches!(c, '?' | '.' | ',' | '!')));
        // "Compare with each other and with …" names no sides.
        let begins = |side: &str| {
            words(side).next().is_some_and(|word| ["with", "to", "by", "against"].contains(&word.as_str()))
        };
        let named = |side: &&str| (1..=MAX_SIDE).contains(&terms(side).len()) && !begins(side);
        sides.iter().all(named).then(|| sides.map(str::to_owned).to_vec())
    })
}

/// Questions that end with a mark each.
fn in_a_row(text: &str) -> Option<Vec<String>> {
    let pieces = text.split_inclusive("? ").map(str::trim);
    let pieces: Vec<&str> = pieces.filter(|piece| terms(piece).len() >= MIN_TERMS).collect();
    (pieces.len() > 1).then(|| chained(&pieces))
}

/// Two questions joined by "and".
fn joined(text: &str) -> Option<Vec<String>> {
    let lower = text.to_ascii_lowercase();
    let asks = |text: &str| words(text).next().is_some_and(|word| ASKING.contains(&word.as_str()));
    if !asks(text) {
        return None;
    }
    lower.match_indices(" and ").find_map(|(at, and)| {
        let pieces = [text[..at].trim_end_matches(','), &text[at + and.len()..]];
        let whole = asks(pieces[1]) && pieces.iter().all(|piece| terms(piece).len() >= MIN_TERMS);
        whole.then(|| chained(&pieces))
    })
}

/// Questions in a row, of which each may speak of what those before it named.
fn chained(pieces: &[&str]) -> Vec<String> {
    let mut before: Vec<ChatMessage> = Vec::new();
    let mut chained = Vec::new();
    for piece in pieces.iter().take(MAX_PARTS) {
        chained.push(standalone(piece, &before));
        before.push(ChatMessage { role: ChatRole::User, content: (*piece).to_owned() });
    }
    chained
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: &Expect) {
        expected.assert_eq(&parts(text).join(" | "));
    }

    #[test]
    fn comparisons_have_two_sides() {
        check("What is the difference between a Mutex and an RwLock?", &expect!["a Mutex | an RwLock"]);
        check("Compare tuples with lists in python", &expect!["tuples | lists in python"]);
        check("stack vs. heap", &expect!["stack | heap"]);
        check("HTTP/2 versus HTTP/3", &expect!["HTTP/2 | HTTP/3"]);
    }

    #[test]
    fn several_questions_are_asked_each() {
        check(
            "What is the borrow checker? How do lifetimes work? Who wrote cargo? What is a trait object?",
            &expect!["What is the borrow checker? | How do lifetimes work? | Who wrote cargo?"],
        );
        check(
            "How does the borrow checker work, and why is it slow to compile?",
            &expect!["How does the borrow checker work | why is it slow to compile? (borrow checker work)"],
        );
    }

    #[test]
    fn one_question_is_one() {
        for text in [
            "What are the structural and aeroelastic problems of flight?",
            "between and",
            "Really? Why?",
            "search and replace",
            "How do the methods compare with each other and with experiment?",
            "the difference between theory and what was measured in the wind tunnel at high subsonic speeds of flight",
        ] {
            check(text, &expect![""]);
        }
        check(&"What is a? What is b c? ".repeat(100), &expect![""]);
    }
}
