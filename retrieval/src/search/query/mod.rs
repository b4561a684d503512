//! Understanding a question: what may be asked, what it means after a conversation, of what kind it is, and which questions
//! it is made of. Deterministic; it asks no model and no index.

mod compound;
mod expand;
mod intent;
mod standalone;

use lmao_ports::{Intent, SearchError, SearchRequest};

use super::terms::terms;

pub(super) use expand::{acronyms, spellings};

/// Results that may be asked for at most.
pub const MAX_RESULTS: usize = 100;

/// How deep results can be paged through: offset and results together.
pub const MAX_DEPTH: usize = 1000;

/// Bytes of a question that are searched for: more than any embedding model reads. A longer one, a pasted page for
/// example, is cut with a notice, so that its cost is bounded.
pub const MAX_QUERY_BYTES: usize = 4096;

/// Questions that one is parted into at most.
pub(super) const MAX_PARTS: usize = 3;

/// A text to search for, with what ranking has to know about it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    /// What the legs are asked for.
    pub(super) text: String,
    /// Distinct terms, function words left out.
    pub(super) terms: usize,
    /// Whether it names something to be found as it stands.
    pub(super) literal: bool,
}

impl Question {
    /// Of a text.
    pub(super) fn new(text: String) -> Self {
        Self { terms: terms(&text).len(), literal: is_literal(&text), text }
    }
}

/// What is searched for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    /// The question, made to stand alone.
    pub(super) whole: Question,
    /// The questions that it is made of; none where it is one.
    pub(super) parts: Vec<Question>,
    /// Of which kind it is.
    pub(super) intent: Intent,
    /// More words for it, by what it says itself, each with its weight beside a word of the question.
    pub(super) expansions: Vec<(String, f32)>,
    /// What the reader should know about it.
    pub(super) notice: Option<String>,
}

impl Query {
    /// Checks and understands a request.
    pub(super) fn of(request: &SearchRequest) -> Result<Self, SearchError> {
        let asked = request.query.trim();
        check(asked, request)?;
        let text = &asked[..asked.floor_char_boundary(MAX_QUERY_BYTES)];
        let notice = (text.len() < asked.len())
            .then(|| format!("the query is long: only its first {MAX_QUERY_BYTES} bytes were searched for"));
        Ok(Self { notice, ..Self::understood(standalone::standalone(text, &request.conversation)) })
    }

    /// A text that stands alone.
    pub(super) fn understood(text: String) -> Self {
        let parts = compound::parts(&text).into_iter().map(Question::new).collect();
        Self {
            parts,
            intent: intent::intent(&text),
            expansions: spellings(&text),
            notice: None,
            whole: Question::new(text),
        }
    }

    /// All texts to search for: the whole, then its parts.
    pub(super) fn questions(&self) -> impl Iterator<Item = &Question> {
        std::iter::once(&self.whole).chain(&self.parts)
    }
}

fn check(asked: &str, request: &SearchRequest) -> Result<(), SearchError> {
    let refuse = |why: String| Err(SearchError::Invalid(why));
    if !asked.chars().any(char::is_alphanumeric) {
        return refuse("the query has no words: say what to search for".to_owned());
    }
    let (offset, wanted) = (request.offset, request.max_results);
    if !(1..=MAX_RESULTS).contains(&wanted) {
        return refuse(format!("max_results is 1 to {MAX_RESULTS}, not {wanted}"));
    }
    if offset.saturating_add(wanted) > MAX_DEPTH {
        return refuse(format!(
            "results are shown up to the {MAX_DEPTH}th: ask for a smaller offset, or a narrower question"
        ));
    }
    match request.diversity {
        Some(diversity) if !(0.0..=1.0).contains(&diversity) => {
            refuse(format!("diversity is a number from 0 to 1, not {diversity}"))
        }
        _ => Ok(()),
    }
}

/// Whether a question names something to be found as it stands: a quoted phrase, an identifier, an error code, a path.
pub(crate) fn is_literal(text: &str) -> bool {
    let quoted = text.split('"').count() > 2;
    quoted || text.split_whitespace().any(is_identifier)
}

/// Whether a word is written as a name in code, an error code or a path.
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

/// The words of a text in lower case, punctuation around them left out.
fn words(text: &str) -> impl Iterator<Item = String> {
    let words = text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase());
    words.filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use lmao_ports::{SearchFilter, SearchType};
    use uuid::Uuid;

    use super::*;

    fn request(text: &str, max_results: usize) -> SearchRequest {
        SearchRequest::new(text.to_owned(), SearchFilter::all_of(Uuid::nil()), max_results, SearchType::Hybrid)
    }

    fn refused(request: &SearchRequest) -> bool {
        matches!(Query::of(request), Err(SearchError::Invalid(_)))
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, max_results) in [("", 1), ("  \n", 1), ("?!…", 1), ("rust", 0), ("rust", 101)] {
            assert!(refused(&request(text, max_results)), "{text:?} {max_results}");
        }
        assert_eq!(Query::of(&request("  rust ", 100)).unwrap().whole.text, "rust");
    }

    #[test]
    fn pages_end_at_a_thousand() {
        let at = |offset| SearchRequest { offset, ..request("rust", 100) };
        assert!(!refused(&at(900)));
        assert!(refused(&at(901)) && refused(&at(usize::MAX)));
    }

    #[test]
    fn diversity_is_a_share() {
        let with = |diversity| SearchRequest { diversity: Some(diversity), ..request("rust", 10) };
        assert!(!refused(&with(0.0)) && !refused(&with(1.0)));
        assert!(refused(&with(-0.1)) && refused(&with(1.1)) && refused(&with(f32::NAN)));
    }

    #[test]
    fn a_long_query_is_cut_at_a_character_and_says_so() {
        let query = Query::of(&request(&"ж".repeat(MAX_QUERY_BYTES), 10)).unwrap();
        assert_eq!(query.whole.text.len(), MAX_QUERY_BYTES);
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
