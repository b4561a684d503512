//! JSON and JSON Lines (RFC 8259): an object becomes lines of `path: value`, each of its larger members a section; of a list of
//! records each is a paragraph, so that a passage holds whole records.

use std::{borrow::Cow, fmt, ops::ControlFlow};

use lmao_events::Failure;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Extraction, code, finish, title};
use crate::text::Builder;

/// A record with more text than this is written value by value.
const RECORD_BYTES: usize = 4000;
/// Bytes of a name on the way to a value, which is written again with each value below; the value's own name is whole.
const NAME_BYTES: usize = 100;
/// Bytes of all the names on the way to a value, roughly.
const PATH_BYTES: usize = 200;
/// Lines that are no JSON are counted, and so many are told.
const TOLD_LINES: usize = 5;

/// A JSON value with its members in the order of the file. How deep it is, the parser limits (128).
#[derive(Debug, PartialEq)]
enum Node<'a> {
    Scalar(Cow<'a, str>),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

pub(super) fn extract(text: &str) -> Result<Extraction, Failure> {
    let node = match parse(text.trim_start_matches('\u{feff}')) {
        Ok(node) => node,
        // Nothing is lost: what cannot be understood is kept as it stands.
        Err(error) => {
            let mut extraction = code::extract(text)?;
            extraction.warnings.push(format!("the file is no valid JSON ({error}); it was taken as plain lines"));
            return Ok(extraction);
        }
    };
    let mut writer = Writer::default();
    match &node {
        Node::Object(members) => writer.object(members),
        Node::List(items) => items.iter().for_each(|item| writer.record(item)),
        Node::Scalar(value) => writer.builder.paragraph(value),
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
    writer.finish(declared)
}

/// A value on each line.
pub(super) fn extract_lines(text: &str) -> Result<Extraction, Failure> {
    let mut writer = Writer::default();
    let mut broken = vec![];
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match parse(line) {
            Ok(node) => writer.record(&node),
            Err(_) => {
                broken.push(at + 1);
                writer.builder.paragraph(line);
            }
        }
    }
    let mut extraction = writer.finish(None)?;
    if !broken.is_empty() {
        let first: Vec<_> = broken.iter().take(TOLD_LINES).map(usize::to_string).collect();
        let warning = format!("{} lines are no valid JSON (line {}, …)", broken.len(), first.join(", "));
        extraction.warnings.push(warning);
    }
    Ok(extraction)
}

/// Writes values as they come. What is kept for a value is bounded, however long the way to it.
#[derive(Debug, Default)]
struct Writer {
    builder: Builder,
    /// Whether a name was too long to be repeated whole.
    cut: bool,
}

impl Writer {
    /// The members of the outermost object: values first, then each larger member as a section.
    fn object(&mut self, members: &[(String, Node)]) {
        for (name, value) in members {
            if let Node::Scalar(value) = value {
                self.builder.item(1, "-", &format!("{name}: {value}"));
            }
        }
        for (name, value) in members {
            match value {
                Node::Scalar(_) => {}
                Node::List(items) => {
                    self.builder.heading(1, name);
                    if value.is_plain() {
                        items.iter().for_each(|item| self.values(item));
                    } else {
                        items.iter().for_each(|item| self.record(item));
                    }
                }
                Node::Object(_) => {
                    self.builder.heading(1, name);
                    self.values(value);
                }
            }
        }
    }

    /// A record: a paragraph of all its values, or a list of them where they are long.
    fn record(&mut self, node: &Node) {
        let mut bytes = 0;
        let counted = walk(node, &mut Path::default(), &mut |path, value| {
            bytes += path.len() + value.text_len() + 4;
            if bytes > RECORD_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if counted.is_break() {
            self.values(node);
            return;
        }
        let mut text = String::with_capacity(bytes);
        self.each(node, |_, line| {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(line);
        });
        self.builder.paragraph(&text);
    }

    /// Each value as an item, with the path that leads to it.
    fn values(&mut self, node: &Node) {
        self.each(node, |builder, line| builder.item(1, "-", line));
    }

    /// Each value with its path, one after the other.
    fn each(&mut self, node: &Node, mut write: impl FnMut(&mut Builder, &str)) {
        let mut path = Path::default();
        // It never asks for an end.
        let _ = walk(node, &mut path, &mut |path, value| {
            let value = value.text();
            if path.is_empty() {
                write(&mut self.builder, &value);
            } else {
                write(&mut self.builder, &format!("{path}: {value}"));
            }
            ControlFlow::Continue(())
        });
        self.cut |= path.cut;
    }

    fn finish(self, title: Option<String>) -> Result<Extraction, Failure> {
        let mut extraction = finish(self.builder, title, None)?;
        if self.cut {
            extraction.warnings.push(format!(
                "names of objects that are longer than {NAME_BYTES} bytes, or lie too deep in each other, were shortened"
            ));
        }
        Ok(extraction)
    }
}

/// The names that lead to a value: `address.city`, `shops[1].city`.
#[derive(Debug, Default)]
struct Path {
    text: String,
    cut: bool,
}

impl Path {
    /// Goes to the value of this name, which is written whole: it stands once in the file and once in the text.
    fn name(&mut self, name: &str) {
        if !self.text.is_empty() {
            self.text.push('.');
        }
        self.text.push_str(name);
    }

    /// Goes into the object or list of this name.
    fn enter(&mut self, name: &str) {
        let short = &name[..name.floor_char_boundary(NAME_BYTES)];
        if self.has_room() {
            self.name(short);
            if short.len() < name.len() {
                self.cut = true;
                self.text.push('…');
            }
        }
    }

    /// Goes into the item at this place, from 0.
    fn index(&mut self, at: usize) {
        if self.has_room() {
            self.text.push_str(&format!("[{at}]"));
        }
    }

    fn has_room(&mut self) -> bool {
        let room = self.text.len() < PATH_BYTES;
        self.cut |= !room;
        room
    }
}

/// Tells the values below a node with their paths, in order, until `tell` asks for an end. Values of one list stand together.
fn walk(node: &Node, path: &mut Path, tell: &mut impl FnMut(&str, &Node) -> ControlFlow<()>) -> ControlFlow<()> {
    if node.is_plain() {
        return if matches!(node, Node::List(items) if items.is_empty()) {
            ControlFlow::Continue(())
        } else {
            tell(&path.text, node)
        };
    }
    let here = path.text.len();
    match node {
        Node::Scalar(_) => {}
        Node::List(items) => {
            for (at, item) in items.iter().enumerate() {
                path.index(at);
                walk(item, path, tell)?;
                path.text.truncate(here);
            }
        }
        Node::Object(members) => {
            for (name, value) in members {
                if value.is_plain() {
                    path.name(name);
                } else {
                    path.enter(name);
                }
                walk(value, path, tell)?;
                path.text.truncate(here);
            }
        }
    }
    ControlFlow::Continue(())
}

impl Node<'_> {
    /// Whether it is written as one: a value, or a list of values.
    fn is_plain(&self) -> bool {
        match self {
            Self::Scalar(_) => true,
            Self::List(items) => items.iter().all(|item| matches!(item, Self::Scalar(_))),
            Self::Object(_) => false,
        }
    }

    /// The values of a plain node.
    fn parts(&self) -> impl Iterator<Item = &str> {
        let items = match self {
            Self::List(items) => items,
            _ => std::slice::from_ref(self),
        };
        items.iter().filter_map(|item| match item {
            Self::Scalar(value) => Some(value.as_ref()),
            _ => None,
        })
    }

    /// A plain node as text.
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Scalar(value) => Cow::Borrowed(value),
            _ => self.parts().collect::<Vec<_>>().join(", ").into(),
        }
    }

    /// Bytes of that text, roughly.
    fn text_len(&self) -> usize {
        self.parts().map(|part| part.len() + 2).sum()
    }
}

