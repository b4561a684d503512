//! Web pages: the words of the main part with its headings, lists, tables and code; navigation, scripts and other chrome
//! are left out. The tree lies in an arena and is walked without recursion, so its depth costs no stack.

mod depth;
mod xhtml;

use std::{borrow::Cow, collections::HashSet};

use ego_tree::{NodeId, NodeRef, iter::Edge};
use lmao_events::Failure;
use scraper::{Html, Node, node::Element};

use super::{
    Extraction, finish,
    meta::{self, language_tag},
    title,
};
use crate::text::{Builder, clean_prose, code_language, is_boilerplate};

/// Elements whose content is no text of the page, wherever they stand.
const NEVER: &[&str] = &[
    "script", "style", "template", "noscript", "nav", "aside", "select", "button", "input", "textarea", "svg",
    "iframe", "object", "canvas", "audio", "video", "dialog", "head", "datalist", "rp",
];
/// Chrome, unless the author marked the main part and they stand in it.
const OUTSIDE: &[&str] = &["header", "footer", "form"];
/// Classes of elements that generators of documentation add to the text: lines that mdBook hides in listings, marks of the
/// Rust reference and of rustdoc, navigation of texinfo and docbook.
const LEFT_OUT_CLASSES: &[&str] = &[
    "boring",
    "rule-link",
    "tooltip",
    "hideme",
    "nav-panel",
    "navheader",
    "navfooter",
    "copiable-link",
    "footnote-back",
];
/// Elements that stand on their own.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "center",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "header",
    "hgroup",
    "hr",
    "html",
    "legend",
    "li",
    "main",
    "ol",
    "p",
    "section",
    "summary",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "ul",
];
/// What is there for the page is shorter than this.
const SHORT_BYTES: usize = 1000;
/// A main part with fewer characters than this is not believed when the page has ten times as many.
const LITTLE_TEXT: usize = 200;

pub(super) fn extract(text: &str) -> Result<Extraction, Failure> {
    if xhtml::is_xml(text) { extract_xml(text) } else { extract_html(text) }
}

/// A page that is XML whether or not it says so, as the chapters of e-books are.
pub(super) fn extract_xml(text: &str) -> Result<Extraction, Failure> {
    extract_html(&xhtml::closed(text))
}

fn extract_html(text: &str) -> Result<Extraction, Failure> {
    let limited = depth::limited(text);
    let html = Html::parse_document(&limited);
    let outline = Outline::of(&html);
    let main = outline.main.and_then(|id| html.tree.get(id)).map(|root| write(root, Chrome::Keep, &outline));
    let builder = match main {
        Some(builder) if builder.len() >= LITTLE_TEXT => builder,
        main => {
            let whole = write(html.tree.root(), Chrome::Drop, &outline);
            main.filter(|main| !main.is_empty() && main.len() * 10 >= whole.len()).unwrap_or(whole)
        }
    };
    let mut extraction = finish(builder, outline.title, outline.language)?;
    extraction.authors = meta::names(outline.authors.iter().map(String::as_str));
    extraction.tags = meta::tags(outline.keywords.iter().map(String::as_str));
    extraction.written = outline.written;
    if matches!(limited, Cow::Owned(_)) {
        extraction.warnings.push("elements nested thousands deep were flattened".to_owned());
    }
    Ok(extraction)
}

/// What is to be known of a page before its words are read.
#[derive(Debug, Default)]
struct Outline {
    title: Option<String>,
    language: Option<String>,
    main: Option<NodeId>,
    /// Tables that arrange other things than cells of text.
    layout_tables: HashSet<NodeId>,
    authors: Vec<String>,
    keywords: Vec<String>,
    written: Option<String>,
}

impl Outline {
    fn of(html: &Html) -> Self {
        let mut outline = Self::default();
        let mut articles = vec![];
        let mut tables = vec![];
        for edge in html.tree.root().traverse() {
            let (node, open) = match edge {
                Edge::Open(node) => (node, true),
                Edge::Close(node) => (node, false),
            };
            let Node::Element(element) = node.value() else { continue };
            match (element.name(), open) {
                ("table", true) => {
                    outline.layout_tables.extend(tables.last());
                    tables.push(node.id());
                }
                ("table", false) => {
                    tables.pop();
                }
                ("h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "pre" | "blockquote", true) => {
                    outline.layout_tables.extend(tables.last());
                }
                ("html", true) => outline.language = element.attr("lang").and_then(language_tag),
                ("title", true) if outline.title.is_none() => outline.title = title(&words(node)),
                ("meta", true) => outline.declared(element),
                ("article", true) => articles.push(node.id()),
                (name, true) if name == "main" || element.attr("role") == Some("main") => {
                    outline.main.get_or_insert(node.id());
                }
                _ => {}
            }
        }
        if let ([article], None) = (articles.as_slice(), outline.main) {
            outline.main = Some(*article);
        }
        outline
    }
}

