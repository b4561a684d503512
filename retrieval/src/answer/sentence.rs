//! Sentences: the pieces of a passage that can be quoted, as byte ranges of its content.
//!
//! Sentence boundaries are those of UAX #29, over a copy of the text in which the line breaks within a paragraph are
//! spaces: the copy has the same length, so that its ranges are those of the original.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::readable::looks_like_heading;

/// Bytes of a quoted sentence at most; longer ones, of texts without punctuation, are cut between words.
const MAX_SENTENCE: usize = 400;

/// Bytes of a quoted snippet of code, or of a list, at most; longer code is cut between lines, a longer list into items.
const MAX_SNIPPET: usize = 700;

/// Words that end in a full stop without ending a sentence.
const ABBREVIATIONS: &[&str] = &[
    "al.", "approx.", "cf.", "ch.", "dr.", "e.g.", "eq.", "etc.", "fig.", "i.e.", "jr.", "mr.", "mrs.", "ms.", "no.",
    "p.", "pp.", "prof.", "resp.", "sec.", "sr.", "st.", "vol.", "vs.",
];

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A sentence.
    Sentence,
    /// A sentence of an item of a list.
    Item,
    /// A list with the sentence that introduces it: neither says much without the other.
    List,
    /// A row of a table.
    Row,
    /// Lines of code.
    Code,
}

impl Kind {
    /// Whether it reads on from what stands before it.
    pub(super) const fn flows(self) -> bool {
        matches!(self, Self::Sentence | Self::Item | Self::List)
    }
}

/// A piece of a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// What it is.
    pub(super) kind: Kind,
    /// Whether it seems to head what follows: a short line before another block, the first row of a table.
    pub(super) heads: bool,
    /// Where it stands in the content; never empty, without white space around it (code keeps its first indent).
    pub(super) range: Range<usize>,
}

/// The pieces of a passage, in order, not overlapping. Headings that `section` names are none: they say what is to come,
/// and not what is. Other lines may only look like headings.
///
/// The content is text as [`crate::text`] builds it: blocks apart by empty lines, of which code and lists have several
/// lines. What a block is, is seen again here, since a passage knows only what most of it is.
pub(super) fn pieces(content: &str, chunk_type: &str, section: &str) -> Vec<Piece> {
    let mut pieces = vec![];
    let mut code: Option<Range<usize>> = None;
    let mut blocks = blocks(content).into_iter().peekable();
    while let Some(block) = blocks.next() {
        let text = &content[block.clone()];
        let named = section.split(" > ").any(|title| title == text.trim());
        let heads = blocks.peek().is_some_and(|next| is_heading(text, &content[next.clone()]));
        if !named && !heads && is_code(text, chunk_type) {
            let start = code.map_or(block.start, |code| code.start);
            code = Some(start..block.end);
            continue;
        }
        pieces.extend(code.take().into_iter().flat_map(|code| snippets(content, code)));
        if named {
            continue;
        }
        let from = pieces.len();
        let mut headed = heads;
        if text.trim_start().starts_with('|') {
            pieces.extend(lines(content, block).filter_map(|line| row(content, line)));
            // A passage may begin within a table: a row with numbers is seldom its head.
            headed = pieces.len() > from + 1 && !content[pieces[from].range.clone()].contains(|c: char| c.is_numeric());
        } else if item_marker(text) > 0 {
            pieces.extend(items(content, block));
        } else {
            pieces.extend(sentences(content, Kind::Sentence, block));
        }
        if let Some(first) = pieces.get_mut(from) {
            first.heads = headed;
        }
    }
    pieces.extend(code.into_iter().flat_map(|code| snippets(content, code)));
    pieces
}

/// Whether a block heads the next one. Of several short lines each may say something.
fn is_heading(block: &str, next: &str) -> bool {
    let plain = |block: &str| item_marker(block) == 0 && !block.starts_with(['|', ' ', '\t']);
    plain(block) && looks_like_heading(block) && !looks_like_code(block) && !(plain(next) && looks_like_heading(next))
}

