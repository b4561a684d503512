//! Markdown (CommonMark with tables, footnotes and strikethrough): rendered to readable text, so that passages and quotes
//! carry words instead of markup. Code keeps its form.

use lmao_events::Failure;
use pulldown_cmark::{CodeBlockKind, Event, MetadataBlockKind, Options, Parser, Tag, TagEnd};

use super::{Extraction, finish, meta, title};
use crate::text::{Builder, code_language};

pub(super) fn extract(text: &str) -> Result<Extraction, Failure> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS
        | Options::ENABLE_HEADING_ATTRIBUTES;
    let mut writer = Writer::default();
    for event in Parser::new_ext(text, options) {
        writer.event(event);
    }
    writer.flush();
    let front = FrontMatter::read(&writer.front_matter);
    let declared = front.first(&["title"]).and_then(title);
    let mut extraction = finish(writer.builder, declared.or(writer.first_heading), None)?;
    extraction.language = front.first(&["lang", "language"]).and_then(meta::language_tag);
    extraction.authors = meta::names(front.all(&["author", "authors"]));
    extraction.tags = meta::tags(front.all(&["tags", "keywords", "categories"]));
    extraction.written = front.all(&["date", "published", "created"]).find_map(meta::date);
    Ok(extraction)
}

/// Where the words go that come next.
#[derive(Debug, Default, PartialEq, Eq)]
enum Into {
    #[default]
    Prose,
    Heading(u8),
    Code,
    Html,
    Metadata,
}

#[derive(Debug, Default)]
struct Writer {
    builder: Builder,
    into: Into,
    inline: String,
    /// What the open fence says of its code.
    language: Option<String>,
    /// The open lists, each with its next number or `None` for bullets.
    lists: Vec<Option<u64>>,
    /// The marker of an item whose first paragraph has not come yet.
    marker: Option<String>,
    rows: Vec<Vec<String>>,
    row: Vec<String>,
    front_matter: String,
    first_heading: Option<String>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Code(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                self.inline.push_str(&text);
            }
            Event::SoftBreak | Event::HardBreak => self.inline.push('\n'),
            Event::Html(html) => self.inline.push_str(&html),
            Event::InlineHtml(html) if html.starts_with("<br") => self.inline.push('\n'),
            Event::InlineHtml(_) => {}
            Event::FootnoteReference(name) => {
                self.inline.push('[');
                self.inline.push_str(&name);
                self.inline.push(']');
            }
            Event::TaskListMarker(done) => self.inline.push_str(if done { "[x] " } else { "[ ] " }),
            Event::Rule => self.flush(),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => self.begin(Into::Heading(*level as u8)),
            Tag::CodeBlock(kind) => {
                self.begin(Into::Code);
                self.language = match kind {
                    CodeBlockKind::Fenced(info) => code_language(info),
                    CodeBlockKind::Indented => None,
                };
            }
            Tag::HtmlBlock => self.begin(Into::Html),
            Tag::MetadataBlock(MetadataBlockKind::YamlStyle | MetadataBlockKind::PlusesStyle) => {
                self.begin(Into::Metadata);
            }
            Tag::List(first) => {
                self.flush();
                self.lists.push(*first);
            }
            Tag::Item => {
                self.flush();
                self.marker = self.lists.last_mut().map(|number| match number {
                    Some(number) => {
                        *number = number.saturating_add(1);
                        format!("{}.", *number - 1)
                    }
                    None => "-".to_owned(),
                });
            }
            Tag::FootnoteDefinition(name) => {
                self.flush();
                self.inline.push('[');
                self.inline.push_str(name);
                self.inline.push_str("]: ");
            }
            Tag::Paragraph if self.inline.ends_with("]: ") => {}
            Tag::Paragraph | Tag::BlockQuote(_) | Tag::Table(_) => self.flush(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::List(_) => {
                self.flush();
                self.lists.pop();
            }
            TagEnd::Item => {
                self.flush();
                self.marker = None;
            }
            TagEnd::TableCell => self.row.push(std::mem::take(&mut self.inline)),
            TagEnd::TableHead | TagEnd::TableRow => self.rows.push(std::mem::take(&mut self.row)),
            TagEnd::Table => {
                self.builder.table(&self.rows);
                self.rows.clear();
            }
            TagEnd::Paragraph
            | TagEnd::Heading(_)
            | TagEnd::BlockQuote(_)
            | TagEnd::CodeBlock
            | TagEnd::HtmlBlock
            | TagEnd::FootnoteDefinition
            | TagEnd::MetadataBlock(_) => self.flush(),
            _ => {}
        }
    }

    fn begin(&mut self, into: Into) {
        self.flush();
        self.into = into;
    }

    /// Writes what has been gathered.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.inline);
        match std::mem::take(&mut self.into) {
            Into::Heading(level) => {
                self.first_heading = self.first_heading.take().or_else(|| title(&text));
                self.builder.heading(level, &text);
            }
            Into::Code => self.builder.code_in(self.language.take().as_deref(), &text),
            Into::Html => self.prose(&without_tags(&text)),
            Into::Metadata if self.front_matter.is_empty() => self.front_matter = text,
            Into::Metadata => {}
            Into::Prose => self.prose(&text),
        }
    }

    fn prose(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        match self.marker.take() {
            Some(marker) => self.builder.item(self.lists.len(), &marker, text),
            None => self.builder.paragraph(text),
        }
    }
}

