//! Rendering quotes as Markdown.

use lmao_events::Citation;
use lmao_ports::Hit;

use super::{cite, readable::cells, select::Candidate, sentence::Kind};

/// What stands before the quotes.
const LEAD: &str = "From your documents:";

/// The text of an answer by quotes, in the pieces in which it is shown, with its citations.
pub(super) fn render(hits: &[Hit], chosen: &[Candidate]) -> (Vec<String>, Vec<Citation>) {
    let mut parts = vec![LEAD.to_owned()];
    let mut citations = vec![];
    let mut before: Option<&Candidate> = None;
    for (at, candidate) in chosen.iter().enumerate() {
        let hit = &hits[candidate.hit];
        let citation = cite(at + 1, hit, candidate.range.clone());
        let flows = before.is_some_and(|before| {
            hits[before.hit].document_id == hit.document_id
                && (before.kind, candidate.kind) == (Kind::Sentence, Kind::Sentence)
        });
        let gap = if flows { " " } else { "\n\n" };
        parts.push(match candidate.kind {
            Kind::Sentence | Kind::Item => format!("{gap}{} [{}]", line(&citation.quote), citation.n),
            Kind::Row => format!("{gap}{} [{}]", line(&row(&citation.quote)), citation.n),
            Kind::List => format!("{gap}{} [{}]", unnumbered(&citation.quote), citation.n),
            Kind::Code => format!("{gap}{}\n[{}]", fenced(&citation.quote), citation.n),
        });
        citations.push(citation);
        before = Some(candidate);
    }
    (parts, citations)
}

/// A row's cells as text.
fn row(quote: &str) -> String {
    cells(quote).collect::<Vec<_>>().join(" — ").replace("\\|", "|")
}

/// A quote on one line.
pub(super) fn line(quote: &str) -> String {
    let mut shown = String::with_capacity(quote.len());
    for (n, word) in quote.split_whitespace().enumerate() {
        if n > 0 {
            shown.push(' ');
        }
        shown.push_str(word);
    }
    unnumbered(&shown)
}

/// A quote in which `[1]` is not taken for a citation.
fn unnumbered(quote: &str) -> String {
    let mut shown = quote.to_owned();
    for (at, _) in quote.match_indices('[').collect::<Vec<_>>().into_iter().rev() {
        let rest = &quote[at + 1..];
        let digits =
            rest.bytes().take_while(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b' ' | b'-')).count();
        if digits > 0 && rest[digits..].starts_with(']') {
            shown.insert(at, '\\');
        }
    }
    shown
}

/// A quote as a code block, whose fence is longer than any within it.
fn fenced(quote: &str) -> String {
    let longest = quote.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{quote}\n{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotes_own_numbers_are_no_citations() {
        assert_eq!(line("as shown\n  in [3], [4, 5] and a[i]"), "as shown in \\[3], \\[4, 5] and a[i]");
    }

    #[test]
    fn a_fence_is_longer_than_those_within() {
        assert_eq!(fenced("a ```` b"), "`````\na ```` b\n`````");
        assert_eq!(fenced("let a = 1;"), "```\nlet a = 1;\n```");
    }
}
