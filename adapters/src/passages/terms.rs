//! How text becomes terms: words of any script, lower-cased, without accents, stemmed in their language; identifiers whole
//! and in parts.
//!
//! `parseHTTPRequest` and `parse_http_request` become the whole identifier at the place of its first part, and `parse`,
//! `http`, `request` one after another: a search for the identifier finds it first, a phrase of its parts finds it, too.
//! Characters of scripts that write no spaces (Han, Kana, Thai …) are a term each.
//!
//! **Languages.** A passage is stemmed in its own language, in English where that is not known or is one of programming. A
//! stem of another language than English is marked with it (`de~haus`), so that a question, whose language nobody knows, can
//! be asked in several at once without the stems of one meeting the words of another: a German `fast` is no English one, and
//! nothing that is found in English changes because other languages are there. What looks like a name of technology (`HTTP`,
//! `utf8`, `get_user`, `camelCase`) is the same in all.

use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, Stemmer, TextAnalyzer, Token, TokenStream, Tokenizer,
};

/// Longer runs are no words (base64, hashes of hashes), and would only fill the dictionary.
const MAX_BYTES: usize = 128;

/// The languages with a stemmer, English aside, by their BCP 47 tags (ISO 639-1).
const TONGUES: [(&str, Language); 17] = [
    ("ar", Language::Arabic),
    ("da", Language::Danish),
    ("de", Language::German),
    ("el", Language::Greek),
    ("es", Language::Spanish),
    ("fi", Language::Finnish),
    ("fr", Language::French),
    ("hu", Language::Hungarian),
    ("it", Language::Italian),
    ("nl", Language::Dutch),
    ("no", Language::Norwegian),
    ("pt", Language::Portuguese),
    ("ro", Language::Romanian),
    ("ru", Language::Russian),
    ("sv", Language::Swedish),
    ("ta", Language::Tamil),
    ("tr", Language::Turkish),
];

/// A language that words are stemmed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Tongue {
    /// English, and whatever has no stemmer of its own.
    #[default]
    English,
    /// One of [`TONGUES`], by its place there.
    Other(u8),
}

impl Tongue {
    /// Of a BCP 47 tag (`de`, `de-AT`), or the name of a programming language.
    pub(crate) fn of(tag: Option<&str>) -> Self {
        let primary = tag.unwrap_or_default().split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let primary = if matches!(&*primary, "nb" | "nn") { "no" } else { &*primary };
        let found = (0_u8..).zip(TONGUES).find(|(_, (tag, _))| *tag == primary);
        found.map_or(Self::English, |(n, _)| Self::Other(n))
    }

    /// All but English.
    pub(crate) fn others() -> impl Iterator<Item = Self> {
        (0_u8..).zip(TONGUES).map(|(n, _)| Self::Other(n))
    }
}

/// A word of a text, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Word {
    pub term: String,
    /// Its place among the words; an identifier stands where its first part does.
    pub position: usize,
    /// Its bytes in the text.
    pub from: usize,
    pub to: usize,
}

/// What turns texts of one language into words.
pub(crate) struct Analyzer {
    english: TextAnalyzer,
    /// Another language's tag and stemmer.
    other: Option<(&'static str, TextAnalyzer)>,
}

impl Analyzer {
    /// Of a language.
    pub(crate) fn new(tongue: Tongue) -> Self {
        let plain = || TextAnalyzer::builder(Words).filter(LowerCaser);
        let other = match tongue {
            Tongue::English => None,
            Tongue::Other(n) => TONGUES.get(usize::from(n)),
        };
        // Stemmers of other languages know their accents, so these go last.
        let stemmed = |language| plain().filter(Stemmer::new(language)).filter(AsciiFoldingFilter).build();
        Self {
            english: plain().filter(AsciiFoldingFilter).filter(Stemmer::new(Language::English)).build(),
            other: other.map(|(tag, language)| (*tag, stemmed(*language))),
        }
    }

