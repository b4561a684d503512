//! Programs by their syntax trees: a function, a type with its members, a statement at the top level is a unit, with the comments
//! and attributes above it. A unit that is too long is taken apart into its members, each of which knows by its section whose it
//! is; what has no members is split between lines.

mod label;
mod syntax;
mod units;

use lmao_ports::TokenSpan;

use super::{Budget, Outline, split};
use crate::text::Kind;
use syntax::Part;
pub(in crate::ingest) use syntax::{Syntax, parse};

/// Whether parsing a program may tell anything.
pub(super) fn is_parsable(text: &str, language: &str) -> bool {
    text.len() <= syntax::MAX_BYTES && syntax::has_grammar(language)
}

/// A program in a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    /// Of all of it.
    pub(super) tokens: &'a [TokenSpan],
    /// That it lies in.
    pub(super) section: Option<u32>,
    pub(super) budget: Budget,
}

impl<'a> Source<'a> {
    fn tokens_in(&self, start: usize, end: usize) -> &'a [TokenSpan] {
        let from = self.tokens.partition_point(|token| token.start < start);
        let upto = self.tokens.partition_point(|token| token.start < end);
        &self.tokens[from..upto]
    }
}

/// A part of a program that fits into one passage. Bytes of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) tokens: usize,
    /// Whose member it is, or that of the whole program.
    pub(super) section: Option<u32>,
    /// What it is, if it has a name.
    pub(super) label: Option<String>,
}

/// The units of a program, in order; together they are all of it but white space. Types that are taken apart become sections
/// below that of the program.
pub(super) fn units(syntax: &Syntax, source: &Source<'_>, outline: &mut Outline) -> Vec<Unit> {
    if let Some(unit) = whole(&syntax.parts, source) {
        return vec![unit];
    }
    let mut found = vec![];
    // As deep as parts lie in each other.
    let mut open = vec![(syntax.parts.iter(), source.section)];
    while let Some((parts, section)) = open.last_mut() {
        let section = *section;
        let Some(part) = parts.next() else {
            open.pop();
            continue;
        };
        let tokens = source.tokens_in(part.start, part.end);
        if tokens.len() <= source.budget.max || part.members.is_empty() {
            lines(part, tokens, source, |start, end, tokens| {
                found.push(Unit { start, end, tokens, section, label: part.name.clone() });
            });
        } else {
            let section = part.name.as_deref().map_or(section, |title| Some(outline.child(section, title)));
            open.push((part.members.iter(), section));
        }
    }
    found
}

/// A program that is no longer than a passage should be.
fn whole(parts: &[Part], source: &Source<'_>) -> Option<Unit> {
    let (first, last) = (parts.first()?, parts.last()?);
    let tokens = source.tokens_in(first.start, last.end).len();
    let mut labels = parts.iter().filter_map(|part| part.name.clone());
    let label = labels.next().filter(|_| labels.next().is_none());
    (tokens <= source.budget.target).then_some(Unit {
        start: first.start,
        end: last.end,
        tokens,
        section: source.section,
        label,
    })
}

/// A part in stretches that fit, between lines.
fn lines(part: &Part, tokens: &[TokenSpan], source: &Source<'_>, mut stretch: impl FnMut(usize, usize, usize)) {
    let shifted = |token: &TokenSpan| TokenSpan { start: token.start - part.start, end: token.end - part.start };
    if tokens.len() <= source.budget.max {
        return stretch(part.start, part.end, tokens.len());
    }
    let tokens: Vec<TokenSpan> = tokens.iter().map(shifted).collect();
    for cut in split::split(&source.text[part.start..part.end], &tokens, Kind::Code, source.budget) {
        stretch(part.start + cut.start, part.start + cut.end, cut.tokens);
    }
}

#[cfg(test)]
mod tests;
