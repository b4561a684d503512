//! Formats that are a ZIP of parts: which one it is, and its parts, each read up to a limit.

use std::{borrow::Cow, io::Read};

use lmao_events::Failure;
use quick_xml::events::{BytesRef, BytesStart, Event};
use zip::{ZipArchive, result::ZipError};

use super::{Format, Source, damaged, encrypted, source::ReadSeek};

/// Bytes of one part, unpacked.
const PART_BYTES: u64 = 128 << 20;

/// A ZIP with its directory read.
pub(super) struct Package {
    pub(super) archive: ZipArchive<Box<dyn ReadSeek>>,
}

impl Package {
    /// Reads the directory of a ZIP.
    ///
    /// # Errors
    /// It has none that can be read.
    pub(super) fn open(source: Source) -> Result<Self, Failure> {
        let archive = ZipArchive::new(source.reader()?).map_err(|error| damaged("ZIP archive", &error.to_string()))?;
        Ok(Self { archive })
    }

    /// What it is by its entries.
    pub(super) fn format(&mut self) -> Format {
        let declared = self.text("mimetype").ok().flatten().unwrap_or_default();
        let declared = declared.trim();
        if declared == "application/epub+zip" {
            return Format::Epub;
        }
        if let Some(kind) = declared.strip_prefix("application/vnd.oasis.opendocument.") {
            match kind.trim_end_matches("-template") {
                "text" | "text-master" | "text-web" => return Format::Odt,
                "spreadsheet" => return Format::Ods,
                "presentation" | "graphics" => return Format::Odp,
                _ => {}
            }
        }
        let has = |name: &str| self.archive.index_for_name(name).is_some();
        if has("[Content_Types].xml") {
            let mains = [
                ("word/document.xml", Format::Docx),
                ("ppt/presentation.xml", Format::Pptx),
                ("xl/workbook.xml", Format::Xlsx),
            ];
            if let Some((_, format)) = mains.iter().find(|(part, _)| has(part)) {
                return *format;
            }
        }
        if has("META-INF/container.xml") && !has("META-INF/MANIFEST.MF") { Format::Epub } else { Format::Zip }
    }

    /// A part as text, if it is there. Parts of these formats are UTF-8.
    ///
    /// # Errors
    /// It is encrypted, damaged or larger than 128 MiB.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let part = match self.archive.by_name(name) {
            Ok(part) => part,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => return Err(encrypted("file")),
            Err(error) => return Err(damaged(&format!("part {name} of the file"), &error.to_string())),
        };
        let mut bytes = vec![];
        let read = part.take(PART_BYTES + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > PART_BYTES {
            return Err(Failure::lasting(
                "document_too_large",
                format!("The part {name} of the file has more than {} MiB. Split the file.", PART_BYTES >> 20),
            ));
        }
        read.map_err(|error| damaged(&format!("part {name} of the file"), &error.to_string()))?;
        let text = match encoding_rs::Encoding::for_bom(&bytes) {
            Some((encoding, mark)) => encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned(),
            None => {
                String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
            }
        };
        Ok(Some(text))
    }

    /// What it was opened from, for a parser that opens it anew.
    pub(super) fn into_reader(self) -> Box<dyn ReadSeek> {
        self.archive.into_inner()
    }
}

/// The value of an attribute, its prefix ignored.
pub(super) fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = element.attributes();
    let mut known = attributes.with_checks(false).take(100).flatten();
    let found = known.find(|attribute| attribute.key.local_name().as_ref() == name)?;
    let value = quick_xml::escape::unescape(&found.value).map(Cow::into_owned);
    Some(value.unwrap_or_else(|_| found.value.to_string()))
}

/// The characters that an event stands for, if it does.
pub(super) fn text_of<'a>(event: &'a Event<'_>) -> Option<Cow<'a, str>> {
    match event {
        Event::Text(text) => Some(Cow::Borrowed(text)),
        Event::CData(text) => Some(Cow::Borrowed(text)),
        Event::GeneralRef(reference) => entity(reference).map(|c| Cow::Owned(c.to_string())),
        _ => None,
    }
}

/// What an entity stands for: characters and the five of XML. Others are declared in the file, where they would be a way to
/// blow it up.
fn entity(reference: &BytesRef<'_>) -> Option<char> {
    if let Ok(Some(c)) = reference.resolve_char_ref() {
        return Some(c);
    }
    match &**reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => None,
    }
}
