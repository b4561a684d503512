//! Readable: whether a piece of a passage reads as text that can stand in an answer, or is what documents have around their
//! text: headings, heads of tables, lines of a table of contents, footnotes, links, questions.
//!
//! Only the form is looked at, never a language: what a full stop is to English, `。` is to Chinese, and Thai has neither.

use unicode_segmentation::UnicodeSegmentation;

use super::sentence::Kind;

/// Words of a sentence at least.
const MIN_WORDS: usize = 3;
/// Words at least of what has no full stop, or stands in a list or a table: fewer are a label.
const MIN_LOOSE_WORDS: usize = 4;
/// Text has at least this many letters for each sign, full stops and commas aside.
const LETTERS_PER_SIGN: usize = 6;
/// Words, and bytes, of a heading at most.
const MAX_HEADING: (usize, usize) = (10, 90);

/// Whether a quote of this kind can stand by itself.
pub(super) fn stands_alone(kind: Kind, text: &str) -> bool {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    match kind {
        Kind::Sentence | Kind::Item => says_something(text),
        // "It will:" announces nothing.
        Kind::List if lines().next().is_none_or(|announcement| words(announcement) < MIN_WORDS) => false,
        Kind::List => lines().skip(1).any(|item| words(item) > 1 && !is_leader_line(item)),
        Kind::Row => cells(text).any(says_something),
        Kind::Code => lines().count() > 1 || words(text) >= MIN_WORDS,
    }
}

/// Whether it is a sentence, or long enough to be part of one that was too long to be quoted whole.
pub(super) fn is_whole(text: &str) -> bool {
    is_ended(text) || words(text) > MAX_HEADING.0
}

/// Whether a block that others follow is a heading by its looks: one short line without an end.
pub(super) fn looks_like_heading(block: &str) -> bool {
    let text = block.trim();
    let (most_words, most_bytes) = MAX_HEADING;
    !text.contains('\n')
        && text.len() <= most_bytes
        && !is_ended(text)
        && !text.ends_with(':')
        && words(text) <= most_words
}

/// Whether a sentence has an end mark, or is of a script that has none.
fn is_ended(text: &str) -> bool {
    let text = text.trim_end_matches(|c: char| {
        c.is_whitespace()
            || matches!(c, ')' | ']' | '"' | '\'' | '”' | '’' | '»' | '*' | '_' | '`' | '」' | '』' | '）')
    });
    text.ends_with(END_MARKS) || text.chars().next_back().is_some_and(has_no_end_marks)
}

/// The cells of a row of a table that hold something.
pub(super) fn cells(row: &str) -> impl Iterator<Item = &str> {
    let cells = row.trim().trim_matches('|').split(" | ").map(str::trim);
    cells.filter(|cell| cell.chars().any(char::is_alphanumeric))
}

const END_MARKS: [char; 14] = ['.', '!', '?', '…', '。', '！', '？', '．', '｡', '।', '؟', '۔', '։', '።'];