impl Outline {
    /// A `meta` element: authors, keywords and dates by the names in use.
    fn declared(&mut self, element: &Element) {
        let name = element.attr("name").or_else(|| element.attr("property")).unwrap_or_default().to_ascii_lowercase();
        let Some(content) = element.attr("content").filter(|content| !content.trim().is_empty()) else { return };
        let content = content.to_owned();
        match name.as_str() {
            "author" | "dc.creator" | "dcterms.creator" | "citation_author" | "article:author" => {
                self.authors.push(content);
            }
            "keywords" | "news_keywords" | "dc.subject" | "article:tag" => self.keywords.push(content),
            "date"
            | "dc.date"
            | "dcterms.date"
            | "dcterms.created"
            | "article:published_time"
            | "citation_publication_date" => {
                self.written = self.written.take().or_else(|| meta::date(&content));
            }
            _ => {}
        }
    }
}

/// The programming language that a class names: `language-rust`, `lang-py`, as highlighters have it.
fn declared_language(element: &Element) -> Option<String> {
    let classes = element.attr("class").unwrap_or_default();
    let mark =
        |class: &&str| ["language-", "lang-", "highlight-source-"].iter().any(|prefix| class.starts_with(prefix));
    classes.split_whitespace().find(mark).and_then(code_language)
}

/// The text directly below a node.
fn words(node: NodeRef<'_, Node>) -> String {
    node.children().filter_map(|child| child.value().as_text().map(|text| text.to_string())).collect()
}

/// Whether headers, footers and forms count as chrome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chrome {
    Drop,
    Keep,
}

fn is_left_out(element: &Element, chrome: Chrome) -> bool {
    let name = element.name();
    let role = || {
        let role = element.attr("role").unwrap_or_default();
        matches!(
            role,
            "navigation" | "banner" | "contentinfo" | "search" | "menu" | "dialog" | "doc-toc" | "doc-backlink"
        )
    };
    NEVER.contains(&name)
        || chrome == Chrome::Drop && OUTSIDE.contains(&name)
        || element.attr("hidden").is_some()
        || element.attr("aria-hidden") == Some("true")
        || role()
        || element.attr("class").is_some_and(|class| class.split(' ').any(|class| LEFT_OUT_CLASSES.contains(&class)))
}

fn write(root: NodeRef<'_, Node>, chrome: Chrome, outline: &Outline) -> Builder {
    let mut writer = Writer::default();
    let mut left_out: Option<NodeId> = None;
    for edge in root.traverse() {
        match edge {
            _ if left_out.is_some() => {
                if let Edge::Close(node) = edge
                    && left_out == Some(node.id())
                {
                    left_out = None;
                }
            }
            Edge::Open(node) => match node.value() {
                Node::Element(element) if is_left_out(element, chrome) => left_out = Some(node.id()),
                Node::Element(element) => writer.open(element, node.id(), outline),
                Node::Text(text) => writer.inline.push_str(text),
                _ => {}
            },
            Edge::Close(node) => {
                if let Node::Element(element) = node.value() {
                    writer.close(element.name(), node.id());
                }
            }
        }
    }
    writer.flush();
    writer.builder
}

#[derive(Debug, Default)]
struct Writer {
    builder: Builder,
    inline: String,
    /// The open lists, each with its next number or `None` for bullets.
    lists: Vec<Option<u64>>,
    marker: Option<String>,
    /// The open table of cells of text; tables inside it are part of its cells.
    table: Option<NodeId>,
    rows: Vec<Vec<String>>,
    /// How many `pre` are open.
    pre: usize,
    /// The language that the open `pre`, or the `code` in it, says it is in.
    language: Option<String>,
}

