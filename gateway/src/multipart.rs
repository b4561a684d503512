//! An upload's body on its way to disk: multipart/form-data (RFC 7578), never in memory as a whole.
//!
//! The parser reads ahead as fast as the client sends. What passes here is therefore metered: it runs at most a window
//! ahead of what was written, stops at the limit, and gives up on a client that has gone quiet.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream::BoxStream};
use lmao_ports::{Blobs, PendingBlob};
use poem::{
    Body, FromRequest, Request, RequestBody,
    error::ParseMultipartError,
    http::StatusCode,
    web::{Field, Multipart},
};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    body::{announced, linger, parse},
    error::ApiError,
};

/// How far the parser may run ahead of what was written.
const WINDOW: u64 = 1024 * 1024;
/// How often it may ask for more without having written anything: a part's header has a size.
const MAX_STALLS: u32 = 64;
/// How long a client may send nothing.
const QUIET: Duration = Duration::from_secs(60);
/// Bytes that are written at once.
const PIECE: usize = 256 * 1024;
/// Room for boundaries, headers and metadata beside the file.
const OVERHEAD: u64 = 128 * 1024;
/// Bytes of the metadata field.
const MAX_METADATA: usize = lmao_events::document::MAX_METADATA_BYTES;
/// What a file is called that came without a name.
const UNNAMED: &str = "unnamed";

/// A file that was handed in, its bytes on disk but in no folder yet.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) file: Box<dyn PendingBlob>,
    pub(crate) filename: String,
    pub(crate) metadata: Map<String, Value>,
}

/// Reads the fields `file` and `metadata`, in any order. Bytes of the file beyond `limit` are refused.
pub(crate) async fn receive(
    request: &Request,
    body: Body,
    blobs: &dyn Blobs,
    limit: u64,
) -> Result<Received, ApiError> {
    let meter = Arc::new(AtomicU64::new(0));
    let pieces = body.into_bytes_stream();
    if announced(request.headers()).is_some_and(|length| length > limit.saturating_add(OVERHEAD)) {
        linger(pieces);
        return Err(too_large(limit));
    }
    let metered = Metered::new(Box::pin(pieces), meter.clone());
    let mut body = RequestBody::new(Body::from_bytes_stream(metered));
    let form = Multipart::from_request(request, &mut body).await.map_err(unsupported)?;
    Form { form, meter, blobs, limit }.receive().await
}

fn too_large(limit: u64) -> ApiError {
    let text = format!("a file has at most {limit} bytes; split it");
    ApiError::too_large("file_too_large", text).with("limit", limit)
}

fn unsupported(error: poem::Error) -> ApiError {
    let text = "send the file as multipart/form-data with the fields `file` and, if wanted, `metadata`";
    if error.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE || error.downcast_ref::<ParseMultipartError>().is_some() {
        return ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text);
    }
    error.into()
}

struct Form<'a> {
    form: Multipart,
    meter: Arc<AtomicU64>,
    blobs: &'a dyn Blobs,
    limit: u64,
}

