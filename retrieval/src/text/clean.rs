//! Cleaning: text as a reader sees it, whatever characters a file has it in.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Characters that are seen by nobody and hinder searching: soft hyphens, zero-width spaces, marks of writing direction.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Prose in one line: runs of white space are one space, control and invisible characters are gone, ligatures are letters,
/// characters are composed (Unicode NFC). A word that was parted at a soft hyphen is whole.
#[must_use]
pub fn clean_prose(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = false;
    let mut parted = false;
    for c in text.chars() {
        if c.is_whitespace() || c == '\0' {
            // Only a line break parts a word: behind other white space another one begins.
            parted &= matches!(c, '\n' | '\r') || gap;
            gap = true;
        } else if c == '\u{ad}' {
            parted = !gap;
        } else if !c.is_control() && !is_invisible(c) {
            if gap && !parted && !out.is_empty() {
                out.push(' ');
            }
            gap = false;
            parted = false;
            push(&mut out, c);
        }
    }
    composed(out)
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
    composed(out)
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

/// In Unicode's composed form (NFC), in which equal texts have equal bytes.
fn composed(text: String) -> String {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes { text } else { text.nfc().collect() }
}

/// How short paragraphs of a web page begin that are there for the page, not for its text.
const BANNERS: &[&str] = &[
    "we use cookies",
    "we and our partners use cookies",
    "this website uses cookies",
    "this site uses cookies",
    "our website uses cookies",
    "by continuing to use this site",
    "by using this site, you agree",
    "sign up for our newsletter",
    "subscribe to our newsletter",
    "you need to enable javascript",
    "please enable javascript",
];
/// Paragraphs that are nothing but a link or a button.
const LINKS: &[&str] = &[
    "skip to content",
    "skip to main content",
    "skip to navigation",
    "jump to navigation",
    "accept all cookies",
    "accept cookies",
    "reject all cookies",
    "manage cookies",
    "cookie settings",
    "cookie preferences",
    "back to top",
    "share this page",
    "share this article",
    "all rights reserved",
];
/// Boilerplate is no longer than this: a text about cookies is a text.
const BOILERPLATE_CHARS: usize = 240;

/// Whether a paragraph of a web page, already clean, is no part of its text: banners about cookies, links for skipping, lines of
/// rights. For web pages only, since anywhere else somebody wrote it down on purpose.
#[must_use]
pub fn is_boilerplate(paragraph: &str) -> bool {
    if paragraph.chars().nth(BOILERPLATE_CHARS).is_some() {
        return false;
    }
    let text = paragraph.to_lowercase();
    let text = text.trim_matches(|c: char| !c.is_alphanumeric());
    let rights = text.starts_with("copyright ") || paragraph.starts_with('©');
    LINKS.contains(&text)
        || BANNERS.iter().any(|words| text.starts_with(words))
        || rights && text.ends_with("all rights reserved")
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
        assert_eq!(clean_prose("an exam\u{ad}\n  ple, soft\u{ad}ly, end\u{ad} here"), "an example, softly, end here");
        assert_eq!((clean_prose("Scho\u{308}n"), clean_line("e\u{301}")), ("Schön".to_owned(), "é".to_owned()));
        assert_eq!(clean_line("\tif x:\u{c}  \r"), "    if x:");
        assert_eq!(clean_code("a\n\n\n\n\n  b\n"), "a\n\n\n  b\n");
    }

    #[test]
    fn what_is_there_for_the_page_is_told_from_its_text() {
        for words in [
            "Skip to content",
            "We use cookies to improve your experience. Accept all",
            "© 2024 Moss Ltd. All rights reserved.",
        ] {
            assert!(is_boilerplate(words), "{words}");
        }
        let long = format!("We use cookies {}", "to store the session of a user who has signed in ".repeat(6));
        for words in [
            "Cookies are small files.",
            "Cookie settings are kept in a file.",
            "All rights come with duties.",
            "© is a sign.",
            &long,
        ] {
            assert!(!is_boilerplate(words), "{words}");
        }
    }
}
