//! From the bytes of one format to the canonical text. Pure and synchronous: where and under which limits it runs is
//! decided elsewhere.

mod archive;
mod code;
mod csv;
mod epub;
mod html;
mod json;
mod mail;
mod markdown;
mod members;
mod meta;
mod odf;
mod office;
mod package;
mod pdf;
mod plain;
mod rows;
mod rtf;
mod source;

use lmao_events::Failure;
use serde::{Deserialize, Serialize};

use super::{
    decode::{Declaration, decode},
    detect::{Format, HEAD_BYTES, language},
};
use crate::text::{Builder, MAX_BLOCKS, MAX_TEXT_BYTES, TextDocument};
use members::Budget;
use package::Package;
pub(super) use source::Source;

const MIB: u64 = 1 << 20;

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

/// Bytes that a file of this format may have: what its parser can bear within the limits of the worker process.
pub(super) const fn max_bytes(format: Format) -> u64 {
    match format {
        Format::Html => 64 * MIB,
        Format::Json => 128 * MIB,
        Format::Pdf => 768 * MIB,
        Format::Markdown | Format::Text | Format::Code | Format::Csv | Format::Jsonl | Format::Eml | Format::Rtf => {
            MAX_TEXT_BYTES as u64 * 2
        }
        Format::Docx | Format::Pptx | Format::Xlsx | Format::Odt | Format::Ods | Format::Odp | Format::Epub => {
            1024 * MIB
        }
        // Read piece by piece.
        Format::Zip | Format::Tar | Format::Gzip => 64 * 1024 * MIB,
    }
}

/// Whether a file of this format and size is read in this process: the parsers of plain formats are trusted, and what they
/// keep in memory is some ten times the size, whatever is in the file.
pub(super) const fn is_harmless(format: Format, bytes: u64) -> bool {
    match format {
        Format::Markdown | Format::Text | Format::Code | Format::Csv | Format::Json | Format::Jsonl => bytes <= 4 * MIB,
        _ => false,
    }
}

/// The failure of a file that is too large for its format, if it is.
pub(super) fn check_size(format: Format, bytes: u64) -> Result<(), Failure> {
    let most = max_bytes(format);
    if bytes <= most {
        return Ok(());
    }
    Err(Failure::lasting(
        "document_too_large",
        format!(
            "The file has {} MiB; at most {} MiB of this format ({}) are read. Split it into parts.",
            bytes / MIB,
            most / MIB,
            format.name()
        ),
    ))
}

/// Extracts the text of a file of this format; the format that it has after all, since containers show it only inside.
///
/// # Errors
/// Lasting ones that say what is wrong with the file.
pub(super) fn extract(format: Format, filename: &str, source: Source) -> Result<(Format, Extraction), Failure> {
    let (format, mut extraction) = one(format, filename, source, &mut Budget::new())?;
    if extraction.document.blocks.is_empty() {
        let lost = if extraction.warnings.is_empty() {
            String::new()
        } else {
            format!(" ({})", extraction.warnings.join("; "))
        };
        return Err(Failure::lasting(
            "no_text",
            format!(
                "The file has no text: it holds nothing but white space, markup or pictures{lost}. Upload a file that has \
                 text."
            ),
        ));
    }
    if extraction.language.is_none() {
        extraction.language = meta::language_of(&extraction.document).map(str::to_owned);
    }
    Ok((format, extraction))
}

