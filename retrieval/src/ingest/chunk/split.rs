//! Splits a block that is too long for one passage: prose between sentences, tables and code between lines, and where
//! there is no such seam, between words, then between characters.

use lmao_ports::TokenSpan;
use unicode_segmentation::UnicodeSegmentation;

use super::{Budget, OVERLAP};
use crate::text::{Kind, mark};

/// How lines begin that are about the next one: comments, attributes, decorators of the usual languages.
const COMMENTS: &[&str] = &["#", "//", "/*", "* ", "*/", "@", "--", "\"\"\""];

/// Parts from which on a block is long.
const LONG_BLOCK: usize = 8;

/// What a change may cost: many parts behind it, or few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stakes {
    Low,
    High,
}

/// A part of a block, in bytes of it, without white space at its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) tokens: usize,
    /// Where the last sentence of the part before begins, and the tokens from there to the end, if both fit together.
    pub(super) overlap: Option<(usize, usize)>,
}

/// A place where a block may be parted; lower ranks are better.
#[derive(Debug, Clone, Copy)]
struct Seam {
    at: usize,
    rank: usize,
}

/// The parts of a block with these tokens: one if it is short enough.
pub(super) fn split(text: &str, tokens: &[TokenSpan], kind: Kind, budget: Budget) -> Vec<Cut> {
    let count = |start: usize, end: usize| {
        let from = tokens.partition_point(|token| token.start < start);
        tokens[from..].partition_point(|token| token.start < end)
    };
    if tokens.len() <= budget.max {
        return vec![Cut { start: 0, end: text.len(), tokens: tokens.len(), overlap: None }];
    }
    let seams = seams(text, kind);
    let stakes = if tokens.len() > LONG_BLOCK * budget.target { Stakes::High } else { Stakes::Low };
    let mut cuts: Vec<Cut> = vec![];
    let mut start = 0;
    let mut seam = 0;
    while start < text.len() {
        let rest = count(start, text.len());
        // The last two parts share what is left, rather than leaving a scrap.
        let wanted = if rest <= budget.max { rest } else { budget.target.min(rest.div_ceil(2).max(1)) };
        let end = if rest <= budget.max {
            text.len()
        } else {
            let from = tokens.partition_point(|token| token.start < start);
            let far = tokens.get(from + wanted).map_or(text.len(), |token| token.start);
            while seams.get(seam).is_some_and(|seam| seam.at <= start) {
                seam += 1;
            }
            best(text, &seams[seam..], start, text.floor_char_boundary(far).max(start), stakes)
        };
        let from = start + (text[start..end].len() - text[start..end].trim_start_matches('\n').len());
        let to = start + text[start..end].trim_end().len();
        if to > from {
            let tokens = count(from, to);
            let overlap = (kind == Kind::Paragraph || kind == Kind::List)
                .then(|| cuts.last().and_then(|last| repeated(&seams, last, from)))
                .flatten()
                .map(|at| (at, count(at, to)))
                .filter(|(at, all)| count(*at, from) <= OVERLAP && *all <= budget.max);
            cuts.push(Cut { start: from, end: to, tokens, overlap });
        }
        start = end;
    }
    cuts
}

/// Where the last sentence of the part before begins, unless it is all of that part.
fn repeated(seams: &[Seam], before: &Cut, from: usize) -> Option<usize> {
    let upto = seams.partition_point(|seam| seam.at < before.end.min(from));
    let at = seams[..upto].last()?.at;
    (at > before.start).then_some(at)
}

/// The best place in `(start, far]` to end a part that begins at `start`. Among equals it is chosen by what stands behind it, so
/// that after a change further up parts soon end where they did before: in a short block from the last quarter, in a long one
/// from half of it, since there more is at stake.
fn best(text: &str, seams: &[Seam], start: usize, far: usize, stakes: Stakes) -> usize {
    let length = far.saturating_sub(start);
    let middle = start + length / 2;
    let late = if stakes == Stakes::High { middle } else { start + length / 4 * 3 };
    let within = seams.iter().take_while(|seam| seam.at <= far);
    let rank = |seam: &&Seam| (seam.rank, seam.at < late, mark(&text[seam.at..]));
    let second_half = within.clone().filter(|seam| seam.at >= middle).min_by_key(rank);
    if let Some(seam) = second_half.or_else(|| within.last()) {
        return seam.at;
    }
    let window = &text[start..far];
    let word = window.rfind(char::is_whitespace).filter(|at| *at > 0).map(|at| text.ceil_char_boundary(start + at + 1));
    let next = || start + text[start..].chars().next().map_or(1, char::len_utf8);
    word.filter(|at| *at <= far).unwrap_or(far).max(next())
}

fn seams(text: &str, kind: Kind) -> Vec<Seam> {
    match kind {
        Kind::Heading(_) | Kind::Paragraph | Kind::List => {
            text.split_sentence_bound_indices().skip(1).map(|(at, _)| Seam { at, rank: 0 }).collect()
        }
        Kind::Table => lines(text).skip(1).map(|(at, _)| Seam { at, rank: 0 }).collect(),
        Kind::Code => {
            let mut after_empty = false;
            let mut after_comment = false;
            let mut seams = vec![];
            for (at, line) in lines(text) {
                if line.trim().is_empty() {
                    after_empty = true;
                    continue;
                }
                let indent = line.len() - line.trim_start().len();
                let bracket = line.trim_start().starts_with(['{', '}', ')', ']']);
                // Least indentation first, an empty line above is better than none; a bracket never begins a part, and what a
                // comment or an attribute is about stays with it.
                let never = bracket || after_comment && !after_empty;
                seams.push(Seam { at, rank: indent * 2 + usize::from(!after_empty) + usize::from(never) * 1000 });
                after_empty = false;
                after_comment = COMMENTS.iter().any(|mark| line.trim_start().starts_with(mark));
            }
            seams.retain(|seam| seam.at > 0);
            seams
        }
    }
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    })
}
