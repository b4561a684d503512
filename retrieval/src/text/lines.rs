//! Lines of printed text: what was broken to fit a width becomes one again, and what was printed on every page is gone.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    ops::Range,
};

/// Pages that a text must have before what repeats on them is taken for print.
const FEW_PAGES: usize = 3;
/// A printed page has no more lines; a chapter has.
const PAGE_LINES: usize = 90;
/// A running line has no more bytes.
const RUNNING_BYTES: usize = 300;
/// A line with more numbers than these is a row of a table: none of them is the page's.
const RUNNING_NUMBERS: usize = 6;

/// One text of lines that somebody wrapped. A word that was parted by a hyphen at the end of a line is whole again; a hyphen of
/// its own (`state-of-` `the-art`) is kept.
#[must_use]
pub fn join_wrapped(lines: &[&str]) -> String {
    let mut out = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
    // Where the line before begins in `out`, and whether the word that it goes on with had a hyphen of its own: a word may
    // grow with each line, hence it is not looked at again.
    let (mut start, mut hyphened) = (0, false);
    for line in lines.iter().map(|line| line.trim_end()) {
        let next = line.trim_start();
        let last = &out[start..];
        let word = last.rsplit(char::is_whitespace).next().unwrap_or_default();
        match word.strip_suffix(['-', '\u{2010}']) {
            Some(stem) if stem.ends_with(char::is_alphabetic) && next.starts_with(char::is_lowercase) => {
                hyphened = stem.contains('-') || hyphened && word.len() == last.len();
                if !hyphened {
                    out.pop();
                }
                start = out.len();
                out.push_str(next);
            }
            _ => {
                if !out.is_empty() {
                    out.push('\n');
                }
                (start, hyphened) = (out.len(), false);
                out.push_str(line);
            }
        }
    }
    out
}

/// A text of pages parted by form feeds without its running headers and footers, and how many lines these were: the first and
/// last lines that are the same on most pages, but for a number that counts up with the pages. Texts without pages are as they
/// were. Reads the text a few times, and keeps a few numbers for each page.
#[must_use]
pub fn without_running_lines(text: &str) -> (Cow<'_, str>, usize) {
    let pages = || text.split('\u{c}');
    let (mut count, mut printed) = (0_usize, 0_usize);
    for page in pages() {
        count += 1;
        printed += usize::from(page.matches('\n').count() <= PAGE_LINES);
    }
    if count < FEW_PAGES || printed * 10 < count * 8 {
        return (Cow::Borrowed(text), 0);
    }
    let state = RandomState::new();
    let mut seen: HashMap<u64, usize> = HashMap::new();
    for (at, page) in pages().enumerate() {
        for edge in [Edge::First, Edge::Last] {
            if let Some(line) = edge.line(page) {
                edge.shapes(&page[line], at)
                    .iter()
                    .for_each(|shape| *seen.entry(state.hash_one(shape)).or_default() += 1);
            }
        }
    }
    let usual = FEW_PAGES.max(count / 2);
    let running = |edge: Edge, line: &str, at: usize| {
        edge.shapes(line, at).iter().any(|shape| seen.get(&state.hash_one(shape)).is_some_and(|count| *count >= usual))
    };
    let mut out = String::with_capacity(text.len());
    let mut removed = 0;
    for (at, page) in pages().enumerate() {
        let line_of = |edge: Edge| edge.line(page).filter(|line| running(edge, &page[line.clone()], at));
        let (first, last) = (line_of(Edge::First), line_of(Edge::Last));
        removed += usize::from(first.is_some()) + usize::from(last.is_some() && last != first);
        // Behind the line break of the first, before that of the last; they may be one line.
        let from = first.map_or(0, |line| page.len().min(line.end + 1));
        let to = last.map_or(page.len(), |line| line.start.saturating_sub(1));
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(page.get(from..to).unwrap_or_default());
    }
    (Cow::Owned(out), removed)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Edge {
    First,
    Last,
}

/// What a line shares with its like on other pages.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Shape {
    /// All of its words.
    Same(Edge, String),
    /// All of its words but a number; and how far that is from the number of the page. In the order of the alphabet, since on
    /// left and right pages they stand in another.
    Counted(Edge, String, i64),
}

impl Edge {
    /// Where the first or last line of a page is that is not empty.
    fn line(self, page: &str) -> Option<Range<usize>> {
        let mut lines = page.split('\n').filter(|line| !line.trim().is_empty());
        let line = match self {
            Self::First => lines.next(),
            Self::Last => lines.next_back(),
        }?;
        let start = line.as_ptr() as usize - page.as_ptr() as usize;
        Some(start..start + line.len())
    }

