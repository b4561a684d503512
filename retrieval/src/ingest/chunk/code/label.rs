//! What a declaration is called: `fn add`, `class Stack<T> extends List<T>`.

use tree_sitter::Node;

use super::units::{body, unwrapped};

/// Words of a declaration that say what it is; others, such as `pub`, `static` or `async`, say little.
const KEYWORDS: &[&str] = &[
    "fn",
    "struct",
    "enum",
    "union",
    "trait",
    "impl",
    "mod",
    "type",
    "const",
    "macro_rules!",
    "def",
    "class",
    "module",
    "function",
    "interface",
    "namespace",
    "func",
    "var",
    "let",
    "record",
    "@interface",
];
/// What such nodes name is declared elsewhere.
const NO_DECLARATIONS: &[&str] = &["import", "use_", "using_", "package", "preproc_include", "preproc_def"];
/// Declarators lie in each other this deep: pointers to arrays of functions.
const MAX_DECLARATORS: usize = 8;

/// What a node is called, if it has a name: a keyword and the name.
pub(super) fn of(node: Node<'_>, text: &str) -> Option<String> {
    let node = unwrapped(node);
    if body(node).is_some() {
        return signature(node, text);
    }
    if NO_DECLARATIONS.iter().any(|kind| node.kind().starts_with(kind)) {
        return None;
    }
    let (owner, name) = name(node)?;
    // `def self.name`, `func (s *Server) name`.
    let first = ["object", "receiver"].iter().find_map(|field| owner.child_by_field_name(field)).unwrap_or(name);
    let between = if first.kind() == "parameter_list" {
        format!("{} {}", of_text(first, text)?, of_text(name, text)?)
    } else {
        text.get(first.start_byte()..name.end_byte())?.to_owned()
    };
    Some(with_keyword(keyword(node).or_else(|| keyword(owner)), &between))
}

/// What a declaration with members is called: all of it up to its members, modifiers aside.
pub(super) fn signature(node: Node<'_>, text: &str) -> Option<String> {
    let node = unwrapped(node);
    let members = body(node).filter(|members| *members != node)?;
    let name = ["name", "type"].iter().find_map(|field| node.child_by_field_name(field))?;
    let mut cursor = node.walk();
    // A comment may stand between the two.
    let behind = |child: &Node<'_>| child.start_byte() >= name.end_byte() && child.kind().contains("comment");
    let end = node.children(&mut cursor).find(behind).map_or(members.start_byte(), |comment| comment.start_byte());
    // `impl<T> Trait for Type`: the name of the trait comes before that of the type.
    let mut words = node.children(&mut cursor);
    let from = words.find(|child| child.kind() == "impl").map_or(name.start_byte(), |word| word.end_byte());
    let head = text.get(from..end.min(members.start_byte()))?;
    Some(with_keyword(keyword(node), head))
}

/// In one line; bounds of types and comments in between are no part of a name.
fn with_keyword(keyword: Option<&str>, rest: &str) -> String {
    let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
    let rest =
        [" where ", "//", "/*"].iter().fold(rest.as_str(), |rest, end| rest.split(end).next().unwrap_or_default());
    let rest = rest.trim_end_matches(['{', ':', ' ']);
    let space = if rest.starts_with('<') { "" } else { " " };
    keyword.map_or_else(|| rest.to_owned(), |keyword| format!("{keyword}{space}{rest}"))
}

/// The node that names a declaration, and the one that it is a field of.
fn name(node: Node<'_>) -> Option<(Node<'_>, Node<'_>)> {
    if let Some(name) = node.child_by_field_name("name") {
        return Some((node, name));
    }
    match node.kind() {
        // `const f = () => …`, `type T struct …`: declarations of things that have names.
        "lexical_declaration" | "variable_declaration" | "type_declaration" => {
            let inner = node.named_child(0)?;
            Some((inner, inner.child_by_field_name("name")?))
        }
        "function_definition" | "type_definition" => {
            let mut inner = node.child_by_field_name("declarator")?;
            for _ in 0..MAX_DECLARATORS {
                match inner.child_by_field_name("declarator") {
                    Some(next) => inner = next,
                    // A reference has its declarator in no field.
                    None if inner.kind() == "reference_declarator" => inner = inner.named_child(0)?,
                    None => break,
                }
            }
            Some((node, inner))
        }
        _ => None,
    }
}

fn keyword(node: Node<'_>) -> Option<&'static str> {
    let mut cursor = node.walk();
    let mut words = node.children(&mut cursor).filter(|child| !child.is_named());
    words.find_map(|child| KEYWORDS.iter().find(|word| **word == child.kind()).copied())
}

fn of_text<'a>(node: Node<'_>, text: &'a str) -> Option<&'a str> {
    text.get(node.byte_range())
}