/// Extracts a file, or a member of one; without text it is empty.
fn one(format: Format, filename: &str, source: Source, budget: &mut Budget) -> Result<(Format, Extraction), Failure> {
    check_size(format, source.len())?;
    let extraction = match format {
        Format::Pdf => pdf::extract(source.whole()?)?,
        Format::Html => {
            let decoded = decode(source.whole()?, Declaration::Html)?;
            with_warning(html::extract(&decoded.text)?, decoded.warning)
        }
        Format::Eml => mail::extract(&source.whole()?, budget)?,
        Format::Rtf => rtf::extract(&source.whole()?)?,
        Format::Tar => archive::tar(source.reader()?, budget)?,
        Format::Gzip => return archive::gzip(filename, source.reader()?, budget),
        Format::Zip => return zipped(source, budget),
        // Found in a ZIP, never told by a beginning.
        Format::Docx | Format::Pptx | Format::Xlsx => office::extract(source.reader()?, format)?,
        Format::Odt | Format::Ods | Format::Odp => odf::extract(&mut Package::open(source)?, format)?,
        Format::Epub => epub::extract(&mut Package::open(source)?)?,
        Format::Markdown | Format::Text | Format::Code | Format::Csv | Format::Json | Format::Jsonl => {
            text(format, filename, source.whole()?)?
        }
    };
    Ok((format, extraction))
}

/// What is in a ZIP: a document of a format that is one, or members.
fn zipped(source: Source, budget: &mut Budget) -> Result<(Format, Extraction), Failure> {
    let mut package = Package::open(source)?;
    let format = package.format();
    let extraction = match format {
        Format::Docx | Format::Pptx | Format::Xlsx => office::extract(package.into_reader(), format)?,
        Format::Odt | Format::Ods | Format::Odp => odf::extract(&mut package, format)?,
        Format::Epub => epub::extract(&mut package)?,
        _ => archive::zip(&mut package, budget)?,
    };
    Ok((format, extraction))
}

fn text(format: Format, filename: &str, bytes: Vec<u8>) -> Result<Extraction, Failure> {
    let decoded = decode(bytes, Declaration::None)?;
    if decoded.text.len() > MAX_TEXT_BYTES {
        return Err(too_large());
    }
    let text = unix_lines(decoded.text);
    let extraction = match format {
        Format::Markdown => markdown::extract(&text)?,
        Format::Csv => csv::extract(&text)?,
        Format::Json => json::extract(&text)?,
        Format::Jsonl => json::extract_lines(&text)?,
        Format::Code => {
            let mut found = code::extract(&text)?;
            let head = &text[..text.floor_char_boundary(HEAD_BYTES)];
            found.language = language(filename, head).map(str::to_owned);
            found
        }
        _ => plain::extract(&text)?,
    };
    Ok(with_warning(extraction, decoded.warning))
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

/// The failure of a file whose structure is broken.
fn damaged(what: &str, said: &str) -> Failure {
    Failure::lasting(
        "damaged_file",
        format!(
            "The {what} cannot be read, it seems to be damaged or cut off ({said}). Get a whole copy and upload that."
        ),
    )
}

/// The failure of a file that nobody can read without its password.
fn encrypted(what: &str) -> Failure {
    Failure::lasting(
        "encrypted_file",
        format!("The {what} is encrypted and needs a password. Save it without one and upload that."),
    )
}

/// The failure of a document with more text than can be indexed.
pub(super) fn too_large() -> Failure {
    Failure::lasting(
        "document_too_large",
        format!(
            "The document has more than {} MiB of text or more than {MAX_BLOCKS} paragraphs, items or values. Split it into \
             parts.",
            MAX_TEXT_BYTES / (1024 * 1024)
        ),
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
            let failure = extract(format, "x", Source::Bytes(bytes.to_vec())).unwrap_err();
            assert_eq!((failure.reason.as_str(), failure.retryable), ("no_text", false), "{format:?}");
        }
    }

    #[test]
    fn line_ends_of_all_systems_are_read() {
        let source = Source::Bytes(b"one\r\rtwo\r\n\r\nthree".to_vec());
        let (_, extraction) = extract(Format::Text, "x", source).unwrap();
        assert_eq!(extraction.document.text, "one\n\ntwo\n\nthree");
        assert_eq!(extraction.words(), 3);
    }

    #[test]
    fn large_files_are_read_in_a_process_of_their_own() {
        for format in [Format::Markdown, Format::Text, Format::Code, Format::Csv, Format::Json, Format::Jsonl] {
            assert!(is_harmless(format, 4 * MIB) && !is_harmless(format, 4 * MIB + 1), "{format:?}");
        }
        assert!(!is_harmless(Format::Pdf, 1));
    }
}
