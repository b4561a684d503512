//! What a user's words ask for: any text is valid.
//!
//! Words and `"quoted phrases"` are alternatives. Words that only make a sentence a question are left out where others remain.
//! Nobody knows the language of a question, so each word is asked for by its stems in several; a passage has that of its own
//! language, so that one of them meets it. How they are ranked is each index's own; that they are the same words is what makes
//! two indexes answer alike.

use std::collections::HashMap;

use lmao_ports::KeywordQuery;

use super::terms::{Analyzer, Tongue, Word};

/// Distinct words that count, phrases included; what comes after them is ignored. As many again of those that were added.
const MAX_WORDS: usize = 64;
/// Terms that these are asked for by, in all languages: a server takes 1,024 in two fields at most.
const MAX_TERMS: usize = 384;

/// Words that hold a question together and say nothing of what it is about.
const FUNCTION_WORDS: &[&str] = &[
    "a", "about", "after", "again", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been", "before",
    "being", "between", "both", "but", "by", "can", "could", "did", "do", "does", "doing", "during", "each", "for",
    "from", "had", "has", "have", "he", "her", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just",
    "may", "me", "might", "must", "my", "of", "on", "once", "only", "or", "other", "our", "over", "please", "s",
    "same", "shall", "she", "should", "so", "some", "such", "t", "tell", "than", "that", "the", "their", "them",
    "then", "there", "these", "they", "this", "those", "through", "to", "too", "under", "us", "very", "was", "we",
    "were", "what", "when", "where", "which", "while", "who", "whom", "whose", "why", "will", "with", "would", "you",
    "your",
];

/// What a query asks for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Asked {
    /// Terms, each once, with their weights.
    pub words: Vec<(String, f32)>,
    /// Terms with their places in the phrase.
    pub phrases: Vec<Vec<(usize, String)>>,
    /// Whether there was no room for some of the terms.
    pub is_cut: bool,
}

/// The terms of a query, at most 384, in English and in `tongues`: first those of all words in English, so that no word goes
/// missing; then, word by word, those in the other languages while there is room.
pub(crate) fn parse(query: &KeywordQuery, tongues: impl IntoIterator<Item = Tongue>) -> Asked {
    let mut asking = Asking::new();
    let mut function_words = Vec::new();
    for (segment, quoted) in segments(&query.text) {
        let mut words = asking.english.words(segment);
        if quoted && words.len() > 1 {
            words.truncate(asking.room);
            if !words.is_empty() {
                asking.phrase(segment, words);
            }
            continue;
        }
        for word in words {
            let text = &segment[word.from..word.to];
            if !quoted && is_function_word(text) {
                function_words.push((text, word));
            } else if !asking.known.contains_key(&word.term) {
                asking.word(text, word, 1.0);
            }
        }
    }
    // "To be or not to be" has nothing else to go by.
    if asking.asked.words.is_empty() && asking.asked.phrases.is_empty() {
        function_words.into_iter().for_each(|(text, word)| asking.word(text, word, 1.0));
    }
    asking.room = MAX_WORDS;
    for (text, weight) in query.boosted.iter().filter(|(_, weight)| weight.is_finite() && *weight > 0.0) {
        for word in asking.english.words(text) {
            asking.word(&text[word.from..word.to], word, *weight);
        }
    }
    asking.in_others(tongues);
    asking.asked
}

/// A query that is being read.
struct Asking<'a> {
    english: Analyzer,
    asked: Asked,
    /// Each term's place among the words.
    known: HashMap<String, usize>,
    /// Words that still count.
    room: usize,
    /// What is asked for in the other languages, too.
    parts: Vec<Part<'a>>,
}