/// The keys and values of a front matter: the part of YAML and TOML that front matters use, which is `key: value`, `key = value`,
/// lists in brackets and lists of lines with dashes (of texts or of `name: value`).
#[derive(Debug, Default)]
struct FrontMatter(Vec<(String, String)>);

impl FrontMatter {
    fn read(text: &str) -> Self {
        let mut found = vec![];
        let mut open = String::new();
        for line in text.lines() {
            let trimmed = line.trim();
            let unquoted = |value: &str| value.trim().trim_matches(['"', '\'']).to_owned();
            if let Some(item) = trimmed.strip_prefix("- ") {
                let value = item.strip_prefix("name:").unwrap_or(item);
                found.push((open.clone(), unquoted(value)));
            } else if !line.starts_with([' ', '\t'])
                && let Some((key, value)) = line.split_once([':', '='])
            {
                open = key.trim().to_lowercase();
                let value = value.trim();
                match value.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
                    Some(list) => found.extend(list.split(',').map(|value| (open.clone(), unquoted(value)))),
                    None if value.is_empty() || value == "|" || value == ">" => {}
                    None => found.push((open.clone(), unquoted(value))),
                }
            }
        }
        Self(found)
    }

    fn all<'a>(&'a self, keys: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(|(key, _)| keys.contains(&key.as_str())).map(|(_, value)| value.as_str())
    }

    fn first(&self, keys: &[&str]) -> Option<&str> {
        self.0.iter().find(|(key, _)| keys.contains(&key.as_str())).map(|(_, value)| value.as_str())
    }
}

/// The words of a piece of HTML: tags, comments, scripts and styles are gone. Only for HTML inside Markdown.
fn without_tags(html: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let lower: String = rest.chars().take(8).map(|c| c.to_ascii_lowercase()).collect();
        let end = if lower.starts_with("<!--") {
            "-->"
        } else if lower.starts_with("<script") {
            "</script>"
        } else if lower.starts_with("<style") {
            "</style>"
        } else if rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') {
            ">"
        } else {
            out.push('<');
            rest = &rest[1..];
            continue;
        };
        out.push(' ');
        rest = rest.find(end).map_or("", |at| &rest[at + end.len()..]);
    }
    out.push_str(rest);
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&nbsp;", " "), ("&amp;", "&")]
        .iter()
        .fold(out, |text, (entity, c)| text.replace(entity, c))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::ingest::extract::tests::outline;

    #[test]
    fn structure_is_kept_and_markup_is_gone() {
        let text = "---\ntitle: \"The guide\"\nkey: x\n---\n\n# Using *it*\n\nSee [the site](https://example.org) or\n`run` \
                    it.[^1]\n\n<!-- hidden --><p align=\"center\">A <b>logo</b></p>\n\n1. one\n2. two\n\n   more of two\n   - \
                    nested\n\n| a | b |\n|---|---|\n| 1 | **2** |\n\n```rust\nfn x() {}\n\n    y();\n```\n\n## Deeper\n\n> \
                    quoted\n\n- [x] done\n\n[^1]: A note.\n";
        let found = extract(text).unwrap();
        assert_eq!(found.title.as_deref(), Some("The guide"));
        expect![[r#"
            heading(1) "Using it"
            paragraph "See the site or run it.[1]" in Using it
            paragraph "A logo" in Using it
            list "1. one" in Using it
            list "2. two" in Using it
            paragraph "more of two" in Using it
            list "  - nested" in Using it
            table "| a | b |\n| 1 | 2 |" in Using it
            code "fn x() {}\n\n    y();" in Using it
            heading(2) "Deeper" in Using it
            paragraph "quoted" in Using it > Deeper
            list "- [x] done" in Using it > Deeper
            paragraph "[1]: A note." in Using it > Deeper
        "#]]
        .assert_eq(&outline(&found.document));
        assert_eq!(found.document.blocks[8].language.as_deref(), Some("rust"));
    }

    #[test]
    fn front_matter_is_understood() {
        let yaml = "---\ntitle: 'T: one'\nauthors:\n  - name: Ada\n    mail: a@b.c\n  - Bob\ntags: [tea, \"hot pots\"]\ndate: \
                    2024-05-01\nlang: de\n---\n\nx\n";
        let found = extract(yaml).unwrap();
        assert_eq!((found.title.as_deref(), found.language.as_deref()), (Some("T: one"), Some("de")));
        assert_eq!(
            (found.authors, found.tags),
            (vec!["Ada".to_owned(), "Bob".into()], vec!["tea".to_owned(), "hot pots".into()])
        );
        assert_eq!(found.written.as_deref(), Some("2024-05-01"));
        let toml = extract("+++\ntitle = \"T\"\nauthor = \"Ada\"\ntags = [\"a\"]\n+++\n\nx\n").unwrap();
        assert_eq!(
            (toml.title.as_deref(), toml.authors, toml.tags),
            (Some("T"), vec!["Ada".to_owned()], vec!["a".to_owned()])
        );
    }

    #[test]
    fn the_first_heading_is_the_title_where_none_is_declared() {
        assert_eq!(extract("Intro\n\n## First\n\n# Second").unwrap().title.as_deref(), Some("First"));
        assert_eq!(without_tags("a < b <i>c</i><script>x > y</script>"), "a < b  c  ");
    }
}
