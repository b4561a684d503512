//! Word, `PowerPoint` and Excel (ECMA-376), read by `office_oxide`: headings, lists, tables and notes keep their form, slides and
//! sheets are pages. It only ever runs in a worker process.

use lmao_events::Failure;
use office_oxide::{
    Document, DocumentFormat,
    ir::{Element, InlineContent, List, Section, Table},
    limits::Limits,
    options::ParseOptions,
};

use super::{Extraction, Format, damaged, encrypted, finish, meta, rows::Rows, source::ReadSeek, title};
use crate::text::Builder;

/// Notes of the parser that are told.
const MAX_WARNINGS: usize = 20;

pub(super) fn extract(content: Box<dyn ReadSeek>, format: Format) -> Result<Extraction, Failure> {
    let kind = match format {
        Format::Pptx => DocumentFormat::Pptx,
        Format::Xlsx => DocumentFormat::Xlsx,
        _ => DocumentFormat::Docx,
    };
    let document = Document::from_reader_with(content, kind, &options()).map_err(|error| {
        let said = error.to_string();
        if said.to_lowercase().contains("encrypt") { encrypted("document") } else { damaged("document", &said) }
    })?;
    let ir = document.to_ir();
    drop(document);
    let mut writer = Writer { builder: Builder::new(), title: None };
    let mut warnings: Vec<String> = ir.metadata.warnings.iter().take(MAX_WARNINGS).cloned().collect();
    if ir.metadata.text_truncated {
        warnings.push("the document is damaged or too large: some of its text is missing".to_owned());
    }
    let mut silent = 0_usize;
    for (number, section) in (1..).zip(&ir.sections) {
        let before = writer.builder.len();
        match format {
            Format::Pptx => writer.slide(section, number),
            Format::Xlsx => writer.sheet(section, number),
            _ => writer.elements(&section.elements, 1),
        }
        let bare = writer.builder.len() == before;
        silent += usize::from(bare && section.elements.iter().any(is_picture));
    }
    if silent > 0 {
        let what = if format == Format::Pptx { "slides" } else { "sections" };
        warnings.push(format!("{silent} of {} {what} are pictures without text", ir.sections.len()));
    }
    let about = &ir.metadata;
    let title = about.title.as_deref().and_then(title).or(writer.title);
    let mut extraction = finish(writer.builder, title, about.language.as_deref().and_then(meta::language_tag))?;
    extraction.pages = (format != Format::Docx).then(|| u32::try_from(ir.sections.len()).unwrap_or(u32::MAX));
    extraction.authors = meta::names(about.author.as_deref());
    extraction.tags = meta::tags(about.keywords.iter().map(String::as_str));
    extraction.written = [&about.created, &about.modified].into_iter().flatten().find_map(|text| meta::date(text));
    extraction.warnings = warnings;
    Ok(extraction)
}

/// What the parser may take: far more than any document needs, and less than the worker process has.
fn options() -> ParseOptions {
    let mut limits = Limits::default();
    limits.package_entries = 20_000;
    limits.package_bytes = 512 << 20;
    limits.part_bytes = 192 << 20;
    limits.inflate_ratio = 200;
    limits.embedded_depth = 1;
    limits.embedded_packages = 32;
    limits.text_chars = crate::text::MAX_TEXT_BYTES;
    limits.memory_bytes = 512 << 20;
    let mut options = ParseOptions::default();
    options.limits = limits;
    options
}

fn is_picture(element: &Element) -> bool {
    matches!(element, Element::Image(_))
}

#[derive(Debug)]
struct Writer {
    builder: Builder,
    title: Option<String>,
}

impl Writer {
    fn slide(&mut self, slide: &Section, number: u32) {
        let notes = slide.speaker_notes.as_deref().unwrap_or_default();
        let has_text = slide.title.is_some() || !notes.is_empty() || slide.elements.iter().any(|e| !is_picture(e));
        if !has_text {
            return;
        }
        self.builder.page(number);
        let declared = slide.title.as_deref().and_then(title);
        let heading = declared.clone().unwrap_or_else(|| format!("Slide {number}"));
        self.builder.heading(1, &heading);
        self.title = self.title.take().or(declared);
        for element in &slide.elements {
            // The title is among them too.
            match element {
                Element::Heading(found) if title(&inline_to_text(&found.content)).as_ref() == Some(&heading) => {}
                Element::Paragraph(found) if title(&inline_to_text(&found.content)).as_ref() == Some(&heading) => {}
                element => self.element(element, 2),
            }
        }
        if !notes.is_empty() {
            self.builder.heading(2, "Notes");
            self.elements(notes, 3);
        }
    }

    fn sheet(&mut self, sheet: &Section, number: u32) {
        self.builder.page(number);
        let unnamed = || format!("Sheet {number}");
        self.builder.heading(1, &sheet.title.clone().unwrap_or_else(unnamed));
        // The name of the sheet is among them too.
        let first = sheet.elements.first().is_some_and(|element| {
            matches!(element, Element::Heading(found) if sheet.title.as_deref() == Some(inline_to_text(&found.content).trim()))
        });
        self.elements(&sheet.elements[usize::from(first)..], 2);
    }

    /// Writes elements; headings are at this level or below.
    fn elements(&mut self, elements: &[Element], level: u8) {
        elements.iter().for_each(|element| self.element(element, level));
    }

