//! Understanding the question: what may be asked, and which leg is likely to know better.

use lmao_ports::{SearchError, SearchRequest};

/// Results that may be asked for at most.
pub const MAX_RESULTS: usize = 100;

/// Bytes of a question that are searched for: more than any embedding model reads. A longer one, a pasted page for
/// example, is cut with a notice, so that its cost is bounded.
pub const MAX_QUERY_BYTES: usize = 4096;

/// Weight of the vector leg for questions in words. Chosen on Cranfield and CoSQA with bge-small-en-v1.5, see
/// [`super::fuse`]: equal weights lose a tenth of nDCG@10 on code, this one loses nothing on either.
const WORDS: f32 = 0.85;

/// Weight of the vector leg for questions that name something to be found as it stands. Embeddings blur identifiers and
/// error codes, so both legs count the same.
const LITERAL: f32 = 0.5;

/// A question that can be searched for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    /// Its text, trimmed and of bounded length.
    pub(super) text: String,
    /// What the reader should know about it.
    pub(super) notice: Option<String>,
    literal: bool,
}

impl Query {
    /// Checks a request.
    pub(super) fn of(request: &SearchRequest) -> Result<Self, SearchError> {
        let asked = request.query.trim();
        if !asked.chars().any(char::is_alphanumeric) {
            return Err(SearchError::Invalid("the query has no words: say what to search for".to_owned()));
        }
        if !(1..=MAX_RESULTS).contains(&request.max_results) {
            let wanted = request.max_results;
            return Err(SearchError::Invalid(format!("max_results is 1 to {MAX_RESULTS}, not {wanted}")));
        }
        let text = &asked[..asked.floor_char_boundary(MAX_QUERY_BYTES)];
        let notice = (text.len() < asked.len())
            .then(|| format!("the query is long: only its first {MAX_QUERY_BYTES} bytes were searched for"));
        Ok(Self { text: text.to_owned(), notice, literal: is_literal(text) })
    }

    /// How much the vector leg counts, in [0, 1]; the keyword leg has the rest.
    pub(super) const fn vector_weight(&self) -> f32 {
        if self.literal { LITERAL } else { WORDS }
    }
}

/// Whether a question names something to be found as it stands: a quoted phrase, an identifier, an error code, a path.
pub(crate) fn is_literal(text: &str) -> bool {
    let quoted = text.split('"').count() > 2;
    quoted || text.split_whitespace().any(is_identifier)
}

fn is_identifier(word: &str) -> bool {
    let word = word.trim_matches(|c: char| c.is_ascii_punctuation() && !matches!(c, '(' | ')'));
    if word.contains("::") || word.contains("()") {
        return true;
    }
    let pairs = || word.chars().zip(word.chars().skip(1));
    let camel = pairs().any(|(a, b)| a.is_lowercase() && b.is_uppercase());
    let code = pairs().any(|(a, b)| a.is_alphabetic() && b.is_ascii_digit());
    let joined = word.split(['_', '.', '/']).filter(|part| part.chars().any(char::is_alphabetic)).count() > 1;
    camel || code || joined
}

#[cfg(test)]
mod tests {
    use lmao_ports::{SearchFilter, SearchType};
    use uuid::Uuid;

    use super::*;

    fn query(text: &str, max_results: usize) -> Result<Query, SearchError> {
        let filter = SearchFilter::all_of(Uuid::nil());
        Query::of(&SearchRequest::new(text.to_owned(), filter, max_results, SearchType::Hybrid))
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, max_results) in [("", 1), ("  \n", 1), ("?!…", 1), ("rust", 0), ("rust", 101)] {
            assert!(matches!(query(text, max_results), Err(SearchError::Invalid(_))), "{text:?} {max_results}");
        }
        assert_eq!(query("  rust ", 100).unwrap().text, "rust");
    }

    #[test]
    fn a_long_query_is_cut_at_a_character_and_says_so() {
        let query = query(&"ж".repeat(MAX_QUERY_BYTES), 10).unwrap();
        assert_eq!(query.text.len(), MAX_QUERY_BYTES);
        assert!(query.notice.unwrap().contains("4096"));
    }

    #[test]
    fn identifiers_and_quotes_are_literal_and_prose_is_not() {
        for text in
            ["E0502", "what is std::mem::swap", "parse_args", "readLine twice", "\"as is\"", "src/main.rs", "f()"]
        {
            assert!(is_literal(text), "{text}");
        }
        for text in
            ["how do lifetimes work?", "the end. A start", "well-known errors", "in 2015", "what's this (a test)"]
        {
            assert!(!is_literal(text), "{text}");
        }
    }
}
