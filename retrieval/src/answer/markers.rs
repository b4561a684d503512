//! Citation markers in a text that is being written: `[3]`, `[1][4]`, `[1, 4]` outside of code.
//!
//! A language model numbers by the passages it was given. What the reader sees is numbered by first use, and markers of
//! passages that do not exist are dropped. The rewriting goes along with the stream, so that the pieces shown together are
//! exactly the final text.

/// Bytes of a marker at most; a longer bracket is ordinary text.
const MAX_MARKER: usize = 24;

/// Rewrites a text piece by piece.
#[derive(Debug)]
pub(super) struct Markers {
    passages: usize,
    /// Passages in the order of first use, from 1; each one's place is its new number.
    used: Vec<usize>,
    /// A bracket that may become a marker.
    held: String,
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
    pub(super) const fn new(passages: usize) -> Self {
        Self {
            passages,
            used: vec![],
            held: String::new(),
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
        let rest = std::mem::take(&mut self.held);
        self.written += rest.len();
        rest
    }

    /// The cited passages, from 1, each at the place of its new number.
    pub(super) fn cited(&self) -> &[usize] {
        &self.used
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
        self.track_code(c);
        if c == '[' && self.code == Code::None {
            self.held.push(c);
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
            let place = self.used.iter().position(|known| *known == passage).unwrap_or_else(|| {
                self.used.push(passage);
                self.used.len() - 1
            });
            self.uses.push((self.written, passage));
            self.write(&format!("[{}]", place + 1), out);
        }
        self.line_ended = false;
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

    fn write(&mut self, text: &str, out: &mut String) {
        self.written += text.len();
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewrite(text: &str, passages: usize) -> (String, Vec<usize>) {
        let mut markers = Markers::new(passages);
        let text = markers.push(text) + &markers.finish();
        (text, markers.cited().to_vec())
    }

    #[test]
    fn markers_are_numbered_by_first_use() {
        for (text, shown, cited) in [
            ("A [3]. B [1][3].", "A [1]. B [2][1].", vec![3, 1]),
            ("A [2, 4]!", "A [1][2]!", vec![2, 4]),
            ("A [9] and [0].", "A  and .", vec![]),
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
        let mut markers = Markers::new(3);
        let text = markers.push("One [2]. Two [3][2].");
        assert_eq!(markers.first_use(3).map(|at| &text[at..at + 3]), Some("[2]"));
        assert_eq!(markers.first_use(1), None);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[\\[\\]0-9, a`\\né]{0,60}", cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let mut markers = Markers::new(5);
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
