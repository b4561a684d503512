//! From the tokens of an RTF file to blocks.

use std::collections::{HashMap, HashSet};

use encoding_rs::Encoding;

use super::{
    super::rows::Rows,
    words::{LEFT_OUT, character, encoding_of, is_marker},
};
use crate::text::Builder;

/// Bytes of a fact about the document.
const FACT_BYTES: usize = 4096;
/// Characters that one `\u` may stand in for.
const MAX_FALLBACK: i32 = 100;
/// What a group's words go into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Nowhere,
    Fonts,
    Styles,
    Marker,
    Info,
    Title,
    Author,
    Keywords,
    Created,
}

/// What is inherited by the groups within a group.
#[derive(Debug, Clone, Copy)]
struct Group {
    place: Place,
    encoding: &'static Encoding,
    /// Bytes or characters that stand in for a `\u`.
    fallback: i32,
    font: i32,
    /// The level of the paragraph, if it is a heading.
    level: Option<u8>,
    in_table: bool,
    in_note: bool,
}

/// What the file says of itself.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) title: String,
    pub(super) author: String,
    pub(super) keywords: String,
    /// `YYYY-MM-DD`
    pub(super) created: Option<String>,
}

#[derive(Debug)]
pub(super) struct Writer {
    builder: Builder,
    about: About,
    groups: Vec<Group>,
    group: Group,
    /// Bytes whose characters are not known yet: some take two.
    bytes: Vec<u8>,
    /// The first half of a character beyond 16 bits.
    surrogate: Option<u16>,
    /// What is still to be passed over after a `\u`.
    passing: i32,
    /// Whether `\*` came last: a destination that is not known is none.
    optional: bool,
    paragraph: String,
    marker: String,
    /// Bytes of the paragraph in type of fixed width, and the lines of such paragraphs.
    mono: usize,
    code: Vec<String>,
    row: Vec<String>,
    rows: Vec<Vec<String>>,
    fonts: HashMap<i32, &'static Encoding>,
    mono_fonts: HashSet<i32>,
    font_name: String,
    default_encoding: &'static Encoding,
    /// Levels of the styles that are headings.
    styles: HashMap<i32, u8>,
    style: (i32, String),
    date: [i32; 3],
}

impl Writer {
    pub(super) fn new() -> Self {
        let encoding = encoding_rs::WINDOWS_1252;
        Self {
            builder: Builder::new(),
            about: About::default(),
            groups: vec![],
            group: Group {
                place: Place::Text,
                encoding,
                fallback: 1,
                font: -1,
                level: None,
                in_table: false,
                in_note: false,
            },
            bytes: vec![],
            surrogate: None,
            passing: 0,
            optional: false,
            paragraph: String::new(),
            marker: String::new(),
            mono: 0,
            code: vec![],
            row: vec![],
            rows: vec![],
            fonts: HashMap::new(),
            mono_fonts: HashSet::new(),
            font_name: String::new(),
            default_encoding: encoding,
            styles: HashMap::new(),
            style: (-1, String::new()),
            date: [0; 3],
        }
    }

