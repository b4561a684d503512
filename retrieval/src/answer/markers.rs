//! Citation markers in a text that is being written: `[3]`, `[1][4]`, `[1, 4]` outside of code.
//!
//! A language model numbers by the passages it was given. What the reader sees is numbered by first use, and markers of
//! passages that do not exist, or that a [`Judge`] refuses, are dropped. The rewriting goes along with the stream, so that the
//! pieces shown together are exactly the final text.

use std::{fmt::Debug, sync::Arc};

/// Bytes of a marker at most; a longer bracket is ordinary text.
const MAX_MARKER: usize = 24;
/// Bytes of a paragraph's end that a marker is judged by at least, and at most twice that.
const JUDGED_BY: usize = 4096;
/// Markers that are judged: more than an answer has by far. Those behind them are left out.
const MAX_JUDGED: usize = 1000;

/// What becomes of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stands.
    Stands,
    /// It belongs to this passage instead, from 1.
    Belongs(usize),
    /// It belongs to none.
    Unfounded,
}

/// Who judges markers by the text that they close.
pub(super) trait Judge: Debug + Send + Sync {
    /// Of a marker of passage `passage`, from 1, behind `paragraph` up to here and markers of the passages `beside`.
    fn judge(&self, paragraph: &str, beside: &[usize], passage: usize) -> Verdict;
}

/// How many markers were judged not to stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// Counted for another passage.
    pub(super) moved: usize,
    /// Left out.
    pub(super) dropped: usize,
}

/// Rewrites a text piece by piece.
#[derive(Debug)]
pub(super) struct Markers {
    judge: Arc<dyn Judge>,
    passages: usize,
    /// What was written since the last empty line.
    paragraph: String,
    /// The passages of the markers that were written last, with nothing between.
    beside: Vec<usize>,
    judged: Judged,
    /// How many have been judged at all.
    seen: usize,
    /// Passages in the order of first use, from 1; each one's place is its new number.
    used: Vec<usize>,
    /// A bracket that may become a marker.
    held: String,
    /// Whether a space is held back: before a marker that is dropped there is none.
    gap: bool,
    code: Code,
    /// Length of the run of backticks that is being read.
    ticks: usize,
    /// Whether the last character was a line break.
    line_ended: bool,
    /// Bytes written so far.
    written: usize,
    /// For each use: the byte offset of its marker in the text, and the passage.
    uses: Vec<(usize, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    None,
    /// Opened by so many backticks.
    Open(usize),
}

impl Markers {
    /// For a text that may cite passages 1 to `passages`.
    pub(super) const fn new(passages: usize, judge: Arc<dyn Judge>) -> Self {
        Self {
            judge,
            passages,
            paragraph: String::new(),
            beside: vec![],
            judged: Judged { moved: 0, dropped: 0 },
            seen: 0,
            used: vec![],
            held: String::new(),
            gap: false,
            code: Code::None,
            ticks: 0,
            line_ended: false,
            written: 0,
            uses: vec![],
        }
    }

    /// What can be shown after `piece`.
    pub(super) fn push(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len() + self.held.len());
        for c in piece.chars() {
            self.character(c, &mut out);
        }
        out
    }

    /// What was held back.
    pub(super) fn finish(&mut self) -> String {
        let (held, mut rest) = (std::mem::take(&mut self.held), String::new());
        self.write(&held, &mut rest);
        rest
    }

    /// The cited passages, from 1, each at the place of its new number.
    pub(super) fn cited(&self) -> &[usize] {
        &self.used
    }

    /// How many markers did not stand.
    pub(super) const fn judged(&self) -> Judged {
        self.judged
    }

    /// Where passage `n` is first cited: the byte offset of the marker in the rewritten text.
    pub(super) fn first_use(&self, n: usize) -> Option<usize> {
        self.uses.iter().find(|(_, passage)| *passage == n).map(|(at, _)| *at)
    }

    fn character(&mut self, c: char, out: &mut String) {
        if !self.held.is_empty() {
            match c {
                ']' => return self.close(out),
                '0'..='9' | ',' | ' ' if self.held.len() < MAX_MARKER => return self.held.push(c),
                _ => {
                    let held = std::mem::take(&mut self.held);
                    self.write(&held, out);
                }
            }
        }
        if !matches!(c, '[' | ' ') {
            self.beside.clear();
        }
        self.track_code(c);
        if c == '[' && self.code == Code::None {
            self.held.push(c);
        } else if c == ' ' {
            self.write("", out);
            self.gap = true;
        } else {
            self.write(c.encode_utf8(&mut [0; 4]), out);
        }
    }

    fn close(&mut self, out: &mut String) {
        let held = std::mem::take(&mut self.held);
        let numbers: Vec<usize> = held[1..].split(',').filter_map(|n| n.trim().parse().ok()).collect();
        if numbers.is_empty() {
            self.write(&held, out);
            return self.write("]", out);
        }
        for passage in numbers.into_iter().filter(|n| (1..=self.passages).contains(n)).collect::<Vec<_>>() {
            let Some(passage) = self.founded(passage) else { continue };
            let place = self.used.iter().position(|known| *known == passage).unwrap_or_else(|| {
                self.used.push(passage);
                self.used.len() - 1
            });
            self.write("", out);
            self.uses.push((self.written, passage));
            self.beside.push(passage);
            self.write(&format!("[{}]", place + 1), out);
        }
        self.gap = false;
        self.line_ended = false;
    }

