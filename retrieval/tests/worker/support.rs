//! What every test of the worker process needs: ingestion over a folder of files, and files made by hand.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lmao_events::{BlobRef, ContentHash, Failure, document};
use lmao_ports::{
    Blobs, ChunkRecord, EmbeddingCache, EmbeddingKey, Folder, Ingestion, PendingBlob, SemanticState, Semantics, Space,
    Unavailable,
};
use lmao_retrieval::{
    ingest::{Ingest, Worker},
    text::TextDocument,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::CHILD;

/// A PDF with this text on each page (none where it is empty), and this in its trailer.
pub(crate) fn pdf(pages: &[&str], trailer: &str) -> Vec<u8> {
    let draw = |text: &str| {
        let lines: String = text.lines().map(|line| format!("({line}) Tj T* ")).collect();
        format!("BT /F 10 Tf 13 TL 72 640 Td {lines}ET")
    };
    let mut objects = vec!["<</Type/Catalog/Pages 2 0 R>>".to_owned()];
    let kids: String = (0..pages.len()).map(|page| format!("{} 0 R ", 5 + page * 2)).collect();
    objects.push(format!("<</Type/Pages/Kids[{kids}]/Count {}>>", pages.len()));
    objects.push("<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_owned());
    objects.push("<</Title(Birds)>>".to_owned());
    for (at, text) in pages.iter().enumerate() {
        let content = if text.is_empty() { String::new() } else { draw(text) };
        objects.push(format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {} 0 R/Resources<</Font<</F 3 0 R>>>>>>",
            6 + at * 2
        ));
        objects.push(format!("<</Length {}>>stream\n{content}\nendstream", content.len()));
    }
    let mut out = "%PDF-1.4\n".to_owned();
    let mut offsets = vec![];
    for (at, object) in objects.iter().enumerate() {
        offsets.push(out.len());
        writeln!(out, "{} 0 obj{object}endobj", at + 1).expect("memory");
    }
    let start = out.len();
    write!(out, "xref\n0 {}\n0000000000 65535 f \n", offsets.len() + 1).expect("memory");
    offsets.iter().for_each(|offset| writeln!(out, "{offset:010} 00000 n ").expect("memory"));
    let size = offsets.len() + 1;
    write!(out, "trailer<</Size {size}/Root 1 0 R/Info 4 0 R{trailer}>>\nstartxref\n{start}\n%%EOF\n").expect("memory");
    out.into_bytes()
}

/// A ZIP of these members.
#[allow(dead_code, reason = "the benchmark shares this module and packs nothing")]
pub(crate) fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    for (name, content) in members {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).expect("memory");
        archive.write_all(content).expect("memory");
    }
    archive.finish().expect("memory").into_inner()
}

/// What gzip makes of these bytes.
#[allow(dead_code, reason = "the benchmark shares this module and packs nothing")]
pub(crate) fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

pub(crate) struct World {
    ingest: Ingest,
    files: Arc<Files>,
    folder: Folder,
}

impl World {
    pub(crate) fn new() -> Self {
        let files = Arc::new(Files { folder: tempfile::tempdir().expect("a folder"), writes: Mutex::new(()) });
        let program = std::env::current_exe().expect("this program");
        let worker = Worker { program, args: vec![CHILD.into()] };
        let ingest = Ingest::new(Arc::clone(&files) as _, Arc::new(NoModel), Arc::new(NoCache), worker);
        Self {
            ingest,
            files,
            folder: Folder { owner: Uuid::from_u128(1), document: Uuid::from_u128(2), attempt: None },
        }
    }

    async fn upload(&self, filename: &str, bytes: Vec<u8>) -> document::Uploaded {
        let content = self.files.put(self.folder, bytes.into()).await.expect("a blob");
        let metadata = serde_json::json!({});
        let owner = self.folder.owner;
        document::Uploaded { owner, filename: filename.into(), content, metadata, attempt: None }
    }

    /// The passages of a file.
    #[allow(dead_code, reason = "the benchmark shares this module and cuts nothing")]
    pub(crate) async fn chunk(&self, filename: &str, bytes: Vec<u8>) -> Vec<ChunkRecord> {
        self.passages(filename, bytes).await.expect("passages").1
    }

