//! What parsing tells of a program, and parsing, within limits. The parser reads any text in some way; what it makes nothing of
//! is not believed. Scanners of grammars are C that aborts on what it does not expect, hence only a process that may die calls
//! [`parse`], and what it tells is checked where it is used.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use tree_sitter::{Language, Node, ParseOptions, Parser, Tree};

use super::{
    label,
    units::{self, Item},
};

/// Bytes of a program that are parsed at once: its tree is some twenty times as large.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// Types in modules in namespaces: parts within parts are looked for this deep.
const MAX_NESTING: usize = 8;
/// A program of more parts than these and one for each so many bytes is none that somebody wrote; its parts would take far more
/// memory than its text.
const FREE_PARTS: usize = 16;
const BYTES_PER_PART: usize = 4;
/// Bytes of the name of a part.
const MAX_NAME_BYTES: usize = 512;
/// The parser reports after each hundred steps, which take an ordinary program 100 to 200 bytes further. One that needs more
/// reports than these and one for each so many bytes is taken for one that the parser does not get through.
const FREE_REPORTS: usize = 2000;
const BYTES_PER_REPORT: usize = 16;

/// A stretch of a program that stands on its own. Bytes of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) start: usize,
    pub(super) end: usize,
    /// What it declares, if that has a name.
    pub(super) name: Option<String>,
    /// What it can be taken apart into: its head, then its members, of which the last has what closes it.
    pub(super) members: Vec<Part>,
}

/// What parsing tells of a program: its parts in order, all of it but white space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct Syntax {
    pub(super) parts: Vec<Part>,
}

impl Syntax {
    fn of(tree: &Tree, text: &str) -> Option<Self> {
        let mut left = FREE_PARTS + text.len() / BYTES_PER_PART;
        let items = units::items(tree.root_node(), 0, text.len(), text);
        Some(Self { parts: parts(items, text, MAX_NESTING, &mut left)? })
    }

    /// Whether this may be told of that text. It comes from a process that the text may have taken over.
    pub(in crate::ingest::chunk) fn covers(&self, text: &str) -> bool {
        covers(&self.parts, text, 0, text.len(), MAX_NESTING)
    }
}

/// Items as parts, with parts in them `deeper` levels down; `None` if there are more than are left.
fn parts(items: Vec<Item<'_>>, text: &str, deeper: usize, left: &mut usize) -> Option<Vec<Part>> {
    *left = left.checked_sub(items.len())?;
    let part = |item: Item<'_>| {
        let body = item.node.filter(|_| deeper > 0).and_then(units::body);
        let inner = body.map_or_else(Vec::new, |body| units::items(body, item.start, item.end, text));
        let members = parts(inner, text, deeper.saturating_sub(1), left)?;
        let name = item.node.and_then(|node| label::of(node, text)).map(|mut name| {
            name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
            name
        });
        Some(Part { start: item.start, end: item.end, name, members })
    };
    items.into_iter().map(part).collect()
}

/// Whether parts follow each other from `from` to `to` with nothing but white space between them, and so on in each.
fn covers(parts: &[Part], text: &str, from: usize, to: usize, deeper: usize) -> bool {
    let blank = |from: usize, to: usize| text.get(from..to).is_some_and(|between| between.trim().is_empty());
    let mut at = from;
    for part in parts {
        let inside = part.end <= to && text.get(part.start..part.end).is_some_and(|own| !own.trim().is_empty());
        let named = part.name.as_ref().is_none_or(|name| name.len() <= MAX_NAME_BYTES);
        let members = || deeper > 0 && covers(&part.members, text, part.start, part.end, deeper - 1);
        if !inside || !named || !blank(at, part.start) || !(part.members.is_empty() || members()) {
            return false;
        }
        at = part.end;
    }
    blank(at, to)
}

/// Whether there is a grammar of this language.
pub(super) fn has_grammar(language: &str) -> bool {
    !grammars(language).is_empty()
}

/// The grammars to try for a language, best first.
fn grammars(language: &str) -> Vec<Language> {
    match language {
        "rust" => vec![tree_sitter_rust::LANGUAGE.into()],
        "python" => vec![tree_sitter_python::LANGUAGE.into()],
        "javascript" => vec![tree_sitter_javascript::LANGUAGE.into()],
        // Angle brackets are casts in the one and elements in the other.
        "typescript" => {
            vec![tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(), tree_sitter_typescript::LANGUAGE_TSX.into()]
        }
        "go" => vec![tree_sitter_go::LANGUAGE.into()],
        "java" => vec![tree_sitter_java::LANGUAGE.into()],
        // A header says by its content only which of the two it is.
        "c" => vec![tree_sitter_c::LANGUAGE.into(), tree_sitter_cpp::LANGUAGE.into()],
        "cpp" => vec![tree_sitter_cpp::LANGUAGE.into()],
        "csharp" => vec![tree_sitter_c_sharp::LANGUAGE.into()],
        "ruby" => vec![tree_sitter_ruby::LANGUAGE.into()],
        _ => vec![],
    }
}

/// The parts of a program; `None` where the language is unknown, the program too long, too intricate, or mostly not in
/// that language. The same for the same text. Only for a process that may die of it.
pub(in crate::ingest) fn parse(text: &str, language: &str) -> Option<Syntax> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut best: Option<(usize, Tree)> = None;
    for grammar in grammars(language) {
        let Some(tree) = within_limits(text, &grammar) else { continue };
        let wrong = wrong_bytes(tree.root_node());
        if best.as_ref().is_none_or(|(least, _)| wrong < *least) {
            best = Some((wrong, tree));
        }
        if wrong == 0 {
            break;
        }
    }
    best.filter(|(wrong, _)| wrong * 3 <= text.len()).and_then(|(_, tree)| Syntax::of(&tree, text))
}

fn within_limits(text: &str, grammar: &Language) -> Option<Tree> {
    let mut parser = Parser::new();
    parser.set_language(grammar).ok()?;
    let mut left = FREE_REPORTS + text.len() / BYTES_PER_REPORT;
    let mut report = |_: &_| {
        left = left.saturating_sub(1);
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let bytes = text.as_bytes();
    let mut read = |at: usize, _| bytes.get(at..).unwrap_or_default();
    parser.parse_with_options(&mut read, None, Some(ParseOptions::new().progress_callback(&mut report)))
}

/// Bytes at the top level that the grammar makes nothing of.
fn wrong_bytes(root: Node<'_>) -> usize {
    if root.is_error() {
        return root.end_byte().max(1);
    }
    if !root.has_error() {
        return 0;
    }
    let mut cursor = root.walk();
    let wrong = root.children(&mut cursor).filter(Node::is_error);
    // Errors further down count for little: what they stand in is left whole.
    wrong.map(|node| node.byte_range().len()).sum::<usize>().max(1)
}
