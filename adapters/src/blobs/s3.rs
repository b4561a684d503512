//! Blobs in a bucket that speaks S3: `PREFIX/OWNER/DOCUMENT.ATTEMPT/SHA256`, and the object `PREFIX/log` with the id of the log
//! that names them.
//!
//! An object is whole or absent: small ones are put in one request, large ones in parts that count once the last request joins
//! them. Parts that a crash leaves behind are in no folder; a lifecycle rule of the bucket removes them.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{
    Stream, StreamExt as _, TryStreamExt as _, future,
    stream::{self, BoxStream},
};
use lmao_events::{BlobRef, ContentHash};
use lmao_ports::{Blobs, Folder, PendingBlob, Unavailable};
use object_store::{
    BackoffConfig, ClientOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    path::Path as Key,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::OnceCell,
};
use uuid::Uuid;

use self::guard::Guarded;
use super::local::{Incoming, Local, altered};
use crate::{Standing, breaker::Breaker};

mod guard;

const STORE: &str = "blobs";
const LOG: &str = "log";
/// Bytes of a part, on the way in and out; what is smaller is put in one request. S3 takes 10,000 parts of at least 5 MiB.
const PART: usize = 8 * 1024 * 1024;
/// One request and its answer: at the slowest a part, so a line of 2.3 Mbit/s carries blobs of any size.
const EXCHANGE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// How long [`S3Blobs::check`] waits.
const CHECK: Duration = Duration::from_secs(4);
/// A request that fails for a passing reason is made so often more, all within [`EXCHANGE`].
const RETRIES: usize = 3;

/// Where the bucket is: `s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME&virtual_hosted=true]`.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Options {
    bucket: String,
    prefix: String,
    endpoint: Option<String>,
    region: Option<String>,
    virtual_hosted: bool,
    /// The usual variables, `AWS_ACCESS_KEY_ID` and the like.
    credentials: Vec<(AmazonS3ConfigKey, String)>,
}

/// Why an address names no bucket.
#[derive(Debug, thiserror::Error)]
#[error("{0}; use s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME&virtual_hosted=true]")]
pub struct S3OptionsError(String);

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options").field("bucket", &self.bucket).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl FromStr for S3Options {
    type Err = S3OptionsError;

    fn from_str(text: &str) -> Result<Self, S3OptionsError> {
        let refused = |what: &str| S3OptionsError(what.to_owned());
        let rest = text.strip_prefix("s3://").ok_or_else(|| refused("it does not begin with s3://"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let is_name =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(|letter| is_name(letter.to_ascii_lowercase())) {
            return Err(refused("it names no bucket"));
        }
        let prefix = Key::parse(prefix.trim_matches('/')).map_err(|_| refused("its prefix is no path"))?.to_string();
        let mut options = Self {
            bucket: bucket.to_owned(),
            prefix,
            endpoint: None,
            region: None,
            virtual_hosted: false,
            credentials: vec![],
        };
        for setting in query.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(("endpoint", url)) if url.starts_with("http://") || url.starts_with("https://") => {
                    options.endpoint = Some(url.trim_end_matches('/').to_owned());
                }
                Some(("region", name)) if !name.is_empty() => options.region = Some(name.to_owned()),
                Some(("virtual_hosted", "true")) => options.virtual_hosted = true,
                Some(("virtual_hosted", "false")) => options.virtual_hosted = false,
                // A setting may hold a password by mistake: it is not repeated.
                _ => return Err(refused("a setting after the ? is not known, or has a value that it does not take")),
            }
        }
        Ok(options)
    }
}

impl S3Options {
    /// With those of these variables that S3 clients know: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`,
    /// `AWS_REGION`, `AWS_WEB_IDENTITY_TOKEN_FILE`, …. What the address says wins.
    #[must_use]
    pub fn with_variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let known = variables.into_iter().filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty());
        self.credentials
            .extend(known.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value))));
        self
    }

    fn client(&self, breaker: &Arc<Breaker>) -> Result<AmazonS3, object_store::Error> {
        let is_plain = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client =
            ClientOptions::new().with_timeout(EXCHANGE).with_connect_timeout(CONNECT).with_allow_http(is_plain);
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: EXCHANGE };
        let mut builder = AmazonS3Builder::new().with_http_connector(Guarded(Arc::clone(breaker)));
        for (key, value) in &self.credentials {
            builder = builder.with_config(*key, value);
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        let builder = builder.with_client_options(client).with_retry(retry).with_bucket_name(&self.bucket);
        builder.with_virtual_hosted_style_request(self.virtual_hosted).build()
    }
}

