//! How a user's words become a query: any text is valid.
//!
//! Words and `"quoted phrases"` are alternatives, ranked by BM25 (k1 = 1.2, b = 0.75) over content and, more lightly, over
//! section headings. Words that only make a sentence a question are left out where others remain. Filters decide which
//! passages count and add nothing to a score.

use std::collections::HashSet;

use lmao_ports::SearchFilter;
use tantivy::{
    Term,
    query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, PhraseQuery, Query, TermQuery, TermSetQuery},
    schema::{Field, IndexRecordOption},
};

use super::{super::store::Catalog, Fields, tokenizer::analyzer};

/// Distinct terms that count, phrases included; what comes after them is ignored.
const MAX_TERMS: usize = 64;
/// What a match in the headings is worth beside one in the content.
const SECTION: f32 = 0.5;

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
struct Asked {
    words: Vec<String>,
    /// Terms with their places in the phrase.
    phrases: Vec<Vec<(usize, String)>>,
}

/// The query; `None` if nothing can match.
pub(super) fn build(text: &str, filter: &SearchFilter, catalog: &Catalog, fields: Fields) -> Option<Box<dyn Query>> {
    let asked = parse(text);
    let mut alternatives: Vec<(Occur, Box<dyn Query>)> = Vec::new();
    for (field, weight) in [(fields.content, 1.0), (fields.section, SECTION)] {
        let words = asked.words.iter().map(|word| term(field, word));
        let phrases = asked.phrases.iter().map(|terms| phrase(field, terms));
        let weighted = words.chain(phrases).map(|query| weigh(query, weight));
        alternatives.extend(weighted.map(|query| (Occur::Should, query)));
    }
    if alternatives.is_empty() {
        return None;
    }
    let wanted: Box<dyn Query> = Box::new(BooleanQuery::new(alternatives));
    let mut filters = filters(filter, catalog, fields)?;
    if filters.is_empty() {
        return Some(wanted);
    }
    filters.push((Occur::Must, wanted));
    Some(Box::new(BooleanQuery::new(filters)))
}

fn term(field: Field, word: &str) -> Box<dyn Query> {
    Box::new(TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs))
}

fn phrase(field: Field, terms: &[(usize, String)]) -> Box<dyn Query> {
    let terms = terms.iter().map(|(at, word)| (*at, Term::from_field_text(field, word))).collect();
    Box::new(PhraseQuery::new_with_offset(terms))
}

fn weigh(query: Box<dyn Query>, weight: f32) -> Box<dyn Query> {
    if weight == 1.0 { query } else { Box::new(BoostQuery::new(query, weight)) }
}

/// One clause for each condition; `None` if no passage can meet them.
fn filters(filter: &SearchFilter, catalog: &Catalog, fields: Fields) -> Option<Vec<(Occur, Box<dyn Query>)>> {
    let mut sets: Vec<Vec<Term>> = Vec::new();
    // With one owner the condition is always met, and without it tantivy may skip blocks that cannot win.
    if !catalog.is_sole_owner(&filter.owner) {
        sets.push(vec![Term::from_field_text(fields.owner, &filter.owner.simple().to_string())]);
    }
    if !filter.document_ids.is_empty() {
        let entries = catalog.entries_of(filter);
        sets.push(entries.into_iter().map(|entry| Term::from_field_u64(fields.entry, entry)).collect());
    }
    for (field, values) in [
        (fields.filename, &filter.filenames),
        (fields.format, &filter.formats),
        (fields.language, &filter.languages),
        (fields.chunk_type, &filter.chunk_types),
    ] {
        if !values.is_empty() {
            sets.push(values.iter().map(|value| Term::from_field_text(field, value)).collect());
        }
    }
    sets.into_iter().map(|terms| (!terms.is_empty()).then(|| (Occur::Must, any_of(terms)))).collect()
}

fn any_of(mut terms: Vec<Term>) -> Box<dyn Query> {
    let query: Box<dyn Query> = match (terms.pop(), terms.is_empty()) {
        (Some(term), true) => Box::new(TermQuery::new(term, IndexRecordOption::Basic)),
        (last, _) => Box::new(TermSetQuery::new(terms.into_iter().chain(last))),
    };
    Box::new(ConstScoreQuery::new(query, 0.0))
}

fn parse(text: &str) -> Asked {
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