/// Thai, Lao, Tibetan, Myanmar and Khmer part sentences by spaces, if at all.
const fn has_no_end_marks(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{fff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

fn says_something(text: &str) -> bool {
    let text = text.trim();
    let least = if is_ended(text) { MIN_WORDS } else { MIN_LOOSE_WORDS };
    let asks = text.ends_with(['?', '？', '؟']);
    let announces = text.ends_with([':', '：']);
    let footnote = is_footnote(text);
    let text = without_links(text);
    !asks
        && !announces
        && !footnote
        && !is_leader_line(&text)
        && !is_caption(&text)
        && !is_symbolic(&text)
        && words(&text) >= least
        && flows(&text)
}

/// `⁷See the manual.`, and `3See the manual.`, where the number has lost its place above the line.
fn is_footnote(text: &str) -> bool {
    let mut letters = text.trim_start_matches(|c: char| c.is_ascii_digit()).chars();
    let numbered = text.starts_with(|c: char| c.is_ascii_digit());
    let glued =
        numbered && letters.next().is_some_and(char::is_uppercase) && letters.next().is_some_and(char::is_lowercase);
    glued || text.starts_with(|c: char| matches!(c, '¹' | '²' | '³' | '⁰'..='⁹' | '†' | '‡'))
}

/// `Listing 8-1: A new vector`, without an end.
fn is_caption(text: &str) -> bool {
    let number = text.split_whitespace().nth(1).unwrap_or_default();
    let numbered = number.starts_with(|c: char| c.is_ascii_digit()) && !number.contains(char::is_alphabetic);
    numbered && number.ends_with([':', '.']) && !is_ended(text)
}

/// Whether a good part of it are signs, as in a command line, and not letters.
fn is_symbolic(text: &str) -> bool {
    let signs = |c: &char| c.is_ascii_punctuation() && !matches!(c, '.' | ',' | '\'' | '-' | '`' | '*');
    let letters = text.chars().filter(|c| c.is_alphanumeric()).count();
    text.chars().filter(signs).count() * LETTERS_PER_SIGN > letters
}

/// `Contents … 12`, `Contents . . . . 12`.
fn is_leader_line(text: &str) -> bool {
    let before = text.trim_end_matches(|c: char| c.is_ascii_digit() || c.is_whitespace());
    let dots: usize = before.chars().rev().take_while(|c| matches!(c, '.' | ' ' | '…' | '·')).map(leader).sum();
    before.len() < text.trim_end().len() && dots >= 3
}

const fn leader(c: char) -> usize {
    match c {
        '…' => 3,
        '.' | '·' => 1,
        _ => 0,
    }
}

/// Whether it has a word in small letters, as a sentence has and a title or a rule of a grammar has not; scripts without
/// small letters flow always.
fn flows(text: &str) -> bool {
    let begins = |word: &str, of: fn(char) -> bool| word.chars().next().is_some_and(of);
    let cased = text.unicode_words().any(|word| begins(word, char::is_uppercase) || begins(word, char::is_lowercase));
    !cased || text.unicode_words().any(|word| word.chars().all(char::is_lowercase) && word.chars().nth(1).is_some())
}

fn without_links(text: &str) -> String {
    let is_link = |word: &&str| word.contains("://") || word.contains("www.");
    text.split_whitespace().filter(|word| !is_link(word)).collect::<Vec<_>>().join(" ")
}

/// Words, or characters where words are not apart.
fn words(text: &str) -> usize {
    text.unicode_words().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_stand_alone() {
        for text in [
            "Report security bugs by mail.",
            "the lift increases with the angle of attack .",
            "When the owner goes out of scope, the value will be dropped (see “Drop.”)",
            "3D models of the parts are printed there.",
            "The password of the guest network is hunter2",
            "所有权是一组规则。",
            "所有権はルールの集まりです。",
            "ภาษารัสต์จัดการหน่วยความจำด้วยกฎความเป็นเจ้าของ",
            "الملكية مجموعة من القواعد.",
        ] {
            assert!(stands_alone(Kind::Sentence, text), "{text}");
        }
    }

    #[test]
    fn what_stands_around_text_does_not() {
        for text in [
            "Introduction",
            "Next: Installation",
            "Home » Documentation » API",
            "4.1 Core tools . . . . . . . . 12",
            "Required files … 24",
            "Syntax NeverType : !",
            "⁷See Debian Policy Manual, 7 about relationships (http://www.debian.org/doc/x.html).",
            "3See the reference on adopting a package.",
            "Have you read the manual?",
            "Listing 8-1: Creating a new vector to hold values of one type",
            "curl -s -H \"$A\" $B/api/v1/documents/upload -F file=@handbook.pdf -F 'metadata={\"team\":\"blue\"}'",
            "你读了吗？",
            "Open a terminal and run:",
            "See https://example.org/a/b/c.html and https://example.org/d.",
        ] {
            assert!(!stands_alone(Kind::Sentence, text), "{text}");
            assert!(!stands_alone(Kind::Item, text), "{text}");
        }
    }

    #[test]
    fn a_row_needs_a_cell_that_reads() {
        assert!(stands_alone(Kind::Row, "| owner | the variable that drops the value |"));
        assert!(!stands_alone(Kind::Row, "| Operator | Example | Explanation | Overloadable? |"));
        assert!(!stands_alone(Kind::Row, "| a | 1 | 2.5 | yes |"));
    }

    #[test]
    fn a_list_needs_an_announcement_and_items() {
        assert!(stands_alone(Kind::List, "Keep these in mind:\n\n- One owner at a time."));
        assert!(!stands_alone(Kind::List, "It will:\n\n- clean the source tree"));
        assert!(!stands_alone(Kind::List, "In this chapter of it:\n\n- Scope … 3\n- Usage"));
    }

    #[test]
    fn headings_are_short_lines_without_an_end() {
        for text in ["The question mark operator (?) of today", "4.1 control", "Usage", "概要"] {
            assert!(looks_like_heading(text), "{text}");
        }
        for text in ["It works.", "Run this:", "a\nb", "这是一句话。"] {
            assert!(!looks_like_heading(text), "{text}");
        }
    }
}