impl Form<'_> {
    async fn receive(mut self) -> Result<Received, ApiError> {
        let (mut file, mut metadata) = (None, None);
        while let Some(field) = self.next().await? {
            match field.name() {
                Some("file") if file.is_none() => {
                    let name = filename(field.file_name());
                    file = Some((self.store(field).await?, name));
                }
                Some("metadata") if metadata.is_none() => metadata = Some(self.metadata(field).await?),
                Some(name @ ("file" | "metadata")) => {
                    let text = format!("the field {name:?} came twice; send one file at a time");
                    return Err(ApiError::unprocessable("repeated_field", text).with("field", name));
                }
                other => {
                    let name = other.unwrap_or_default();
                    let text = format!("there is no field {name:?}; the fields are `file` and `metadata`");
                    return Err(ApiError::unprocessable("unknown_field", text).with("field", name));
                }
            }
        }
        let Some((file, filename)) = file else {
            return Err(ApiError::unprocessable("file_missing", "the form has no field `file`"));
        };
        Ok(Received { file, filename, metadata: metadata.unwrap_or_default() })
    }

    async fn next(&mut self) -> Result<Option<Field>, ApiError> {
        let next = tokio::time::timeout(QUIET, self.form.next_field()).await.map_err(|_| quiet())?;
        next.map_err(|error| broken(&error.to_string()))
    }

    async fn store(&self, field: Field) -> Result<Box<dyn PendingBlob>, ApiError> {
        let mut file = self.blobs.begin().await?;
        let mut reader = Box::pin(field.into_async_read());
        let mut size = 0;
        while let Some(piece) = self.piece(&mut reader).await? {
            size += piece.len() as u64;
            if size > self.limit {
                return Err(too_large(self.limit));
            }
            file.write(piece).await?;
        }
        Ok(file)
    }

    async fn metadata(&self, field: Field) -> Result<Map<String, Value>, ApiError> {
        let bad = |text: String| ApiError::unprocessable("bad_metadata", text);
        let mut reader = Box::pin(field.into_async_read());
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.piece(&mut reader).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_METADATA {
                return Err(bad(format!("metadata is a JSON object of at most {MAX_METADATA} bytes")));
            }
        }
        if bytes.trim_ascii().is_empty() {
            return Ok(Map::new());
        }
        parse(&bytes).map_err(|error| bad(format!("metadata is a JSON object; {error}")))
    }

    /// The next bytes of a field, at most [`PIECE`]; `None` at its end.
    async fn piece(&self, reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<Bytes>, ApiError> {
        let mut piece = BytesMut::with_capacity(PIECE);
        while piece.len() < PIECE {
            let read = tokio::time::timeout(QUIET, reader.read_buf(&mut piece)).await.map_err(|_| quiet())?;
            let read = read.map_err(|error| broken(&error.to_string()))?;
            if read == 0 {
                break;
            }
            self.meter.fetch_add(read as u64, Ordering::Relaxed);
        }
        Ok((!piece.is_empty()).then(|| piece.freeze()))
    }
}

fn quiet() -> ApiError {
    let text = "the upload stopped arriving; send it again";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", text)
}

fn broken(error: &str) -> ApiError {
    ApiError::bad_request("bad_multipart", format!("the form is broken or ended early: {error}"))
}

/// The last part of the name that a client gives: never a path, never control characters.
fn filename(given: Option<&str>) -> String {
    let last = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|c| !c.is_control()).collect();
    match name.trim() {
        "" | "." | ".." => UNNAMED.to_owned(),
        name => name.to_owned(),
    }
}

/// A body that stays within [`WINDOW`] of what was written. When it is dropped early, the rest is read for a moment.
struct Metered {
    body: Option<BoxStream<'static, io::Result<Bytes>>>,
    written: Arc<AtomicU64>,
    pulled: u64,
    /// How often the window was found closed, and what was written by then.
    stalls: (u32, u64),
}

impl Metered {
    fn new(body: BoxStream<'static, io::Result<Bytes>>, written: Arc<AtomicU64>) -> Self {
        Self { body: Some(body), written, pulled: 0, stalls: (0, 0) }
    }
}

impl Stream for Metered {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let written = self.written.load(Ordering::Relaxed);
        if self.pulled.saturating_sub(written) > WINDOW {
            let stalls = if self.stalls.1 == written { self.stalls.0 + 1 } else { 1 };
            self.stalls = (stalls, written);
            if stalls > MAX_STALLS {
                return Poll::Ready(Some(Err(io::Error::other("a part's header has no end"))));
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let polled = body.as_mut().poll_next(cx);
        match &polled {
            Poll::Ready(Some(Ok(piece))) => self.pulled += piece.len() as u64,
            Poll::Ready(_) => self.body = None,
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if let Some(rest) = self.body.take() {
            linger(rest);
        }
    }
}

#[cfg(test)]
mod tests;