    /// What may repeat of this line of the page at this place.
    fn shapes(self, line: &str, page: usize) -> Vec<Shape> {
        if line.len() > RUNNING_BYTES {
            return vec![];
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        // `Chapter 3` is a heading, `Page 3` is not.
        let mut named = words.iter().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        if let (Self::First, Some(word), None) = (self, named.next(), named.next())
            && word.starts_with(char::is_alphabetic)
            && !word.eq_ignore_ascii_case("page")
        {
            return vec![];
        }
        let mut shapes = vec![Shape::Same(self, words.join(" "))];
        // A word that stands in a line twice repeats nothing from page to page.
        let once = |at: &usize| !words[..*at].contains(&words[*at]);
        let numbers: Vec<_> = (0..words.len()).filter(once).filter_map(|at| Some((at, number(words[at])?))).collect();
        if numbers.len() <= RUNNING_NUMBERS {
            let page = i64::try_from(page).unwrap_or(i64::MAX);
            shapes.extend(numbers.into_iter().map(|(at, (value, pattern))| {
                let mut others = words.clone();
                others.remove(at);
                others.push(&pattern);
                others.sort_unstable();
                Shape::Counted(self, others.join(" "), i64::from(value) - page)
            }));
        }
        shapes
    }
}

/// The number in a word that may be that of a page (`12`, `[12]`, `A-12`, `3/10`), and the word without it. Amounts, dates and
/// versions are none.
fn number(word: &str) -> Option<(u32, String)> {
    let start = word.find(|c: char| c.is_ascii_digit())?;
    let end = word[start..].find(|c: char| !c.is_ascii_digit()).map_or(word.len(), |at| start + at);
    let rest = &word[end..];
    let of = rest.strip_prefix('/').unwrap_or(rest).trim_start_matches(|c: char| c.is_ascii_digit());
    let alone = !rest.contains(|c: char| c.is_ascii_digit());
    let of_all = rest.starts_with('/') && !of.contains(|c: char| c.is_ascii_digit());
    let value = word[start..end].parse().ok()?;
    (alone || of_all).then(|| (value, format!("{}#{rest}", &word[..start])))
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
        let text = text.join("\u{c}");
        let (found, removed) = without_running_lines(&text);
        assert_eq!(removed, 10);
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
            let (found, removed) = without_running_lines(text);
            assert_eq!(removed, 0);
            assert!(text.split(['\n', '\u{c}']).all(|line| found.contains(line)), "{found}");
        }
    }

    #[test]
    fn a_word_that_goes_on_over_many_lines_is_joined() {
        assert_eq!(
            join_wrapped(&["a state-of-", "the-", "art thing and an-", "other"]),
            "a state-of-the-art thing and another"
        );
        // Looking at the whole word with each line would be a hundred billion steps.
        let line = format!("{}-", "a".repeat(60));
        let joined = join_wrapped(&vec![line.as_str(); 60_000]);
        assert_eq!((joined.len(), joined.matches('-').count()), (60_000 * 60 + 1, 1));
    }

    #[test]
    fn rows_and_sums_at_the_ends_of_pages_are_text() {
        let page = |n: usize| {
            let (a, b) = (n * 37 % 11, n * n);
            format!(
                "{a} {a} {a} {a} {b}\nText {n}.\nTotal {b},234.0{n} EUR\n\u{c}2024-01-0{n} {b}\nMore text {n}.\n{b} {a} 7\n"
            )
        };
        let text: Vec<_> = (1..8).map(page).collect();
        let text = text.join("\u{c}");
        let (found, removed) = without_running_lines(&text);
        assert_eq!((&*found, removed), (&*text.replace('\u{c}', "\n"), 0));
        // The number of the page, left and right, beside the same words.
        let page = |n: usize| {
            let head = if n.is_multiple_of(2) { format!("{n}  On Owls 2024") } else { format!("On Owls 2024  {n}") };
            format!("{head}\nText {n}.\n{n}/9\n")
        };
        let text: Vec<_> = (3..10).map(page).collect();
        let text = text.join("\u{c}");
        let (found, removed) = without_running_lines(&text);
        assert!(!found.contains("Owls") && !found.contains('/'), "{found}");
        assert_eq!((found.matches("Text").count(), removed), (7, 14));
    }
}