    /// The passage that a marker counts for.
    fn founded(&mut self, passage: usize) -> Option<usize> {
        self.seen += 1;
        let verdict = match self.seen {
            ..=MAX_JUDGED => self.judge.judge(&self.paragraph, &self.beside, passage),
            _ => Verdict::Unfounded,
        };
        match verdict {
            Verdict::Stands => Some(passage),
            Verdict::Belongs(other) => {
                self.judged.moved += 1;
                Some(other)
            }
            Verdict::Unfounded => {
                self.judged.dropped += 1;
                None
            }
        }
    }

    /// Code opens with a run of backticks and ends with one as long; a run of one or two ends with its paragraph at the
    /// latest, so that a stray backtick does not hide all markers behind it.
    fn track_code(&mut self, c: char) {
        if c == '`' {
            self.ticks += 1;
            self.line_ended = false;
            return;
        }
        let run = std::mem::take(&mut self.ticks);
        self.code = match self.code {
            Code::None if run > 0 => Code::Open(run),
            Code::Open(opened) if run == opened || (opened >= 3 && run > opened) => Code::None,
            Code::Open(1 | 2) if c == '\n' && self.line_ended => Code::None,
            code => code,
        };
        self.line_ended = c == '\n';
    }

    /// Writes what is held back of space, and this.
    fn write(&mut self, text: &str, out: &mut String) {
        for text in [if std::mem::take(&mut self.gap) { " " } else { "" }, text] {
            self.written += text.len();
            out.push_str(text);
            self.paragraph.push_str(text);
        }
        if self.paragraph.ends_with("\n\n") {
            self.paragraph.clear();
        }
        if self.paragraph.len() > 2 * JUDGED_BY {
            let end = self.paragraph.ceil_char_boundary(self.paragraph.len() - JUDGED_BY);
            self.paragraph.drain(..end);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lets everything stand, but not what closes `no`, and counts for passage 3 what closes `three`.
    #[derive(Debug)]
    struct ByWord;

    impl Judge for ByWord {
        fn judge(&self, paragraph: &str, beside: &[usize], _: usize) -> Verdict {
            match paragraph.split_whitespace().next_back() {
                Some("no") => Verdict::Unfounded,
                Some("three") if !beside.contains(&3) => Verdict::Belongs(3),
                _ => Verdict::Stands,
            }
        }
    }

    fn rewrite(text: &str, passages: usize) -> (String, Vec<usize>) {
        let mut markers = Markers::new(passages, Arc::new(ByWord));
        let text = markers.push(text) + &markers.finish();
        (text, markers.cited().to_vec())
    }

    #[test]
    fn markers_are_numbered_by_first_use() {
        for (text, shown, cited) in [
            ("A [3]. B [1][3].", "A [1]. B [2][1].", vec![3, 1]),
            ("A [2, 4]!", "A [1][2]!", vec![2, 4]),
            ("A [9] and [0].  [9] B  ", "A and.  B  ", vec![]),
            ("a[i] [x](y) [] [ ]", "a[i] [x](y) [] [ ]", vec![]),
            ("`a[1]` and [2] ``b[1] ` [1]`` [1]", "`a[1]` and [1] ``b[1] ` [1]`` [2]", vec![2, 1]),
            ("```\na[1]\n```\n[2]", "```\na[1]\n```\n[1]", vec![2]),
            ("a stray ` here\n\nthen [2]", "a stray ` here\n\nthen [1]", vec![2]),
            ("open [1", "open [1", vec![]),
            ("[[1]]", "[[1]]", vec![1]),
        ] {
            assert_eq!(rewrite(text, 4), (shown.to_owned(), cited), "{text}");
        }
    }

    #[test]
    fn the_first_use_is_where_the_marker_stands() {
        let mut markers = Markers::new(3, Arc::new(ByWord));
        let text = markers.push("One [2]. Two [3][2].");
        assert_eq!(markers.first_use(3).map(|at| &text[at..at + 3]), Some("[2]"));
        assert_eq!(markers.first_use(1), None);
    }

    #[test]
    fn markers_that_do_not_stand_are_moved_or_left_out() {
        let mut markers = Markers::new(4, Arc::new(ByWord));
        let text = markers.push("Yes [2]. Says no [1]. And three [4][2].\n\n[1]") + &markers.finish();
        assert_eq!(text, "Yes [1]. Says no. And three [2][1].\n\n[3]");
        assert_eq!((markers.cited(), markers.judged()), ([2, 3, 1].as_slice(), Judged { moved: 1, dropped: 1 }));
    }

    #[test]
    fn a_text_without_an_end_costs_in_proportion() {
        let mut markers = Markers::new(2, Arc::new(ByWord));
        let text = markers.push(&"é said [1] no [2] ".repeat(20_000)) + &markers.finish();
        assert!(markers.paragraph.len() <= 2 * JUDGED_BY + 64);
        assert_eq!((text.matches('[').count(), markers.judged().dropped), (MAX_JUDGED / 2, 40_000 - MAX_JUDGED / 2));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "([\\[\\]0-9, a`\\né]|no |three ){0,60}", cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let mut markers = Markers::new(5, Arc::new(ByWord));
            let mut shown = String::new();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| text.floor_char_boundary(cut)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            for cut in cuts.windows(2) {
                shown += &markers.push(&text[cut[0]..cut[1]]);
            }
            shown += &markers.finish();
            prop_assert_eq!((shown, markers.cited().to_vec()), rewrite(&text, 5));
        }
    }
}
