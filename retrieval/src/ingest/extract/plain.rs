//! Plain text: paragraphs parted by empty lines. Hard-wrapped prose is joined, so that sentences can be found in it;
//! lists, headings by convention and lines that look arranged by hand keep their form.

use lmao_events::Failure;

use super::{Extraction, finish};
use crate::text::{Builder, join_wrapped, without_running_lines};

/// Lines shorter than this are not taken for wrapped prose.
const WRAPPED_CHARS: usize = 40;
/// A heading is no longer than this.
const HEADING_CHARS: usize = 80;

pub(super) fn extract(text: &str) -> Result<Extraction, Failure> {
    let mut builder = Builder::new();
    let mut paragraph: Vec<&str> = vec![];
    let (text, removed) = without_running_lines(text);
    for line in text.split('\n') {
        if line.trim().is_empty() {
            flush(&mut builder, &mut paragraph);
        } else {
            paragraph.push(line);
        }
    }
    flush(&mut builder, &mut paragraph);
    let mut extraction = finish(builder, None, None)?;
    if removed > 0 {
        extraction.warnings.push(format!(
            "{removed} lines that repeat at the top or bottom of the pages (headers, footers, page numbers) were left out"
        ));
    }
    Ok(extraction)
}

fn flush(builder: &mut Builder, lines: &mut Vec<&str>) {
    match lines.as_slice() {
        [] => {}
        [line] => match heading_level(line) {
            Some(level) => builder.heading(level, line),
            None => lone(builder, line),
        },
        [title, rule] if underline(rule).is_some() && is_short(title) => {
            builder.heading(underline(rule).unwrap_or(2), title);
        }
        lines if lines.iter().any(|line| marker(line).is_some()) => list(builder, lines),
        lines if is_wrapped(lines) => builder.paragraph(&join_wrapped(lines)),
        lines => builder.code(&lines.join("\n")),
    }
    lines.clear();
}

/// A paragraph of one line.
fn lone(builder: &mut Builder, line: &str) {
    match marker(line) {
        Some((marker, rest)) => builder.item(depth(line), marker, rest),
        None if line.trim().contains("   ") => builder.code(line),
        None => builder.paragraph(line),
    }
}

/// Items with their continued lines; what comes before the first item is a paragraph.
fn list(builder: &mut Builder, lines: &[&str]) {
    let mut at = 0;
    while at < lines.len() {
        let end = (at + 1..lines.len()).find(|next| marker(lines[*next]).is_some()).unwrap_or(lines.len());
        let rest = || lines[at + 1..end].iter().flat_map(|line| ["\n", line]).collect::<String>();
        match marker(lines[at]) {
            Some((marker, first)) => builder.item(depth(lines[at]), marker, &format!("{first}{}", rest())),
            None if is_wrapped(&lines[at..end]) || end - at == 1 => builder.paragraph(&join_wrapped(&lines[at..end])),
            None => builder.code(&lines[at..end].join("\n")),
        }
        at = end;
    }
}

/// Whether these lines are one paragraph that somebody wrapped: long lines with one indentation, no columns.
fn is_wrapped(lines: &[&str]) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let (Some((last, body)), Some(second)) = (lines.split_last(), lines.get(1)) else { return true };
    let long = |line: &&str| line.trim().len() >= WRAPPED_CHARS;
    body.iter().filter(|line| long(line)).count() * 10 >= body.len() * 8
        && lines[1..].iter().all(|line| indent(line) == indent(second))
        && indent(lines[0]).abs_diff(indent(second)) <= 8
        && !lines.iter().any(|line| line.trim().contains("   ") || line.contains('|') || line.trim().contains('\t'))
        && last.len() <= body.iter().map(|line| line.len()).max().unwrap_or(0) + 20
}

/// `- item`, `* item`, `3. item`, `(a) item`: marker and what follows.
fn marker(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let (first, rest) = line.split_once([' ', '\t'])?;
    let body = first.strip_prefix('(').unwrap_or(first);
    let number = body.strip_suffix(['.', ')']).filter(|number| number.len() <= 3);
    let counted = number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            || number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_lowercase())
    });
    let bullet = matches!(first, "-" | "*" | "+" | "•" | "–" | "o");
    // `o` and `a.` also begin sentences: only before an indented text.
    let sure = !matches!(first, "o") || rest.starts_with(' ');
    ((bullet || counted) && sure && !rest.trim().is_empty()).then_some((first, rest))
}

/// How deep a list item is, by its indentation.
fn depth(line: &str) -> usize {
    (line.len() - line.trim_start().len()) / 4 + 1
}

fn is_short(line: &str) -> bool {
    line.trim().chars().count() <= HEADING_CHARS
}

/// The level of a heading that is underlined with this.
fn underline(line: &str) -> Option<u8> {
    let line = line.trim();
    let of = |c: char| line.len() >= 3 && line.chars().all(|other| other == c);
    if of('=') {
        Some(1)
    } else if of('-') || of('~') || of('^') {
        Some(2)
    } else {
        None
    }
}

/// Whether a line on its own is a heading by convention: numbered (`2.1 Scope`) or in capitals (`NAME`).
fn heading_level(line: &str) -> Option<u8> {
    let line = line.trim_end();
    if !is_short(line) || line.ends_with(['.', ',', ';', ':', '!', '?']) || line.trim().contains("   ") {
        return None;
    }
    let letters = line.chars().filter(|c| c.is_alphabetic());
    if letters.clone().count() >= 3 && letters.clone().all(char::is_uppercase) && !line.starts_with(' ') {
        return Some(1);
    }
    let (number, title) = line.split_once(' ')?;
    let parts: Vec<_> = number.trim_end_matches('.').split('.').collect();
    let numbered = parts.iter().all(|part| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()));
    let titled = title.trim_start().starts_with(char::is_uppercase);
    (numbered && titled && title.len() >= 3).then(|| u8::try_from(parts.len()).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::ingest::extract::tests::outline;

    fn check(text: &str, expected: &Expect) {
        expected.assert_eq(&outline(&extract(text).unwrap().document));
    }

    #[test]
    fn wrapped_prose_is_joined_and_arranged_lines_are_kept() {
        check(
            "Title of it all\n===============\n\nThis is a paragraph that somebody wrapped at a column\nso that it takes \
             two lines.\n\n2.1  Scope\n\nA list follows:\n - first, which goes on\n   here\n - second\n\n\
             a     b     c\n1     2     3\n\nRoses are red\nViolets are blue\n",
            &expect![[r#"
                heading(1) "Title of it all"
                paragraph "This is a paragraph that somebody wrapped at a column so that it takes two lines." in Title of it all
                heading(2) "2.1 Scope" in Title of it all
                paragraph "A list follows:" in Title of it all > 2.1 Scope
                list "- first, which goes on here" in Title of it all > 2.1 Scope
                list "- second" in Title of it all > 2.1 Scope
                code "a     b     c\n1     2     3" in Title of it all > 2.1 Scope
                code "Roses are red\nViolets are blue" in Title of it all > 2.1 Scope
            "#]],
        );
    }

    #[test]
    fn what_is_left_out_of_pages_is_told() {
        let pages: Vec<_> = (1..5).map(|n| format!("Words of chapter {}.\n\n- {n} -\n", n * n)).collect();
        let found = extract(&pages.join("\u{c}")).unwrap();
        assert_eq!(found.document.text.matches("Words of chapter").count(), 4);
        assert!(!found.document.text.contains("- 2 -"), "{}", found.document.text);
        assert_eq!(found.warnings.len(), 1);
        assert!(found.warnings[0].starts_with("4 lines that repeat"), "{:?}", found.warnings);
    }
}
