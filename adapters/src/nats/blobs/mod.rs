//! Blobs on JetStream, in pieces: each upload is a subject of its own below the blob's, and a last message, `whole`, names the
//! upload that counts. Without it a blob is absent.
//!
//! JetStream's own object store names objects by one opaque token, so a folder could only be found and deleted by listing all
//! objects, and a broken upload would stay for ever. Here the folder is part of the subject: it is deleted by one purge,
//! with whatever was left unfinished in it, and listing folders finds those, too.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use lmao_events::{BlobRef, ContentHash};
use lmao_ports::{Blobs, Folder, PendingBlob, Unavailable};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use uuid::Uuid;

use super::{
    Limits, Nats, STORE,
    migrate::Definition,
    stream::{Stored, Stream},
};
use crate::blobs::local::{Incoming, Local, altered};

/// Bytes in one piece.
const PIECE: usize = 256 * 1024;
/// Pieces read at once.
const BATCH: usize = 16;
/// The token of the message that makes a blob whole.
const WHOLE: &str = "whole";
/// The token that stands for no attempt.
const NO_ATTEMPT: &str = "-";
/// The subject of the id of the log that the blobs belong to.
const LOG: &str = "log";

/// What makes a blob whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Whole {
    /// The upload that counts.
    upload: Uuid,
    /// The blob's size in bytes.
    size: u64,
    /// How many pieces it has.
    pieces: u64,
    /// The sequence of the first; 0 for an empty blob.
    first: u64,
}

/// [`Blobs`] in a stream, with files in a local folder for those who read files. Clones share it.
#[derive(Debug, Clone)]
pub struct NatsBlobs {
    stream: Stream,
    local: Arc<Local>,
}

impl NatsBlobs {
    /// Opens the stream that [`super::migrate`] made, for the log with this id. `cache` is a folder of this process alone: what
    /// it is about to send, and what was asked for as a file; of an earlier process nothing stays.
    ///
    /// # Errors
    /// [`Unavailable`]: the stream cannot be reached, or was not made; it holds the blobs of another log; the folder cannot be
    /// used.
    pub async fn open(nats: &Nats, log: Uuid, cache: &Path) -> Result<Self, Unavailable> {
        let stream = Stream::open(nats, Definition::Blobs, Limits::default()).await?;
        belongs_to(&stream, log).await?;
        Ok(Self { stream, local: Arc::new(Local::open(cache).await?) })
    }

    /// Stores what `content` reads, which has this hash and size.
    async fn upload(
        &self,
        folder: Folder,
        blob: BlobRef,
        content: &mut (impl AsyncRead + Unpin + Send),
    ) -> Result<BlobRef, Unavailable> {
        let place = self.place(folder, &blob);
        if self.whole(&place).await?.is_some() {
            return Ok(blob);
        }
        let upload = Uuid::new_v4();
        let kept = match self.pieces(&place, upload, content).await {
            Ok(whole) => self.keep(&place, &whole).await,
            Err(error) => Err(error),
        };
        if !matches!(kept, Ok(Kept::Ours)) {
            // Should this fail, too, the pieces go with the folder.
            let _ = self.stream.purge(&format!("{place}.{}", upload.simple())).await;
        }
        kept.map(|_| blob)
    }