/// [`Blobs`] in a bucket, with files in a local folder for those who read files. Clones share it.
#[derive(Debug, Clone)]
pub struct S3Blobs {
    store: Arc<AmazonS3>,
    prefix: Key,
    /// As it is shown.
    place: Arc<str>,
    local: Arc<Local>,
    breaker: Arc<Breaker>,
    log: Uuid,
    /// Set once it was seen that the bucket holds the blobs of this log, or of none yet.
    is_ours: Arc<OnceCell<()>>,
}

impl S3Blobs {
    /// Opens the bucket for the log with this id. `cache` is a folder of this process alone: what it is about to send, and what
    /// was asked for as a file; of an earlier process nothing stays. A server that is away is no error: the bucket is looked at
    /// once it answers, before anything else is asked of it.
    ///
    /// # Errors
    /// The bucket does not exist or may not be used; it holds the blobs of another log under this prefix; the folder cannot be
    /// used.
    pub async fn open(options: &S3Options, log: Uuid, cache: &Path) -> Result<Self, Unavailable> {
        // Fails when a provider is installed already, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let place = format!("s3://{}/{}", options.bucket, options.prefix);
        let breaker = Arc::new(Breaker::default());
        let store = options.client(&breaker).map_err(|error| failed("open", &place, error))?;
        let local = Arc::new(Local::open(cache).await?);
        let prefix = Key::from(options.prefix.as_str());
        let is_ours = Arc::default();
        let blobs = Self { store: Arc::new(store), prefix, place: place.into(), local, breaker, log, is_ours };
        match blobs.ours().await {
            Err(error) if !is_refusal(&error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the bucket is away; it is used as soon as it answers"
                );
            }
            looked => looked?,
        }
        Ok(blobs)
    }

    /// How the server stands, as far as is known without asking it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.breaker.standing()
    }

    /// Asks the server something, for [`standing`](Self::standing). Takes 4 s at most.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn check(&self) -> Result<(), Unavailable> {
        let key = self.prefix.clone().join(LOG);
        let Ok(answer) = tokio::time::timeout(CHECK, self.store.head(&key)).await else {
            let why = format!("no answer within {} s", CHECK.as_secs());
            self.breaker.failed(&why);
            return Err(Unavailable::plain(STORE, why));
        };
        found(&key, answer).map(drop)
    }

    /// Refuses a bucket that belongs to another log.
    async fn ours(&self) -> Result<(), Unavailable> {
        self.is_ours.get_or_try_init(|| self.belong_to(self.log)).await.copied()
    }

    /// The first log to come has it.
    async fn belong_to(&self, log: Uuid) -> Result<(), Unavailable> {
        let key = self.prefix.clone().join(LOG);
        let put = self.store.put_opts(&key, log.to_string().into(), PutMode::Create.into()).await;
        match put {
            Ok(_) => return Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
            Err(error) => return Err(failed("write to", &self.place, error)),
        }
        let read = |error| failed("read", &self.place, error);
        let owner = self.store.get(&key).await.map_err(read)?.bytes().await.map_err(read)?;
        if owner == log.to_string() {
            return Ok(());
        }
        let message = format!(
            "{} holds the blobs of the log {}, and this is the log {log}: restore the log that belongs to them, or choose another \
             prefix with `blobs`",
            self.place,
            String::from_utf8_lossy(&owner)
        );
        Err(Unavailable::plain(STORE, message))
    }

    fn folder(&self, folder: Folder) -> Key {
        folder.to_string().split('/').fold(self.prefix.clone(), |key, part| key.join(part))
    }

    fn key(&self, folder: Folder, blob: &BlobRef) -> Key {
        self.folder(folder).join(blob.sha256.to_string())
    }

    /// Stores what `content` reads, which has this hash and size.
    async fn upload(
        &self,
        folder: Folder,
        blob: BlobRef,
        content: &mut (impl AsyncRead + Unpin + Send),
    ) -> Result<BlobRef, Unavailable> {
        self.ours().await?;
        let key = self.key(folder, &blob);
        let write = |error| failed("write", &key, error);
        let first = part(content).await?;
        if first.len() < PART {
            self.store.put(&key, first.into()).await.map_err(write)?;
            return Ok(blob);
        }
        let mut upload = self.store.put_multipart(&key).await.map_err(write)?;
        let sent = parts(&mut *upload, first, content, &key).await;
        let sent = match sent {
            Ok(()) => upload.complete().await.map(drop).map_err(write),
            Err(error) => Err(error),
        };
        if sent.is_err() {
            // Should this fail, too, the parts go by the bucket's rule.
            let _ = upload.abort().await;
        }
        sent.map(|()| blob)
    }

    /// Whether the blob is there, in its size.
    async fn has(&self, folder: Folder, blob: &BlobRef) -> Result<bool, Unavailable> {
        self.ours().await?;
        let key = self.key(folder, blob);
        match found(&key, self.store.head(&key).await)? {
            Some(object) if object.size != blob.size => Err(altered(STORE, folder, blob)),
            object => Ok(object.is_some()),
        }
    }

    /// These bytes of a blob, in a request of their own; `None` when it was deleted meanwhile.
    async fn range(&self, folder: Folder, blob: &BlobRef, range: Range<u64>) -> Result<Option<Bytes>, Unavailable> {
        let key = self.key(folder, blob);
        found(&key, self.store.get_range(&key, range).await)
    }

    /// What is directly below: the names of folders.
    fn within(&self, folder: Key) -> impl Stream<Item = Result<Key, Unavailable>> + Send {
        let listed = async move {
            self.ours().await?;
            let found = self.store.list_with_delimiter(Some(&folder)).await;
            let found = found.map_err(|error| failed("list", &folder, error))?;
            Ok(stream::iter(found.common_prefixes.into_iter().map(Ok)))
        };
        stream::once(listed).try_flatten()
    }
}

