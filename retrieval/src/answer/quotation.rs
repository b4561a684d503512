//! Quotations: the words that an answer claims to take from a source, and whether they stand there.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// Words of a quotation at least: fewer in quotation marks are a name, a term, or irony.
const MIN_WORDS: usize = 4;

/// Marks that open, and what closes them.
const MARKS: [(char, &[char]); 4] = [('"', &['"']), ('“', &['”']), ('„', &['“', '”']), ('«', &['»'])];

/// The quotations in a paragraph that end at byte `from` or behind it; code is none.
pub(super) fn quotations(paragraph: &str, from: usize) -> Vec<&str> {
    let mut found = vec![];
    let mut code = false;
    let mut open: Option<(usize, &[char])> = None;
    let mut before = ' ';
    for (at, c) in paragraph.char_indices() {
        let next = paragraph[at + c.len_utf8()..].chars().next().unwrap_or(' ');
        match open {
            _ if c == '`' => code = !code,
            _ if code => {}
            Some((start, closing)) if closing.contains(&c) && !before.is_whitespace() && !next.is_alphanumeric() => {
                if at >= from {
                    found.push(&paragraph[start..at]);
                }
                open = None;
            }
            None if !before.is_alphanumeric() && !next.is_whitespace() => {
                open = MARKS.iter().find(|(mark, _)| *mark == c).map(|(_, closing)| (at + c.len_utf8(), *closing));
            }
            _ => {}
        }
        before = c;
    }
    found.retain(|quotation| quotation.unicode_words().count() >= MIN_WORDS);
    found
}

/// Where a quotation stands in a text, from its first word to its last: word for word, letters in small, whatever stands
/// between them. What is left out (`…`, `[…]`) is between parts that follow one another. `None` where it does not.
pub(super) fn find(quotation: &str, text: &[Word<'_>]) -> Option<Range<usize>> {
    let quotation = quotation.replace("...", "…");
    let parts = quotation.split(['…', '[', ']']).map(words).filter(|part| !part.is_empty());
    let mut found: Option<Range<usize>> = None;
    let mut from = 0;
    for part in parts {
        let same = |window: &[Word<'_>]| window.iter().zip(&part).all(|(a, b)| a.lower == b.lower);
        let at = from + text.get(from..)?.windows(part.len()).position(same)?;
        from = at + part.len();
        let end = text[from - 1].end();
        found = Some(found.map_or(text[at].start, |found| found.start)..end);
    }
    found
}

/// A word of a text.
#[derive(Debug)]
pub(super) struct Word<'a> {
    start: usize,
    word: &'a str,
    lower: String,
}

impl Word<'_> {
    const fn end(&self) -> usize {
        self.start + self.word.len()
    }
}

/// The words of a text, in order.
pub(super) fn words(text: &str) -> Vec<Word<'_>> {
    let word = |(start, word): (usize, _)| Word { start, word, lower: str::to_lowercase(word).replace('’', "'") };
    text.unicode_word_indices().map(word).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotations_are_several_words_between_marks() {
        for (text, found) in [
            (r#"It says "the kiln is fired at night" there."#, vec!["the kiln is fired at night"]),
            (
                "„Der Ofen wird nachts geheizt“ und «le four est allumé»",
                vec!["Der Ofen wird nachts geheizt", "le four est allumé"],
            ),
            (r#"A "kiln" of 5" or 6" is called "the one that is never closed"#, vec![]),
            (r#"`println!("a b c d e")` prints “a b c d”."#, vec!["a b c d"]),
        ] {
            assert_eq!(quotations(text, 0), found, "{text}");
        }
        let text = r#""One two three four." "Five six seven eight.""#;
        assert_eq!(quotations(text, 30), ["Five six seven eight."]);
    }

    #[test]
    fn a_quotation_is_found_word_for_word() {
        let text = "The *kiln*,\nwe’re told, is fired at night. It is cooled by day.";
        let found = |quotation: &str| find(quotation, &words(text)).map(|range| &text[range]);
        assert_eq!(found("the kiln, we're told"), Some("The *kiln*,\nwe’re told"));
        assert_eq!(found("is fired at night... cooled by day"), Some("is fired at night. It is cooled by day"));
        assert_eq!(found("[The] kiln"), Some("The *kiln"));
        for absent in ["is fired by day", "cooled by day … is fired", "kilns", "day It"] {
            assert_eq!(found(absent), None, "{absent}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_text_is_found_in_it(text in "([a-zé]{1,4}|[.,\\n\"“*])( [a-zA-Z東]{1,4}[.,]?){1,30}", cut in 0_usize..30, take in 1_usize..9) {
            let words = words(&text);
            let cut = cut % words.len();
            let end = (cut + take).min(words.len());
            let range = words[cut].start..words[end - 1].end();
            let found = find(&text[range.clone()], &words).unwrap();
            let said = |range: Range<usize>| super::words(&text[range]).into_iter().map(|word| word.lower).collect::<Vec<_>>();
            prop_assert_eq!(said(found), said(range));
        }
    }
}
