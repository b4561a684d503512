//! JSON and JSON Lines (RFC 8259): an object becomes lines of `path: value`, each of its larger members a section; of a list of
//! records each is a paragraph, so that a passage holds whole records.

use std::fmt;

use lmao_events::Failure;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Extraction, code, finish, title};
use crate::text::Builder;

/// A record with more text than this is written value by value.
const RECORD_BYTES: usize = 4000;
/// Lines that are no JSON are counted, and so many are told.
const TOLD_LINES: usize = 5;

/// A JSON value with its members in the order of the file. How deep it is, the parser limits (128).
#[derive(Debug, PartialEq)]
enum Node {
    Scalar(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

pub(super) fn extract(text: &str) -> Result<Extraction, Failure> {
    let node = match serde_json::from_str::<Node>(text.trim_start_matches('\u{feff}')) {
        Ok(node) => node,
        // Nothing is lost: what cannot be understood is kept as it stands.
        Err(error) => {
            let mut extraction = code::extract(text)?;
            extraction.warnings.push(format!("the file is no valid JSON ({error}); it was taken as plain lines"));
            return Ok(extraction);
        }
    };
    let mut builder = Builder::new();
    match &node {
        Node::Object(members) => object(&mut builder, members),
        Node::List(items) => items.iter().for_each(|item| record(&mut builder, "", item)),
        Node::Scalar(value) => builder.paragraph(value),
    }
    let declared = match &node {
        Node::Object(members) => ["title", "name"].iter().find_map(|key| {
            members.iter().find_map(|(name, value)| match value {
                Node::Scalar(text) if name == key => title(text),
                _ => None,
            })
        }),
        _ => None,
    };
    finish(builder, declared, None)
}

/// A value on each line.
pub(super) fn extract_lines(text: &str) -> Result<Extraction, Failure> {
    let mut builder = Builder::new();
    let mut broken = vec![];
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Node>(line) {
            Ok(node) => record(&mut builder, "", &node),
            Err(_) => {
                broken.push(at + 1);
                builder.paragraph(line);
            }
        }
    }
    let mut extraction = finish(builder, None, None)?;
    if !broken.is_empty() {
        let first: Vec<_> = broken.iter().take(TOLD_LINES).map(usize::to_string).collect();
        let warning = format!("{} lines are no valid JSON (line {}, …)", broken.len(), first.join(", "));
        extraction.warnings.push(warning);
    }
    Ok(extraction)
}

/// The members of the outermost object: values first, then each larger member as a section.
fn object(builder: &mut Builder, members: &[(String, Node)]) {
    for (name, value) in members {
        if let Node::Scalar(value) = value {
            builder.item(1, "-", &format!("{name}: {value}"));
        }
    }
    for (name, value) in members {
        match value {
            Node::Scalar(_) => {}
            Node::List(items) => {
                builder.heading(1, name);
                if items.iter().all(|item| matches!(item, Node::Scalar(_))) {
                    items.iter().for_each(|item| values(builder, "", item));
                } else {
                    items.iter().for_each(|item| record(builder, "", item));
                }
            }
            Node::Object(_) => {
                builder.heading(1, name);
                values(builder, "", value);
            }
        }
    }
}

/// A record: a paragraph of all its values, or a list of them where they are long.
fn record(builder: &mut Builder, path: &str, node: &Node) {
    let mut leaves = vec![];
    leaf(node, path, &mut leaves);
    if leaves.iter().map(|(path, value)| path.len() + value.len() + 4).sum::<usize>() > RECORD_BYTES {
        values(builder, path, node);
        return;
    }
    let text: Vec<String> = leaves.iter().map(|(path, value)| named(path, value)).collect();
    builder.paragraph(&text.join("; "));
}

/// Each value as an item, with the path that leads to it.
fn values(builder: &mut Builder, path: &str, node: &Node) {
    let mut leaves = vec![];
    leaf(node, path, &mut leaves);
    leaves.iter().for_each(|(path, value)| builder.item(1, "-", &named(path, value)));
}

fn named(path: &str, value: &str) -> String {
    if path.is_empty() { value.to_owned() } else { format!("{path}: {value}") }
}

/// The values below a node with their paths: `address.city`, `tags`. Values of one list stand together.
fn leaf<'a>(node: &'a Node, path: &str, out: &mut Vec<(String, std::borrow::Cow<'a, str>)>) {
    match node {
        Node::Scalar(value) => out.push((path.to_owned(), value.into())),
        Node::List(items) if items.iter().all(|item| matches!(item, Node::Scalar(_))) => {
            let values: Vec<&str> = items.iter().filter_map(Node::scalar).collect();
            if !values.is_empty() {
                out.push((path.to_owned(), values.join(", ").into()));
            }
        }
        Node::List(items) => {
            for (at, item) in items.iter().enumerate() {
                leaf(item, &format!("{path}[{at}]"), out);
            }
        }
        Node::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaf(value, &path, out);
            }
        }
    }
}

impl Node {
    fn scalar(&self) -> Option<&str> {
        match self {
            Self::Scalar(value) => Some(value),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

#[derive(Debug)]
struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Scalar(value))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar("null".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = vec![];
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut members = vec![];
        while let Some(member) = access.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::ingest::extract::tests::outline;

    #[test]
    fn values_stand_with_their_paths() {
        let text = r#"{"name": "tea", "zeta": 1, "alpha": {"b": {"c": true}, "a": null}, "tags": ["hot", "green"],
            "shops": [{"city": "Oslo", "open": {"from": 9}}, {"city": "Bergen", "cups": [1, 2]}]}"#;
        let found = extract(text).unwrap();
        assert_eq!(found.title.as_deref(), Some("tea"));
        expect![[r#"
            list "- name: tea"
            list "- zeta: 1"
            heading(1) "alpha"
            list "- b.c: true" in alpha
            list "- a: null" in alpha
            heading(1) "tags"
            list "- hot" in tags
            list "- green" in tags
            heading(1) "shops"
            paragraph "city: Oslo; open.from: 9" in shops
            paragraph "city: Bergen; cups: 1, 2" in shops
        "#]]
        .assert_eq(&outline(&found.document));
    }

    #[test]
    fn a_line_is_a_record_and_a_broken_one_is_kept() {
        let found = extract_lines("{\"a\": 1, \"b\": \"x\"}\n\n{broken\n[1, {\"c\": 2}]\n").unwrap();
        expect![[r#"
            paragraph "a: 1; b: x"
            paragraph "{broken"
            paragraph "[0]: 1; [1].c: 2"
        "#]]
        .assert_eq(&outline(&found.document));
        assert_eq!(found.warnings, ["1 lines are no valid JSON (line 3, …)"]);
    }

    #[test]
    fn what_is_no_json_is_kept_as_lines() {
        for text in ["{\"a\": 1,", &"[".repeat(100_000), "{\"a\": nope}"] {
            let found = extract(text).unwrap();
            assert!(found.warnings[0].contains("no valid JSON"), "{:?}", found.warnings);
            assert_eq!(found.document.text, text);
        }
    }

    #[test]
    fn a_long_record_is_written_value_by_value() {
        let text = format!("[{{\"a\": \"{}\", \"b\": 2}}]", "word ".repeat(1000));
        let found = extract(&text).unwrap().document;
        assert_eq!((found.blocks.len(), found.slice(&found.blocks[1])), (2, "- b: 2"));
    }
}