/// The parts of so many bytes, none if there are no bytes. One request for all of them would have to end within [`EXCHANGE`].
fn ranges(size: u64) -> impl Iterator<Item = Range<u64>> + Send {
    (0..size).step_by(PART).map(move |start| start..size.min(start + PART as u64))
}

/// What is at this key; `None` when nothing is.
fn found<T>(key: &Key, answer: Result<T, object_store::Error>) -> Result<Option<T>, Unavailable> {
    match answer {
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        answer => answer.map(Some).map_err(|error| failed("read", key, error)),
    }
}

/// The next part, shorter than [`PART`] at the end only.
async fn part(content: &mut (impl AsyncRead + Unpin + Send)) -> Result<Bytes, Unavailable> {
    let mut part = BytesMut::new();
    while part.len() < PART {
        let read = (&mut *content).take((PART - part.len()) as u64).read_buf(&mut part).await;
        if read.map_err(|error| Unavailable::new(STORE, "a blob on its way in cannot be read", error))? == 0 {
            break;
        }
    }
    Ok(part.freeze())
}

/// Sends one part after the other.
async fn parts(
    upload: &mut dyn MultipartUpload,
    first: Bytes,
    content: &mut (impl AsyncRead + Unpin + Send),
    key: &Key,
) -> Result<(), Unavailable> {
    let mut next = first;
    while !next.is_empty() {
        upload.put_part(next.into()).await.map_err(|error| failed("write", key, error))?;
        next = part(content).await?;
    }
    Ok(())
}

/// Whether nothing else is to be expected of the bucket: it is not there, may not be used, or is another log's.
fn is_refusal(error: &Unavailable) -> bool {
    use object_store::Error as Refused;

    let source = error.source.as_ref().and_then(|source| source.downcast_ref());
    matches!(
        source,
        None | Some(Refused::NotFound { .. } | Refused::PermissionDenied { .. } | Refused::Unauthenticated { .. })
    )
}

