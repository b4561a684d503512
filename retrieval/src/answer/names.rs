//! Names: what a question names has to be named by what answers it. Models blur names: a passage about garbage collection is near
//! to a question about the collector of Haskell, whether or not it speaks of Haskell.

use lmao_ports::Hit;
use unicode_segmentation::UnicodeSegmentation;

use crate::search::{query::MAX_QUERY_BYTES, terms::terms};

/// How an English question begins. In German more than names is written with capitals.
const ASKING: [&str; 17] = [
    "how", "what", "why", "when", "where", "which", "who", "whose", "is", "are", "do", "does", "did", "can", "could",
    "should", "has",
];

/// Letters by which two spellings of a name may differ at its end: Postgres, PostgreSQL.
const ENDING: usize = 3;
/// Letters of a name of which there may be another spelling.
const SPELT: usize = 3;

/// The names in a question that none of these passages, their headings and file names included, has; in the question's order.
/// A name is a word with a capital that does not begin a sentence.
pub(super) fn unknown<'q>(question: &'q str, hits: &[&Hit]) -> Vec<&'q str> {
    // As much of it as was searched for.
    let names = names(&question[..question.floor_char_boundary(MAX_QUERY_BYTES)]);
    if names.is_empty() {
        return names;
    }
    let said = |hit: &&Hit| format!("{} {} {}", hit.filename, hit.section.as_deref().unwrap_or_default(), hit.content);
    let said: Vec<String> = hits.iter().map(said).collect();
    let words: Vec<String> =
        said.iter().flat_map(|text| text.unicode_words().flat_map(|word| word.split('_'))).map(plain).collect();
    let is_said = |name: &str| {
        let name = plain(name);
        words.iter().any(|word| is_spelling(&name, word))
    };
    names.into_iter().filter(|name| !is_said(name)).collect()
}

fn names(question: &str) -> Vec<&str> {
    let mut begins = true;
    let mut names = vec![];
    let mut words = question.unicode_word_indices().peekable();
    if !words.peek().is_some_and(|(_, word)| ASKING.contains(&word.to_lowercase().as_str())) {
        return vec![];
    }
    for (at, word) in words {
        let name = word.trim_end_matches("'s").trim_end_matches("’s");
        let several = name.chars().nth(1).is_some_and(char::is_alphanumeric);
        if !begins && name.starts_with(char::is_uppercase) && several {
            // With "What Is The" all words have capitals.
            if terms(name).is_empty() {
                return vec![];
            }
            names.push(name);
        }
        begins = question[at + word.len()..].trim_start_matches(['"', '”', ')']).starts_with(['.', '?', '!', ':']);
    }
    names
}

/// Letters and digits alone, in lower case: `Node.js` is `nodejs`.
fn plain(word: &str) -> String {
    word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn is_spelling(name: &str, word: &str) -> bool {
    let (shorter, longer) = if name.len() < word.len() { (name, word) } else { (word, name) };
    shorter == longer || shorter.len() >= SPELT && longer.len() - shorter.len() <= ENDING && longer.starts_with(shorter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::fakes::hit;

    #[test]
    fn names_are_words_with_a_capital_within_an_english_question() {
        for (question, expected) in [
            ("How does the garbage collector of Haskell work?", vec!["Haskell"]),
            ("Which Postgres version does the Rust book recommend?", vec!["Postgres", "Rust"]),
            ("Is it Node.js? What of Rust's?", vec!["Node.js", "Rust"]),
            ("What Is The Borrow Checker?", vec![]),
            ("Can I do so when I'm in a hurry?", vec![]),
            ("Was ist der Unterschied zwischen Brot und Kuchen?", vec![]),
            ("Wie backt man Brot?", vec![]),
            ("Postgres", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(names(question), expected, "{question}");
        }
    }

    #[test]
    fn a_name_is_known_in_any_spelling_and_place() {
        let hits = [
            hit(1, 0, "Guide > Node.js", "prose", "It needs PostgreSQL 14, and is excellent."),
            hit(2, 0, "", "prose", "The rust_book says so."),
        ];
        let hits: Vec<&Hit> = hits.iter().collect();
        assert_eq!(unknown("Does NodeJS need a Postgres, as the Rust book says?", &hits), [""; 0]);
        assert_eq!(
            unknown("Which GPUs do the Rust books name?", &[&hit(1, 0, "", "prose", "A GPU, in a Rust book.")]),
            [""; 0]
        );
        assert_eq!(unknown("How do I write a macro in Excel for MySQL?", &hits), ["Excel", "MySQL"]);
        assert_eq!(unknown("How do I write it in Excel?", &[]), ["Excel"]);
    }
}