/// The runs of lines that are not blank.
fn blocks(content: &str) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = vec![];
    let mut apart = true;
    for line in lines(content, 0..content.len()) {
        if content[line.clone()].trim().is_empty() {
            apart = true;
            continue;
        }
        match blocks.last_mut() {
            Some(block) if !apart => block.end = line.end,
            _ => blocks.push(line),
        }
        apart = false;
    }
    blocks
}

/// Whether a block is code. Among code, prose is a single line that reads like a sentence; among prose, code is what mostly
/// looks like it.
fn is_code(block: &str, chunk_type: &str) -> bool {
    let several = block.trim_end().contains('\n');
    match chunk_type {
        "table" => false,
        "code" => several || !reads_like_a_sentence(block),
        _ if item_marker(block) > 0 || block.trim_start().starts_with('|') => false,
        _ => {
            let looking = block.lines().filter(|line| looks_like_code(line)).count();
            2 * looking >= block.lines().count() && (several || !reads_like_a_sentence(block))
        }
    }
}

fn reads_like_a_sentence(line: &str) -> bool {
    let text = line.trim_end();
    let begins = text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '"' | '“' | '(' | '`' | '*'));
    begins && text.ends_with(['.', '!', '?', ':']) && text.split_whitespace().count() > 3
}

fn looks_like_code(line: &str) -> bool {
    let text = line.trim();
    let indented = line.starts_with("  ") || line.starts_with('\t');
    let begins = ["$ ", "//", "/*", "#[", "#!", "@", "}", "</"].iter().any(|mark| text.starts_with(mark));
    let ends = text.ends_with([';', '{', '}', '\\']) || text.ends_with("()") || text.ends_with("):");
    let holds = [" = ", " == ", "->", "=>", "();"].iter().any(|mark| text.contains(mark));
    indented || begins || ends || holds
}

/// The sentences of each item of a list.
fn items(content: &str, block: Range<usize>) -> Vec<Piece> {
    let mut items: Vec<Range<usize>> = vec![];
    for line in lines(content, block) {
        let marker = item_marker(&content[line.clone()]);
        match items.last_mut() {
            Some(item) if marker == 0 => item.end = line.end,
            _ => items.push(line.start + marker..line.end),
        }
    }
    items.into_iter().flat_map(|item| sentences(content, Kind::Item, item)).collect()
}

/// Joins each list to the sentence before it that ends in a colon, where both can be quoted as one.
pub(super) fn with_lists(pieces: Vec<Piece>, content: &str) -> Vec<Piece> {
    let mut joined: Vec<Piece> = vec![];
    let mut rest = pieces.into_iter().peekable();
    while let Some(piece) = rest.next() {
        let mut items = vec![];
        if piece.kind == Kind::Sentence && content[piece.range.clone()].ends_with(':') {
            while let Some(item) = rest.next_if(|next| next.kind == Kind::Item) {
                items.push(item);
            }
        }
        match items.last() {
            Some(last) if last.range.end - piece.range.start <= MAX_SNIPPET => {
                let range = piece.range.start..last.range.end;
                joined.push(Piece { kind: Kind::List, heads: false, range });
            }
            _ => {
                joined.push(piece);
                joined.append(&mut items);
            }
        }
    }
    joined
}

/// The sentences of one paragraph.
fn sentences(content: &str, kind: Kind, range: Range<usize>) -> Vec<Piece> {
    let flat = content[range.clone()].replace(['\n', '\r'], " ");
    let mut found: Vec<Range<usize>> = vec![];
    let mut open = false;
    for (at, sentence) in flat.split_sentence_bound_indices() {
        let end = at + sentence.len();
        match found.last_mut() {
            // `vec!` and `?` end no sentence that goes on in small letters; UAX #29 knows that of full stops only.
            Some(last) if open || sentence.starts_with(char::is_lowercase) => last.end = end,
            _ => found.push(at..end),
        }
        open = ends_in_abbreviation(sentence);
    }
    found
        .into_iter()
        .flat_map(|sentence| cut(content, range.start + sentence.start..range.start + sentence.end))
        .filter_map(|range| piece(kind, content, range))
        .collect()
}

