//! ZIP and TAR, plain or compressed by gzip: the members, in the order of the archive, as sections of one document. Nothing
//! is unpacked to the disk, hence no path can lead anywhere.

use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;
use lmao_events::Failure;
use tar::EntryType;
use zip::result::ZipError;

use super::{
    Budget, Extraction, Format, Source, damaged, encrypted,
    members::{Members, shown},
    one,
    package::Package,
    source::ReadSeek,
};
use crate::{
    ingest::detect::{HEAD_BYTES, detect},
    text::Builder,
};

/// Bytes that a stream unpacks to at most, what is skipped included.
const STREAM_BYTES: u64 = 8 << 30;
/// Bytes of a single file that was compressed.
const FILE_BYTES: u64 = 256 << 20;

/// The members of a ZIP.
pub(super) fn zip(package: &mut Package, budget: &mut Budget) -> Result<Extraction, Failure> {
    let mut members = Members::new(Builder::new());
    let (mut locked, mut open) = (0, 0);
    for index in 0..package.archive.len() {
        let mut member = match package.archive.by_index(index) {
            Ok(member) => member,
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => {
                locked += 1;
                continue;
            }
            Err(error) => {
                members.warn(format!("member {}: {error}", index + 1));
                continue;
            }
        };
        let name = member.name().map_or_else(|_| format!("member {}", index + 1), std::borrow::Cow::into_owned);
        if member.is_dir() || is_system(&name) {
            continue;
        }
        open += 1;
        let packed = member.compressed_size();
        members.read(&name, Some(packed), &mut member, budget)?;
    }
    if locked > 0 && open == 0 {
        return Err(encrypted("archive"));
    }
    if locked > 0 {
        members.warn(format!("{locked} members are encrypted and were left out"));
    }
    members.finish()
}

/// The members of a TAR.
pub(super) fn tar(content: impl Read, budget: &mut Budget) -> Result<Extraction, Failure> {
    let mut members = Members::new(Builder::new());
    let mut archive = tar::Archive::new(content);
    let entries = archive.entries().map_err(|error| damaged("TAR archive", &error.to_string()))?;
    for entry in entries {
        let mut entry = match entry {
            Ok(entry) => entry,
            // What comes behind a broken header cannot be found.
            Err(error) => {
                members.warn(format!("the archive is damaged, members may be lost: {error}"));
                break;
            }
        };
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if is_system(&name) {
            continue;
        }
        // The holes of a sparse file take no bytes of the archive.
        let packed = if kind.is_gnu_sparse() { entry.header().entry_size().unwrap_or(0) } else { entry.size() };
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                members.read(&name, Some(packed), &mut entry, budget)?;
            }
            // These have no text: global headers are of the archive itself.
            EntryType::Directory | EntryType::Symlink | EntryType::XGlobalHeader => {}
            kind if packed > 0 => members.warn(format!(
                "{}: left out, it is no file (its kind in the archive is {:?})",
                shown(&name),
                char::from(kind.as_byte())
            )),
            _ => {}
        }
    }
    members.finish()
}

/// A TAR, or the one file, that was compressed.
pub(super) fn gzip(
    filename: &str,
    content: Box<dyn ReadSeek>,
    budget: &mut Budget,
) -> Result<(Format, Extraction), Failure> {
    let broken = |error: &io::Error| damaged("compressed file", &error.to_string());
    let mut content = MultiGzDecoder::new(content).take(STREAM_BYTES);
    let mut head = vec![];
    content.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(|error| broken(&error))?;
    let inner = stem(filename);
    let format = detect(&head, inner)?;
    if format == Format::Tar {
        let mut whole = Cursor::new(head).chain(content);
        let extraction = tar(&mut whole, budget)?;
        if whole.into_inner().1.limit() == 0 {
            return Err(unpacks_to(STREAM_BYTES));
        }
        return Ok((format, extraction));
    }
    let mut bytes = head;
    content.take(FILE_BYTES + 1 - bytes.len() as u64).read_to_end(&mut bytes).map_err(|error| broken(&error))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(unpacks_to(FILE_BYTES));
    }
    if format == Format::Gzip {
        return Err(Failure::lasting("unsupported_format", "The file is compressed twice. Unpack it and upload that."));
    }
    one(format, inner, Source::Bytes(bytes), budget)
}

fn unpacks_to(bytes: u64) -> Failure {
    Failure::lasting(
        "document_too_large",
        format!("The file unpacks to more than {} MiB. Unpack it and upload its files in parts.", bytes >> 20),
    )
}

/// A file name without the last extension.
fn stem(filename: &str) -> &str {
    filename.rsplit_once('.').map_or(filename, |(stem, _)| stem)
}

/// What systems put beside the files that people pack.
fn is_system(path: &str) -> bool {
    path.starts_with("__MACOSX/")
        || path.ends_with(".DS_Store")
        || path.ends_with("/Thumbs.db")
        || path.contains("/.git/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_all_kinds_that_hold_text_are_read_or_told() {
        let mut archive = tar::Builder::new(vec![]);
        let kinds = [
            ("contiguous.txt", EntryType::Continuous),
            ("rest.txt", EntryType::new(b'M')),
            ("pax_global_header", EntryType::XGlobalHeader),
            ("plain.txt", EntryType::Regular),
        ];
        for (name, kind) in kinds {
            let text =
                if kind == EntryType::XGlobalHeader { "13 comment=x\n".to_owned() } else { format!("In {name}.") };
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        // A sparse file of one piece behind a hole.
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_path("sparse.txt").unwrap();
        header.set_size(10);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].set_offset(0);
        gnu.sparse[0].set_length(10);
        gnu.set_real_size(10);
        header.set_cksum();
        archive.append(&header, &b"In sparse."[..]).unwrap();
        let bytes = archive.into_inner().unwrap();

        let found = tar(bytes.as_slice(), &mut Budget::new()).unwrap();
        let texts: Vec<&str> = found.document.text.lines().filter(|line| line.starts_with("In ")).collect();
        assert_eq!(texts, ["In contiguous.txt.", "In plain.txt.", "In sparse."]);
        assert_eq!(found.warnings, ["rest.txt: left out, it is no file (its kind in the archive is 'M')"]);
    }
}
