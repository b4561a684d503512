//! Readable: whether a piece of a passage reads as text that can stand in an answer, is a fact without a sentence around it,
//! or is what documents have around their text: headings, heads of tables, lines of a table of contents, links, questions.
//!
//! Only the form is looked at, never a language: what a full stop is to English, `。` is to Chinese, and Thai has neither.

use unicode_segmentation::UnicodeSegmentation;

use super::sentence::{Kind, Piece};

/// Words of a sentence at least.
const MIN_WORDS: usize = 3;
/// Words at least of what has no full stop, or stands in a list or a table: fewer are a label.
const MIN_LOOSE_WORDS: usize = 4;
/// Text has at least this many letters for each sign, full stops and commas aside.
const LETTERS_PER_SIGN: usize = 6;
/// Words, and bytes, of a heading at most.
const MAX_HEADING: (usize, usize) = (10, 90);

/// Words of a title at most: a longer line that seems to head a block may say something itself.
const MAX_TITLE_WORDS: usize = 6;

/// How a quote reads by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As text.
    Text,
    /// As a note: a row of short cells, `Phone: 1234`, a footnote.
    Note,
    /// As what stands around text.
    Frame,
}

impl Form {
    /// Of this piece of `content`.
    pub(super) fn of(piece: &Piece, content: &str) -> Self {
        let text = &content[piece.range.clone()];
        let form = match piece.kind {
            Kind::Sentence => prose(text),
            Kind::Item => item(text),
            Kind::List => list(text),
            Kind::Row => row(text),
            Kind::Code if text.trim().contains('\n') || words(text) >= MIN_WORDS => Self::Text,
            Kind::Code => Self::Frame,
        };
        if piece.heads { form.of_a_head(text) } else { form }
    }

    /// Of what seems to head what follows. A head names, and what has a number or many words rather says something.
    fn of_a_head(self, text: &str) -> Self {
        let number = text.trim_start_matches(|c: char| !c.is_alphabetic()).contains(|c: char| c.is_ascii_digit());
        let says = number || is_labelled(text) || self == Self::Text && words(text) > MAX_TITLE_WORDS;
        if says && self != Self::Frame { Self::Note } else { Self::Frame }
    }
}

fn prose(text: &str) -> Form {
    let text = text.trim();
    let bare = without_links(text);
    let ended = is_ended(text);
    // "Have you read the manual?", "Open a terminal and run:".
    if text.ends_with(['?', '？', '؟', ':', '：']) || is_leader_line(&bare) {
        Form::Frame
    } else if words(&bare) >= if ended { MIN_WORDS } else { MIN_LOOSE_WORDS }
        && flows(&bare)
        && !is_symbolic(&bare)
        && !is_caption(&bare)
        && !is_footnote(text)
    {
        Form::Text
    } else if is_labelled(&bare) || ended && words(&bare) >= MIN_WORDS {
        Form::Note
    } else {
        Form::Frame
    }
}

/// What somebody listed is at least a note.
fn item(text: &str) -> Form {
    match prose(text) {
        Form::Frame if !text.ends_with(['?', ':']) && !is_leader_line(text) && words(&without_links(text)) > 0 => {
            Form::Note
        }
        form => form,
    }
}

fn list(text: &str) -> Form {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // "It will:" announces nothing.
    let announced = lines.next().is_some_and(|announcement| words(announcement) >= MIN_WORDS);
    let items: Vec<&str> = lines.filter(|item| !is_leader_line(item)).collect();
    if announced && items.iter().any(|item| words(item) > 1) {
        Form::Text
    } else if items.is_empty() {
        Form::Frame
    } else {
        Form::Note
    }
}