    pub(super) const fn depth(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn end(mut self) -> (Builder, About) {
        self.flush_bytes();
        self.end_paragraph();
        self.flush();
        (self.builder, self.about)
    }

    pub(super) fn open(&mut self) {
        self.flush_bytes();
        self.passing = 0;
        self.optional = false;
        self.groups.push(self.group);
    }

    pub(super) fn close(&mut self) {
        self.flush_bytes();
        self.passing = 0;
        let Some(outer) = self.groups.pop() else { return };
        match (self.group.place, outer.place) {
            (Place::Styles, _) => self.end_style(),
            (Place::Fonts, _) => self.end_font(),
            (Place::Text, Place::Text) if self.group.in_note && !outer.in_note => self.end_note(),
            (Place::Created, place) if place != Place::Created => {
                let [year, month, day] = self.date;
                self.about.created = Some(format!("{year:04}-{month:02}-{day:02}"));
            }
            _ => {}
        }
        self.group = outer;
    }

    pub(super) fn symbol(&mut self, symbol: u8) {
        if matches!(symbol, b'~' | b'_' | b'\t') {
            self.flush_bytes();
        }
        match symbol {
            b'*' => self.optional = true,
            b'~' => self.put(" "),
            b'_' => self.put("-"),
            b'\\' | b'{' | b'}' => self.text(&[symbol]),
            b'\r' | b'\n' => self.word("par", None),
            b'\t' => self.put("\t"),
            _ => {}
        }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        if self.passing > 0 {
            self.passing -= 1;
        } else {
            self.bytes.push(byte);
        }
    }

    pub(super) fn text(&mut self, text: &[u8]) {
        let pass = usize::try_from(self.passing).unwrap_or(0).min(text.len());
        self.passing -= i32::try_from(pass).unwrap_or(0);
        self.optional = false;
        self.bytes.extend_from_slice(&text[pass..]);
        // The second byte of a character may be an ASCII one: decoded together, and at once where nothing is open.
        if self.group.place == Place::Nowhere {
            self.bytes.clear();
        }
    }

    pub(super) fn word(&mut self, name: &str, value: Option<i32>) {
        let optional = std::mem::take(&mut self.optional);
        if name != "u" {
            self.flush_bytes();
        }
        let number = value.unwrap_or(0);
        match name {
            "u" => self.unicode(number),
            "uc" => self.group.fallback = number.clamp(0, MAX_FALLBACK),
            "ansicpg" => self.code_page(number),
            "mac" => self.set_default(encoding_rs::MACINTOSH),
            "f" => self.font(number),
            "fcharset" => self.charset(number),
            "par" | "sect" | "page" => self.end_paragraph_or_line(),
            "line" | "softline" => self.put("\n"),
            "tab" => self.put("\t"),
            "pard" => (self.group.level, self.group.in_table) = (None, false),
            "intbl" => self.group.in_table = true,
            "outlinelevel" if self.group.place == Place::Text => {
                self.group.level = u8::try_from(number.saturating_add(1)).ok().filter(|level| (1..=9).contains(level));
            }
            "s" if self.group.place == Place::Styles => self.style = (number, String::new()),
            "s" => self.group.level = self.styles.get(&number).copied(),
            "cell" | "nestcell" => self.end_cell(),
            "row" | "nestrow" => self.end_row(),
            "yr" => self.date[0] = number,
            "mo" => self.date[1] = number,
            "dy" => self.date[2] = number,
            _ => match character(name) {
                Some(text) => self.put(text),
                None => self.destination(name, optional),
            },
        }
    }

    fn destination(&mut self, name: &str, optional: bool) {
        // Nothing inside of what is left out is let in again.
        if self.group.place == Place::Nowhere {
            return;
        }
        self.group.place = match name {
            "fonttbl" => Place::Fonts,
            "stylesheet" => Place::Styles,
            "listtext" | "pntext" => Place::Marker,
            "info" => Place::Info,
            "title" if self.group.place == Place::Info => Place::Title,
            "author" if self.group.place == Place::Info => Place::Author,
            "keywords" if self.group.place == Place::Info => Place::Keywords,
            "creatim" if self.group.place == Place::Info => Place::Created,
            "footnote" => {
                self.group.in_note = true;
                self.put("[");
                return;
            }
            _ if LEFT_OUT.contains(&name) => Place::Nowhere,
            // Text in a second form, for readers that know it.
            "shptxt" | "shpinst" | "shprslt" | "cs" | "fldrslt" | "result" => return,
            _ if optional => Place::Nowhere,
            _ => return,
        };
    }

    /// A character by its UTF-16 unit, as a signed number.
    fn unicode(&mut self, number: i32) {
        if self.passing == 0 {
            self.flush_bytes();
        }
        self.passing = self.group.fallback;
        #[expect(clippy::cast_sign_loss, reason = "units are written as signed numbers")]
        let unit = (number & 0xffff) as u16;
        let units = [self.surrogate.take().unwrap_or(0), unit];
        match unit {
            0xd800..=0xdbff => self.surrogate = Some(unit),
            0xdc00..=0xdfff => self.put(&String::from_utf16_lossy(&units)),
            _ => self.put(&String::from_utf16_lossy(&units[1..])),
        }
    }

    fn code_page(&mut self, number: i32) {
        if let Some(encoding) = u16::try_from(number).ok().and_then(encoding_of) {
            self.set_default(encoding);
        }
    }

    fn set_default(&mut self, encoding: &'static Encoding) {
        self.default_encoding = encoding;
        self.group.encoding = encoding;
    }

    fn font(&mut self, number: i32) {
        self.group.font = number;
        if self.group.place != Place::Fonts {
            self.group.encoding = self.fonts.get(&number).copied().unwrap_or(self.default_encoding);
        }
    }

    /// The characters of a font in the table of fonts.
    fn charset(&mut self, number: i32) {
        let page = match number {
            77 => 10000,
            128 => 932,
            129 => 949,
            134 => 936,
            136 => 950,
            161 => 1253,
            162 => 1254,
            163 => 1258,
            177 => 1255,
            178 => 1256,
            186 => 1257,
            204 => 1251,
            222 => 874,
            238 => 1250,
            _ => return,
        };
        if let (Place::Fonts, Some(encoding)) = (self.group.place, encoding_of(page)) {
            self.fonts.insert(self.group.font, encoding);
        }
    }

    fn flush_bytes(&mut self) {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            let text = self.group.encoding.decode_without_bom_handling(&bytes).0;
            self.put(&text);
        }
    }