    /// Sends the pieces, each behind the one before.
    async fn pieces(
        &self,
        place: &str,
        upload: Uuid,
        content: &mut (impl AsyncRead + Unpin + Send),
    ) -> Result<Whole, Unavailable> {
        let subject = format!("{place}.{}", upload.simple());
        let mut whole = Whole { upload, size: 0, pieces: 0, first: 0 };
        let mut last = 0;
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            while piece.len() < PIECE {
                let read = (&mut *content).take((PIECE - piece.len()) as u64).read_buf(&mut piece).await;
                if read.map_err(|error| Unavailable::new(STORE, "a blob on its way in cannot be read", error))? == 0 {
                    break;
                }
            }
            if piece.is_empty() {
                return Ok(whole);
            }
            whole.size += piece.len() as u64;
            let sent = self.stream.publish_once(&subject, piece.freeze(), last).await?;
            last = sent.ok_or_else(|| Unavailable::plain(STORE, "a blob on its way in was deleted with its folder"))?;
            whole.pieces += 1;
            if whole.pieces == 1 {
                whole.first = last;
            }
        }
    }

    /// Makes the blob whole, unless it is.
    async fn keep(&self, place: &str, whole: &Whole) -> Result<Kept, Unavailable> {
        let manifest = serde_json::to_vec(whole)
            .map_err(|error| Unavailable::new(STORE, "what makes a blob whole cannot be written", error))?;
        let stored = self.stream.publish_once(&format!("{place}.{WHOLE}"), manifest.into(), 0).await?;
        Ok(if stored.is_some() { Kept::Ours } else { Kept::Anothers })
    }

    async fn whole(&self, place: &str) -> Result<Option<Whole>, Unavailable> {
        let Some(stored) = self.stream.last(&format!("{place}.{WHOLE}")).await? else { return Ok(None) };
        let whole = serde_json::from_slice(&stored.payload).map_err(|error| {
            Unavailable::new(STORE, format!("what makes {place} whole was altered; delete the document"), error)
        })?;
        Ok(Some(whole))
    }

    /// The pieces of a blob, in order.
    fn content(&self, place: &str, whole: &Whole) -> BoxStream<'static, Result<Bytes, Unavailable>> {
        let subject = format!("{place}.{}", whole.upload.simple());
        let start = (self.stream.clone(), whole.first, whole.pieces);
        let batches = stream::try_unfold(start, move |(stream, from, left)| {
            let subject = subject.clone();
            async move {
                if left == 0 {
                    return Ok::<_, Unavailable>(None);
                }
                let found = some(&stream, &subject, from, left).await?;
                let from = found.last().map_or(from, |last| last.sequence + 1);
                let left = left - found.len() as u64;
                Ok(Some((stream::iter(found).map(|stored| Ok(stored.payload)), (stream, from, left))))
            }
        });
        batches.try_flatten().boxed()
    }

    fn place(&self, folder: Folder, blob: &BlobRef) -> String {
        format!("{}.{}", self.folder(folder), blob.sha256)
    }

    fn folder(&self, folder: Folder) -> String {
        let attempt = folder.attempt.map_or_else(|| NO_ATTEMPT.to_owned(), |attempt| attempt.to_string());
        self.stream.subject(&format!("{}.{}.{attempt}", folder.owner, folder.document))
    }

    fn parse(&self, subject: &str) -> Option<Folder> {
        let mut tokens = self.stream.rest(subject)?.split('.');
        let (owner, document) = (tokens.next()?.parse().ok()?, tokens.next()?.parse().ok()?);
        let attempt = match tokens.next()? {
            NO_ATTEMPT => None,
            attempt => Some(attempt.parse().ok()?),
        };
        Some(Folder { owner, document, attempt })
    }
}

/// Who made a blob whole.
enum Kept {
    Ours,
    Anothers,
}

/// The next pieces, at least one: from a replica, or from the leader when that one lags.
async fn some(stream: &Stream, subject: &str, from: u64, left: u64) -> Result<Vec<Stored>, Unavailable> {
    let count = usize::try_from(left).map_or(BATCH, |left| left.min(BATCH));
    let found = stream.batch(subject, from, count).await?.messages;
    if !found.is_empty() {
        return Ok(found);
    }
    let missing = || Unavailable::plain(STORE, format!("pieces of {subject} are missing: its folder was deleted"));
    Ok(vec![stream.next(subject, from).await?.ok_or_else(missing)?])
}

/// The first log to come has the blobs.
async fn belongs_to(stream: &Stream, log: Uuid) -> Result<(), Unavailable> {
    let (subject, ours) = (stream.subject(LOG), Bytes::from(log.to_string()));
    let owner = match stream.last(&subject).await? {
        Some(stored) => stored.payload,
        None if stream.publish_once(&subject, ours.clone(), 0).await?.is_some() => return Ok(()),
        None => stream.last(&subject).await?.map(|stored| stored.payload).unwrap_or_default(),
    };
    if owner == ours {
        return Ok(());
    }
    let message = format!(
        "{} holds the blobs of the log {}, and this is the log {log}: choose another namespace for the blobs, or restore the \
         log that they belong to",
        stream.nats().servers(),
        String::from_utf8_lossy(&owner)
    );
    Err(Unavailable::plain(STORE, message))
}

