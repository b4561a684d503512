//! What a file is, by its content. The name only breaks ties: a program, a list of settings and a poem are all text, and
//! their beginnings need not tell them apart.

mod language;
mod sniff;

use std::path::Path;

use infer::MatcherType;
use lmao_events::Failure;

use super::decode::{Declaration, decode};
pub(super) use language::language;
pub(super) use sniff::{Known, delimiter};

/// Bytes at the beginning of a file that decide what it is.
pub(super) const HEAD_BYTES: usize = 64 * 1024;
/// A PDF's mark stands within this many bytes (ISO 32000-2, implementation notes).
const PDF_MARK_WITHIN: usize = 1024;
/// Where the magic of a TAR stands (POSIX.1-1988, ustar).
const TAR_MAGIC: std::ops::Range<usize> = 257..262;
/// What is taken, for people.
const TAKEN: &str = "PDF, Word, PowerPoint and Excel (DOCX, PPTX, XLSX), OpenDocument, EPUB, RTF, HTML, Markdown, e-mail, CSV, \
                     JSON, plain text, source code, and ZIP or TAR archives of these are taken";

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) enum Format {
    /// Portable Document Format.
    Pdf,
    /// A web page.
    Html,
    /// Markdown.
    Markdown,
    /// Text without markup.
    Text,
    /// A program or data that is written like one.
    Code,
    /// Rows of values with a delimiter.
    Csv,
    /// One JSON value.
    Json,
    /// A JSON value on each line.
    Jsonl,
    /// A mail (RFC 5322).
    Eml,
    /// Rich Text Format.
    Rtf,
    /// Word (Office Open XML).
    Docx,
    /// `PowerPoint` (Office Open XML).
    Pptx,
    /// Excel (Office Open XML).
    Xlsx,
    /// `OpenDocument` text.
    Odt,
    /// `OpenDocument` spreadsheet.
    Ods,
    /// `OpenDocument` presentation.
    Odp,
    /// An e-book.
    Epub,
    /// A ZIP; which of the formats that are ZIPs inside, its entries tell.
    Zip,
    /// A tape archive.
    Tar,
    /// Something compressed by gzip: a TAR or one file.
    Gzip,
}

impl Format {
    /// As events and search filters name it.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Html => "html",
            Self::Markdown => "markdown",
            Self::Text => "text",
            Self::Code => "code",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Eml => "eml",
            Self::Rtf => "rtf",
            Self::Docx => "docx",
            Self::Pptx => "pptx",
            Self::Xlsx => "xlsx",
            Self::Odt => "odt",
            Self::Ods => "ods",
            Self::Odp => "odp",
            Self::Epub => "epub",
            Self::Zip => "zip",
            Self::Tar => "tar",
            Self::Gzip => "gzip",
        }
    }
}

/// What the file that begins with `head` is.
///
/// # Errors
/// `no_text` for an empty file, `unsupported_format` for what cannot be read as text.
pub(super) fn detect(head: &[u8], filename: &str) -> Result<Format, Failure> {
    let head = &head[..head.len().min(HEAD_BYTES)];
    if head.is_empty() {
        return Err(Failure::lasting("no_text", "The file is empty (0 bytes). Upload a file that has content."));
    }
    if let Some(format) = by_mark(head) {
        return Ok(format);
    }
    if let Some(what) = disguised(head).or_else(|| binary(head)) {
        return Err(unsupported(filename, &what));
    }
    let extension = extension(filename);
    if is_html(head, &extension) {
        return Ok(Format::Html);
    }
    // Decoding fails on binary data only, which has been refused above.
    let text = decode(head.to_vec(), Declaration::None).map(|decoded| decoded.text).unwrap_or_default();
    // A file of exactly so many bytes loses nothing but a last line to this.
    let known = if head.len() == HEAD_BYTES { Known::Beginning } else { Known::Whole };
    Ok(text_format(&text, known, filename, &extension))
}

/// Formats that begin with a mark of their own.
fn by_mark(head: &[u8]) -> Option<Format> {
    let begins = |mark: &[u8]| head.starts_with(mark);
    if begins(b"PK\x03\x04") || begins(b"PK\x05\x06") || begins(b"PK\x07\x08") {
        return Some(Format::Zip);
    }
    if begins(b"\x1f\x8b\x08") {
        return Some(Format::Gzip);
    }
    if begins(b"{\\rtf") {
        return Some(Format::Rtf);
    }
    if head.get(TAR_MAGIC) == Some(b"ustar") {
        return Some(Format::Tar);
    }
    let window = &head[..head.len().min(PDF_MARK_WITHIN)];
    window.windows(5).any(|bytes| bytes == b"%PDF-").then_some(Format::Pdf)
}