    fn put(&mut self, text: &str) {
        let fact = match self.group.place {
            Place::Text => {
                self.mono += if self.mono_fonts.contains(&self.group.font) { text.len() } else { 0 };
                return self.paragraph.push_str(text);
            }
            Place::Fonts => &mut self.font_name,
            Place::Marker => &mut self.marker,
            Place::Title => &mut self.about.title,
            Place::Author => &mut self.about.author,
            Place::Keywords => &mut self.about.keywords,
            Place::Styles => &mut self.style.1,
            Place::Nowhere | Place::Info | Place::Created => return,
        };
        if fact.len() + text.len() <= FACT_BYTES {
            fact.push_str(text);
        }
    }

    /// `heading 2;` and its like in other languages' programs.
    fn end_style(&mut self) {
        let (number, name) = std::mem::replace(&mut self.style, (-1, String::new()));
        let name = name.trim_end_matches(';').trim().to_lowercase();
        let level = name.strip_prefix("heading ").and_then(|level| level.trim().parse().ok());
        let level = level.or((name == "title").then_some(1));
        if let Some(level) = level.filter(|level| (1..=9).contains(level)) {
            self.styles.insert(number, level);
        }
    }

    /// `Courier New;` and its like.
    fn end_font(&mut self) {
        let name = std::mem::take(&mut self.font_name);
        if ["Courier", "Mono", "Consolas", "Menlo", "Typewriter"].iter().any(|part| name.contains(part)) {
            self.mono_fonts.insert(self.group.font);
        }
    }

    fn end_paragraph_or_line(&mut self) {
        if self.group.place != Place::Text {
            return;
        }
        if self.group.in_note {
            self.put(" ");
            return;
        }
        if self.group.in_table { self.paragraph.push('\n') } else { self.end_paragraph() }
    }

    fn end_paragraph(&mut self) {
        let text = std::mem::take(&mut self.paragraph);
        let mut marker = std::mem::take(&mut self.marker);
        let is_code = std::mem::take(&mut self.mono) == text.len();
        if text.trim().is_empty() {
            return;
        }
        if is_code {
            self.end_table();
            self.code.push(text);
            return;
        }
        self.flush();
        let mut text = text.as_str();
        if let Some((first, rest)) = text.split_once('\t').filter(|(first, _)| is_marker(first.trim())) {
            marker = first.to_owned();
            text = rest;
        }
        match (self.group.level, marker.trim()) {
            (Some(level), "") => self.builder.heading(level, text),
            // A numbered heading.
            (Some(level), marker) => self.builder.heading(level, &format!("{marker} {text}")),
            (None, "") => self.builder.paragraph(text),
            (None, marker) => {
                let counted = marker.chars().any(char::is_alphanumeric);
                self.builder.item(1, if counted { marker } else { "-" }, text);
            }
        }
    }

    /// Writes the table and the code that came before.
    fn flush(&mut self) {
        self.end_table();
        let lines = std::mem::take(&mut self.code);
        if !lines.is_empty() {
            self.builder.code(&lines.join("\n"));
        }
    }

    fn end_cell(&mut self) {
        if self.group.place == Place::Text {
            self.mono = 0;
            self.row.push(std::mem::take(&mut self.paragraph));
        }
    }

    /// The mark behind a note, where its last paragraph ends.
    fn end_note(&mut self) {
        self.paragraph.truncate(self.paragraph.trim_end().len());
        self.put("] ");
    }

    fn end_row(&mut self) {
        let row = std::mem::take(&mut self.row);
        self.rows.push(row);
        self.group.in_table = false;
    }

    fn end_table(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let mut table = Rows::new(&mut self.builder);
        rows.into_iter().for_each(|row| table.push(row));
        table.end();
    }
}
