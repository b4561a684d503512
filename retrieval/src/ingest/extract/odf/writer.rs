//! From the elements of an `OpenDocument` to blocks.

use std::collections::{HashMap, HashSet};

use quick_xml::events::BytesStart;

use super::super::{Format, package::attribute, rows::Rows, title};
use crate::text::Builder;

/// Columns of a sheet that are read.
const MAX_COLUMNS: usize = 1024;
/// How often a row that says it stands there many times is written.
const MAX_REPEATS: usize = 1000;
/// Spaces that one element may stand for.
const MAX_SPACES: usize = 100;
/// Elements whose content is no text of the document.
const LEFT_OUT: &[&str] = &[
    "office:annotation",
    "text:tracked-changes",
    "text:table-of-content",
    "text:note-citation",
    "office:forms",
    "text:ruby-text",
    "svg:title",
    "office:event-listeners",
];

#[derive(Debug)]
pub(super) struct Writer {
    builder: Builder,
    format: Format,
    in_body: bool,
    /// Elements open below one that is left out, itself included.
    left_out: usize,
    /// Open paragraphs and headings: a note or a frame may stand in one.
    open: Vec<Text>,
    /// Notes, to be written behind the paragraph that they belong to.
    notes: Vec<String>,
    /// How many notes there were, and whether one is open.
    note: (usize, bool),
    lists: Vec<List>,
    marker: Option<String>,
    table: Option<Table>,
    code: Vec<String>,
    pages: u32,
    slide: Slide,
    styles: Styles,
    title: Option<String>,
}

/// A paragraph or heading that is being read.
#[derive(Debug)]
struct Text {
    level: Option<u8>,
    style: String,
    text: String,
}

#[derive(Debug)]
struct List {
    style: String,
    next: usize,
}

#[derive(Debug, Default)]
struct Table {
    /// Tables inside this one are part of its cells.
    depth: usize,
    rows: Vec<Vec<String>>,
    row: Vec<String>,
    /// How often the open row and cell stand there.
    row_repeats: usize,
    cell_repeats: usize,
    cell: String,
    /// The value of a cell that shows no text.
    value: String,
    /// Empty cells before the next that is not.
    gap: usize,
}

/// Where on a slide the text stands.
#[derive(Debug, Default)]
struct Slide {
    /// Its heading is not written yet.
    bare: bool,
    in_title: bool,
    in_notes: bool,
    notes_headed: bool,
}

/// What the styles of a document say that matters here.
#[derive(Debug, Default)]
struct Styles {
    parents: HashMap<String, String>,
    numbered: HashSet<(String, usize)>,
    list: String,
}

impl Styles {
    fn define(&mut self, name: &str, element: &BytesStart<'_>) {
        let value = |name| attribute(element, name).unwrap_or_default();
        match name {
            "style:style" => _ = self.parents.insert(value("name"), value("parent-style-name")),
            "text:list-style" => self.list = value("name"),
            "text:list-level-style-number" => {
                let level = value("level").parse().unwrap_or(1);
                self.numbered.insert((self.list.clone(), level));
            }
            _ => {}
        }
    }

    fn is(&self, style: &str, wanted: &str) -> bool {
        style.starts_with(wanted) || self.parents.get(style).is_some_and(|parent| parent.starts_with(wanted))
    }
}

impl Writer {
    pub(super) fn new(format: Format) -> Self {
        Self {
            builder: Builder::new(),
            format,
            in_body: false,
            left_out: 0,
            open: vec![],
            notes: vec![],
            note: (0, false),
            lists: vec![],
            marker: None,
            table: None,
            code: vec![],
            pages: 0,
            slide: Slide::default(),
            styles: Styles::default(),
            title: None,
        }
    }

    /// What was written, how many sheets or slides there are, and the title that the text shows.
    pub(super) fn end(mut self) -> (Builder, u32, Option<String>) {
        while !self.open.is_empty() {
            self.end_text();
        }
        self.end_table();
        self.flush_code();
        (self.builder, self.pages, self.title)
    }