/// Which kind of text this is, the beginning of which is known.
fn text_format(text: &str, known: Known, filename: &str, extension: &str) -> Format {
    let named = language(filename, text);
    // Names that say nothing leave the content to speak; others are contradicted by strong marks only.
    let vague = matches!(extension, "" | "txt" | "text" | "log" | "dat" | "data");
    match extension {
        "csv" | "tsv" | "tab" | "psv" => return Format::Csv,
        "jsonl" | "ndjson" => return Format::Jsonl,
        "json" | "geojson" | "ipynb" | "har" | "webmanifest" => {
            return if sniff::is_json_lines(text, known) { Format::Jsonl } else { Format::Json };
        }
        _ => {}
    }
    if sniff::is_mail(text) {
        return Format::Eml;
    }
    match extension {
        "md" | "markdown" | "mdown" | "mkd" | "mdx" | "rmd" | "qmd" => return Format::Markdown,
        _ if named.is_some() && !vague => return Format::Code,
        _ => {}
    }
    if sniff::is_json_lines(text, known) {
        Format::Jsonl
    } else if sniff::is_json(text, known) {
        Format::Json
    } else if named.is_some() {
        Format::Code
    } else if vague && sniff::is_markdown(text) {
        Format::Markdown
    } else if vague && sniff::is_table(text, known) {
        Format::Csv
    } else {
        Format::Text
    }
}

/// The failure of what is no text.
pub(super) fn unsupported(filename: &str, what: &str) -> Failure {
    Failure::lasting(
        "unsupported_format",
        format!("`{filename}` seems to be {what}, which cannot be read as text. {TAKEN}."),
    )
}

/// Formats that are text on the outside and nothing that a person would read, and those that are known but not read.
fn disguised(head: &[u8]) -> Option<String> {
    let marks: [(&[u8], &str); 3] = [
        (b"%!PS", "a PostScript document"),
        (b"%!Adobe", "a PostScript document"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "an Office document of the old binary format or with a password (save it as DOCX, PPTX or XLSX without one)",
        ),
    ];
    marks.iter().find(|(mark, _)| head.starts_with(mark)).map(|(_, what)| (*what).to_owned())
}

/// What this is if it is no text.
fn binary(head: &[u8]) -> Option<String> {
    if encoding_rs::Encoding::for_bom(head).is_some() || utf16(head).is_some() {
        return None;
    }
    let nul = head.contains(&0);
    let utf8 = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    let odd = head.iter().filter(|byte| is_odd(**byte)).count();
    if !nul && odd * 50 <= head.len() && utf8 {
        return None;
    }
    // Signatures of two or three bytes also begin ordinary text: asked only about what does not look like text.
    match infer::get(head) {
        Some(kind) if kind.matcher_type() != MatcherType::Text => {
            Some(format!("{} ({})", class(kind.matcher_type(), kind.extension()), kind.mime_type()))
        }
        _ if nul || odd * 50 > head.len() => Some("binary data".to_owned()),
        _ => None,
    }
}

fn class(class: MatcherType, extension: &str) -> String {
    match class {
        MatcherType::App => "a program".to_owned(),
        MatcherType::Archive => format!("an archive ({extension})"),
        MatcherType::Audio => "sound".to_owned(),
        MatcherType::Book => "an e-book".to_owned(),
        MatcherType::Doc => format!("an office document ({extension})"),
        MatcherType::Font => "a font".to_owned(),
        MatcherType::Image => "an image".to_owned(),
        MatcherType::Video => "a film".to_owned(),
        _ => "binary data".to_owned(),
    }
}

/// Control characters that no text has.
const fn is_odd(byte: u8) -> bool {
    byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x08 | 0x1b) || byte == 0x7f
}

/// UTF-16 without a byte order mark: nearly every other byte of western text is zero.
pub(super) fn utf16(head: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let pairs = head.as_chunks::<2>().0;
    if pairs.len() < 8 {
        return None;
    }
    let (mut little, mut big) = (0, 0);
    for [first, second] in pairs {
        let printable = |byte: u8| byte != 0 && !is_odd(byte);
        little += usize::from(printable(*first) && *second == 0);
        big += usize::from(printable(*second) && *first == 0);
    }
    let most = pairs.len() * 7 / 10;
    if little > most {
        Some(encoding_rs::UTF_16LE)
    } else if big > most {
        Some(encoding_rs::UTF_16BE)
    } else {
        None
    }
}

/// The beginning of the file as ASCII, lower case, zeros of UTF-16 left out: good enough to look for tags.
fn ascii(head: &[u8]) -> String {
    let bytes = head.iter().take(4096).filter(|byte| **byte != 0);
    bytes.map(|byte| if byte.is_ascii() { char::from(byte.to_ascii_lowercase()) } else { '?' }).collect()
}

fn is_html(head: &[u8], extension: &str) -> bool {
    let text = ascii(head);
    let mut rest = text.trim_start_matches(['?', ' ', '\t', '\r', '\n']);
    // An XML declaration or comments may come first.
    loop {
        let end = if rest.starts_with("<!--") {
            rest.find("-->").map(|at| at + 3)
        } else if rest.starts_with("<?xml") {
            rest.find("?>").map(|at| at + 2)
        } else {
            None
        };
        let Some(end) = end else { break };
        rest = rest[end..].trim_start();
    }
    let begins = |tag: &str| rest.starts_with(tag);
    begins("<!doctype html")
        || begins("<html")
        || begins("<head")
        || matches!(extension, "html" | "htm" | "xhtml" | "shtml") && text.contains('<')
}

fn extension(filename: &str) -> String {
    Path::new(filename).extension().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