    /// The words of a text, in order.
    pub(crate) fn words(&mut self, text: &str) -> Vec<Word> {
        let mut words = read(&mut self.english, text);
        if let Some((tag, stems)) = &mut self.other {
            for (word, stem) in words.iter_mut().zip(read(stems, text)) {
                if !is_name(&text[word.from..word.to]) {
                    word.term = marked(tag, &stem.term);
                }
            }
        }
        words
    }

    /// The stem of one word of a question: a name, too, may be written as any word in what is looked for.
    pub(crate) fn stem(&mut self, word: &str) -> Option<String> {
        let (tag, analyzer) = match &mut self.other {
            Some((tag, stems)) => (Some(tag), stems),
            None => (None, &mut self.english),
        };
        let mut stream = analyzer.token_stream(word);
        // An identifier comes before its parts.
        let stem = stream.advance().then(|| stream.token().text.clone())?;
        Some(tag.map_or_else(|| stem.clone(), |tag| marked(tag, &stem)))
    }
}

fn marked(tag: &str, stem: &str) -> String {
    format!("{tag}~{stem}")
}

/// Whether no language has a claim to a word: numbers and what has one, identifiers, acronyms, characters that are words.
fn is_name(word: &str) -> bool {
    let mut letters = word.chars();
    let is_capital = letters.next().is_some_and(char::is_uppercase);
    let has_capitals = letters.clone().any(char::is_uppercase);
    word.contains(|c: char| c.is_numeric() || c == '_' || writes_no_spaces(c))
        || (has_capitals && (!is_capital || !letters.any(char::is_lowercase)))
        || parts(word).len() > 1
}

fn read(analyzer: &mut TextAnalyzer, text: &str) -> Vec<Word> {
    let mut words = Vec::with_capacity(text.len() / 6);
    let mut stream = analyzer.token_stream(text);
    while stream.advance() {
        let token = stream.token_mut();
        let term = std::mem::take(&mut token.text);
        words.push(Word { term, position: token.position, from: token.offset_from, to: token.offset_to });
    }
    words
}

#[derive(Debug, Clone)]
struct Words;

/// All tokens of a text, ready to be read.
#[derive(Debug)]
struct Tokens {
    tokens: Vec<Token>,
    next: usize,
}

impl Tokenizer for Words {
    type TokenStream<'a> = Tokens;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Tokens {
        let mut tokens = Vec::with_capacity(text.len() / 6);
        let mut position = 0;
        for (start, end) in runs(text) {
            let parts = parts(&text[start..end]);
            if parts.len() > 1 && !text[start..end].contains(writes_no_spaces) {
                push(&mut tokens, text, (start, end), position);
            }
            for (from, to) in parts {
                push(&mut tokens, text, (start + from, start + to), position);
                position += 1;
            }
        }
        Tokens { tokens, next: 0 }
    }
}

impl TokenStream for Tokens {
    fn advance(&mut self) -> bool {
        self.next += 1;
        self.next <= self.tokens.len()
    }

    fn token(&self) -> &Token {
        &self.tokens[self.next - 1]
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.tokens[self.next - 1]
    }
}

fn push(tokens: &mut Vec<Token>, text: &str, (from, to): (usize, usize), position: usize) {
    if to - from <= MAX_BYTES {
        let text = text[from..to].to_owned();
        tokens.push(Token { offset_from: from, offset_to: to, position, text, position_length: 1 });
    }
}

/// Runs of letters, digits and, between them, underscores.
fn runs(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = 0;
    std::iter::from_fn(move || {
        loop {
            let start = rest + text[rest..].find(is_word)?;
            let end = text[start..].find(|c| !is_word(c)).map_or(text.len(), |length| start + length);
            rest = end;
            let word = &text[start..end];
            let trimmed = word.trim_start_matches('_');
            let start = end - trimmed.len();
            let end = start + trimmed.trim_end_matches('_').len();
            if start < end {
                return Some((start, end));
            }
        }
    })
}