#[async_trait]
impl Blobs for NatsBlobs {
    async fn begin(&self) -> Result<Box<dyn PendingBlob>, Unavailable> {
        Ok(Box::new(Pending { store: self.clone(), incoming: self.local.begin().await? }))
    }

    async fn put(&self, folder: Folder, bytes: Bytes) -> Result<BlobRef, Unavailable> {
        let blob = BlobRef { sha256: ContentHash(Sha256::digest(&bytes).into()), size: bytes.len() as u64 };
        self.upload(folder, blob, &mut &*bytes).await
    }

    async fn get(&self, folder: Folder, blob: &BlobRef) -> Result<Option<Bytes>, Unavailable> {
        let place = self.place(folder, blob);
        let Some(whole) = self.whole(&place).await? else { return Ok(None) };
        let mut bytes = BytesMut::with_capacity(usize::try_from(whole.size).unwrap_or(0));
        let mut content = self.content(&place, &whole);
        while let Some(piece) = content.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        if Sha256::digest(&bytes)[..] != blob.sha256.0 {
            return Err(altered(STORE, folder, blob));
        }
        Ok(Some(bytes.freeze()))
    }

    async fn local(&self, folder: Folder, blob: &BlobRef) -> Result<Option<PathBuf>, Unavailable> {
        let place = self.place(folder, blob);
        // Whether it is still there only the stream knows: another process may have deleted it.
        let Some(whole) = self.whole(&place).await? else {
            self.local.forget(folder).await;
            return Ok(None);
        };
        if let Some(path) = self.local.find(folder, blob).await {
            return Ok(Some(path));
        }
        let mut incoming = self.local.begin().await?;
        let mut content = self.content(&place, &whole);
        while let Some(piece) = content.try_next().await? {
            incoming.write(&piece).await?;
        }
        if incoming.blob().sha256 != blob.sha256 {
            return Err(altered(STORE, folder, blob));
        }
        self.local.keep(incoming, folder).await.map(Some)
    }

    async fn delete(&self, folder: Folder) -> Result<(), Unavailable> {
        self.stream.purge(&format!("{}.>", self.folder(folder))).await?;
        self.local.forget(folder).await;
        Ok(())
    }

    async fn list(&self, folder: Folder) -> Result<Vec<BlobRef>, Unavailable> {
        let mut blobs = vec![];
        for subject in self.stream.subjects(&format!("{}.*.{WHOLE}", self.folder(folder))).await? {
            let Some(place) = subject.strip_suffix(&format!(".{WHOLE}")) else { continue };
            let Some(sha256) = place.rsplit('.').next().and_then(|hash| hash.parse().ok()) else { continue };
            // Deleted meanwhile, it is not there.
            blobs.extend(self.whole(place).await?.map(|whole| BlobRef { sha256, size: whole.size }));
        }
        Ok(blobs)
    }

    fn folders(&self) -> BoxStream<'_, Result<Folder, Unavailable>> {
        let listed = async move {
            let subjects = self.stream.subjects(&self.stream.subject("*.*.*.>")).await?;
            let folders: BTreeSet<String> =
                subjects.iter().filter_map(|subject| self.parse(subject)).map(|folder| folder.to_string()).collect();
            Ok(stream::iter(folders.into_iter().filter_map(|folder| folder.parse().ok()).map(Ok)))
        };
        stream::once(listed).try_flatten().boxed()
    }
}

/// A blob that is written to a local file and sent when it is kept: its name is known then.
#[derive(Debug)]
struct Pending {
    store: NatsBlobs,
    incoming: Incoming,
}

#[async_trait]
impl PendingBlob for Pending {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Unavailable> {
        self.incoming.write(&bytes).await
    }

    fn blob(&self) -> BlobRef {
        self.incoming.blob()
    }

    async fn keep(self: Box<Self>, folder: Folder) -> Result<BlobRef, Unavailable> {
        let Self { store, mut incoming } = *self;
        let blob = incoming.blob();
        store.upload(folder, blob, incoming.content().await?).await
    }
}
