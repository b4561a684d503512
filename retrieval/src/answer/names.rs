//! Names: what a question names has to be named by what answers it. Models blur names: a passage about garbage collection is near
//! to a question about the collector of Haskell, whether or not it speaks of Haskell.

use std::{
    collections::{BTreeSet, HashSet},
    sync::LazyLock,
};

use lmao_ports::Hit;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_segmentation::UnicodeSegmentation;

use crate::search::{
    query::MAX_QUERY_BYTES,
    terms::{parts, terms},
};

/// How an English question begins. In German more than names is written with capitals.
const ASKING: [&str; 17] = [
    "how", "what", "why", "when", "where", "which", "who", "whose", "is", "are", "do", "does", "did", "can", "could",
    "should", "has",
];

/// Words that have a capital and name nothing that a passage would have to speak of: documents and their parts, languages,
/// days, titles.
const NAMELESS: &str = "\
    pdf pdfs doc docx odt rtf txt xlsx xls csv pptx ppt epub html markdown md file folder readme faq toc chapter \
    section subsection table figure fig diagram image appendix annex exhibit schedule attachment clause \
    paragraph page line row column sheet slide step item note footnote part volume vol edition version release \
    revision index glossary content introduction preface summary abstract conclusion question answer book manual \
    guide handbook tutorial report paper thesis contract agreement policy article email letter website web internet \
    ai ok asap fyi btw tldr english german french spanish italian portuguese dutch polish russian turkish arabic \
    hebrew hindi chinese japanese korean latin greek swedish danish norwegian finnish czech hungarian ukrainian \
    monday tuesday wednesday thursday friday saturday sunday january february march april june july august september \
    october november december mr mrs ms dr prof professor sir madam";

static NAMELESS_TERMS: LazyLock<BTreeSet<String>> = LazyLock::new(|| terms(NAMELESS));

/// What follows these is no longer the question.
const THANKS: [&str; 5] = ["thanks", "thank", "thx", "cheers", "regards"];

/// Names of a question that are looked for.
const MAX_NAMES: usize = 16;

/// Letters by which two spellings of a name may differ at its end: Postgres, PostgreSQL.
const ENDING: usize = 3;
/// Letters of a name of which there may be another spelling, and of a part that stands for a compound.
const SPELT: usize = 3;
/// Letters of a word that a full stop may shorten: Dr., vs.
const SHORTENED: usize = 3;
/// Neighbouring words that may be one in another spelling: Wi-Fi, Git Hub.
const JOINED: usize = 3;

/// The names in an English question, in its order: words with a capital that do not begin its first sentence. What comes behind
/// that may be anything: a greeting, a pasted error.
pub(super) fn names(question: &str) -> Vec<&str> {
    // As much of it as was searched for.
    let sentence = first_sentence(&question[..question.floor_char_boundary(MAX_QUERY_BYTES)]);
    let words = compounds(sentence);
    if !words.first().is_some_and(|(_, word)| ASKING.contains(&word.to_lowercase().as_str())) {
        return vec![];
    }
    let mut names = vec![];
    for (n, (at, word)) in words.iter().enumerate().skip(1) {
        if THANKS.contains(&word.to_lowercase().as_str()) {
            break;
        }
        let name = word.trim_end_matches("'s").trim_end_matches("’s");
        let several = name.chars().nth(1).is_some_and(|c| c.is_alphanumeric() || is_hyphen(c));
        if !name.starts_with(char::is_uppercase) || !several {
            continue;
        }
        // With "What Is The" all words have capitals.
        if terms(name).is_empty() {
            return vec![];
        }
        // Table IV, Appendix A1.
        let numbers = is_nameless(words[n - 1].1) && !name.contains(char::is_lowercase);
        if !numbers && !is_nameless(name) && !is_address(sentence, *at, word, words.get(n + 1).map(|(_, next)| *next)) {
            names.push(name);
        }
    }
    names.truncate(MAX_NAMES);
    names
}

