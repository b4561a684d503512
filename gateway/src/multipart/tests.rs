use std::sync::Mutex;

use async_trait::async_trait;
use futures::StreamExt;
use lmao_events::{BlobRef, ContentHash};
use lmao_ports::{Folder, Unavailable};
use poem::http::header;

use super::*;

/// Counts what is begun and dropped; keeps nothing.
#[derive(Debug, Default)]
struct Counting(Arc<Mutex<Vec<u8>>>);

#[derive(Debug)]
struct Pending(Arc<Mutex<Vec<u8>>>);

#[async_trait]
impl PendingBlob for Pending {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Unavailable> {
        self.0.lock().unwrap().extend_from_slice(&bytes);
        Ok(())
    }

    fn blob(&self) -> BlobRef {
        BlobRef { sha256: ContentHash([0; 32]), size: self.0.lock().unwrap().len() as u64 }
    }

    async fn keep(self: Box<Self>, _: Folder) -> Result<BlobRef, Unavailable> {
        Ok(self.blob())
    }
}

#[async_trait]
impl Blobs for Counting {
    async fn begin(&self) -> Result<Box<dyn PendingBlob>, Unavailable> {
        self.0.lock().unwrap().clear();
        Ok(Box::new(Pending(self.0.clone())))
    }

    async fn put(&self, _: Folder, _: Bytes) -> Result<BlobRef, Unavailable> {
        Err(Unavailable::plain("blobs", "not used here"))
    }

    async fn get(&self, _: Folder, _: &BlobRef) -> Result<Option<Bytes>, Unavailable> {
        Ok(None)
    }

    async fn local(&self, _: Folder, _: &BlobRef) -> Result<Option<std::path::PathBuf>, Unavailable> {
        Ok(None)
    }

    async fn delete(&self, _: Folder) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn list(&self, _: Folder) -> Result<Vec<BlobRef>, Unavailable> {
        Ok(vec![])
    }

    fn folders(&self) -> BoxStream<'_, Result<Folder, Unavailable>> {
        futures::stream::empty().boxed()
    }
}

const LIMIT: u64 = 3 * 1024 * 1024;

fn part(name: &str, filename: Option<&str>, content: &[u8]) -> Vec<u8> {
    let filename = filename.map(|name| format!("; filename=\"{name}\"")).unwrap_or_default();
    let mut part = format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n").into_bytes();
    part.extend_from_slice(content);
    part.extend_from_slice(b"\r\n");
    part
}

fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut form = parts.concat();
    form.extend_from_slice(b"--XX--\r\n");
    form
}

async fn receive_body(body: Body, length: Option<u64>) -> Result<(Received, Vec<u8>), ApiError> {
    let mut request = Request::builder().content_type("multipart/form-data; boundary=XX");
    if let Some(length) = length {
        request = request.header(header::CONTENT_LENGTH, length);
    }
    let blobs = Counting::default();
    let received = receive(&request.finish(), body, &blobs, LIMIT).await?;
    let bytes = blobs.0.lock().unwrap().clone();
    Ok((received, bytes))
}

async fn received(form: Vec<u8>) -> Result<(Received, Vec<u8>), ApiError> {
    receive_body(Body::from(form), None).await
}

fn reason(result: Result<(Received, Vec<u8>), ApiError>) -> String {
    result.unwrap_err().reason.into_owned()
}

#[tokio::test]
async fn fields_come_in_any_order() {
    let file = part("file", Some("notes.md"), b"# Notes\r\n--X\r\n");
    let metadata = part("metadata", None, br#"{"team":"blue"}"#);
    for parts in [[file.clone(), metadata.clone()], [metadata, file]] {
        let (received, bytes) = received(form(&parts)).await.unwrap();
        assert_eq!(received.filename, "notes.md");
        assert_eq!(bytes, b"# Notes\r\n--X\r\n");
        assert_eq!(received.metadata["team"], "blue");
    }
}

#[tokio::test]
async fn a_file_larger_than_the_window_arrives_whole() {
    let content: Vec<u8> = (0..LIMIT).map(|n| (n % 251) as u8).collect();
    let form = form(&[part("metadata", None, b"{}"), part("file", Some("big"), &content)]);
    // In one piece, and in pieces of an odd size.
    assert!(received(form.clone()).await.unwrap().1 == content);
    let pieces: Vec<_> = form.chunks(7777).map(|piece| Ok::<_, io::Error>(Bytes::copy_from_slice(piece))).collect();
    let pieces = Body::from_bytes_stream(futures::stream::iter(pieces));
    assert!(receive_body(pieces, None).await.unwrap().1 == content);
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_with_and_without_a_length() {
    let content = vec![b'x'; usize::try_from(LIMIT).unwrap() + 1];
    assert_eq!(reason(received(form(&[part("file", Some("big"), &content)])).await), "file_too_large");
    let announced = receive_body(Body::empty(), Some(LIMIT + OVERHEAD + 1)).await;
    assert_eq!(announced.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_header_without_an_end_is_given_up() {
    let endless = futures::stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"--XX\r\nContent-Disposition: "))])
        .chain_forever();
    assert_eq!(reason(receive_body(Body::from_bytes_stream(endless), None).await), "bad_multipart");
}

trait Forever: Stream<Item = io::Result<Bytes>> + Sized {
    fn chain_forever(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
    where
        Self: Send + 'static,
    {
        use futures::StreamExt;
        self.chain(futures::stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 64 * 1024]))))
    }
}

impl<S: Stream<Item = io::Result<Bytes>> + Sized> Forever for S {}

#[tokio::test]
async fn forms_that_make_no_sense_say_why() {
    let file = || part("file", Some("a"), b"a");
    assert_eq!(reason(received(form(&[])).await), "file_missing");
    assert_eq!(reason(received(form(&[file(), file()])).await), "repeated_field");
    assert_eq!(reason(received(form(&[file(), part("tags", None, b"x")])).await), "unknown_field");
    for bad in [b"[]".as_slice(), b"{", b"7", &vec![b' '; MAX_METADATA + 1]] {
        assert_eq!(reason(received(form(&[part("metadata", None, bad), file()])).await), "bad_metadata");
    }
    // Cut off in the middle of the file.
    assert_eq!(reason(received(file()).await), "bad_multipart");
    assert_eq!(reason(received(b"no form at all".to_vec()).await), "bad_multipart");
    let json = Request::builder().content_type("application/json").finish();
    let refused = receive(&json, Body::empty(), &Counting::default(), LIMIT).await.unwrap_err();
    assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[test]
fn names_are_never_paths() {
    for (given, name) in [
        (Some("a.md"), "a.md"),
        (Some("../../etc/passwd"), "passwd"),
        (Some(r"C:\docs\a.md"), "a.md"),
        (Some("a\u{0}b\n.md"), "ab.md"),
        (Some("docs/"), UNNAMED),
        (Some(".."), UNNAMED),
        (Some("  "), UNNAMED),
        (None, UNNAMED),
    ] {
        assert_eq!(filename(given), name, "{given:?}");
    }
}
