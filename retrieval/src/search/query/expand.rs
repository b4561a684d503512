//! Expansion: more words for the keyword leg, each worth less than one that was asked for.
//!
//! Names are written in several ways: `getUserName`, `get_user_name`. The analyzer of the indexes already takes each for its
//! parts as well; here the other spelling of the whole is added. Acronyms stand for what the best passages say they stand
//! for: "maximal marginal relevance (MMR)" (Schwartz & Hearst, A simple algorithm for identifying abbreviation definitions in
//! biomedical text, PSB 2003). Words of the best passages in general (pseudo-relevance feedback) are not added: measured, they
//! help on abstracts and harm on code, and smoothing over neighbours gives their gain without the loss (ADR 13).

use super::{super::terms::terms, is_identifier, words};

/// What an added word is worth beside one that was asked for.
const WORTH: f32 = 0.5;
/// Things added at most.
const MAX_ADDED: usize = 6;
/// Bytes of a passage that are looked through for definitions.
const MAX_LOOKED: usize = 4096;
/// Characters of an acronym.
const SHORT: std::ops::RangeInclusive<usize> = 2..=10;

/// Identifiers of a text in the spelling that they do not have there.
pub(in super::super) fn spellings(text: &str) -> Vec<(String, f32)> {
    let names = text.split_whitespace().filter(|word| is_identifier(word));
    let names = names.flat_map(|word| word.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let mut found: Vec<(String, f32)> = names.filter_map(respelt).map(|name| (name, WORTH)).collect();
    found.dedup();
    found.truncate(MAX_ADDED);
    found
}

/// `getUserName` as `get_user_name`, `get_user_name` as `getusername`, which is what `getUserName` is indexed as.
fn respelt(name: &str) -> Option<String> {
    let name = name.trim_matches('_');
    if name.contains('_') {
        return Some(name.replace('_', "").to_lowercase()).filter(|name| name.chars().any(char::is_alphabetic));
    }
    let mut snake = String::new();
    let mut before = None;
    for c in name.chars() {
        if c.is_uppercase() && before.is_some_and(char::is_lowercase) {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
        before = Some(c);
    }
    snake.contains('_').then_some(snake)
}

/// What the acronyms of a question stand for in these passages, and the acronyms of what it spells out.
pub(in super::super) fn acronyms<'a>(
    question: &str,
    passages: impl IntoIterator<Item = &'a str>,
) -> Vec<(String, f32)> {
    let asked: Vec<String> = words(question).filter(|word| !terms(word).is_empty()).collect();
    let spoken = words(question).collect::<Vec<_>>().join(" ");
    let mut added: Vec<(String, f32)> = Vec::new();
    for passage in passages {
        for (short, long) in definitions(&passage[..passage.floor_char_boundary(MAX_LOOKED)]) {
            let long = words(long).collect::<Vec<_>>().join(" ");
            let (named, spelt) = (asked.contains(&short.to_lowercase()), spoken.contains(&long));
            let add = match (named, spelt) {
                (true, false) => long,
                (false, true) => short.to_owned(),
                _ => continue,
            };
            if !added.iter().any(|(known, _)| *known == add) {
                added.push((add, WORTH));
            }
            if added.len() == MAX_ADDED {
                return added;
            }
        }
    }
    added
}

/// Acronyms in brackets with the words before them that they stand for.
fn definitions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices('(').filter_map(|(at, _)| {
        let inside = text[at + 1..].split([')', '(', ',', ';']).next()?.trim();
        let capitals = inside.chars().filter(|c| c.is_uppercase()).count();
        let formed = SHORT.contains(&inside.chars().count()) && inside.chars().all(|c| c.is_alphanumeric() || c == '-');
        (formed && capitals > 1).then_some(())?;
        Some((inside, long_form(inside, text[..at].trim_end())?))
    })
}

/// The shortest words at the end of `before` that have the letters of `short` in order, the first at a word's beginning.
fn long_form<'a>(short: &str, before: &'a str) -> Option<&'a str> {
    let letters = short.chars().count();
    let most = (letters + 5).min(letters * 2);
    let from = before.rmatch_indices(char::is_whitespace).nth(most - 1).map_or(0, |(at, _)| at);
    let chars: Vec<(usize, char)> = before[from..].char_indices().collect();
    let mut at = chars.len();
    let alike = |a: char, b: char| a.to_lowercase().eq(b.to_lowercase());
    for (n, letter) in short.chars().rev().enumerate().filter(|(_, letter)| letter.is_alphanumeric()) {
        let first = n + 1 == letters;
        at = (0..at).rev().find(|at| {
            let begins = *at == 0 || !chars[at - 1].1.is_alphanumeric();
            alike(chars[*at].1, letter) && (begins || !first)
        })?;
    }
    let long = &before[from + chars.get(at)?.0..];
    // One word is no long form, and a bracket or a full stop ends what was being said.
    (long.contains(char::is_whitespace) && !long.contains(['(', ')', '.', ';'])).then_some(long)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(found: &[(String, f32)], expected: &Expect) {
        expected.assert_eq(&found.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join(", "));
    }

    #[test]
    fn names_are_added_in_their_other_spelling() {
        check(&spellings("what does getUserName return"), &expect!["get_user_name"]);
        check(&spellings("call parse_http_request() twice"), &expect!["parsehttprequest"]);
        check(&spellings("std::mem::swap, E0502 and version 1.2"), &expect![""]);
        check(&spellings(&"someName ".repeat(50)), &expect!["some_name"]);
    }

    const PASSAGES: [&str; 2] = [
        "Diversity by maximal marginal relevance (MMR) and reciprocal rank fusion (RRF, 2009).",
        "Short takeoff and landing (STOL) aircraft (see fig. 2) need (a) wings.",
    ];

    #[test]
    fn acronyms_are_what_passages_say() {
        check(&acronyms("what is MMR good for", PASSAGES), &expect!["maximal marginal relevance"]);
        check(&acronyms("rrf or mmr?", PASSAGES), &expect!["maximal marginal relevance, reciprocal rank fusion"]);
        check(&acronyms("reciprocal rank fusion", PASSAGES), &expect!["RRF"]);
        check(&acronyms("stol wings", PASSAGES), &expect!["short takeoff and landing"]);
        check(&acronyms("what is fusion", PASSAGES), &expect![""]);
    }

    #[test]
    fn what_defines_nothing_is_not_believed() {
        for passage in ["(MMR)", "It ended. (MMR)", "MMR (MMR)", "many things (ABCDEFGHIJKLM)", "((((", "ü ß (ÜS"] {
            check(&acronyms("MMR ABCDEFGHIJKLM ÜS", [passage]), &expect![""]);
        }
    }
}
