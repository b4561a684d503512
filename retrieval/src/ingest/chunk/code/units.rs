//! Which nodes of a syntax tree stand on their own, and what belongs to each.

use tree_sitter::Node;

/// Declarations whose members may stand alone.
const CONTAINERS: &[&str] = &[
    // Rust
    "impl_item",
    "trait_item",
    "mod_item",
    "foreign_mod_item",
    // Python
    "class_definition",
    // JavaScript, TypeScript, Java, C#
    "class_declaration",
    "abstract_class_declaration",
    "interface_declaration",
    "enum_declaration",
    "record_declaration",
    "struct_declaration",
    "internal_module",
    "namespace_declaration",
    // C++
    "class_specifier",
    "struct_specifier",
    "namespace_definition",
    "linkage_specification",
    // Ruby, TypeScript
    "class",
    "singleton_class",
    "module",
];
/// Nodes that are their members and a line above them.
const CONDITIONS: &[&str] = &["preproc_ifdef", "preproc_if"];
/// Nodes around a declaration, by the field that it is.
const WRAPPERS: &[(&str, &str)] = &[("decorated_definition", "definition"), ("export_statement", "declaration")];
/// Nodes around a declaration that is their last child.
const PLAIN_WRAPPERS: &[&str] = &["template_declaration", "ambient_declaration", "expression_statement"];
/// Wrappers lie in each other this deep.
const MAX_WRAPPERS: usize = 4;

/// A stretch of a program.
#[derive(Debug, Clone)]
pub(super) struct Item<'tree> {
    pub(super) start: usize,
    pub(super) end: usize,
    /// What it declares; `None` for comments and heads.
    pub(super) node: Option<Node<'tree>>,
}

/// The declaration inside of exports, decorators and templates.
pub(super) fn unwrapped(mut node: Node<'_>) -> Node<'_> {
    for _ in 0..MAX_WRAPPERS {
        let by_field = WRAPPERS.iter().find(|(kind, _)| *kind == node.kind());
        let inner = match by_field {
            Some((_, field)) => node.child_by_field_name(field),
            None if PLAIN_WRAPPERS.contains(&node.kind()) => {
                u32::try_from(node.named_child_count()).ok().and_then(|count| node.named_child(count.checked_sub(1)?))
            }
            None => None,
        };
        let Some(inner) = inner else { break };
        node = inner;
    }
    node
}

/// The node whose children are the members of a declaration, if it is of a kind that has any.
pub(super) fn body(node: Node<'_>) -> Option<Node<'_>> {
    let node = unwrapped(node);
    if CONDITIONS.contains(&node.kind()) {
        return Some(node);
    }
    CONTAINERS.contains(&node.kind()).then(|| node.child_by_field_name("body")).flatten()
}

/// What stands between `from` and `to`, by the children of a node that begin there: each with the comments and attributes above
/// it. Together the items are all of the stretch but white space; what precedes the first child comes first, what follows the
/// last belongs to it. None if there are no such children.
pub(super) fn items<'tree>(node: Node<'tree>, from: usize, to: usize, text: &str) -> Vec<Item<'tree>> {
    let mut lines = Lines::new(text, from);
    let mut starts: Vec<(usize, Option<Node<'tree>>)> = vec![];
    let mut cursor = node.walk();
    // Comments and attributes that wait for what they are about, and where they end.
    let mut waiting: Option<(usize, Node<'tree>)> = None;
    let mut before: Option<Node<'tree>> = None;
    let head_line = CONDITIONS.contains(&node.kind()).then(|| node.start_position().row);
    for child in node.children(&mut cursor) {
        let skipped =
            !child.is_named() || child.byte_range().is_empty() || head_line == Some(child.start_position().row);
        if skipped || child.start_byte() < from || child.end_byte() > to {
            continue;
        }
        let start = lines.start(child.start_byte());
        if is_above(child) {
            // A comment behind something on its line belongs to that.
            if before.is_some_and(|before| line_ends(before, child, text) == 0) {
                continue;
            }
            waiting = match waiting.take() {
                Some((first, last)) if adjacent(last, child, text) => Some((first, child)),
                other => {
                    starts.extend(other.map(|(first, _)| (first, None)));
                    Some((start, child))
                }
            };
        } else {
            let first = match waiting.take() {
                Some((first, last)) if adjacent(last, child, text) => first,
                Some((first, _)) => {
                    starts.push((first, None));
                    start
                }
                None => start,
            };
            starts.push((first, Some(child)));
        }
        before = Some(child);
    }
    starts.extend(waiting.map(|(first, _)| (first, None)));
    stretches(&starts, from, to, text)
}

/// From where items begin to what each is.
fn stretches<'tree>(starts: &[(usize, Option<Node<'tree>>)], from: usize, to: usize, text: &str) -> Vec<Item<'tree>> {
    let Some((first, _)) = starts.first() else { return vec![] };
    let head = std::iter::once((from, None)).filter(|_| !text[from..*first].trim().is_empty());
    let starts: Vec<_> = head.chain(starts.iter().copied()).collect();
    let mut items = vec![];
    for (at, (start, node)) in starts.iter().enumerate() {
        let end = starts.get(at + 1).map_or(to, |(next, _)| *next);
        let start = if at == 0 { from } else { *start };
        let Some(stretch) = text.get(start..end).filter(|stretch| !stretch.trim().is_empty()) else { continue };
        // Lines keep their indentation.
        let blank = stretch.len() - stretch.trim_start().len();
        let start = start + stretch[..blank].rfind('\n').map_or(0, |at| at + 1);
        let end = start + text[start..end].trim_end().len();
        items.push(Item { start, end, node: *node });
    }
    items
}