fn ends_in_abbreviation(sentence: &str) -> bool {
    let Some(word) = sentence.split_whitespace().next_back() else { return true };
    let word = word.trim_start_matches(['(', '[', '"', '“']);
    let initial = word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase()) && word.ends_with('.');
    initial || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

/// A sentence, or the parts of one that is too long to be quoted whole.
fn cut(content: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut parts = vec![];
    let mut rest = range;
    while rest.len() > MAX_SENTENCE {
        let limit = content.floor_char_boundary(rest.start + MAX_SENTENCE);
        let end = content[rest.start..limit]
            .rfind(|c: char| c.is_whitespace() || matches!(c, '、' | '，' | '；'))
            .map(|at| content.ceil_char_boundary(rest.start + at + 1))
            .filter(|end| *end > rest.start)
            .unwrap_or(limit);
        parts.push(rest.start..end);
        rest.start = end;
    }
    parts.push(rest);
    parts
}

/// Code in snippets of bounded size, cut at a blank line where there is one, else between lines.
fn snippets(content: &str, range: Range<usize>) -> Vec<Piece> {
    let mut found = vec![];
    let mut current = range.start..range.start;
    let mut blank = None;
    for line in lines(content, range) {
        while line.end - current.start > MAX_SNIPPET && !current.is_empty() {
            let end = blank.take().unwrap_or(current.end);
            found.push(current.start..end);
            current.start = end;
        }
        current.end = line.end;
        if content[line].trim().is_empty() && current.len() > MAX_SNIPPET / 3 {
            blank = Some(current.end);
        }
    }
    found.push(current);
    found.into_iter().flat_map(|range| snippet(content, range)).collect()
}

/// A snippet without blank lines around it, but with its first line's indent; a single line may be too long.
fn snippet(content: &str, range: Range<usize>) -> Option<Piece> {
    let text = &content[range.clone()];
    let first = text.len() - text.trim_start().len();
    let start = range.start + text[..first].rfind('\n').map_or(0, |at| at + 1);
    let end = range.start + text.trim_end().len();
    let end = content.floor_char_boundary(end.min(start + 2 * MAX_SNIPPET));
    (start < end).then_some(Piece { kind: Kind::Code, heads: false, range: start..end })
}

/// A row of a table, unless it is the line below the head.
fn row(content: &str, line: Range<usize>) -> Option<Piece> {
    let text = &content[line.clone()];
    let rule = text.chars().all(|c| matches!(c, '|' | '-' | ':' | '=' | '+') || c.is_whitespace());
    if rule { None } else { piece(Kind::Row, content, cut(content, line).swap_remove(0)) }
}

/// Without the white space around it; `None` when there are no words.
fn piece(kind: Kind, content: &str, range: Range<usize>) -> Option<Piece> {
    let text = &content[range.clone()];
    if !text.chars().any(char::is_alphanumeric) {
        return None;
    }
    let start = range.start + text.len() - text.trim_start().len();
    Some(Piece { kind, heads: false, range: start..start + text.trim().len() })
}

/// The lines within a range, each with its line break.
fn lines(content: &str, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut at = range.start;
    content[range].split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        start..at
    })
}

