//! Parsing, within limits. The parser reads any text in some way; what it makes nothing of is not believed.

use std::ops::ControlFlow;

use tree_sitter::{Language, Node, ParseOptions, Parser, Tree};

/// Bytes of a program that are parsed at once: its tree is some twenty times as large.
const MAX_BYTES: usize = 1024 * 1024;
/// The parser reports after each hundred steps, which take an ordinary program 100 to 200 bytes further. One that needs more
/// reports than these and one for each so many bytes is taken for one that the parser does not get through.
const FREE_REPORTS: usize = 2000;
const BYTES_PER_REPORT: usize = 16;

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

/// The syntax tree of a program; `None` where the language is unknown, the program too long, too intricate, or mostly not in
/// that language. The same for the same text.
pub(in crate::ingest::chunk) fn parse(text: &str, language: &str) -> Option<Tree> {
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
    best.filter(|(wrong, _)| wrong * 3 <= text.len()).map(|(_, tree)| tree)
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
