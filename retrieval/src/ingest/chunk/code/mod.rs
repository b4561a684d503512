//! Programs by their syntax trees: a function, a type with its members, a statement at the top level is a unit, with the comments
//! and attributes above it. A unit that is too long is taken apart into its members, each of which knows by its section whose it
//! is; what has no members is split between lines.

mod label;
mod syntax;
mod units;

use lmao_ports::TokenSpan;
use tree_sitter::{Node, Tree};

use super::{Budget, Outline, split};
use crate::text::Kind;
pub(super) use syntax::parse;
use units::Item;

/// Types in modules in namespaces: units within units are looked for this deep.
const MAX_NESTING: usize = 8;

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
pub(super) fn units(tree: &Tree, source: &Source<'_>, outline: &mut Outline) -> Vec<Unit> {
    let text = source.text;
    let items = units::items(tree.root_node(), 0, text.len(), text);
    if let Some(unit) = whole(&items, source) {
        return vec![unit];
    }
    let mut found = vec![];
    let mut open = vec![(items.into_iter(), source.section)];
    while let Some((items, section)) = open.last_mut() {
        let section = *section;
        let Some(item) = items.next() else {
            open.pop();
            continue;
        };
        let tokens = source.tokens_in(item.start, item.end);
        let fits = tokens.len() <= source.budget.max;
        let members = if fits || open.len() > MAX_NESTING { vec![] } else { members(&item, text) };
        if members.is_empty() {
            let label = item.node.and_then(|node| label::of(node, text));
            lines(&item, tokens, source.budget, |start, end, tokens| {
                found.push(Unit { start, end, tokens, section, label: label.clone() });
            });
        } else {
            let title = item.node.and_then(|node| label::signature(node, text));
            let section = title.map_or(section, |title| Some(outline.child(section, &title)));
            open.push((members.into_iter(), section));
        }
    }
    found
}

/// A program that is no longer than a passage should be.
fn whole(items: &[Item<'_>], source: &Source<'_>) -> Option<Unit> {
    let (first, last) = (items.first()?, items.last()?);
    let tokens = source.tokens_in(first.start, last.end).len();
    let mut labels = items.iter().filter_map(|item| label::of(item.node?, source.text));
    let label = labels.next().filter(|_| labels.next().is_none());
    (tokens <= source.budget.target).then_some(Unit {
        start: first.start,
        end: last.end,
        tokens,
        section: source.section,
        label,
    })
}

/// What a unit consists of: its head, then its members, of which the last has what closes it; none where it has no members.
fn members<'tree>(item: &Item<'tree>, text: &'tree str) -> Vec<Item<'tree>> {
    let body = |node: Node<'tree>| units::body(node);
    item.node.and_then(body).map_or_else(Vec::new, |body| units::items(body, item.start, item.end, text))
}

/// An item in parts that fit, between lines.
fn lines(item: &Item<'_>, tokens: &[TokenSpan], budget: Budget, mut part: impl FnMut(usize, usize, usize)) {
    let shifted = |token: &TokenSpan| TokenSpan { start: token.start - item.start, end: token.end - item.start };
    if tokens.len() <= budget.max {
        return part(item.start, item.end, tokens.len());
    }
    let tokens: Vec<TokenSpan> = tokens.iter().map(shifted).collect();
    for cut in split::split(item.text, &tokens, Kind::Code, budget) {
        part(item.start + cut.start, item.start + cut.end, cut.tokens);
    }
}

#[cfg(test)]
mod tests;
