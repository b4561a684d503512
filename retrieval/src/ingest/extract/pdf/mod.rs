//! PDF: words with their places come from `pdf_oxide`; reading order, paragraphs, headings and page numbers are made here.
//!
//! The parser may loop, run out of memory or crash on hostile input, hence it only ever runs in a worker process.

mod chrome;
mod grid;
mod layout;
mod paragraphs;

use std::collections::HashMap;

use lmao_events::Failure;
use pdf_oxide::{
    Destination, OutlineItem, PdfDocument,
    object::{Object, ObjectRef},
};

use super::{Extraction, finish, meta, title};
use layout::{Page, Word};

/// The end mark stands within this many bytes of the end, with some room for what programs append.
const TRAILER_BYTES: usize = 4096;
/// Pages that are read; a longer file is cut, with a warning.
const MAX_PAGES: usize = 20_000;

pub(super) fn extract(bytes: Vec<u8>) -> Result<Extraction, Failure> {
    let whole = bytes[bytes.len().saturating_sub(TRAILER_BYTES)..].windows(5).any(|mark| mark == b"%%EOF");
    let document = PdfDocument::from_bytes(bytes).map_err(|error| damaged(&error.to_string()))?;
    if !document.is_authenticated() {
        return Err(Failure::lasting(
            "encrypted_pdf",
            "The PDF is encrypted and needs a password. Remove the password (for example with `qpdf --decrypt`) and \
             upload it again.",
        ));
    }
    if !has_a_page_tree(&document) {
        return Err(damaged("a part of its page tree is in it more than once"));
    }
    let count = document.page_count().map_err(|error| damaged(&error.to_string()))?;
    let mut warnings = vec![];
    if !whole {
        warnings
            .push("the end of the file is missing, pages may be lost: the upload or the file was cut off".to_owned());
    }
    if count > MAX_PAGES {
        warnings.push(format!("only the first {MAX_PAGES} of {count} pages were read"));
    }
    let pages: Vec<Page> = (0..count.min(MAX_PAGES)).map(|index| page(&document, index)).collect();
    let empty = pages.iter().filter(|page| page.lines.is_empty()).count();
    if empty == pages.len() {
        return Err(Failure::lasting(
            "no_text",
            format!(
                "None of the {count} pages has any text. The pages are probably scanned images, or the file is damaged: \
                 run it through text recognition (OCR, for example `ocrmypdf`) and upload the result.",
            ),
        ));
    }
    if empty > 0 {
        warnings.push(format!("{empty} of {count} pages gave no text (empty, scanned or damaged)"));
    }
    let outline = flat(document.get_outline().ok().flatten().unwrap_or_default());
    let written = paragraphs::write(pages, &outline);
    let info = Info::of(&document);
    let mut extraction = finish(written.builder, info.title().or(written.title), None)?;
    extraction.authors = meta::names(info.text("Author").as_deref());
    extraction.tags = meta::tags(info.text("Keywords").as_deref());
    extraction.written = info.text("CreationDate").and_then(|text| meta::date(&text));
    extraction.pages = u32::try_from(count).ok();
    extraction.warnings = warnings;
    Ok(extraction)
}

/// Whether no inner node of the page tree (ISO 32000-1, 7.7.3) is reached twice: the parser goes every way to such a node, and
/// there may be more ways than it could ever go. A page that stands in several places is no harm.
fn has_a_page_tree(document: &PdfDocument) -> bool {
    let root = document.catalog().ok().and_then(|catalog| catalog.as_dict()?.get("Pages")?.as_reference());
    let mut open: Vec<ObjectRef> = root.into_iter().collect();
    let mut is_inner: HashMap<ObjectRef, bool> = HashMap::new();
    while let Some(node) = open.pop() {
        match is_inner.get(&node) {
            Some(true) => return false,
            Some(false) => continue,
            None => {}
        }
        let kids = kids(document, node);
        is_inner.insert(node, kids.is_some());
        open.extend(kids.unwrap_or_default());
    }
    true
}

/// The nodes below one of the page tree; `None` for what is no inner node.
fn kids(document: &PdfDocument, node: ObjectRef) -> Option<Vec<ObjectRef>> {
    let node = document.load_object(node).ok()?;
    let kids = match node.as_dict()?.get("Kids")? {
        Object::Reference(kids) => document.load_object(*kids).ok()?,
        kids => kids.clone(),
    };
    Some(kids.as_array()?.iter().filter_map(Object::as_reference).collect())
}

fn damaged(said: &str) -> Failure {
    Failure::lasting(
        "damaged_pdf",
        format!(
            "The PDF cannot be read, it seems to be damaged or cut off ({said}). Get a whole copy and upload that."
        ),
    )
}

