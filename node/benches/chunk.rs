//! What cutting documents into passages costs beside one reading of the same text by the model's tokenizer, which cutting
//! includes. Prints a line of JSON for each text; CPU time is that of all threads and children, the best of several rounds taken in turn.
//!
//! `LMAO_TEST_SHARED` names a folder with `models/all-mpnet-base-v2-w8/tokenizer.json` and the collections below `eval/`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lmao_events::{BlobRef, ContentHash, document};
use lmao_ports::{
    Blobs, EmbedError, Embedder, EmbeddingCache, EmbeddingKey, Folder, Ingestion, ModelManifest, PendingBlob, Pooling,
    SemanticState, Semantics, Space, TokenSpan, Unavailable,
};
use lmao_retrieval::ingest::{Ingest, Worker, worker_main};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;
use uuid::Uuid;

const ROUNDS: usize = 3;
/// Bytes that the tokenizer is given at a time: its tables stay in the processor's cache.
const PIECE: usize = 16 << 10;
const FOLDER: Folder =
    Folder { owner: Uuid::from_u128(1), document: Uuid::from_u128(2), attempt: Some(Uuid::from_u128(3)) };

/// The argument that makes this program the child that parses.
const CHILD: &str = "extract";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(CHILD) {
        return worker_main();
    }
    let Some(shared) = std::env::var_os("LMAO_TEST_SHARED").map(PathBuf::from) else {
        println!("left out: chunk: LMAO_TEST_SHARED is not set");
        return ExitCode::SUCCESS;
    };
    let model = Arc::new(Counter::load(&shared.join("models/all-mpnet-base-v2-w8/tokenizer.json")));
    let files = [
        ("prose.md", prose(&shared.join("eval/cranfield/corpus.jsonl"))),
        ("functions.py", functions(&shared.join("eval/cosqa/corpus.jsonl"))),
        ("sources.rs", sources()),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (filename, text) in files {
        println!("{}", runtime.block_on(measure(filename, &text, &model)));
    }
    ExitCode::SUCCESS
}

async fn measure(filename: &str, text: &str, model: &Arc<Counter>) -> Value {
    let blobs = Arc::new(Files(tempfile::tempdir().unwrap()));
    let worker = Worker { program: std::env::current_exe().unwrap(), args: vec![CHILD.into()] };
    let ingest = Ingest::new(Arc::clone(&blobs) as _, Arc::new(One(Arc::clone(model))), Arc::new(Nothing), worker);
    let content = blobs.keep(text.as_bytes());
    let (filename, metadata) = (filename.to_owned(), json!({}));
    let file = document::Uploaded { owner: FOLDER.owner, filename, content, metadata, attempt: FOLDER.attempt };
    let extracted = ingest.extract(FOLDER, &file).await.unwrap();
    let (mut tokenizer, mut chunking) = (f64::INFINITY, f64::INFINITY);
    let (mut tokens, mut chunks) = (0, 0);
    for _ in 0..ROUNDS {
        let before = cpu_seconds();
        tokens = model.tokens(text).len();
        let between = cpu_seconds();
        chunks = ingest.chunk(FOLDER, &file, &extracted).await.unwrap().chunks;
        tokenizer = tokenizer.min(between - before);
        chunking = chunking.min(cpu_seconds() - between);
    }
    json!({
        "bench": "chunk", "text": file.filename, "bytes": text.len(), "tokens": tokens, "passages": chunks,
        "tokenizer_cpu_s": tokenizer, "chunking_cpu_s": chunking, "ratio": chunking / tokenizer, "allowed": 1.5,
    })
}

/// A long document with headings.
fn prose(corpus: &Path) -> String {
    let of_record = |(n, text): (usize, String)| {
        let sentences = text.replace(" . ", ". ");
        format!("## Report {n}\n\n{}\n\n", sentences.replace(".  ", ".\n\n"))
    };
    texts(corpus).into_iter().enumerate().map(of_record).collect()
}

/// A long program of short functions.
fn functions(corpus: &Path) -> String {
    texts(corpus).join("\n\n\n")
}

/// This crate, as one program.
fn sources() -> String {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut out = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out += &fs::read_to_string(path).unwrap();
                out.push('\n');
            }
        }
    }
    out
}