/// Those of the names that none of these passages, their headings, titles and file names included, has.
pub(super) fn unsaid<'q>(mut names: Vec<&'q str>, hits: &[Hit]) -> Vec<&'q str> {
    for hit in hits {
        if names.is_empty() {
            break;
        }
        let headings = [&hit.title, &hit.section].map(|heading| heading.as_deref().unwrap_or_default());
        let words = Words::of([&hit.filename, headings[0], headings[1], &hit.content]);
        names.retain(|name| !words.have(name));
    }
    names
}

fn first_sentence(question: &str) -> &str {
    let question = question.trim_start();
    let ends = |(at, c): &(usize, char)| {
        let rest = &question[at + c.len_utf8()..];
        let last =
            rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || matches!(c, '"' | '”' | '’' | ')'));
        match c {
            '\n' => true,
            '?' | '!' | ':' | ';' => last,
            '.' => {
                let word = question[..*at].chars().rev().take_while(|c| c.is_alphanumeric());
                last && word.count() > SHORTENED
            }
            _ => false,
        }
    };
    question.char_indices().find(ends).map_or(question, |(at, _)| &question[..at])
}

/// The words of a sentence and where they begin; those that hyphens join are one.
fn compounds(sentence: &str) -> Vec<(usize, &str)> {
    let mut found: Vec<(usize, &str)> = vec![];
    for (at, word) in sentence.unicode_word_indices() {
        let end = at + word.len();
        match found.last_mut() {
            Some((start, before)) if is_one(&sentence[*start + before.len()..at]) => *before = &sentence[*start..end],
            _ => found.push((at, word)),
        }
    }
    found
}

fn is_one(between: &str) -> bool {
    let mut chars = between.chars();
    chars.next().is_some_and(is_hyphen) && chars.next().is_none()
}

const fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '\u{2010}' | '\u{2011}')
}

fn is_nameless(word: &str) -> bool {
    let terms = terms(&word.to_lowercase());
    !terms.is_empty() && terms.is_subset(&NAMELESS_TERMS)
}

/// Whether commas part a word from its sentence, as they do somebody who is spoken to, and it is none of a list.
fn is_address(sentence: &str, at: usize, word: &str, next: Option<&str>) -> bool {
    let after = sentence[at + word.len()..].trim();
    let list = next.is_some_and(|next| matches!(next, "and" | "or") || next.starts_with(char::is_uppercase));
    sentence[..at].trim_end().ends_with(',') && (after.is_empty() || after.starts_with(',') && !list)
}

/// The words of a passage, in lower case and without accents.
struct Words {
    /// Each as it stands, and the words that it is made of: `rust_book`, `Kettle.docx`, `KettleManual`.
    single: HashSet<String>,
    /// Neighbours as if they were one.
    joined: HashSet<String>,
}

impl Words {
    fn of(texts: [&str; 4]) -> Self {
        let (mut single, mut joined) = (HashSet::new(), HashSet::new());
        for text in texts.map(bare) {
            let runs = || text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty());
            single.extend(runs().map(str::to_lowercase));
            let parts: Vec<String> = runs().flat_map(parts).map(str::to_lowercase).collect();
            for several in 2..=JOINED {
                joined.extend(parts.windows(several).map(<[String]>::concat));
            }
            single.extend(parts);
        }
        Self { single, joined }
    }

    /// Whether they have a name in some spelling, or one that it is made of: Rust-based.
    fn have(&self, name: &str) -> bool {
        let plain = |word: &str| bare(word).to_lowercase().replace(|c: char| !c.is_alphanumeric(), "");
        let whole = plain(name);
        let is_said = |name: &str| self.single.iter().any(|word| is_spelling(name, word));
        self.joined.contains(&whole)
            || is_said(&whole)
            || name
                .split(is_hyphen)
                .filter(|part| part.starts_with(char::is_uppercase))
                .map(plain)
                .any(|part| part.len() >= SPELT && is_said(&part))
    }
}

