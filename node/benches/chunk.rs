//! What cutting documents into passages costs beside one reading of the same text by the model's tokenizer, as its library
//! does it. Cutting counts all tokens, too, and code is parsed by a child, here the program itself. Prints a line of JSON for
//! each text; CPU time is that of all threads and children, over rounds in turn. Each round begins with a model that has seen nothing.
//!
//! `LMAO_TEST_SHARED` names a folder with `models/all-mpnet-base-v2-w8` and the collections below `eval/`; the library of ONNX
//! Runtime comes from the cache of models.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot run has nothing better to do")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lmao_adapters::models::{ModelConfig, ModelSource, Models, default_cache_dir};
use lmao_events::{BlobRef, ContentHash, document};
use lmao_ports::{
    Blobs, EmbeddingCache, EmbeddingKey, Folder, Ingestion, PendingBlob, SemanticState, Semantics, Space, Unavailable,
};
use lmao_retrieval::ingest::{Ingest, Worker};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;
use uuid::Uuid;

/// As the program does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: u32 = 5;
/// Bytes that the tokenizer is given at a time: its tables stay in the processor's cache.
const PIECE: usize = 16 << 10;
const FOLDER: Folder =
    Folder { owner: Uuid::from_u128(1), document: Uuid::from_u128(2), attempt: Some(Uuid::from_u128(3)) };

/// The argument that makes the program the child that parses.
const CHILD: &str = "extract-worker";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Some(shared) = std::env::var_os("LMAO_TEST_SHARED").map(PathBuf::from) else {
        println!("left out: chunk: LMAO_TEST_SHARED is not set");
        return;
    };
    let files = [
        ("prose.md", prose(&shared.join("eval/cranfield/corpus.jsonl"))),
        ("functions.py", functions(&shared.join("eval/cosqa/corpus.jsonl"))),
        ("sources.rs", sources()),
    ];
    for (filename, text) in files {
        println!("{}", measure(filename, &text, &shared.join("models/all-mpnet-base-v2-w8")).await);
    }
}

async fn measure(filename: &str, text: &str, model: &Path) -> Value {
    let blobs = Arc::new(Files(tempfile::tempdir().unwrap()));
    let content = blobs.keep(text.as_bytes());
    let (filename, metadata) = (filename.to_owned(), json!({}));
    let file = document::Uploaded { owner: FOLDER.owner, filename, content, metadata, attempt: FOLDER.attempt };
    let tokenizer = tokenizer(&model.join("tokenizer.json"));
    let (mut reading, mut cutting) = (0.0, 0.0);
    let (mut tokens, mut chunks) = (0, 0);
    for _ in 0..ROUNDS {
        let worker = Worker { program: env!("CARGO_BIN_EXE_lmao").into(), args: vec![CHILD.into()] };
        let ingest = Ingest::new(Arc::clone(&blobs) as _, models(model).await, Arc::new(Nothing), worker);
        let extracted = ingest.extract(FOLDER, &file).await.unwrap();
        let before = cpu_seconds();
        tokens = count(&tokenizer, text);
        let between = cpu_seconds();
        chunks = ingest.chunk(FOLDER, &file, &extracted).await.unwrap().chunks;
        reading += between - before;
        cutting += cpu_seconds() - between;
    }
    let mean = |sum: f64| (sum / f64::from(ROUNDS) * 1000.0).round() / 1000.0;
    json!({
        "bench": "chunk", "text": file.filename, "bytes": text.len(), "tokens": tokens, "passages": chunks,
        "tokenizer_cpu_s": mean(reading), "chunking_cpu_s": mean(cutting), "ratio": (cutting / reading * 100.0).round() / 100.0,
        "allowed": 1.5,
    })
}

/// The model as the program has it.
async fn models(model: &Path) -> Arc<Models> {
    let source = ModelSource::Dir(model.to_owned());
    let config = ModelConfig { threads: 1, ..ModelConfig::general(default_cache_dir().unwrap(), source) };
    let models = Models::new(config, Arc::new(()));
    models.begin();
    let SemanticState::Ready(_) = models.settled(Space::General).await else { panic!("no model: {models:?}") };
    models
}

fn tokenizer(file: &Path) -> Tokenizer {
    let mut tokenizer = Tokenizer::from_file(file).unwrap();
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).unwrap();
    tokenizer
}

/// The tokens of a text, by the tokenizer.
fn count(tokenizer: &Tokenizer, text: &str) -> usize {
    let mut spans: Vec<(usize, usize)> = vec![];
    let mut start = 0;
    while start < text.len() {
        let far = text.floor_char_boundary(start + PIECE);
        let end = text[far..].find(char::is_whitespace).map_or(text.len(), |at| far + at);
        let encoding = tokenizer.encode(&text[start..end], false).unwrap();
        let span = |(from, to): &(usize, usize)| (start + from, start + to);
        spans.extend(encoding.get_offsets().iter().filter(|(from, to)| from < to).map(span));
        start = end;
    }
    spans.len()
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

/// The retrieval crate, as one program.
fn sources() -> String {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../retrieval/src")];
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
