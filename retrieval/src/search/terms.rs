//! Terms: the words of a text in the form in which two texts are compared.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::LazyLock,
};

use frostem::{Algorithm, Stemmer};
use unicode_segmentation::UnicodeSegmentation;

/// Words that say nothing about what a text is about, question words and politeness included.
const STOP: &str = "a about all also am an and any are as at be because been but by can could did do document documents does \
    doing explain for from give had has have he her his how i if in into is it its just many may me might much \
    must my no not of on or our please say says shall she should so some such tell than that the their them then \
    there these they this those to us was we were what when where whether which while who whom whose why will \
    with would you your";

/// Passages among which a word can be rare.
const FEW: usize = 100;

/// Words of a question that are weighed: each is looked for in every passage found, and a pasted page has hundreds.
const MAX_WEIGHED: usize = 64;

static STOP_WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| STOP.split(' ').collect());

/// Pairs of characters that ask, and say nothing about what a text is about: Chinese, Japanese.
const STOP_PAIRS: [&str; 17] = [
    "什么", "么是", "是什", "怎么", "怎样", "如何", "为什", "哪些", "哪个", "多少", "是否", "とは", "です", "ます",
    "すか", "何で", "は何",
];

/// The terms of a text, each once: lower case, identifiers split into their words, stop words left out, stemmed. Of scripts
/// that do not part words, each pair of neighbouring characters is a term: single ones are in every text.
pub(crate) fn terms(text: &str) -> BTreeSet<String> {
    first_terms(text, usize::MAX)
}

/// The first `most` different terms of a text.
fn first_terms(text: &str, most: usize) -> BTreeSet<String> {
    let stemmer = Stemmer::new(Algorithm::English);
    let mut terms = BTreeSet::new();
    let mut before: Option<(&str, usize)> = None;
    let mut words = text.unicode_word_indices().peekable();
    while let Some((at, word)) = words.next().filter(|_| terms.len() < most) {
        if word.starts_with(is_unparted) {
            let end = at + word.len();
            let goes_on = words.peek().is_some_and(|(next, word)| *next == end && word.starts_with(is_unparted));
            let pair = match before.filter(|(_, end)| *end == at) {
                Some((first, _)) => Some(format!("{first}{word}")),
                None => (!goes_on).then(|| word.to_owned()),
            };
            terms.extend(pair.filter(|pair| !STOP_PAIRS.contains(&pair.as_str())));
            before = Some((word, end));
            continue;
        }
        for part in parts(word) {
            let lower = part.to_lowercase().replace('’', "'");
            if terms.len() < most && !STOP_WORDS.contains(lower.as_str()) {
                terms.insert(stemmer.stem(&lower).into_owned());
            }
        }
    }
    terms
}

/// Han, hiragana, Thai, Lao, Myanmar, Khmer.
const fn is_unparted(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{309f}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'
        | '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

/// How much of `wanted` is in `found`, in [0, 1]; 0 when nothing is wanted.
pub(crate) fn coverage(wanted: &BTreeSet<String>, found: &BTreeSet<String>) -> f32 {
    if wanted.is_empty() { 0.0 } else { wanted.intersection(found).count() as f32 / wanted.len() as f32 }
}

/// What each term of a question tells, by how rare it is among passages (the idf of BM25): a word that all of them have tells
/// none apart, and one that few have is what the question is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rarity {
    weights: BTreeMap<String, f32>,
    total: f32,
}

impl Rarity {
    /// Of these terms, of which each is in so many of so many texts.
    pub(crate) fn new(terms: &BTreeSet<String>, texts: usize, having: impl Fn(&str) -> usize) -> Self {
        let weight = |term: &String| {
            let having = having(term) as f32;
            (term.clone(), (1.0 + (texts as f32 - having + 0.5) / (having + 0.5)).ln())
        };
        let weights: BTreeMap<String, f32> = terms.iter().map(weight).collect();
        Self { total: weights.values().sum(), weights }
    }

