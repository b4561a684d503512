//! What a user's words ask for: any text is valid.
//!
//! Words and `"quoted phrases"` are alternatives. Words that only make a sentence a question are left out where others remain.
//! How they are ranked is each index's own; that they are the same words is what makes two indexes answer alike.

use std::collections::HashSet;

use super::terms::analyzer;

/// Distinct terms that count, phrases included; what comes after them is ignored.
const MAX_TERMS: usize = 64;

/// Words that hold a question together and say nothing of what it is about.
const FUNCTION_WORDS: &[&str] = &[
    "a", "about", "am", "an", "and", "any", "are", "as", "at", "be", "been", "being", "but", "by", "can", "could",
    "did", "do", "does", "doing", "for", "from", "had", "has", "have", "how", "i", "if", "in", "into", "is", "it",
    "its", "me", "my", "of", "on", "or", "our", "please", "s", "should", "so", "t", "tell", "than", "that", "the",
    "their", "them", "then", "there", "these", "they", "this", "those", "to", "us", "was", "we", "were", "what",
    "when", "where", "which", "while", "who", "whom", "whose", "why", "will", "with", "would", "you", "your",
];

/// What a text asks for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Asked {
    /// Terms, each once.
    pub words: Vec<String>,
    /// Terms with their places in the phrase.
    pub phrases: Vec<Vec<(usize, String)>>,
}

/// The terms of a text, at most 64.
pub(crate) fn parse(text: &str) -> Asked {
    let mut analyzer = analyzer();
    let mut room = MAX_TERMS;
    let (mut asked, mut function_words) = (Asked::default(), Vec::new());
    let mut known = HashSet::new();
    for (segment, quoted) in segments(text) {
        let mut terms = Vec::new();
        let mut stream = analyzer.token_stream(segment);
        while terms.len() < room && stream.advance() {
            let token = stream.token();
            let is_function_word = is_function_word(&segment[token.offset_from..token.offset_to]);
            if quoted || !known.contains(&token.text) {
                terms.push((token.position, token.text.clone(), is_function_word));
            }
            if !quoted {
                known.insert(token.text.clone());
            }
        }
        if quoted && terms.len() > 1 {
            room -= terms.len();
            let first = terms[0].0;
            asked.phrases.push(terms.into_iter().map(|(at, term, _)| (at - first, term)).collect());
            continue;
        }
        for (_, term, is_function_word) in terms {
            if is_function_word && !quoted {
                function_words.push(term);
            } else {
                room -= 1;
                asked.words.push(term);
            }
        }
        if room == 0 {
            break;
        }
    }
    // "To be or not to be" has nothing else to go by.
    if asked.words.is_empty() && asked.phrases.is_empty() {
        asked.words = function_words;
    }
    asked
}

fn is_function_word(word: &str) -> bool {
    word.len() < 8 && FUNCTION_WORDS.binary_search(&word.to_ascii_lowercase().as_str()).is_ok()
}

/// The text's pieces outside and inside of double quotes; a quote that is never closed quotes nothing.
fn segments(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let quotes = ['"', '\u{201C}', '\u{201D}', '\u{201E}'];
    let mut pieces: Vec<&str> = text.split(quotes).collect();
    let unclosed = if pieces.len().is_multiple_of(2) { pieces.pop() } else { None };
    pieces.into_iter().enumerate().map(|(n, piece)| (piece, n % 2 == 1)).chain(unclosed.map(|piece| (piece, false)))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: &Expect) {
        let asked = parse(text);
        let phrases = asked.phrases.iter().map(|terms| {
            let terms: Vec<_> = terms.iter().map(|(at, term)| format!("{at}{term}")).collect();
            format!("[{}]", terms.join(" "))
        });
        expected.assert_eq(&asked.words.iter().cloned().chain(phrases).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn function_words_are_sorted() {
        assert!(FUNCTION_WORDS.is_sorted());
    }

    #[test]
    fn questions_are_reduced_to_what_they_are_about() {
        check("What is the borrow checker?", &expect!["borrow checker"]);
        check("borrow Borrow borrowing", &expect!["borrow"]);
        check("to be or not", &expect!["not"]);
        check("what is it", &expect!["what is it"]);
        check("", &expect![""]);
    }

    #[test]
    fn quotes_make_phrases() {
        check("about \"the borrow checker\" rules", &expect!["rule [0the 1borrow 2checker]"]);
        check("\"one\" \u{201C}two words\u{201D}", &expect!["one [0two 1word]"]);
        check("an \"open quote", &expect!["open quot"]);
        check("\"\" \"", &expect![""]);
        check("\"parse_request now\"", &expect!["[0parse_request 0pars 1request 2now]"]);
    }

    #[test]
    fn any_text_is_a_query() {
        check("title:(a AND [b TO c]) ~^ \\ -x +y *", &expect!["titl b c x y"]);
        let long: String = (0..20_000).map(|n| format!("w{n} ")).collect();
        assert_eq!(parse(&long).words.len(), MAX_TERMS);
        assert_eq!(parse(&format!("\"{long}\"")).phrases[0].len(), MAX_TERMS);
        let quotes = "\"a b\" ".repeat(10_000);
        assert!(parse(&quotes).phrases.len() <= MAX_TERMS);
    }
}