/// What the bucket refused, for people.
fn failed(doing: &str, place: impl fmt::Display, error: object_store::Error) -> Unavailable {
    use object_store::Error as Refused;

    let what = match &error {
        Refused::NotFound { .. } => ": there is no such bucket; make it first, and check its name and region",
        Refused::PermissionDenied { .. } | Refused::Unauthenticated { .. } => {
            ": it may not be used; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
        }
        _ => "",
    };
    Unavailable::new(STORE, format!("could not {doing} {place}{what}"), error)
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn begin(&self) -> Result<Box<dyn PendingBlob>, Unavailable> {
        Ok(Box::new(Pending { store: self.clone(), incoming: self.local.begin().await? }))
    }

    async fn put(&self, folder: Folder, bytes: Bytes) -> Result<BlobRef, Unavailable> {
        let blob = BlobRef { sha256: ContentHash(Sha256::digest(&bytes).into()), size: bytes.len() as u64 };
        self.upload(folder, blob, &mut &*bytes).await
    }

    async fn get(&self, folder: Folder, blob: &BlobRef) -> Result<Option<Bytes>, Unavailable> {
        if !self.has(folder, blob).await? {
            return Ok(None);
        }
        let mut bytes = BytesMut::new();
        for range in ranges(blob.size) {
            let Some(part) = self.range(folder, blob, range).await? else { return Ok(None) };
            bytes.extend_from_slice(&part);
        }
        if Sha256::digest(&bytes)[..] != blob.sha256.0 {
            return Err(altered(STORE, folder, blob));
        }
        Ok(Some(bytes.freeze()))
    }

    async fn local(&self, folder: Folder, blob: &BlobRef) -> Result<Option<PathBuf>, Unavailable> {
        // Whether it is still there only the bucket knows: another process may have deleted it.
        if !self.has(folder, blob).await? {
            self.local.forget(folder).await;
            return Ok(None);
        }
        if let Some(path) = self.local.find(folder, blob).await {
            return Ok(Some(path));
        }
        let mut incoming = self.local.begin().await?;
        for range in ranges(blob.size) {
            let Some(part) = self.range(folder, blob, range).await? else { return Ok(None) };
            incoming.write(&part).await?;
        }
        if incoming.blob().sha256 != blob.sha256 {
            return Err(altered(STORE, folder, blob));
        }
        self.local.keep(incoming, folder).await.map(Some)
    }

    async fn delete(&self, folder: Folder) -> Result<(), Unavailable> {
        self.ours().await?;
        let place = self.folder(folder);
        let found: Vec<_> = self.store.list(Some(&place)).map_ok(|object| object.location).collect().await;
        let deleted = self.store.delete_stream(stream::iter(found).boxed());
        // One that somebody else deleted meanwhile is deleted.
        let deleted = deleted.filter(|one| future::ready(!matches!(one, Err(object_store::Error::NotFound { .. }))));
        deleted.try_for_each(|_| future::ok(())).await.map_err(|error| failed("delete", &place, error))?;
        self.local.forget(folder).await;
        Ok(())
    }

    async fn list(&self, folder: Folder) -> Result<Vec<BlobRef>, Unavailable> {
        self.ours().await?;
        let place = self.folder(folder);
        let named = self.store.list(Some(&place)).try_filter_map(|object| {
            let sha256 = object.location.filename().and_then(|name| name.parse().ok());
            future::ready(Ok(sha256.map(|sha256| BlobRef { sha256, size: object.size })))
        });
        named.try_collect().await.map_err(|error| failed("list", &place, error))
    }

    fn folders(&self) -> BoxStream<'_, Result<Folder, Unavailable>> {
        // What is no folder of ours is left alone.
        let owners = self.within(self.prefix.clone());
        let owners =
            owners.try_filter(|key| future::ready(key.filename().is_some_and(|name| name.parse::<Uuid>().is_ok())));
        let all = owners.map_ok(|owner| self.within(owner)).try_flatten();
        let folder = |key: Key| {
            let mut names: Vec<_> = key.parts().map(|part| part.as_ref().to_owned()).collect();
            let names = names.split_off(names.len().saturating_sub(2));
            names.join("/").parse().ok()
        };
        all.try_filter_map(move |key| future::ready(Ok(folder(key)))).boxed()
    }
}

/// A blob that is written to a local file and sent when it is kept: its name is known then.
#[derive(Debug)]
struct Pending {
    store: S3Blobs,
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

#[cfg(test)]
#[path = "s3/tests.rs"]
mod tests;
