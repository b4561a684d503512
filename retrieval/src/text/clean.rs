//! Cleaning: text as a reader sees it, whatever characters a file has it in.

use unicode_normalization::UnicodeNormalization;

/// Characters that are seen by nobody and hinder searching: soft hyphens, zero-width spaces, marks of writing direction.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Prose in one line: runs of white space are one space, control and invisible characters are gone, ligatures are letters.
#[must_use]
pub fn clean_prose(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() || c == '\0' {
            gap = true;
        } else if !c.is_control() && !is_invisible(c) {
            if gap && !out.is_empty() {
                out.push(' ');
            }
            gap = false;
            push(&mut out, c);
        }
    }
    out
}

/// One line with its spacing kept: tabs are four spaces, trailing space is gone.
#[must_use]
pub fn clean_line(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '\t' => out.push_str("    "),
            c if c.is_whitespace() => out.push(' '),
            c if c.is_control() || is_invisible(c) => {}
            c => push(&mut out, c),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Lines with their spacing kept, each as [`clean_line`] makes it; more than two empty lines in a row become two.
#[must_use]
pub fn clean_code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.split('\n') {
        let line = clean_line(line);
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty <= 2 {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out.pop();
    out
}

/// Ligatures of typesetting (`ﬁ`) become the letters that a reader sees and types.
fn push(out: &mut String, c: char) {
    match c {
        '\u{fb00}'..='\u{fb06}' => out.extend(std::iter::once(c).nfkc()),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_readable() {
        assert_eq!(
            clean_prose("  the\u{a0}of\u{ad}\u{fb01}ce\r\n\t is\u{0}\u{7}closed\u{200b} "),
            "the office is closed"
        );
        assert_eq!(clean_line("\tif x:\u{c}  \r"), "    if x:");
        assert_eq!(clean_code("a\n\n\n\n\n  b\n"), "a\n\n\n  b\n");
    }
}