    pub(super) fn text(&mut self, text: &str) {
        if self.left_out == 0
            && let Some(open) = self.open.last_mut()
        {
            // Line ends in the file are spaces; those of the text are elements.
            open.text.extend(text.chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c }));
        }
    }

    pub(super) fn open(&mut self, element: &BytesStart<'_>) {
        let name = element.name();
        let name = name.as_ref();
        if self.left_out > 0 || LEFT_OUT.contains(&name) {
            self.left_out += 1;
            return;
        }
        if !self.in_body {
            self.in_body = name == "office:body";
            self.styles.define(name, element);
            return;
        }
        let value = |name| attribute(element, name).unwrap_or_default();
        match name {
            "text:p" => self.open.push(Text { level: None, style: value("style-name"), text: String::new() }),
            "text:h" => {
                let level = value("outline-level").parse().unwrap_or(1);
                self.open.push(Text { level: Some(level), style: String::new(), text: String::new() });
            }
            "text:s" => {
                let count = value("c").parse().unwrap_or(1_usize).min(MAX_SPACES);
                self.text(&" ".repeat(count));
            }
            "text:tab" => self.text("\t"),
            "text:line-break" => self.open.iter_mut().last().into_iter().for_each(|open| open.text.push('\n')),
            "text:note" => {
                self.note.0 += 1;
                self.text(&format!("[{}]", self.note.0));
            }
            "text:note-body" => self.note.1 = true,
            "text:list" => self.open_list(value("style-name")),
            "text:list-item" => self.open_item(),
            "draw:page" => self.open_page(),
            "draw:frame" => self.slide.in_title = value("class") == "title",
            "presentation:notes" => self.slide.in_notes = true,
            // Styles of a document may stand in the body of a damaged one.
            "style:style" | "text:list-style" | "text:list-level-style-number" => self.styles.define(name, element),
            _ if name.starts_with("table:") => self.open_table(name, element),
            _ => {}
        }
    }

    pub(super) fn close(&mut self, name: &str) {
        if self.left_out > 0 {
            self.left_out -= 1;
            return;
        }
        match name {
            "text:p" | "text:h" => self.end_text(),
            "text:note-body" => self.note.1 = false,
            "text:list" => _ = self.lists.pop(),
            "text:list-item" => self.marker = None,
            "draw:frame" => self.slide.in_title = false,
            "presentation:notes" => self.slide.in_notes = false,
            _ if name.starts_with("table:") => self.close_table(name),
            _ => {}
        }
    }

    fn open_list(&mut self, style: String) {
        let inherited = || self.lists.last().map(|list| list.style.clone()).unwrap_or_default();
        let style = if style.is_empty() { inherited() } else { style };
        self.lists.push(List { style, next: 1 });
    }

    fn open_item(&mut self) {
        let depth = self.lists.len();
        let Some(list) = self.lists.last_mut() else { return };
        let numbered = self.styles.numbered.contains(&(list.style.clone(), depth));
        self.marker = Some(if numbered { format!("{}.", list.next) } else { "-".to_owned() });
        list.next += 1;
    }

    fn open_page(&mut self) {
        self.flush_code();
        self.pages = self.pages.saturating_add(1);
        self.builder.page(self.pages);
        self.slide = Slide { bare: true, ..Slide::default() };
    }

    fn open_table(&mut self, name: &str, element: &BytesStart<'_>) {
        let value = |name| attribute(element, name).unwrap_or_default();
        let repeats = |name| value(name).parse().unwrap_or(1_usize);
        match (name, &mut self.table) {
            ("table:table", Some(table)) => table.depth += 1,
            ("table:table", None) => {
                self.flush_code();
                if self.format == Format::Ods {
                    self.pages = self.pages.saturating_add(1);
                    self.builder.page(self.pages);
                    self.builder.heading(1, &value("name"));
                }
                self.table = Some(Table::default());
            }
            (_, Some(table)) if table.depth > 0 => {}
            ("table:table-row", Some(table)) => {
                table.row_repeats = repeats("number-rows-repeated");
                table.row.clear();
                table.gap = 0;
            }
            ("table:table-cell" | "table:covered-table-cell", Some(table)) => {
                table.cell_repeats = repeats("number-columns-repeated");
                table.cell.clear();
                let shown = ["value", "date-value", "time-value", "boolean-value", "string-value"];
                table.value = shown.iter().find_map(|name| attribute(element, name)).unwrap_or_default();
            }
            _ => {}
        }
    }

    fn close_table(&mut self, name: &str) {
        let Some(table) = &mut self.table else { return };
        match name {
            "table:table" if table.depth > 0 => table.depth -= 1,
            "table:table" => self.end_table(),
            _ if table.depth > 0 => {}
            "table:table-cell" | "table:covered-table-cell" => table.end_cell(),
            "table:table-row" => {
                let row = std::mem::take(&mut table.row);
                // Sheets end with a million empty rows that are one element.
                if !row.is_empty() {
                    let repeats = table.row_repeats.clamp(1, MAX_REPEATS);
                    (1..repeats).for_each(|_| table.rows.push(row.clone()));
                    table.rows.push(row);
                }
            }
            _ => {}
        }
    }

    fn end_table(&mut self) {
        let Some(mut table) = self.table.take() else { return };
        // Of a damaged file the last cell may be open.
        if !table.cell.is_empty() {
            table.row.push(table.cell);
        }
        if !table.row.is_empty() {
            table.rows.push(table.row);
        }
        let mut rows = Rows::new(&mut self.builder);
        table.rows.into_iter().for_each(|row| rows.push(row));
        rows.end();
    }

    fn end_text(&mut self) {
        let Some(Text { level, style, text }) = self.open.pop() else { return };
        if let Some(table) = &mut self.table {
            if !table.cell.is_empty() {
                table.cell.push('\n');
            }
            table.cell.push_str(&text);
            return;
        }
        if self.note.1 {
            self.notes.push(format!("[{}] {text}", self.note.0));
            return;
        }
        if text.trim().is_empty() && !self.styles.is(&style, "Preformatted") {
            return;
        }
        if self.format == Format::Odp {
            self.head_slide(&text);
            if self.slide.in_title && !self.slide.in_notes {
                return;
            }
        }
        self.write(level, &style, text);
        for note in std::mem::take(&mut self.notes) {
            self.builder.paragraph(&note);
        }
    }

    /// The heading of a slide: its title, or its number before the first other text.
    fn head_slide(&mut self, text: &str) {
        if std::mem::take(&mut self.slide.bare) {
            if self.slide.in_title {
                self.builder.heading(1, text);
                self.title = self.title.take().or_else(|| title(text));
            } else {
                self.builder.heading(1, &format!("Slide {}", self.pages));
            }
        } else if self.slide.in_title && !self.slide.in_notes {
            self.builder.paragraph(text);
        }
        if self.slide.in_notes && !std::mem::replace(&mut self.slide.notes_headed, true) {
            self.builder.heading(2, "Notes");
        }
    }

    fn write(&mut self, level: Option<u8>, style: &str, text: String) {
        if self.styles.is(style, "Preformatted") {
            self.code.push(text);
            return;
        }
        self.flush_code();
        if self.styles.is(style, "Title") && self.title.is_none() {
            self.title = title(&text);
            self.builder.heading(1, &text);
        } else if let Some(level) = level {
            self.builder.heading(level, &text);
        } else if let Some(marker) = self.marker.take() {
            self.builder.item(self.lists.len(), &marker, &text);
        } else {
            self.builder.paragraph(&text);
        }
    }

    fn flush_code(&mut self) {
        let lines = std::mem::take(&mut self.code);
        if !lines.is_empty() {
            self.builder.code(&lines.join("\n"));
        }
    }
}

impl Table {
    fn end_cell(&mut self) {
        let text = std::mem::take(&mut self.cell);
        let text = if text.trim().is_empty() { std::mem::take(&mut self.value) } else { text };
        let room = MAX_COLUMNS.saturating_sub(self.row.len());
        if text.trim().is_empty() {
            self.gap = self.gap.saturating_add(self.cell_repeats);
            return;
        }
        let gap = std::mem::take(&mut self.gap).min(room);
        self.row.extend(std::iter::repeat_n(String::new(), gap));
        self.row.extend(std::iter::repeat_n(text, self.cell_repeats.clamp(1, MAX_COLUMNS).min(room - gap)));
    }
}