    fn element(&mut self, element: &Element, level: u8) {
        match element {
            Element::Heading(heading) => {
                let text = inline_to_text(&heading.content);
                self.builder.heading(heading.clamped_level().max(level), &text);
            }
            Element::Paragraph(paragraph) => {
                let text = inline_to_text(&paragraph.content);
                if is_code(paragraph.style.as_deref(), &paragraph.content) {
                    self.builder.code(&text);
                } else if paragraph.style.as_deref() == Some("Title") && self.title.is_none() {
                    self.title = title(&text);
                    self.builder.heading(level, &text);
                } else {
                    self.builder.paragraph(&text);
                }
            }
            Element::Table(table) => self.table(table),
            Element::List(list) => self.list(list, 1),
            Element::CodeBlock(code) => self.builder.code(&code.content),
            Element::TextBox(inner) => self.elements(&inner.content, level),
            Element::Footnote(note) | Element::Endnote(note) => {
                let mark = note.marker.clone().unwrap_or_else(|| note.id.to_string());
                self.builder.paragraph(&format!("[{mark}] {}", flat(&note.content)));
            }
            Element::Image(image) if !image.decorative => {
                // Names of files and numbers of pictures are no description.
                let described = image.alt_text.as_deref().filter(|text| text.trim().split(' ').count() > 2);
                described.into_iter().for_each(|text| self.builder.paragraph(text));
            }
            _ => {}
        }
    }

    fn table(&mut self, table: &Table) {
        table.caption.iter().for_each(|caption| self.builder.paragraph(caption));
        let single = table.rows.iter().all(|row| row.cells.len() <= 1);
        let cells = |row: &office_oxide::ir::TableRow| -> Vec<String> {
            row.cells.iter().map(|cell| flat(&cell.content)).collect()
        };
        if single && table.rows.len() == 1 {
            // A frame around text.
            table.rows.iter().flat_map(&cells).for_each(|text| self.builder.paragraph(&text));
            return;
        }
        let mut rows = Rows::new(&mut self.builder);
        table.rows.iter().for_each(|row| rows.push(cells(row)));
        rows.end();
    }

    fn list(&mut self, list: &List, depth: usize) {
        let first = list.start_number.unwrap_or(1);
        for (number, item) in (first..).zip(&list.items) {
            let marker = if list.ordered { format!("{number}.") } else { "-".to_owned() };
            let mut content = item.content.iter();
            if let Some(element) = content.next() {
                self.builder.item(depth, &marker, &flat(std::slice::from_ref(element)));
            }
            content.for_each(|element| self.element(element, 1));
            item.nested.iter().for_each(|nested| self.list(nested, depth + 1));
        }
    }
}

/// The words of a paragraph, with the marks of its notes.
fn inline_to_text(content: &[InlineContent]) -> String {
    let mut out = String::new();
    for part in content {
        match part {
            InlineContent::Text(span) => out.push_str(&span.text),
            InlineContent::LineBreak => out.push('\n'),
            InlineContent::FootnoteRef(note) | InlineContent::EndnoteRef(note) => {
                let number = || note.note_id.to_string();
                out.push_str(&format!("[{}]", note.marker.clone().unwrap_or_else(number)));
            }
            _ => {}
        }
    }
    out
}

/// Whether a paragraph is code: by its style's name, or because all of it is in type of fixed width.
fn is_code(style: Option<&str>, content: &[InlineContent]) -> bool {
    let style = style.unwrap_or_default().to_lowercase();
    let fixed = |font: &str| ["Courier", "Mono", "Consolas", "Menlo"].iter().any(|name| font.contains(name));
    let spans =
        || content.iter().filter_map(|part| if let InlineContent::Text(span) = part { Some(span) } else { None });
    let mut with_text = spans().filter(|span| !span.text.trim().is_empty()).peekable();
    ["source code", "sourcecode", "code", "html preformatted", "preformatted text"].contains(&style.as_str())
        || with_text.peek().is_some() && with_text.all(|span| span.font_name.as_deref().is_some_and(fixed))
}

/// The words of elements in one line.
fn flat(elements: &[Element]) -> String {
    let mut out = String::new();
    for element in elements {
        let text = match element {
            Element::Heading(heading) => inline_to_text(&heading.content),
            Element::Paragraph(paragraph) => inline_to_text(&paragraph.content),
            Element::CodeBlock(code) => code.content.clone(),
            Element::TextBox(inner) => flat(&inner.content),
            Element::Footnote(note) | Element::Endnote(note) => flat(&note.content),
            Element::List(list) => list_text(list),
            Element::Table(table) => {
                let cells = table.rows.iter().flat_map(|row| &row.cells);
                cells.map(|cell| flat(&cell.content)).collect::<Vec<_>>().join(" ")
            }
            _ => continue,
        };
        if !out.is_empty() && !text.is_empty() {
            out.push(' ');
        }
        out.push_str(&text);
    }
    out
}

fn list_text(list: &List) -> String {
    let items = list.items.iter().map(|item| {
        let nested = item.nested.as_ref().map(list_text).unwrap_or_default();
        format!("{} {nested}", flat(&item.content))
    });
    items.collect::<Vec<_>>().join(" ")
}
