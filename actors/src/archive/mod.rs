//! Archives: a log with its blobs, and if wanted its secrets, in one file, to be moved into other stores.
//!
//! Records are copied as they are, so the chains stay what they were and every projection of the copy has the digest of
//! the original. Secrets come first, then blobs, then records: whoever dies half-way has nothing that names what is not
//! there, and goes on with the same archive.

mod frame;

use std::{
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lmao_events::{BlobRef, Hash, Head, Position, Record, RecordError, StreamId, Version};
use lmao_ports::{
    AppendError, Blobs, EventLog, Filter, Folder, PendingBlob, ReadError, Recorded, Secret, Unavailable, Vault,
    VaultError,
};
use tokio::{fs::File, io::AsyncReadExt as _};

use self::frame::{FORMAT, Frame, FrameReader, FrameWriter, PIECE};
use crate::audit;

/// Bytes of the largest blob that is copied through memory.
const IN_MEMORY: u64 = 64 * 1024 * 1024;
/// How often an append is repeated whose outcome is unknown, and the pause before.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Why an archive was not made, or not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read or written.
    #[error("the archive cannot be read or written")]
    File(#[from] io::Error),
    /// It ends too early.
    #[error("the archive is cut off: it was not written to its end, or not copied whole")]
    Cut,
    /// Its content is not what was written.
    #[error("the archive was altered: its content does not have its digest")]
    Altered,
    /// It is no archive.
    #[error("this is no archive of a log: {0}")]
    Malformed(String),
    /// A newer build wrote it.
    #[error("the archive has format {0}, this build knows {FORMAT}: upgrade lmao")]
    Newer(u32),
    /// A record in it does not parse.
    #[error("a record of the archive does not parse")]
    Record(#[from] RecordError),
    /// The log holds something else.
    #[error("the log already holds another history, from position {0} on; import into an empty system")]
    OtherHistory(Position),
    /// The vault holds something else.
    #[error("the vault already holds another {0}; import into an empty system")]
    OtherSecret(String),
    /// A blob is named and not there.
    #[error("the blob {blob} of {folder} went away while it was copied; try again", blob = .1.sha256, folder = .0)]
    BlobGone(Folder, BlobRef),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log did not take a record.
    #[error("a record was not stored")]
    Append(#[from] AppendError),
    /// The vault cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The blobs cannot be used.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What is copied from, or to.
#[derive(Debug, Clone)]
pub struct Archived {
    /// The records.
    pub log: Arc<dyn EventLog>,
    /// The secrets.
    pub vault: Arc<dyn Vault>,
    /// The blobs.
    pub blobs: Arc<dyn Blobs>,
}

/// Whether an archive holds secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// All of them, in the clear: who has the archive can read everything.
    Included,
    /// None: the archive can be read only where the vault has them already.
    LeftOut,
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    /// Secrets.
    pub secrets: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of blobs.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Of these, records that were there before.
    pub present: u64,
}

/// Writes everything up to the log's present end. `progress` is told what was copied, now and then.
///
/// # Errors
/// [`ArchiveError`]; what was written is no archive then.
pub async fn export(
    from: &Archived,
    keys: Keys,
    to: impl Write + Send,
    mut progress: impl FnMut(&Copied) + Send,
) -> Result<Copied, ArchiveError> {
    let mut frames = FrameWriter::new(to);
    let mut copied = Copied::default();
    // Before the blobs: what a record up to here names is there by now.
    let end = from.log.tail().await?;
    frames.write(&Frame::Begin { format: FORMAT, log: from.log.id() })?;
    if keys == Keys::Included {
        for name in from.vault.keys().await? {
            // The checkpoint speaks of this log's positions.
            let Some(Secret(secret)) = from.vault.get(&name).await?.filter(|_| name != audit::CHECKPOINT) else {
                continue;
            };
            frames.write(&Frame::Secret { name, secret })?;
            copied.secrets += 1;
        }
    }
    let mut folders = from.blobs.folders();
    while let Some(folder) = folders.try_next().await? {
        for blob in from.blobs.list(folder).await? {
            write_blob(&mut frames, from.blobs.as_ref(), folder, blob).await?;
            copied.blobs += 1;
            copied.bytes += blob.size;
            progress(&copied);
        }
    }
    let mut records = from.log.subscribe(Position(0), Filter::All);
    let mut reached = Position(0);
    while reached < end {
        let Some(recorded) = records.next().await.transpose()? else { return Err(ArchiveError::Cut) };
        reached = recorded.position;
        frames.write(&Frame::Record(recorded.record.bytes().to_vec()))?;
        copied.records += 1;
        if copied.records.is_multiple_of(1000) {
            progress(&copied);
        }
    }
    frames.end()?;
    Ok(copied)
}

async fn write_blob<W: Write>(
    frames: &mut FrameWriter<W>,
    blobs: &dyn Blobs,
    folder: Folder,
    blob: BlobRef,
) -> Result<(), ArchiveError> {
    let gone = || ArchiveError::BlobGone(folder, blob);
    if blob.size <= IN_MEMORY {
        // Without a copy on this disk, where blobs are elsewhere.
        let bytes = blobs.get(folder, &blob).await?.ok_or_else(gone)?;
        frames.write(&Frame::Blob { folder: folder.to_string(), blob })?;
        return bytes.chunks(PIECE).try_for_each(|piece| frames.write(&Frame::Piece(piece.to_vec())));
    }
    let mut file = File::open(blobs.local(folder, &blob).await?.ok_or_else(gone)?).await?;
    frames.write(&Frame::Blob { folder: folder.to_string(), blob })?;
    let mut left = usize::try_from(blob.size).unwrap_or(usize::MAX);
    let mut piece = vec![0; PIECE.min(left)];
    while left > 0 {
        piece.truncate(left);
        file.read_exact(&mut piece).await?;
        left -= piece.len();
        frames.write(&Frame::Piece(piece.clone()))?;
    }
    Ok(())
}

/// Takes in an archive: into an empty system, or one that an import of the same archive has left half-full.
///
/// # Errors
/// [`ArchiveError`]; what was taken in stays, and the same archive goes on from there.
pub async fn import(
    from: impl Read + Send,
    to: &Archived,
    mut progress: impl FnMut(&Copied) + Send,
) -> Result<Copied, ArchiveError> {
    let mut frames = FrameReader::new(from);
    match frames.read()? {
        Some(Frame::Begin { format, .. }) if format <= FORMAT => {}
        Some(Frame::Begin { format, .. }) => return Err(ArchiveError::Newer(format)),
        _ => return Err(ArchiveError::Malformed("it does not begin like one".to_owned())),
    }
    let mut copied = Copied::default();
    let mut present = Present::of(to.log.as_ref()).await?;
    let mut coming: Option<Coming> = None;
    while let Some(frame) = frames.read()? {
        if coming.is_some() && !matches!(frame, Frame::Piece(_)) {
            return Err(ArchiveError::Malformed("a blob of which a piece is missing".to_owned()));
        }
        match frame {
            Frame::Secret { name, secret } => {
                let secret = Secret(secret);
                if to.vault.put_new(&name, &secret).await? != secret {
                    return Err(ArchiveError::OtherSecret(name));
                }
                copied.secrets += 1;
            }
            Frame::Blob { folder, blob } => {
                let folder = folder.parse().map_err(|error| ArchiveError::Malformed(format!("{error}")))?;
                coming = Coming { folder, blob, pending: to.blobs.begin().await? }.come(&mut copied, None).await?;
            }
            Frame::Piece(bytes) => {
                let blob = coming.take().ok_or_else(|| ArchiveError::Malformed("a piece of no blob".to_owned()))?;
                coming = blob.come(&mut copied, Some(bytes)).await?;
            }
            Frame::Record(bytes) => {
                let record = Record::parse(bytes)?;
                copied.records += 1;
                if present.holds(record.hash()).await? {
                    copied.present += 1;
                } else {
                    append(to.log.as_ref(), Arc::new(record)).await?;
                }
            }
            Frame::Begin { .. } | Frame::End { .. } => {
                return Err(ArchiveError::Malformed("it begins twice".to_owned()));
            }
        }
        progress(&copied);
    }
    Ok(copied)
}

/// A blob of which pieces are still to come.
#[derive(Debug)]
struct Coming {
    folder: Folder,
    blob: BlobRef,
    pending: Box<dyn PendingBlob>,
}

impl Coming {
    /// With this piece; `None` once it is whole and kept.
    async fn come(mut self, copied: &mut Copied, piece: Option<Vec<u8>>) -> Result<Option<Self>, ArchiveError> {
        if let Some(bytes) = piece {
            self.pending.write(Bytes::from(bytes)).await?;
        }
        let so_far = self.pending.blob();
        if so_far.size < self.blob.size {
            return Ok(Some(self));
        }
        if so_far != self.blob {
            return Err(ArchiveError::Altered);
        }
        self.pending.keep(self.folder).await?;
        copied.blobs += 1;
        copied.bytes += self.blob.size;
        Ok(None)
    }
}

/// The records that the log had before, in order.
struct Present {
    records: futures::stream::BoxStream<'static, Result<Recorded, ReadError>>,
    reached: Position,
    end: Position,
}

impl Present {
    async fn of(log: &dyn EventLog) -> Result<Self, ArchiveError> {
        Ok(Self { records: log.subscribe(Position(0), Filter::All), reached: Position(0), end: log.tail().await? })
    }

    /// Whether the next record was there; refuses when another one was.
    async fn holds(&mut self, hash: Hash) -> Result<bool, ArchiveError> {
        if self.reached >= self.end {
            return Ok(false);
        }
        let Some(recorded) = self.records.next().await.transpose()? else { return Ok(false) };
        self.reached = recorded.position;
        if recorded.hash == hash { Ok(true) } else { Err(ArchiveError::OtherHistory(recorded.position)) }
    }
}

async fn append(log: &dyn EventLog, record: Arc<Record>) -> Result<(), ArchiveError> {
    let header = record.header();
    let version = Version(header.version.0.saturating_sub(1));
    let expected = Head { version, position: Position(0), hash: header.prev };
    for attempt in 1.. {
        match log.append(&expected, Arc::clone(&record)).await {
            Ok(_) => break,
            Err(AppendError::Conflict) => return Err(conflict(log, header.stream).await?),
            Err(AppendError::Unknown(_)) if attempt < ATTEMPTS => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn conflict(log: &dyn EventLog, stream: StreamId) -> Result<ArchiveError, ArchiveError> {
    let position = log.last(&stream).await?.map_or(Position(0), |last| last.position);
    Ok(ArchiveError::OtherHistory(position))
}