/// The parts of a word: between underscores, between `aB`, before the last capital of `ABc`, and around characters that
/// are terms of their own.
fn parts(word: &str) -> Vec<(usize, usize)> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut before = None;
    let mut chars = word.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map(|(_, c)| *c);
        let hump = before.is_some_and(|b: char| {
            c.is_uppercase()
                && (b.is_lowercase() || b.is_numeric() || (b.is_uppercase() && after.is_some_and(char::is_lowercase)))
        });
        if hump || c == '_' || writes_no_spaces(c) || before.is_some_and(writes_no_spaces) {
            if start < at {
                parts.push((start, at));
            }
            start = if c == '_' { at + 1 } else { at };
        }
        before = Some(c);
    }
    if start < word.len() {
        parts.push((start, word.len()));
    }
    parts
}

/// Scripts whose words cannot be told by spaces.
fn writes_no_spaces(c: char) -> bool {
    matches!(c,
        '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{3040}'..='\u{30FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: &Expect) {
        check_in(Tongue::English, text, expected);
    }

    fn check_in(tongue: Tongue, text: &str, expected: &Expect) {
        let found: Vec<_> =
            Analyzer::new(tongue).words(text).iter().map(|word| format!("{}{}", word.position, word.term)).collect();
        expected.assert_eq(&found.join(" "));
    }

    #[test]
    fn tags_name_tongues() {
        for (tag, is) in [("de", "de"), ("de-AT", "de"), ("nb", "no"), ("PT_br", "pt"), ("ta", "ta")] {
            let Tongue::Other(n) = Tongue::of(Some(tag)) else { panic!("{tag} is taken for English") };
            assert_eq!(TONGUES[usize::from(n)].0, is);
        }
        for tag in [None, Some("en"), Some("en-GB"), Some("rust"), Some(""), Some("zh"), Some("dart")] {
            assert_eq!(Tongue::of(tag), Tongue::English, "{tag:?}");
        }
        assert!(TONGUES.is_sorted_by_key(|(tag, _)| *tag));
    }

    #[test]
    fn other_tongues_have_stems_of_their_own() {
        let of = |tag| Tongue::of(Some(tag));
        check_in(
            of("de"),
            "Die Häuser von HTTP get_wert i18n",
            &expect!["0de~die 1de~haus 2de~von 3http 4get_wert 4de~get 5de~wert 6i18n"],
        );
        check_in(of("fr"), "Les chevaux étaient fatigués", &expect!["0fr~le 1fr~cheval 2fr~etaient 3fr~fatigu"]);
        check_in(of("ru"), "Новые дома Linux 東京", &expect!["0ru~нов 1ru~дом 2ru~linux 3東 4京"]);
        check_in(of("es"), "las canciones españolas", &expect!["0es~las 1es~cancion 2es~espanol"]);
    }

    #[test]
    fn words_are_stemmed_and_folded() {
        check("The Searches, at the CAFÉ!", &expect!["0the 1search 2at 3the 4cafe"]);
        check("don't 3.14 e-mail", &expect!["0don 1t 23 314 4e 5mail"]);
        check("", &expect![""]);
        check("___ -- \u{0}", &expect![""]);
    }

    #[test]
    fn identifiers_are_whole_and_in_parts() {
        check("parse_http_request now", &expect!["0parse_http_request 0pars 1http 2request 3now"]);
        check("parseHTTPRequest", &expect!["0parsehttprequest 0pars 1http 2request"]);
        check("__init__ utf8 SHA256 i32", &expect!["0init 1utf8 2sha256 3i32"]);
    }

    #[test]
    fn scripts_without_spaces_are_searched_by_character() {
        check("東京 tower", &expect!["0東 1京 2tower"]);
        check("straße Москва", &expect!["0strass 1москва"]);
    }

    #[test]
    fn runs_that_are_no_words_are_left_out() {
        check(&format!("a {} b", "x".repeat(500)), &expect!["0a 2b"]);
    }
}