fn row(text: &str) -> Form {
    if cells(text).any(|cell| prose(cell) == Form::Text) {
        Form::Text
    } else if cells(text).any(is_leader_line) {
        Form::Frame
    } else {
        Form::Note
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

/// `Phone: 1234`: a name, which is short, and what it has.
fn is_labelled(text: &str) -> bool {
    let parts = text.split_once(": ").or_else(|| text.split_once('：'));
    parts.is_some_and(|(name, value)| (1..=MAX_TITLE_WORDS).contains(&words(name)) && words(value) > 0)
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

    fn form(kind: Kind, heads: bool, text: &str) -> Form {
        Form::of(&Piece { kind, heads, range: 0..text.len() }, text)
    }

    #[test]
    fn sentences_read_as_text() {
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
            assert_eq!(form(Kind::Sentence, false, text), Form::Text, "{text}");
        }
    }

    #[test]
    fn facts_without_a_sentence_are_notes() {
        for text in [
            "Step 3: press the red button",
            "1Password keeps the team's keys.",
            "3See the reference on adopting a package.",
            "⁷See Debian Policy Manual, 7 about relationships (http://www.debian.org/doc/x.html).",
            "Phone: +49 30 1234567",
            "Default: `/etc/app/config.toml`.",
            "Listing 8-1: Creating a new vector to hold values of one type",
            "ALL KEYS MUST BE RETURNED.",
        ] {
            assert_eq!(form(Kind::Sentence, false, text), Form::Note, "{text}");
            assert_eq!(form(Kind::Item, false, text), Form::Note, "{text}");
        }
        assert_eq!(form(Kind::Item, false, "Monday"), Form::Note);
    }

    #[test]
    fn what_stands_around_text_is_a_frame() {
        for text in [
            "4.1 Core tools . . . . . . . . 12",
            "Required files … 24",
            "Have you read the manual?",
            "Open a terminal and run:",
            "https://example.org/a/b/c.html",
        ] {
            assert_eq!(form(Kind::Sentence, false, text), Form::Frame, "{text}");
            assert_eq!(form(Kind::Item, false, text), Form::Frame, "{text}");
        }
        for text in [
            "Introduction",
            "curl -s localhost:8000/api/v1/chat/message -H \"authorization: Bearer $TOKEN\" -d '{\"message\": \"Hello\"}'",
            "Home » Documentation » API",
            "Syntax NeverType : !",
            "curl -s -H \"$A\" $B/api/v1/documents/upload -F file=@handbook.pdf -F 'metadata={\"team\":\"blue\"}'",
            "你读了吗？",
            "See https://example.org/a/b/c.html and https://example.org/d.",
        ] {
            assert_eq!(form(Kind::Sentence, false, text), Form::Frame, "{text}");
        }
    }

    #[test]
    fn a_row_reads_by_its_cells() {
        assert_eq!(form(Kind::Row, false, "| owner | the variable that drops the value |"), Form::Text);
        for text in ["| 130 | interrupted |", "| Berlin | 3,645,000 |", "| a | 1 | 2.5 | yes |"] {
            assert_eq!(form(Kind::Row, false, text), Form::Note, "{text}");
        }
        assert_eq!(form(Kind::Row, false, "| Core tools . . . . . | 12 |"), Form::Note, "no number behind the dots");
        assert_eq!(form(Kind::Row, false, "| Core tools . . . . . 12 |"), Form::Frame);
    }

    #[test]
    fn a_list_reads_by_its_announcement_and_items() {
        assert_eq!(form(Kind::List, false, "Keep these in mind:\n\n- One owner at a time."), Form::Text);
        assert_eq!(form(Kind::List, false, "Opening hours:\n- Monday to Friday, 9 to 17"), Form::Note);
        assert_eq!(form(Kind::List, false, "In this chapter of it:\n\n- Scope … 3\n- Usage … 4"), Form::Frame);
    }

    #[test]
    fn what_heads_something_is_a_frame_unless_it_says_something() {
        for text in ["Usage", "4.1 control", "2.1 How the values are moved", "Moving values into a function"] {
            assert_eq!(form(Kind::Sentence, true, text), Form::Frame, "{text}");
        }
        for text in ["The password of the guest network is hunter2", "The door code is 4711", "Phone: +49 30 1234567"] {
            assert_eq!(form(Kind::Sentence, true, text), Form::Note, "{text}");
        }
        assert_eq!(form(Kind::Row, true, "| Operator | Example | Explanation | Overloadable? |"), Form::Frame);
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