impl Writer {
    fn open(&mut self, element: &Element, id: NodeId, outline: &Outline) {
        let name = element.name();
        if self.pre > 0 {
            self.language = self.language.take().or_else(|| declared_language(element));
        }
        if self.pre > 0 || self.table.is_some() {
            match name {
                "br" => self.inline.push('\n'),
                "tr" => self.rows.push(vec![]),
                "pre" => self.pre += 1,
                _ if BLOCKS.contains(&name) => self.inline.push(if self.pre > 0 { '\n' } else { ' ' }),
                _ => {}
            }
            return;
        }
        match name {
            "br" => self.inline.push('\n'),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => self.flush(),
            "pre" => {
                self.flush();
                self.pre += 1;
                self.language = declared_language(element);
            }
            "table" => {
                self.flush();
                if !outline.layout_tables.contains(&id) {
                    self.table = Some(id);
                }
            }
            "ul" | "menu" => {
                self.flush();
                self.lists.push(None);
            }
            "ol" => {
                self.flush();
                self.lists.push(Some(element.attr("start").and_then(|start| start.parse().ok()).unwrap_or(1)));
            }
            "li" => {
                self.flush();
                self.marker = Some(match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number = number.saturating_add(1);
                        format!("{}.", *number - 1)
                    }
                    _ => "-".to_owned(),
                });
            }
            _ if BLOCKS.contains(&name) => self.flush(),
            _ => {}
        }
    }

    fn close(&mut self, name: &str, id: NodeId) {
        if self.pre > 0 {
            if name == "pre" {
                self.pre -= 1;
                if self.pre == 0 && self.table.is_none() {
                    let code = std::mem::take(&mut self.inline);
                    self.builder.code_in(self.language.take().as_deref(), &code);
                }
            }
            return;
        }
        if self.table.is_some() {
            match name {
                "td" | "th" => {
                    let cell = std::mem::take(&mut self.inline);
                    match self.rows.last_mut() {
                        Some(row) => row.push(cell),
                        None => self.rows.push(vec![cell]),
                    }
                }
                // A caption stands before the rows.
                "caption" => {
                    let caption = std::mem::take(&mut self.inline);
                    self.builder.paragraph(&caption);
                }
                "table" if self.table == Some(id) => self.end_table(),
                _ => {}
            }
            return;
        }
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                let text = std::mem::take(&mut self.inline);
                let level = name.as_bytes().last().map_or(6, |digit| digit - b'0');
                // Signs that link a heading to itself.
                self.builder.heading(level, text.trim().trim_matches(['¶', '§', '#', '🔗']));
            }
            "ul" | "ol" | "menu" => {
                self.flush();
                self.lists.pop();
            }
            "li" => {
                self.flush();
                self.marker = None;
            }
            _ if BLOCKS.contains(&name) => self.flush(),
            _ => {}
        }
    }

    fn end_table(&mut self) {
        self.table = None;
        let rows = std::mem::take(&mut self.rows);
        if rows.iter().all(|row| row.len() <= 1) {
            rows.into_iter().flatten().for_each(|cell| self.builder.paragraph(&cell));
        } else {
            self.builder.table(&rows);
        }
        self.inline.clear();
    }

    /// Writes the words gathered so far as a paragraph or a list item.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.inline);
        if text.trim().is_empty() || text.len() < SHORT_BYTES && is_boilerplate(&clean_prose(&text)) {
            return;
        }
        match self.marker.take() {
            Some(marker) => self.builder.item(self.lists.len().max(1), &marker, &text),
            None => self.builder.paragraph(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::ingest::extract::tests::outline;

    #[test]
    fn the_main_part_is_read_and_chrome_is_not() {
        let page = "<!doctype html><html lang=en-GB><head><meta name=author content='A. Fern'>\
            <meta name=Keywords content='moss, wet'><meta property=article:published_time content=2024-05-01T10:00:00Z>\
            <title>Moss &amp; fern</title><style>p{}</style></head><body>\
            <nav>Home</nav><main><h1><a class=header href=#m>Moss¶</a></h1><p>It grows<br>on <b>stones</b>.<p>Second\
            <ol start=3><li>one<li><p>two</p><p>more</p><ul><li>deep</ul></ol><pre><code class='hljs language-rs'>let a = 1;\n<span class=boring>fn \
            hidden() {}\n</span>  let b;\n</code></pre><h2>Table</h2><table><caption>Sizes</caption><tr><th>a<th>b<tr><td>1\
            <td>2 <i>x</i></table><table><tr><td><h3>Laid out</h3>cell</table></main><footer>(c)</footer></body></html>";
        let found = extract(page).unwrap();
        assert_eq!((found.title.as_deref(), found.language.as_deref()), (Some("Moss & fern"), Some("en-GB")));
        assert_eq!(
            (found.authors, found.tags),
            (vec!["A. Fern".to_owned()], vec!["moss".to_owned(), "wet".to_owned()])
        );
        assert_eq!(found.written.as_deref(), Some("2024-05-01T10:00:00Z"));
        expect![[r#"
            heading(1) "Moss"
            paragraph "It grows on stones." in Moss
            paragraph "Second" in Moss
            list "3. one" in Moss
            list "4. two" in Moss
            paragraph "more" in Moss
            list "  - deep" in Moss
            code "let a = 1;\n  let b;" in Moss
            heading(2) "Table" in Moss
            paragraph "Sizes" in Moss > Table
            table "| a | b |\n| 1 | 2 x |" in Moss > Table
            heading(3) "Laid out" in Moss > Table
            paragraph "cell" in Moss > Table > Laid out
        "#]]
        .assert_eq(&outline(&found.document));
        let code = found.document.blocks.iter().find(|block| block.kind == crate::text::Kind::Code).unwrap();
        assert_eq!(code.language.as_deref(), Some("rust"));
    }

    #[test]
    fn elements_without_content_take_nothing_from_pages_that_are_xml() {
        let page = "<html><head><title/><script src='a.js'/></head><body><p>one</p><aside/><iframe/><textarea/><p>two</p></body></html>";
        assert_eq!(extract(&format!("<?xml version='1.0'?>{page}")).unwrap().document.text, "one\n\ntwo");
        assert_eq!(extract_xml(page).unwrap().document.text, "one\n\ntwo");
        assert_eq!(extract(page).unwrap().document.text, "");
    }

    #[test]
    fn a_page_without_a_main_part_is_read_whole() {
        let page = "<body><header>Logo</header><a href=#c>Skip to content</a><h1>T</h1>words <em>of</em> it<div hidden>no</div><main>x</main>";
        let page = format!("{page}<p>{}", "many more words ".repeat(40));
        let found = extract(&page).unwrap().document;
        assert!(found.text.starts_with("T\n\nwords of it\n\nx\n\nmany more words"), "{}", found.text);
    }
}