    /// Of a question's first [`MAX_WEIGHED`] terms among passages that were found for it, as far as looking for their stems
    /// within words tells: reading so many texts word by word would cost more than finding them. Where few were found it is as if there were others without any of
    /// the terms, so that a word which one of three passages lacks is not thought rare.
    pub(crate) fn among<'a>(question: &str, texts: impl Iterator<Item = &'a str>) -> Self {
        let texts: Vec<String> = texts.map(str::to_lowercase).collect();
        let having = |term: &str| {
            // The stem of "copies" is "copi".
            let stem = term.strip_suffix('i').filter(|stem| stem.len() > 2).unwrap_or(term);
            texts.iter().filter(|text| text.contains(stem)).count()
        };
        Self::new(&first_terms(question, MAX_WEIGHED), texts.len().max(FEW), having)
    }

    /// How many of the terms these are, in [0, 1], each alike; 0 when nothing is asked for.
    pub(crate) fn coverage(&self, found: &BTreeSet<String>) -> f32 {
        let had = self.weights.keys().filter(|term| found.contains(*term)).count();
        if had == 0 { 0.0 } else { had as f32 / self.weights.len() as f32 }
    }

    /// How much of the question these terms have, in [0, 1]; 0 when nothing is asked for.
    pub(crate) fn share(&self, found: &BTreeSet<String>) -> f32 {
        if self.total <= 0.0 {
            return 0.0;
        }
        let had = self.weights.iter().filter(|(term, _)| found.contains(*term));
        had.map(|(_, weight)| weight).sum::<f32>() / self.total
    }
}

/// The words of an identifier: `parseHTTPRequest` and `parse_http_request` are three.
pub(crate) fn parts(word: &str) -> impl Iterator<Item = &str> {
    word.split('_').filter(|part| !part.is_empty()).flat_map(|part| {
        let chars: Vec<(usize, char)> = part.char_indices().collect();
        let mut cuts = vec![0];
        for at in 1..chars.len() {
            let (before, here) = (chars[at - 1].1, chars[at].1);
            let after = chars.get(at + 1).map(|(_, c)| *c);
            let hump = before.is_lowercase() && here.is_uppercase();
            let last_of_acronym = before.is_uppercase() && here.is_uppercase() && after.is_some_and(char::is_lowercase);
            if hump || last_of_acronym {
                cuts.push(chars[at].0);
            }
        }
        cuts.push(part.len());
        cuts.windows(2).map(|cut| &part[cut[0]..cut[1]]).collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(terms(text).iter().map(String::as_str).collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn words_of_one_meaning_are_one_term() {
        check("How do I connect? The connections, connected!", &["connect"]);
        check("parseHTTPRequest parse_http_request", &["http", "pars", "request"]);
        check("What is this?", &[]);
        check("E0502 Größe 東京", &["e0502", "größe", "東京"]);
        check("什么是所有权？ 水", &["所有", "是所", "有权", "水"]);
        check("การจัดการ", &["กา", "จัด", "ดก", "รจั", "าร"]);
    }

    #[test]
    fn coverage_is_a_share_of_what_is_wanted() {
        let (wanted, found) = (terms("borrow checker rules"), terms("the rules of borrowing"));
        assert!((coverage(&wanted, &found) - 2.0 / 3.0).abs() < 1e-6);
        assert_eq!(coverage(&terms("the"), &found), 0.0);
    }
    #[test]
    fn rare_words_tell_more_than_common_ones() {
        let texts = ["the log is copied", "a log", "logs and copies", "kiln"];
        let rarity = Rarity::among("copies of the kiln's log", texts.into_iter().cycle().take(200));
        let share = |text: &str| rarity.share(&terms(text));
        assert!(share("a log") < share("copies"), "{rarity:?}");
        assert!(share("copies") < share("kiln's"), "{rarity:?}");
        assert!((share("kiln's copies log") - 1.0).abs() < 1e-6);
        assert_eq!((share("bread"), Rarity::default().share(&terms("a log"))), (0.0, 0.0));
    }

    #[test]
    fn of_a_pasted_page_the_first_words_are_weighed() {
        let words: Vec<String> = (0..1000).rev().map(|n| format!("word{n}")).collect();
        let question = format!("{} {}", words[0], words.join(" "));
        let rarity = Rarity::among(&question, ["word999", "word1"].into_iter());
        assert_eq!(rarity.weights.len(), MAX_WEIGHED);
        let share = |text: &str| rarity.share(&terms(text));
        assert!((share(&words[..MAX_WEIGHED].join(" ")) - 1.0).abs() < 1e-6, "{rarity:?}");
        assert_eq!((share(&words[MAX_WEIGHED]), share("word1")), (0.0, 0.0));
        assert_eq!(Rarity::among(&words.join("_"), [].into_iter()).weights.len(), MAX_WEIGHED);
    }

    #[test]
    fn words_of_few_passages_are_all_alike() {
        let rarity = Rarity::among("borrow checker rules", ["the rules of borrowing"].into_iter());
        let share = rarity.share(&terms("the rules of borrowing"));
        assert!((0.6..0.67).contains(&share), "{share}");
    }
}