/// Bytes of the indent and the marker that make a line an item of a list, with the space behind it; 0 when it is none.
fn item_marker(line: &str) -> usize {
    let text = line.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let mark = if (1..=3).contains(&digits) && text[digits..].starts_with(['.', ')']) {
        digits + 1
    } else {
        text.chars().next().filter(|c| matches!(c, '-' | '*' | '+' | '•')).map_or(0, char::len_utf8)
    };
    let rest = &text[mark..];
    if mark > 0 && rest.starts_with([' ', '\t']) { line.len() - rest.trim_start().len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn check(content: &str, chunk_type: &str, expected: &Expect) {
        let shown: Vec<String> = with_lists(pieces(content, chunk_type, "Guide > Usage"), content)
            .into_iter()
            .map(|piece| {
                let heads = if piece.heads { " (heads)" } else { "" };
                format!("{:?}{heads} {:?}\n", piece.kind, &content[piece.range])
            })
            .collect();
        expected.assert_eq(&shown.concat());
    }

    #[test]
    fn abbreviations_and_line_breaks_end_no_sentence() {
        check(
            "Usage\n\nThe drag of the wing, cf. Fig. 3, rose\nby 4.5 percent. Dr. J. Smith (e.g. in 1952) disagreed! Why?\n\nNobody knows",
            "prose",
            &expect![[r#"
                Sentence "The drag of the wing, cf. Fig. 3, rose\nby 4.5 percent."
                Sentence "Dr. J. Smith (e.g. in 1952) disagreed!"
                Sentence "Why?"
                Sentence "Nobody knows"
            "#]],
        );
    }

    #[test]
    fn prose_holds_lists_tables_and_code() {
        check(
            "Options:\n\n- `--quiet` prints\n  nothing.\n- 12. is odd\n  1. First step. Then rest.\n\n| name | size |\n|---|:-:|\n| a | 1 |\n\nRun this:\n\n$ make all\n\nfn main() {\n    run();\n}\n\nCall `a::b()` with x = 1 then.",
            "prose",
            &expect![[r#"
                List "Options:\n\n- `--quiet` prints\n  nothing.\n- 12. is odd\n  1. First step. Then rest."
                Row (heads) "| name | size |"
                Row "| a | 1 |"
                Sentence "Run this:"
                Code "$ make all\n\nfn main() {\n    run();\n}"
                Sentence "Call `a::b()` with x = 1 then."
            "#]],
        );
    }

    #[test]
    fn a_line_that_looks_like_a_heading_stays() {
        check(
            "Guide\n\nThe password of the guest network is hunter2\n\nIt changes every month.\n\n| a | 1 |",
            "prose",
            &expect![[r#"
                Sentence (heads) "The password of the guest network is hunter2"
                Sentence "It changes every month."
                Row "| a | 1 |"
            "#]],
        );
    }

    #[test]
    fn code_holds_prose() {
        check(
            "Usage\n\nCall it with a list of names:\n\ndef hello(names):\n    # Greet them.\n\n    print(names)\n\nIt prints them one by one.",
            "code",
            &expect![[r#"
                Sentence "Call it with a list of names:"
                Code "def hello(names):\n    # Greet them.\n\n    print(names)"
                Sentence "It prints them one by one."
            "#]],
        );
    }

    #[test]
    fn a_source_file_is_code() {
        check(
            "use std::io;\n\n/// Says it.\nfn say() {}\n\n// Done now, all of it.",
            "code",
            &expect![[r#"
            Code "use std::io;\n\n/// Says it.\nfn say() {}\n\n// Done now, all of it."
        "#]],
        );
    }

    #[test]
    fn code_is_cut_between_lines() {
        let function = |n: usize| format!("fn f{n}() {{\n{}}}\n\n", "    let a = 1;\n".repeat(20));
        let code = format!("\n\n    indented();\n{}{}{}", function(1), function(2), function(3));
        let pieces = pieces(&code, "code", "");
        assert!(pieces.iter().all(|piece| piece.range.len() <= MAX_SNIPPET));
        assert!(code[pieces[0].range.clone()].starts_with("    indented();"));
        assert!(code[pieces[1].range.clone()].starts_with("fn f3"), "cut at the last blank line that fits");
    }

    #[test]
    fn text_without_punctuation_is_cut_between_words() {
        let text = "word ".repeat(200);
        for piece in pieces(&text, "prose", "") {
            let quote = &text[piece.range];
            assert!(quote.len() <= MAX_SENTENCE && quote.starts_with("word") && quote.ends_with("word"));
        }
    }

    proptest! {
        #[test]
        fn pieces_are_ordered_bounded_ranges_of_any_text(
            content in "([a-zA-Z.,!?#|>*`~ \\n\\r\\t0-9-]|é|。|😀|```\\n|- ){0,300}",
            kind in prop::sample::select(vec!["prose", "code", "table"]),
        ) {
            let mut last = 0;
            for Piece { range, .. } in pieces(&content, kind, "word > é") {
                prop_assert!(range.start >= last && range.start < range.end);
                prop_assert!(content.get(range.clone()).is_some());
                prop_assert!(range.len() <= 2 * MAX_SNIPPET);
                last = range.end;
            }
        }
    }
}
