//! The form of an archive: frames of a length (4 bytes, big endian) and MessagePack, the last of which has the digest of
//! all before it, so that an archive that was cut or altered is not taken for a whole one.

use std::io::{Read, Write};

use lmao_events::{BlobRef, Hash};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ArchiveError;

/// Bytes of a blob in one frame.
pub(super) const PIECE: usize = 1024 * 1024;
/// Bytes of the largest frame that is read: a piece, or a record, with room to spare.
const MAX_FRAME: usize = 2 * PIECE;

/// A part of an archive, in the order in which they come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Frame {
    /// The first.
    Begin {
        /// [`FORMAT`].
        format: u32,
        /// The log that it was made of.
        log: Uuid,
    },
    /// A secret of the vault, opened.
    Secret {
        name: String,
        #[serde(with = "serde_bytes")]
        secret: Vec<u8>,
    },
    /// A blob begins: as many bytes as it has follow in pieces.
    Blob { folder: String, blob: BlobRef },
    /// The next bytes of the blob.
    Piece(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The next record, as it is stored.
    Record(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The last, with the digest of all others.
    End { digest: Hash },
}

/// The version of this form.
pub(super) const FORMAT: u32 = 1;

/// Digest so far, and the next frame's bytes: `BLAKE3(digest ‖ BLAKE3(bytes))`.
fn next(digest: Hash, bytes: &[u8]) -> Hash {
    Hash::of(&[digest.0, Hash::of(bytes).0].concat())
}

/// Writes frames.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    to: W,
    digest: Hash,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, digest: Hash::default() }
    }

    pub(super) fn write(&mut self, frame: &Frame) -> Result<(), ArchiveError> {
        let bytes = rmp_serde::to_vec(frame).map_err(|error| ArchiveError::Malformed(error.to_string()))?;
        let length = u32::try_from(bytes.len()).map_err(|error| ArchiveError::Malformed(error.to_string()))?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(&bytes)?;
        self.digest = next(self.digest, &bytes);
        Ok(())
    }

    /// Writes the last frame.
    pub(super) fn end(mut self) -> Result<(), ArchiveError> {
        self.write(&Frame::End { digest: self.digest })?;
        Ok(self.to.flush()?)
    }
}

/// Reads frames.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    from: R,
    digest: Hash,
    has_ended: bool,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, digest: Hash::default(), has_ended: false }
    }

    /// The next frame; `None` behind the last one, which is checked and not handed out.
    pub(super) fn read(&mut self) -> Result<Option<Frame>, ArchiveError> {
        if self.has_ended {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.exactly(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME {
            return Err(ArchiveError::Malformed(format!("a part of {length} bytes")));
        }
        let mut bytes = vec![0; length];
        self.exactly(&mut bytes)?;
        let frame = rmp_serde::from_slice(&bytes).map_err(|error| ArchiveError::Malformed(error.to_string()))?;
        if let Frame::End { digest } = frame {
            self.has_ended = true;
            return if digest == self.digest { Ok(None) } else { Err(ArchiveError::Altered) };
        }
        self.digest = next(self.digest, &bytes);
        Ok(Some(frame))
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ArchiveError::Cut,
            _ => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut bytes = vec![];
        let mut frames = FrameWriter::new(&mut bytes);
        frames.write(&Frame::Begin { format: FORMAT, log: Uuid::from_u128(7) }).unwrap();
        frames.write(&Frame::Piece(vec![1; 300])).unwrap();
        frames.end().unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<usize, ArchiveError> {
        let mut frames = FrameReader::new(bytes);
        let mut count = 0;
        while frames.read()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn a_whole_archive_ends_and_a_cut_or_altered_one_is_noticed() {
        let whole = archive();
        assert_eq!(read(&whole).unwrap(), 2);
        for length in 0..whole.len() {
            assert!(matches!(read(&whole[..length]), Err(ArchiveError::Cut)), "cut at {length}");
        }
        let mut altered = whole.clone();
        let at = altered.len() / 2;
        altered[at] ^= 1;
        assert!(matches!(read(&altered), Err(ArchiveError::Altered)));
        let mut huge = whole;
        huge[0] = 0xff;
        assert!(matches!(read(&huge), Err(ArchiveError::Malformed(_))));
    }
}
