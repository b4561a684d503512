//! Lines of printed text: what was broken to fit a width becomes one again, and what was printed on every page is gone.

use std::{borrow::Cow, collections::HashMap};

/// Pages that a text must have before what repeats on them is taken for print.
const FEW_PAGES: usize = 3;
/// A printed page has no more lines; a chapter has.
const PAGE_LINES: usize = 90;

/// One text of lines that somebody wrapped. A word that was parted by a hyphen at the end of a line is whole again; a hyphen of
/// its own (`state-of-` `the-art`) is kept.
#[must_use]
pub fn join_wrapped(lines: &[&str]) -> String {
    let mut out = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
    for line in lines.iter().map(|line| line.trim_end()) {
        let next = line.trim_start();
        let word = out.rsplit(char::is_whitespace).next().unwrap_or_default();
        match word.strip_suffix(['-', '\u{2010}']) {
            Some(stem) if stem.ends_with(char::is_alphabetic) && next.starts_with(char::is_lowercase) => {
                if !stem.contains('-') {
                    out.pop();
                }
                out.push_str(next);
            }
            _ if out.is_empty() => out.push_str(line),
            _ => {
                out.push('\n');
                out.push_str(line);
            }
        }
    }
    out
}

/// A text of pages parted by form feeds without the first and last lines that most of them share, page numbers aside: running
/// headers and footers. Texts without pages are as they were. Reads the text twice.
#[must_use]
pub fn without_running_lines(text: &str) -> Cow<'_, str> {
    let pages: Vec<&str> = text.split('\u{c}').collect();
    let printed = pages.iter().filter(|page| page.matches('\n').count() <= PAGE_LINES).count();
    if pages.len() < FEW_PAGES || printed * 10 < pages.len() * 8 {
        return Cow::Borrowed(text);
    }
    let mut shapes: HashMap<(Edge, String), usize> = HashMap::new();
    for page in &pages {
        for edge in [Edge::First, Edge::Last] {
            if let Some(line) = edge.line(page) {
                *shapes.entry((edge, shape(line))).or_default() += 1;
            }
        }
    }
    let usual = FEW_PAGES.max(pages.len() / 2);
    let running = |edge: Edge, line: &str| {
        let shape = shape(line);
        // `Chapter 3` is a heading, `Page 3` is not.
        let heading = edge == Edge::First && !shape.contains(' ') && shape.starts_with(char::is_alphabetic);
        (!heading || shape.eq_ignore_ascii_case("page"))
            && shapes.get(&(edge, shape)).is_some_and(|count| *count >= usual)
    };
    let mut out = String::with_capacity(text.len());
    for page in pages {
        let line_of = |edge: Edge| edge.line(page).filter(|line| running(edge, line));
        let mut lines: Vec<&str> = page.split('\n').collect();
        if line_of(Edge::First).is_some() {
            let filled = lines.iter().position(|line| !line.trim().is_empty()).map_or(lines.len(), |at| at + 1);
            lines.drain(..filled);
        }
        if line_of(Edge::Last).is_some() {
            lines.truncate(lines.iter().rposition(|line| !line.trim().is_empty()).unwrap_or(0));
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&lines.join("\n"));
    }
    Cow::Owned(out)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Edge {
    First,
    Last,
}

impl Edge {
    fn line(self, page: &str) -> Option<&str> {
        let mut lines = page.split('\n').filter(|line| !line.trim().is_empty());
        match self {
            Self::First => lines.next(),
            Self::Last => lines.next_back(),
        }
    }
}

/// A line without what differs from page to page: numbers, and on which side they stand.
fn shape(line: &str) -> String {
    let mut words: Vec<&str> =
        line.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit())).collect();
    words.sort_unstable();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_broken_at_the_end_of_a_line_are_whole() {
        assert_eq!(join_wrapped(&["an exam-", "  ple of it"]), "an example of it");
        assert_eq!(join_wrapped(&["state-of-", "the-art"]), "state-of-the-art");
        assert_eq!(
            join_wrapped(&["the years 1990-", "2000 and A-", "B, -", "x"]),
            "the years 1990-\n2000 and A-\nB, -\nx"
        );
    }

    #[test]
    fn what_stands_on_every_page_is_no_text() {
        let page = |n: usize| {
            format!("\n\nRFC 9999        A Protocol       May 2024\n\nText of page {n}.\n\nAuthor      [Page {n}]\n")
        };
        let text: Vec<_> = (1..6).map(page).collect();
        let found = without_running_lines(&text.join("\u{c}")).into_owned();
        assert!(!found.contains("RFC") && !found.contains("Author"), "{found}");
        assert!((1..6).all(|n| found.contains(&format!("Text of page {n}."))), "{found}");
        let about = ["owls", "wrens", "mice", "moss"];
        let chapters: Vec<_> =
            (1..).zip(about).map(|(n, what)| format!("Chapter {n}\n\nThis is about {what}.\n")).collect();
        let long: Vec<_> = (1..9).map(|n| format!("A tale {n}\n{}", "line\n".repeat(200))).collect();
        let texts = [
            chapters.join("\u{c}"),
            long.join("\u{c}"),
            "a\u{c}b".into(),
            "one\n\u{c}two\n\u{c}three\n\u{c}four".into(),
        ];
        for text in &texts {
            let found = without_running_lines(text);
            assert!(text.split(['\n', '\u{c}']).all(|line| found.contains(line)), "{found}");
        }
    }
}