fn page(document: &PdfDocument, index: usize) -> Page {
    let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
    let height = document.get_page_media_box(index).map_or(0.0, |(_, bottom, _, top)| (top - bottom).abs());
    // A damaged page costs its own text, not that of the others.
    let spans = document.extract_spans(index).unwrap_or_default();
    let paths = document.extract_paths(index).unwrap_or_default();
    let words = spans.into_iter().filter(|span| span.rotation_degrees == 0.0).map(|span| Word {
        mono: span.is_monospace || is_typewriter(&span.font_name),
        bold: span.font_weight.is_bold() || span.font_name.contains("Bold"),
        x: span.bbox.x,
        y: span.bbox.y,
        width: span.bbox.width,
        size: if span.font_size > 0.0 { span.font_size } else { span.bbox.height },
        text: span.text,
    });
    let mut words: Vec<Word> = words.collect();
    let tables = grid::rows(&grid::grids(&paths), &mut words);
    let mut lines = layout::lines(words);
    tables.into_iter().for_each(|rows| grid::insert(&mut lines, rows));
    Page { number, height, lines }
}

/// Fonts of fixed width that do not say so.
fn is_typewriter(font: &str) -> bool {
    ["Courier", "Mono", "CMTT", "Typewriter", "Consol", "NimbusMon", "Menlo", "Inconsolata"]
        .iter()
        .any(|name| font.contains(name))
}

/// The document's information dictionary (ISO 32000-1, 14.3.3).
struct Info<'a> {
    document: &'a PdfDocument,
    dictionary: Option<Object>,
}

impl<'a> Info<'a> {
    fn of(document: &'a PdfDocument) -> Self {
        let mut info = Self { document, dictionary: None };
        info.dictionary = document.trailer().as_dict().and_then(|trailer| info.resolve(trailer.get("Info")?));
        info
    }

    fn resolve(&self, object: &Object) -> Option<Object> {
        match object {
            Object::Reference(reference) => self.document.load_object(*reference).ok(),
            other => Some(other.clone()),
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        let value = self.resolve(self.dictionary.as_ref()?.as_dict()?.get(key)?)?;
        Some(pdf_string(value.as_string()?))
    }

    /// The title, unless it is the name of a file or a program's default.
    fn title(&self) -> Option<String> {
        let text = title(&self.text("Title")?)?;
        let lower = text.to_lowercase();
        let useless = lower.starts_with("untitled")
            || lower.starts_with("microsoft word")
            || [".pdf", ".doc", ".docx", ".tex", ".dvi", ".indd"].iter().any(|end| lower.ends_with(end));
        (!useless).then_some(text)
    }
}

/// A text string (ISO 32000-1, 7.9.2.2): UTF-16 or UTF-8 with a mark, else PDFDocEncoding, which is latin-1 for letters.
fn pdf_string(bytes: &[u8]) -> String {
    match encoding_rs::Encoding::for_bom(bytes) {
        Some((encoding, mark)) => encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned(),
        None => encoding_rs::mem::decode_latin1(bytes).into_owned(),
    }
}

/// A bookmark.
#[derive(Debug, Clone, PartialEq)]
struct Bookmark {
    title: String,
    /// 1 for the outermost.
    level: u8,
    /// 1-based page.
    page: u32,
}

/// The tree of bookmarks, in the order of reading. Those that lead to no page are left out.
fn flat(items: Vec<OutlineItem>) -> Vec<Bookmark> {
    let mut out = vec![];
    let mut open: Vec<_> = vec![items.into_iter()];
    while let Some(items) = open.last_mut() {
        let Some(item) = items.next() else {
            open.pop();
            continue;
        };
        let level = u8::try_from(open.len()).unwrap_or(u8::MAX);
        if let Some(Destination::PageIndex(index)) = item.dest {
            out.push(Bookmark { title: item.title, level, page: u32::try_from(index + 1).unwrap_or(u32::MAX) });
        }
        open.push(item.children.into_iter());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document of these nodes of the page tree, numbered from 2: what they say of their kids.
    fn of_nodes(nodes: &[String]) -> Vec<u8> {
        let nodes = nodes.iter().enumerate();
        let nodes: String =
            nodes.map(|(at, node)| format!("{} 0 obj<<{node}/Parent 2 0 R>>endobj\n", at + 2)).collect();
        format!("%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n{nodes}trailer<</Root 1 0 R>>\n%%EOF")
            .into_bytes()
    }

    #[test]
    fn a_page_tree_with_more_ways_than_nodes_is_refused_at_once() {
        let inner = |kids: &str| format!("/Type/Pages/Kids[{kids}]/Count 9");
        let cycle = vec![inner("2 0 R 2 0 R")];
        let far = vec![inner("3 0 R 3 0 R"), inner("4 0 R"), inner("2 0 R")];
        // No cycle: each node has two ways to the next.
        let ladder = (3..60).map(|next| inner(&format!("{next} 0 R {next} 0 R"))).collect();
        for nodes in [cycle, far, ladder] {
            let failure = extract(of_nodes(&nodes)).expect_err("no tree");
            assert_eq!(failure.reason, "damaged_pdf");
            assert!(failure.message.contains("page tree"), "{}", failure.message);
        }
        let page = "/Type/Page/MediaBox[0 0 9 9]".to_owned();
        let tree = vec![inner("3 0 R 4 0 R 4 0 R"), inner("5 0 R"), page.clone(), page];
        assert_eq!(extract(of_nodes(&tree)).expect_err("it has no text").reason, "no_text");
    }
}
