//! From the bytes of one format to the canonical text. Pure and synchronous: where and under which limits it runs is
//! decided elsewhere.

mod code;
mod html;
mod markdown;
mod pdf;
mod plain;

use lmao_events::Failure;
use serde::{Deserialize, Serialize};

use super::{
    decode::{Declaration, decode},
    detect::{Format, HEAD_BYTES, language},
};
use crate::text::{Builder, MAX_TEXT_BYTES, TextDocument};

/// What was found in a file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Extraction {
    pub(super) document: TextDocument,
    pub(super) title: Option<String>,
    pub(super) pages: Option<u32>,
    pub(super) language: Option<String>,
    pub(super) warnings: Vec<String>,
    /// Who wrote it, as it says.
    #[serde(default)]
    pub(super) authors: Vec<String>,
    /// When, as it says: an RFC 3339 date with or without time.
    #[serde(default)]
    pub(super) written: Option<String>,
    /// Its own tags, keywords or subjects.
    #[serde(default)]
    pub(super) tags: Vec<String>,
}

impl Extraction {
    /// Words, parted by white space.
    pub(super) fn words(&self) -> u64 {
        self.document.text.split_whitespace().count() as u64
    }
}

/// Extracts the text of a file of this format.
///
/// # Errors
/// Lasting ones that say what is wrong with the file.
pub(super) fn extract(format: Format, filename: &str, bytes: Vec<u8>) -> Result<Extraction, Failure> {
    let extraction = match format {
        Format::Pdf => pdf::extract(bytes)?,
        Format::Html => {
            let decoded = decode(bytes, Declaration::Html)?;
            with_warning(html::extract(&decoded.text)?, decoded.warning)
        }
        Format::Markdown | Format::Text | Format::Code => {
            if bytes.len() > MAX_TEXT_BYTES * 2 {
                return Err(too_large());
            }
            let head = bytes[..bytes.len().min(HEAD_BYTES)].to_vec();
            let decoded = decode(bytes, Declaration::None)?;
            if decoded.text.len() > MAX_TEXT_BYTES {
                return Err(too_large());
            }
            let text = unix_lines(decoded.text);
            let extraction = match format {
                Format::Markdown => markdown::extract(&text)?,
                Format::Code => {
                    let mut found = code::extract(&text)?;
                    found.language = language(filename, &head).map(str::to_owned);
                    found
                }
                _ => plain::extract(&text)?,
            };
            with_warning(extraction, decoded.warning)
        }
    };
    if extraction.document.blocks.is_empty() {
        return Err(Failure::lasting(
            "no_text",
            "The file has no text: it holds nothing but white space or markup. Upload a file that has content.",
        ));
    }
    Ok(extraction)
}

fn with_warning(mut extraction: Extraction, warning: Option<String>) -> Extraction {
    extraction.warnings.extend(warning);
    extraction
}

/// Ends a builder.
fn finish(builder: Builder, title: Option<String>, language: Option<String>) -> Result<Extraction, Failure> {
    let document = builder.finish().map_err(|_| too_large())?;
    Ok(Extraction {
        document,
        title,
        pages: None,
        language,
        warnings: vec![],
        authors: vec![],
        written: None,
        tags: vec![],
    })
}

/// The failure of a document with more text than can be indexed.
pub(super) fn too_large() -> Failure {
    Failure::lasting(
        "document_too_large",
        format!("The document has more than {} MiB of text. Split it into parts.", MAX_TEXT_BYTES / (1024 * 1024)),
    )
}

/// Line ends of all systems as `\n`.
fn unix_lines(text: String) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text }
}

/// A title: one line, of a bearable length; `None` when nothing is left.
fn title(text: &str) -> Option<String> {
    let text = crate::text::clean_prose(text);
    let text = text[..text.floor_char_boundary(300)].trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::text::Kind;

    /// The blocks of a document, one a line, for expectations.
    pub(super) fn outline(document: &TextDocument) -> String {
        let mut out = String::new();
        for block in &document.blocks {
            let kind = format!("{:?}", block.kind).to_lowercase();
            let mut path = document.path(block.section);
            if matches!(block.kind, Kind::Heading(_)) {
                path.pop();
            }
            write!(out, "{kind} {:?}", document.slice(block)).unwrap();
            if !path.is_empty() {
                write!(out, " in {}", path.join(" > ")).unwrap();
            }
            if let Some(page) = block.page {
                write!(out, " on {page}").unwrap();
            }
            out.push('\n');
        }
        out
    }

    #[test]
    fn nothing_but_white_space_is_no_text() {
        for (format, bytes) in [
            (Format::Text, " \n\t\r\n".as_bytes()),
            (Format::Markdown, b"\n---\n"),
            (Format::Html, b"<html><body><script>x</script> </body></html>"),
            (Format::Code, b"\n\n"),
        ] {
            let failure = extract(format, "x", bytes.to_vec()).unwrap_err();
            assert_eq!((failure.reason.as_str(), failure.retryable), ("no_text", false), "{format:?}");
        }
    }

    #[test]
    fn line_ends_of_all_systems_are_read() {
        let extraction = extract(Format::Text, "x", b"one\r\rtwo\r\n\r\nthree".to_vec()).unwrap();
        assert_eq!(extraction.document.text, "one\n\ntwo\n\nthree");
        assert_eq!(extraction.words(), 3);
    }
}