fn parse(text: &str) -> Result<Node<'_>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let node = Seed(&mut Numbers { text, at: 0 }).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(node)
}

/// The numbers of a JSON text as they are written there, front to back: as values of the machine, long ones would lose digits,
/// and `1.10` its zero.
#[derive(Debug)]
struct Numbers<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Numbers<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let mut quoted = false;
        loop {
            match (bytes.get(self.at)?, quoted) {
                (b'\\', true) => self.at += 1,
                (b'"', _) => quoted = !quoted,
                (b'-' | b'0'..=b'9', false) => break,
                _ => {}
            }
            self.at += 1;
        }
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        self.at += end;
        Some(&rest[..end])
    }
}

/// Reads a value. The parser comes to the numbers in the order of the text, as [`Numbers`] does.
#[derive(Debug)]
struct Seed<'n, 'a>(&'n mut Numbers<'a>);

impl<'a> Seed<'_, 'a> {
    fn number(self, value: impl fmt::Display) -> Node<'a> {
        Node::Scalar(self.0.next().map_or_else(|| value.to_string().into(), Cow::Borrowed))
    }
}

impl<'a> DeserializeSeed<'a> for Seed<'_, 'a> {
    type Value = Node<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Node<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Seed<'_, 'a> {
    type Value = Node<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'a>, E> {
        Ok(Node::Scalar(if value { "true" } else { "false" }.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'a>, E> {
        Ok(self.number(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'a>, E> {
        Ok(self.number(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node<'a>, E> {
        Ok(self.number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<Node<'a>, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node<'a>, E> {
        Ok(Node::Scalar(value.to_owned().into()))
    }

    fn visit_unit<E>(self) -> Result<Node<'a>, E> {
        Ok(Node::Scalar("null".into()))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut access: A) -> Result<Node<'a>, A::Error> {
        let mut items = vec![];
        while let Some(item) = access.next_element_seed(Seed(self.0))? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut access: A) -> Result<Node<'a>, A::Error> {
        let mut members = vec![];
        while let Some(name) = access.next_key()? {
            members.push((name, access.next_value_seed(Seed(self.0))?));
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

    #[test]
    fn a_long_name_is_not_repeated_with_each_value_below_it() {
        // With whole paths these are 40 GB of text.
        let (long, values) = ("long ".repeat(400_000), vec!["\"a\":1"; 20_000].join(","));
        for (text, first) in [
            (format!("{{\"x\":{{\"{long}\":{{{values}}}}}}}"), "- long long "),
            (format!("[{{\"{long}\":{{{values}}}}}]"), "- long long "),
        ] {
            let found = extract(&text).unwrap();
            assert!(found.document.text.len() < 20_000 * (NAME_BYTES + 20), "{}", found.document.text.len());
            assert_eq!(found.document.text.matches("….a: 1").count(), 20_000);
            assert!(found.document.text.contains(first));
            assert!(found.warnings[0].contains("shortened"), "{:?}", found.warnings);
        }
        let deep = format!("[{}1{}]", "{\"some name\":".repeat(100), "}".repeat(100));
        let found = extract(&deep).unwrap();
        assert!(found.document.text.len() < 2 * PATH_BYTES && found.document.text.ends_with(".some name: 1"));
        assert_eq!(found.warnings.len(), 1);
        // The name of a value is text like any other.
        let found = extract(&format!("{{\"faq\": {{\"{}?\": \"yes\"}}}}", "why ".repeat(100))).unwrap();
        assert!(found.document.text.ends_with("why ?: yes") && found.warnings.is_empty());
    }

    #[test]
    fn numbers_are_as_they_are_written() {
        let numbers = "123456789012345678901234567890, 1.10, -0, 1E5, 0.1e-7, -12.50";
        let text = format!("{{\"1\": \"2 \\\" 3\", \"\\\\\": [{numbers}, \"4\"], \"b\": {{\"c-7\": 2.00}}}}");
        expect![[r#"
            list "- 1: 2 \" 3"
            heading(1) "\\"
            list "- 123456789012345678901234567890" in \
            list "- 1.10" in \
            list "- -0" in \
            list "- 1E5" in \
            list "- 0.1e-7" in \
            list "- -12.50" in \
            list "- 4" in \
            heading(1) "b"
            list "- c-7: 2.00" in b
        "#]]
        .assert_eq(&outline(&extract(&text).unwrap().document));
        let lines = extract_lines("7.0\n{\"a\": 18446744073709551616}\n").unwrap();
        assert_eq!(lines.document.text, "7.0\n\na: 18446744073709551616");
    }
}