    /// The text of a file, and its passages.
    #[allow(dead_code, reason = "the benchmark shares this module and cuts nothing")]
    pub(crate) async fn passages(
        &self,
        filename: &str,
        bytes: Vec<u8>,
    ) -> Result<(TextDocument, Vec<ChunkRecord>), Failure> {
        let file = self.upload(filename, bytes).await;
        let extracted = self.ingest.extract(self.folder, &file).await;
        self.forget(&file.content);
        let extracted = extracted?;
        let chunked = self.ingest.chunk(self.folder, &file, &extracted).await;
        let text = self.stored(&extracted.text).await;
        let mut passages = vec![];
        for batch in chunked?.batches {
            passages.extend(rmp_serde::from_slice::<Vec<ChunkRecord>>(&self.stored(&batch).await).expect("passages"));
        }
        Ok((TextDocument::decode(&text).expect("a text document"), passages))
    }

    pub(crate) async fn extract(
        &self,
        filename: &str,
        bytes: Vec<u8>,
    ) -> Result<(document::Extracted, TextDocument), Failure> {
        let file = self.upload(filename, bytes).await;
        let extracted = self.ingest.extract(self.folder, &file).await;
        self.forget(&file.content);
        let extracted = extracted?;
        let text = self.stored(&extracted.text).await;
        Ok((extracted, TextDocument::decode(&text).expect("a text document")))
    }

    /// A blob, which is gone then: thousands of files are read in a row.
    async fn stored(&self, blob: &BlobRef) -> Bytes {
        let bytes = self.files.get(self.folder, blob).await.expect("an answer").expect("a blob");
        self.forget(blob);
        bytes
    }

    fn forget(&self, blob: &BlobRef) {
        let _gone = std::fs::remove_file(self.files.folder.path().join(blob.sha256.to_string()));
    }
}

/// Blobs in a folder of files.
#[derive(Debug)]
struct Files {
    folder: tempfile::TempDir,
    writes: Mutex<()>,
}

#[async_trait]
impl Blobs for Files {
    async fn begin(&self) -> Result<Box<dyn PendingBlob>, Unavailable> {
        unreachable!("ingestion streams no uploads")
    }

    async fn put(&self, _: Folder, bytes: Bytes) -> Result<BlobRef, Unavailable> {
        let blob = BlobRef { sha256: ContentHash(Sha256::digest(&bytes).into()), size: bytes.len() as u64 };
        let _one = self.writes.lock().expect("no panic before");
        let mut file = std::fs::File::create(self.folder.path().join(blob.sha256.to_string())).expect("a file");
        file.write_all(&bytes).expect("room on the disk");
        Ok(blob)
    }

    async fn get(&self, _: Folder, blob: &BlobRef) -> Result<Option<Bytes>, Unavailable> {
        Ok(std::fs::read(self.folder.path().join(blob.sha256.to_string())).ok().map(Bytes::from))
    }

    async fn local(&self, _: Folder, blob: &BlobRef) -> Result<Option<PathBuf>, Unavailable> {
        Ok(Some(self.folder.path().join(blob.sha256.to_string())))
    }

    async fn delete(&self, _: Folder) -> Result<(), Unavailable> {
        unreachable!("ingestion deletes nothing")
    }

    async fn list(&self, _: Folder) -> Result<Vec<BlobRef>, Unavailable> {
        unreachable!("ingestion lists nothing")
    }

    fn folders(&self) -> BoxStream<'_, Result<Folder, Unavailable>> {
        unreachable!("ingestion lists nothing")
    }
}

#[derive(Debug)]
struct NoModel;

#[async_trait]
impl Semantics for NoModel {
    fn state(&self, _: Space) -> SemanticState {
        SemanticState::Off("none is needed".into())
    }

    async fn settled(&self, _: Space) -> SemanticState {
        self.state(Space::General)
    }
}

#[derive(Debug)]
struct NoCache;

#[async_trait]
impl EmbeddingCache for NoCache {
    async fn get(&self, keys: &[EmbeddingKey]) -> Result<Vec<Option<Vec<f32>>>, Unavailable> {
        Ok(vec![None; keys.len()])
    }

    async fn put(&self, _: &[(EmbeddingKey, Vec<f32>)]) -> Result<(), Unavailable> {
        Ok(())
    }
}