fn texts(corpus: &Path) -> Vec<String> {
    let record = |line: &str| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    fs::read_to_string(corpus).unwrap().lines().map(record).collect()
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    behind_name.split_whitespace().skip(11).take(4).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>()
        / TICKS_PER_SECOND
}

/// A model that only counts.
#[derive(Debug)]
struct Counter {
    tokenizer: Tokenizer,
    manifest: ModelManifest,
}

impl Counter {
    fn load(path: &Path) -> Self {
        let mut tokenizer = Tokenizer::from_file(path).unwrap();
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).unwrap();
        let manifest = ModelManifest {
            id: "counter".to_owned(),
            dimensions: 1,
            pooling: Pooling::Mean,
            normalize: false,
            max_tokens: 384,
            query_prefix: String::new(),
            passage_prefix: String::new(),
        };
        Self { tokenizer, manifest }
    }
}

#[async_trait]
impl Embedder for Counter {
    fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    async fn passages(&self, _: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        unreachable!("cutting embeds nothing")
    }

    async fn query(&self, _: &str) -> Result<Vec<f32>, EmbedError> {
        unreachable!("cutting asks nothing")
    }

    fn tokens(&self, text: &str) -> Vec<TokenSpan> {
        let mut out = vec![];
        let mut start = 0;
        while start < text.len() {
            let far = text.floor_char_boundary(start + PIECE);
            let end = text[far..].find(char::is_whitespace).map_or(text.len(), |at| far + at);
            let encoding = self.tokenizer.encode(&text[start..end], false).unwrap();
            let span = |(from, to): &(usize, usize)| TokenSpan { start: start + from, end: start + to };
            out.extend(encoding.get_offsets().iter().filter(|(from, to)| from < to).map(span));
            start = end;
        }
        out
    }
}

#[derive(Debug)]
struct One(Arc<Counter>);

#[async_trait]
impl Semantics for One {
    fn state(&self, space: Space) -> SemanticState {
        match space {
            Space::General => SemanticState::Ready(Arc::clone(&self.0) as _),
            Space::Domain => SemanticState::Off("not measured".to_owned()),
        }
    }

    async fn settled(&self, space: Space) -> SemanticState {
        self.state(space)
    }
}

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl EmbeddingCache for Nothing {
    async fn get(&self, keys: &[EmbeddingKey]) -> Result<Vec<Option<Vec<f32>>>, Unavailable> {
        Ok(vec![None; keys.len()])
    }

    async fn put(&self, _: &[(EmbeddingKey, Vec<f32>)]) -> Result<(), Unavailable> {
        Ok(())
    }
}

/// Blobs in a folder.
#[derive(Debug)]
struct Files(tempfile::TempDir);

impl Files {
    fn keep(&self, bytes: &[u8]) -> BlobRef {
        let blob = BlobRef { sha256: ContentHash(Sha256::digest(bytes).into()), size: bytes.len() as u64 };
        fs::write(self.path(&blob), bytes).unwrap();
        blob
    }

    fn path(&self, blob: &BlobRef) -> PathBuf {
        self.0.path().join(blob.sha256.to_string())
    }
}

#[async_trait]
impl Blobs for Files {
    async fn begin(&self) -> Result<Box<dyn PendingBlob>, Unavailable> {
        unreachable!("nothing is uploaded")
    }

    async fn put(&self, _: Folder, bytes: Bytes) -> Result<BlobRef, Unavailable> {
        Ok(self.keep(&bytes))
    }

    async fn get(&self, _: Folder, blob: &BlobRef) -> Result<Option<Bytes>, Unavailable> {
        Ok(fs::read(self.path(blob)).ok().map(Bytes::from))
    }

    async fn local(&self, _: Folder, blob: &BlobRef) -> Result<Option<PathBuf>, Unavailable> {
        Ok(Some(self.path(blob)))
    }

    async fn delete(&self, _: Folder) -> Result<(), Unavailable> {
        unreachable!("nothing is deleted")
    }

    async fn list(&self, _: Folder) -> Result<Vec<BlobRef>, Unavailable> {
        unreachable!("nothing is listed")
    }

    fn folders(&self) -> BoxStream<'_, Result<Folder, Unavailable>> {
        unreachable!("nothing is listed")
    }
}