/// A piece of a query.
#[derive(Clone, Copy)]
enum Part<'a> {
    Word(&'a str, f32),
    Phrase(&'a str),
}

impl<'a> Asking<'a> {
    fn new() -> Self {
        Self {
            english: Analyzer::new(Tongue::English),
            asked: Asked::default(),
            known: HashMap::new(),
            room: MAX_WORDS,
            parts: Vec::new(),
        }
    }

    /// A word in English, for now.
    fn word(&mut self, text: &'a str, word: Word, weight: f32) {
        if self.room > 0 {
            self.room -= 1;
            self.stem(word.term, weight);
            self.parts.push(Part::Word(text, weight));
        }
    }

    /// A stem. One that is there already counts more.
    fn stem(&mut self, stem: String, weight: f32) {
        match self.known.get(&stem) {
            Some(place) => self.asked.words[*place].1 += weight,
            None if self.terms() < MAX_TERMS => {
                self.known.insert(stem.clone(), self.asked.words.len());
                self.asked.words.push((stem, weight));
            }
            None => self.asked.is_cut = true,
        }
    }

    /// A phrase in English, for now.
    fn phrase(&mut self, text: &'a str, words: Vec<Word>) {
        self.room -= words.len();
        self.parts.push(Part::Phrase(&text[..words.iter().map(|word| word.to).max().unwrap_or(0)]));
        self.version(words);
    }

    /// A phrase in one language.
    fn version(&mut self, words: Vec<Word>) {
        let first = words.first().map_or(0, |word| word.position);
        let phrase: Vec<_> = words.into_iter().map(|word| (word.position - first, word.term)).collect();
        if phrase.len() < 2 || self.asked.phrases.contains(&phrase) {
            return;
        }
        if self.terms() + phrase.len() > MAX_TERMS {
            self.asked.is_cut = true;
            return;
        }
        self.asked.phrases.push(phrase);
    }

    /// Everything once more, in each of the other languages.
    fn in_others(&mut self, tongues: impl IntoIterator<Item = Tongue>) {
        let mut others: Vec<Analyzer> = tongues.into_iter().map(Analyzer::new).collect();
        for part in std::mem::take(&mut self.parts) {
            for other in &mut others {
                match part {
                    Part::Word(text, weight) => {
                        other.stem(text).into_iter().for_each(|stem| self.stem(stem, weight));
                    }
                    Part::Phrase(text) => self.version(other.words(text)),
                }
            }
        }
    }

    fn terms(&self) -> usize {
        self.asked.words.len() + self.asked.phrases.iter().map(Vec::len).sum::<usize>()
    }
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
        check_in(&[], &text.into(), expected);
    }

    fn check_in(tongues: &[&str], query: &KeywordQuery, expected: &Expect) {
        let asked = parse(query, tongues.iter().map(|tag| Tongue::of(Some(tag))));
        let words = asked.words.iter().map(|(word, weight)| match weight {
            1.0 => word.clone(),
            weight => format!("{word}^{weight}"),
        });
        let phrases = asked.phrases.iter().map(|terms| {
            let terms: Vec<_> = terms.iter().map(|(at, term)| format!("{at}{term}")).collect();
            format!("[{}]", terms.join(" "))
        });
        expected.assert_eq(&words.chain(phrases).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn words_are_asked_for_in_every_tongue() {
        let houses = "Häuser houses HTTP".into();
        check_in(&["de", "fr"], &houses, &expect!["hauser hous http de~haus fr~haus de~hous fr~hous de~http fr~http"]);
        check_in(&["de"], &"\"neue Häuser\"".into(), &expect!["[0neue 1hauser] [0de~neu 1de~haus]"]);
        check_in(&["de"], &"\"HTTP 404\"".into(), &expect!["[0http 1404]"]);
    }

    #[test]
    fn more_words_have_weights() {
        let query = KeywordQuery {
            text: "borrow checker".to_owned(),
            boosted: vec![
                ("borrowing lifetimes".to_owned(), 0.5),
                ("none".to_owned(), 0.0),
                ("never".to_owned(), f32::NAN),
                ("less".to_owned(), -1.0),
            ],
        };
        check_in(&[], &query, &expect!["borrow^1.5 checker lifetim^0.5"]);
        let many = (0..500).map(|n| (format!("w{n}"), 0.1)).collect();
        let asked = parse(&KeywordQuery { text: String::new(), boosted: many }, []);
        assert_eq!(asked.words.len(), MAX_WORDS);
    }

    /// However many languages there are, no word of a long question goes missing, and none of those that were added.
    #[test]
    fn long_questions_keep_their_words() {
        let words: Vec<String> =
            (0..40_u8).map(|n| format!("zo{}k", char::from(b'a' + n % 26)).repeat(1 + usize::from(n / 26))).collect();
        let text = format!("{} \"quorvex plimbo\"", words.join(" "));
        let query = KeywordQuery { text, boosted: vec![("vostrik".to_owned(), 0.5)] };
        let (english, all) = (parse(&query, []), parse(&query, Tongue::others()));
        assert_eq!((english.words.len(), english.phrases.len()), (41, 1));
        assert_eq!(all.words[..41], english.words);
        assert_eq!(all.phrases[0], english.phrases[0]);
        assert!(all.words.len() > 41, "the other languages are left out");
        assert!(all.is_cut && !english.is_cut && !parse(&query, Tongue::others().take(3)).is_cut);
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
        let all = |text: &str| parse(&text.into(), Tongue::others());
        assert_eq!(parse(&long.as_str().into(), []).words.len(), MAX_WORDS);
        assert_eq!(all(&format!("\"{long}\"")).phrases[0].len(), MAX_WORDS);
        let words = "abaisseurs abandonnees ".repeat(9) + &"Häuser canciones cavalli huizen ".repeat(9);
        for text in [&long, &words, &"\"a b\" ".repeat(10_000), &format!("\"{words}\"").repeat(20)] {
            let asked = all(text);
            let terms = asked.words.len() + asked.phrases.iter().map(Vec::len).sum::<usize>();
            assert!(terms <= MAX_TERMS, "{terms} of {text:.40}");
        }
    }
}
