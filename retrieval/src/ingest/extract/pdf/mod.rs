//! PDF: words with their places come from `pdf_oxide`; reading order, paragraphs, headings and page numbers are made here.
//!
//! The parser may loop, run out of memory or crash on hostile input, hence it only ever runs in a worker process.

mod chrome;
mod grid;
mod layout;
mod paragraphs;

use lmao_events::Failure;
use pdf_oxide::{Destination, OutlineItem, PdfDocument, object::Object};

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