/// What is about the next thing: comments, attributes, the access that members have from there on.
fn is_above(node: Node<'_>) -> bool {
    let kind = node.kind();
    kind.contains("comment") || matches!(kind, "attribute_item" | "decorator" | "access_specifier" | "attribute_list")
}

/// Whether two things follow each other without an empty line.
fn adjacent(above: Node<'_>, below: Node<'_>, text: &str) -> bool {
    line_ends(above, below, text) < 2
}

/// Line ends between two nodes; that of a comment which takes its line's end with it is one of them.
fn line_ends(above: Node<'_>, below: Node<'_>, text: &str) -> usize {
    let between = text.get(above.end_byte()..below.start_byte()).unwrap_or_default();
    let ended = text.get(above.byte_range()).is_some_and(|text| text.ends_with('\n'));
    between.matches('\n').count() + usize::from(ended)
}

/// Where lines begin, asked for in the order of the text: each byte is looked at once, however long the lines are.
#[derive(Debug)]
struct Lines<'a> {
    text: &'a str,
    /// Looked at so far.
    seen: usize,
    /// The beginning of the line that this is in.
    line: usize,
    /// Whether only white space stands between the two.
    blank: bool,
}

impl<'a> Lines<'a> {
    /// From here on: the beginning of a line, or of the first thing that is asked about.
    fn new(text: &'a str, from: usize) -> Self {
        let blank = from == 0 || text.as_bytes().get(from - 1) == Some(&b'\n');
        Self { text, seen: from, line: from, blank }
    }

    /// The beginning of the line if only white space stands before `at`, else `at`.
    fn start(&mut self, at: usize) -> usize {
        let mut unseen = self.text.get(self.seen..at).unwrap_or_default();
        if let Some(end) = unseen.rfind('\n') {
            self.line = self.seen + end + 1;
            self.blank = true;
            unseen = &unseen[end + 1..];
        }
        self.blank &= unseen.trim().is_empty();
        self.seen = self.seen.max(at);
        if self.blank { self.line } else { at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginnings_of_lines_are_found_in_one_reading() {
        // Looking back to the beginning of the line for each statement, or over the blanks there, would take hours.
        let statements = 4_000_000;
        let text = " ".repeat(statements) + &"a;".repeat(statements);
        let mut lines = Lines::new(&text, 0);
        assert_eq!(lines.start(statements), 0);
        for at in (1..statements).map(|n| statements + n * 2) {
            assert_eq!(lines.start(at), at);
        }
        let text = "a; b\n\n  c; d\ne";
        let mut lines = Lines::new(text, 0);
        let found: Vec<_> = [0, 3, 8, 11, 13].into_iter().map(|at| lines.start(at)).collect();
        assert_eq!(found, [0, 3, 6, 11, 13]);
        // What begins within a line does not begin it.
        assert_eq!(Lines::new(text, 3).start(3), 3);
    }
}