/// Without accents.
fn bare(text: &str) -> String {
    text.nfkd().filter(|c| !is_combining_mark(*c)).collect()
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
            ("What is the capital of Mongolia?", vec!["Mongolia"]),
            ("Which Postgres version does the Rust book recommend?", vec!["Postgres", "Rust"]),
            ("Is it Node.js, Rust's or a Wi-Fi?", vec!["Node.js", "Rust", "Wi-Fi"]),
            ("Can I use it with Foo, Rust, Go and Bar?", vec!["Foo", "Rust", "Go", "Bar"]),
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
    fn words_about_documents_languages_and_days_are_no_names() {
        for question in [
            "What does the PDF say about refunds?",
            "What do the PDFs of the Manual say?",
            "What is in Chapter 4?",
            "Which values are in Table IV and Figure A1 of Appendix B2?",
            "Is there a FAQ in English on the German page?",
            "Are you open on Mondays in August?",
        ] {
            assert_eq!(names(question), [""; 0], "{question}");
        }
    }

    #[test]
    fn names_are_taken_from_the_sentence_that_asks() {
        for (question, expected) in [
            ("How do I get a refund? Thanks, Anna", vec![]),
            ("How do I get a refund, thanks, Anna", vec![]),
            ("How do I get a refund\nBest wishes, Anna", vec![]),
            ("How do I get a refund, Anna?", vec![]),
            ("Can you tell me, Anna, how Haskell works?", vec!["Haskell"]),
            ("Why does it not start?\nIOError: Cannot Open Device Falcon", vec![]),
            ("What does it mean: Cannot Open Device", vec![]),
            ("How does Dr. Smith use Node.js. Thanks, Anna", vec!["Smith", "Node.js"]),
            ("Does the Rust book say \"no?\" Anna asked.", vec!["Rust"]),
        ] {
            assert_eq!(names(question), expected, "{question}");
        }
    }

    #[test]
    fn names_are_limited() {
        let question = "Is ".to_owned() + &"Haskell ".repeat(1000);
        assert_eq!(names(&question).len(), MAX_NAMES);
    }

    fn unknown<'q>(question: &'q str, hits: &[Hit]) -> Vec<&'q str> {
        unsaid(names(question), hits)
    }

    #[test]
    fn a_name_is_known_in_any_spelling_and_place() {
        let mut hits = [
            hit(1, 0, "Guide > Node.js", "prose", "It needs PostgreSQL 14, and is excellent."),
            hit(2, 0, "", "prose", "The rust_book says so."),
        ];
        hits[0].title = Some("The Elm Manual".to_owned());
        hits[1].filename = "Kettle.docx".to_owned();
        hits[1].relevant = false;
        assert_eq!(unknown("Does NodeJS need a Postgres, as the Rust book says?", &hits), [""; 0]);
        assert_eq!(unknown("What are the rules of the Kettle?", &hits), [""; 0]);
        assert_eq!(unknown("What does Elm need?", &hits), [""; 0]);
        assert_eq!(
            unknown("Which GPUs do the Rust books name?", &[hit(1, 0, "", "prose", "A GPU, in a Rust book.")]),
            [""; 0]
        );
        assert_eq!(unknown("How do I write a macro in Excel for MySQL?", &hits), ["Excel", "MySQL"]);
        assert_eq!(unknown("How do I write it in Excel?", &[]), ["Excel"]);
    }

    #[test]
    fn compounds_and_accents_may_be_spelt_otherwise() {
        for (asked, said) in [
            ("WiFi", "the Wi-Fi"),
            ("Wi-Fi", "the WiFi"),
            ("Wi-Fi", "a wi fi"),
            ("E-Mail", "an email"),
            ("Email", "an e-mail"),
            ("Github", "on Git Hub"),
            ("Zurich", "in Zürich"),
            ("Zürich", "in Zurich"),
            ("Zürich", "in Zu\u{308}rich"),
            ("Rust-based", "in Rust"),
            ("Kettle", "see KettleManual"),
            ("LaTeX", "by latex"),
        ] {
            let question = format!("What is it about {asked} there?");
            assert_eq!(unknown(&question, &[hit(1, 0, "", "prose", said)]), [""; 0], "{asked} {said}");
        }
        for (asked, said) in [("Wi-Fi", "a wide field"), ("Italy", "write it a letter"), ("Rust-based", "is based")] {
            let question = format!("What is it about {asked} there?");
            assert_eq!(unknown(&question, &[hit(1, 0, "", "prose", said)]), [asked], "{said}");
        }
    }
}
