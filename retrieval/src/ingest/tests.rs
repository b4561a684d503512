use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lmao_events::{ContentHash, Timestamp};
use lmao_ports::{
    EmbedError, Embedder, EmbeddingKey, ModelManifest, PendingBlob, Pooling, Space, TokenSpan, Unavailable,
};
use sha2::{Digest, Sha256};

use super::*;

/// Blobs in a folder of files.
#[derive(Debug)]
struct Files(tempfile::TempDir);

fn blob_of(bytes: &[u8]) -> BlobRef {
    BlobRef { sha256: ContentHash(Sha256::digest(bytes).into()), size: bytes.len() as u64 }
}

impl Files {
    fn path(&self, folder: Folder, blob: &BlobRef) -> PathBuf {
        self.0.path().join(folder.to_string()).join(blob.sha256.to_string())
    }
}

#[async_trait]
impl Blobs for Files {
    async fn begin(&self) -> Result<Box<dyn PendingBlob>, Unavailable> {
        unreachable!("ingestion streams no uploads")
    }

    async fn put(&self, folder: Folder, bytes: Bytes) -> Result<BlobRef, Unavailable> {
        let blob = blob_of(&bytes);
        let path = self.path(folder, &blob);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        Ok(blob)
    }

    async fn get(&self, folder: Folder, blob: &BlobRef) -> Result<Option<Bytes>, Unavailable> {
        Ok(std::fs::read(self.path(folder, blob)).ok().map(Bytes::from))
    }

    async fn local(&self, folder: Folder, blob: &BlobRef) -> Result<Option<PathBuf>, Unavailable> {
        Ok(Some(self.path(folder, blob)).filter(|path| path.exists()))
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

/// Words are tokens; a vector counts the letters `a` to `d` and the length. Really computed, hence worth caching.
#[derive(Debug)]
struct Letters {
    manifest: ModelManifest,
    embedded: AtomicUsize,
    /// All that it was given to read.
    read: Mutex<Vec<String>>,
    broken: bool,
}

fn letters(id: &str, broken: bool) -> Arc<Letters> {
    let manifest = ModelManifest {
        id: id.into(),
        dimensions: 5,
        pooling: Pooling::Mean,
        normalize: false,
        max_tokens: 64,
        query_prefix: String::new(),
        passage_prefix: "passage: ".into(),
    };
    Arc::new(Letters { manifest, embedded: AtomicUsize::new(0), read: Mutex::default(), broken })
}

#[async_trait]
impl Embedder for Letters {
    fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.embedded.fetch_add(texts.len(), Relaxed);
        self.read.lock().unwrap().extend(texts.iter().cloned());
        let vector = |text: &String| {
            let text = format!("passage: {text}");
            assert!(self.tokens(&text).len() <= 62, "the model cannot read {text:?}");
            let count = |c: char| text.matches(c).count() as f32;
            // Different texts have different vectors: 24 bits of a hash are exact as a float.
            let [low, middle, high, ..] = *blake3::hash(text.as_bytes()).as_bytes();
            let sum = u32::from_le_bytes([low, middle, high, 0]);
            let last = if self.broken { f32::NAN } else { sum as f32 };
            vec![count('a'), count('b'), count('c'), count('d'), last]
        };
        Ok(texts.iter().map(vector).collect())
    }

    async fn query(&self, _: &str) -> Result<Vec<f32>, EmbedError> {
        unreachable!("ingestion asks nothing")
    }

    fn tokens(&self, text: &str) -> Vec<TokenSpan> {
        let at = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
        text.split_whitespace().map(|word| TokenSpan { start: at(word), end: at(word) + word.len() }).collect()
    }
}

#[derive(Debug)]
struct Model(SemanticState);

#[async_trait]
impl Semantics for Model {
    fn state(&self, space: Space) -> SemanticState {
        match space {
            Space::General => self.0.clone(),
            Space::Domain => SemanticState::Off("there is none here".to_owned()),
        }
    }

    async fn settled(&self, space: Space) -> SemanticState {
        self.state(space)
    }
}

#[derive(Debug, Default)]
struct Remembered(Mutex<HashMap<EmbeddingKey, Vec<f32>>>);

#[async_trait]
impl EmbeddingCache for Remembered {
    async fn get(&self, keys: &[EmbeddingKey]) -> Result<Vec<Option<Vec<f32>>>, Unavailable> {
        let known = self.0.lock().unwrap();
        Ok(keys.iter().map(|key| known.get(key).cloned()).collect())
    }

    async fn put(&self, entries: &[(EmbeddingKey, Vec<f32>)]) -> Result<(), Unavailable> {
        self.0.lock().unwrap().extend(entries.iter().cloned());
        Ok(())
    }
}

const FOLDER: Folder =
    Folder { owner: Uuid::from_u128(1), document: Uuid::from_u128(2), attempt: Some(Uuid::from_u128(3)) };

struct World {
    ingest: Ingest,
    files: Arc<Files>,
    folder: Folder,
}

fn world(state: SemanticState) -> World {
    let files = Arc::new(Files(tempfile::tempdir().unwrap()));
    let worker = Worker { program: "/nonexistent".into(), args: vec![] };
    let ingest = Ingest::new(Arc::clone(&files) as _, Arc::new(Model(state)), Arc::new(Remembered::default()), worker);
    World { ingest, files, folder: FOLDER }
}

impl World {
    async fn upload(&self, filename: &str, bytes: impl Into<Bytes>) -> document::Uploaded {
        let content = self.files.put(self.folder, bytes.into()).await.unwrap();
        let metadata = serde_json::json!({"by": "test"});
        document::Uploaded {
            owner: self.folder.owner,
            filename: filename.into(),
            content,
            metadata,
            attempt: FOLDER.attempt,
        }
    }

    /// All steps, as the decider would ask for them.
    async fn take_in(&self, file: &document::Uploaded) -> (document::Extracted, document::Published, u32) {
        let extracted = self.ingest.extract(self.folder, file).await.unwrap();
        let chunked = self.ingest.chunk(self.folder, file, &extracted).await.unwrap();
        let (mut vectors, mut model, mut from_cache) = (vec![], None, 0);
        for (batch, chunks) in (0..).zip(&chunked.batches) {
            match self.ingest.embed(self.folder, batch, chunks, model.as_deref()).await.unwrap() {
                document::StepOutcome::Embedded(embedded) => {
                    assert_eq!(embedded.batch, batch);
                    from_cache += embedded.cached;
                    vectors.push(embedded.vectors);
                    model = Some(embedded.model);
                }
                other => panic!("{other:?}"),
            }
        }
        let published = document::Published {
            owner: file.owner,
            filename: file.filename.clone(),
            format: extracted.format.clone(),
            language: extracted.language.clone(),
            metadata: file.metadata.clone(),
            uploaded_at: Timestamp(7),
            chunks: chunked.chunks,
            batches: chunked.batches,
            vectors,
            model,
            attempt: file.attempt,
            title: None,
            authors: vec![],
            tags: vec![],
            domain_vectors: vec![],
            domain_model: None,
        };
        (extracted, published, from_cache)
    }
}

const GUIDE: &str = "# Owls\n\n## Hunting\n\nThey hunt at night.\n\n## Food\n\nMice, mostly.\n";

#[tokio::test]
async fn a_file_becomes_passages_with_vectors() {
    let model = letters("letters", false);
    let world = world(SemanticState::Ready(Arc::clone(&model) as _));
    let long: String = (0..9000).map(|n| format!("Sentence {n} is about a badger. ")).collect();
    let file = world.upload("guide.md", format!("{GUIDE}\n# Long\n\n{long}")).await;
    let (extracted, published, cached) = world.take_in(&file).await;
    assert_eq!((extracted.format.as_str(), extracted.title.as_deref()), ("markdown", Some("Owls")));
    assert_eq!(cached, 0);
    assert!(published.batches.len() > 1);
    let indexed = world.ingest.load(world.folder, &published).await.unwrap();
    assert_eq!(indexed.chunks.len(), published.chunks as usize);
    assert_eq!(indexed.vectors.general.len(), indexed.chunks.len());
    assert_eq!(indexed.chunks[1].content, "Food\n\nMice, mostly.");
    assert_eq!(indexed.chunks[1].section.as_deref(), Some("Owls > Food"));
    let bytes = world.files.get(world.folder, &extracted.text).await.unwrap().unwrap();
    let text = TextDocument::decode(&bytes).unwrap().text;
    for (ordinal, chunk) in (0..).zip(&indexed.chunks) {
        assert_eq!(chunk.ordinal, ordinal);
        let at = |place: u64| usize::try_from(place).unwrap();
        assert_eq!(chunk.content, text[at(chunk.start)..at(chunk.end)]);
    }
    // Again: the same blobs, and every vector from the cache.
    let before = model.embedded.load(Relaxed);
    let (again, republished, cached) = world.take_in(&file).await;
    assert_eq!((again, &republished), (extracted, &published));
    assert_eq!((cached, model.embedded.load(Relaxed)), (published.chunks, before));
}

/// A program of classes with methods, a document of sections with a table and code, both with names of their own.
fn program_and_guide() -> [(&'static str, String); 2] {
    let method = |n: usize| {
        let body: String = (0..9).map(|m| format!("        total_{m} = compute(n, {m}, {n})\n")).collect();
        format!("    def method_{n}(self, n):\n{body}        return total_0\n\n")
    };
    let class = |n: usize| format!("class Kind{n}(Base):\n{}", (0..4).map(method).collect::<String>());
    let section = |n: usize| {
        let rows: String = (0..40).map(|row| format!("| part {row} of {n} | {row} |\n")).collect();
        format!(
            "## Part {n} of a guide with a heading of many words that say little\n\n{}\n\n| name | price |\n|---|---|\n{rows}\n```rs\nfn \
             part_{n}() {{\n    one(1);\n}}\n```\n\n",
            format!("The badger of part {n} digs. ").repeat(30)
        )
    };
    [
        ("kinds.py", (0..6).map(class).collect()),
        ("guide.md", format!("# Guide\n\n{}", (0..12).map(section).collect::<String>())),
    ]
}

#[tokio::test]
async fn the_model_reads_all_of_every_passage() {
    let model = letters("letters", false);
    let world = world(SemanticState::Ready(Arc::clone(&model) as _));
    for (filename, text) in program_and_guide() {
        let file = world.upload(filename, text).await;
        let (extracted, published, _) = world.take_in(&file).await;
        let indexed = world.ingest.load(world.folder, &published).await.unwrap();
        let bytes = world.files.get(world.folder, &extracted.text).await.unwrap().unwrap();
        let text = TextDocument::decode(&bytes).unwrap().text;
        let read = std::mem::take(&mut *model.read.lock().unwrap());
        assert!(indexed.chunks.len() > 20);
        for chunk in &indexed.chunks {
            assert!(read.iter().any(|text| text.ends_with(&chunk.content)), "{chunk:?}");
            let range = usize::try_from(chunk.start).unwrap()..usize::try_from(chunk.end).unwrap();
            assert_eq!(chunk.content, text[range]);
            if let Some(parent) = chunk.parent {
                assert!((parent.first..=parent.last).contains(&chunk.ordinal) && parent.first < parent.last);
                let siblings = indexed.chunks.iter().filter_map(|other| other.parent);
                let same = siblings.filter(|other| other.chunk_id == parent.chunk_id);
                assert!(same.clone().all(|other| other == parent) && same.count() >= 2, "{chunk:?}");
            }
        }
        let has = |wanted: &dyn Fn(&ChunkRecord) -> bool| assert!(indexed.chunks.iter().any(wanted), "{indexed:#?}");
        let section = |chunk: &ChunkRecord, words: &str| chunk.section.as_deref().is_some_and(|at| at.contains(words));
        if filename == "kinds.py" {
            assert!(indexed.chunks.iter().all(|chunk| chunk.chunk_type == "code"));
            assert!(indexed.chunks.iter().all(|chunk| chunk.language.as_deref() == Some("python")));
            // No child can be started that would parse it: it is cut between lines.
            assert!(indexed.chunks.iter().all(|chunk| chunk.section.is_none()));
        } else {
            has(&|chunk| section(chunk, "Guide > Part 11 of") && section(chunk, " > name | price"));
            has(&|chunk| chunk.content.contains("fn part_3()") && ["code", "mixed"].contains(&&*chunk.chunk_type));
            assert!(indexed.chunks.iter().all(|chunk| chunk.language.is_none() || chunk.chunk_type == "code"));
        }
    }
}

#[tokio::test]
async fn a_changed_file_embeds_what_changed() {
    let model = letters("letters", false);
    let world = world(SemanticState::Ready(Arc::clone(&model) as _));
    for (filename, text) in program_and_guide() {
        world.take_in(&world.upload(filename, text.clone()).await).await;
        let changed = text.replacen("part 5 digs", "part 5 never digs", 1).replacen("compute(n, 3, 2)", "guess()", 1);
        assert_ne!(changed, text);
        let (_, published, cached) = world.take_in(&world.upload(filename, changed).await).await;
        assert!(published.chunks - cached <= 3, "{cached} of {} passages were known", published.chunks);
    }
}

#[tokio::test]
async fn without_a_model_embedding_is_skipped() {
    let world = world(SemanticState::Off("no model: say `lmao doctor`".into()));
    let file = world.upload("a.txt", "some words").await;
    let extracted = world.ingest.extract(world.folder, &file).await.unwrap();
    let chunked = world.ingest.chunk(world.folder, &file, &extracted).await.unwrap();
    let outcome = world.ingest.embed(world.folder, 0, &chunked.batches[0], None).await.unwrap();
    let reason = "no model: say `lmao doctor`".to_owned();
    assert_eq!(outcome, document::StepOutcome::EmbeddingSkipped(document::EmbeddingSkipped { reason }));
}

#[tokio::test]
async fn vectors_that_are_no_numbers_are_refused() {
    let world = world(SemanticState::Ready(letters("broken", true)));
    let file = world.upload("a.txt", "some words").await;
    let extracted = world.ingest.extract(world.folder, &file).await.unwrap();
    let chunked = world.ingest.chunk(world.folder, &file, &extracted).await.unwrap();
    let failure = world.ingest.embed(world.folder, 0, &chunked.batches[0], None).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.retryable), ("embedding_failed", true));
    assert!(failure.message.contains("not finite"), "{}", failure.message);
}

#[tokio::test]
async fn blobs_that_are_gone_or_altered_are_told() {
    let world = world(SemanticState::Ready(letters("letters", false)));
    let file = world.upload("guide.md", GUIDE).await;
    let (extracted, published, _) = world.take_in(&file).await;
    let is_missing =
        |failure: Failure| assert_eq!((failure.reason.as_str(), failure.retryable), ("missing_blob", false));
    let harm = |blob: &BlobRef| std::fs::write(world.files.path(world.folder, blob), b"other bytes").unwrap();
    let remove = |blob: &BlobRef| std::fs::remove_file(world.files.path(world.folder, blob)).unwrap();

    harm(&published.vectors[0]);
    is_missing(world.ingest.load(world.folder, &published).await.unwrap_err());
    remove(&published.batches[0]);
    is_missing(world.ingest.load(world.folder, &published).await.unwrap_err());
    is_missing(world.ingest.embed(world.folder, 0, &published.batches[0], None).await.unwrap_err());
    harm(&extracted.text);
    is_missing(world.ingest.chunk(world.folder, &file, &extracted).await.unwrap_err());
    harm(&file.content);
    is_missing(world.ingest.extract(world.folder, &file).await.unwrap_err());
    std::fs::write(world.files.path(world.folder, &file.content), b"").unwrap();
    is_missing(world.ingest.extract(world.folder, &file).await.unwrap_err());
    remove(&file.content);
    is_missing(world.ingest.extract(world.folder, &file).await.unwrap_err());
}

#[tokio::test]
async fn bad_files_end_with_their_reason() {
    let world = world(SemanticState::Off("none".into()));
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty.txt", b"", "no_text"),
        ("blank.md", b" \n\n\t", "no_text"),
        ("picture.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "unsupported_format"),
        ("noise.bin", &[0, 1, 2, 3, 255, 254, 0, 9], "unsupported_format"),
    ];
    for (name, bytes, reason) in cases {
        let file = world.upload(name, bytes.to_vec()).await;
        let failure = world.ingest.extract(world.folder, &file).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.retryable), (reason, false), "{name}");
    }
}

#[tokio::test]
async fn a_text_of_fifty_megabytes_is_taken() {
    let world = world(SemanticState::Off("none".into()));
    let mut text = String::new();
    while text.len() < 50 << 20 {
        text.push_str("A line of a long log that somebody wants to search, with words of all kinds in it.\n");
        if text.len() % 1000 < 80 {
            text.push('\n');
        }
    }
    let file = world.upload("long.txt", text.clone()).await;
    // What the child process would do.
    let (_, found) = extract::extract(Format::Text, "long.txt", Source::Bytes(text.into_bytes())).unwrap();
    let words = found.words();
    let text = store::put(&*world.ingest.blobs, world.folder, found.document.encode().unwrap()).await.unwrap();
    let extracted = document::Extracted {
        text,
        format: "text".into(),
        title: None,
        pages: None,
        language: found.language,
        words,
        warnings: found.warnings,
        authors: vec![],
        written: None,
        tags: vec![],
    };
    let chunked = world.ingest.chunk(world.folder, &file, &extracted).await.unwrap();
    assert!((10_000..100_000).contains(&chunked.chunks), "{}", chunked.chunks);
}

#[test]
fn vectors_survive_as_bytes() {
    let vectors = vec![Some(vec![1.0, -2.5]), Some(vec![0.0, f32::MIN_POSITIVE])];
    let bytes = embed::to_bytes(&vectors, 2);
    assert_eq!(embed::from_bytes(&bytes, 2), Some(vectors));
    assert_eq!(embed::from_bytes(&bytes[1..], 2), None);
    assert_eq!(embed::from_bytes(&bytes, 3), None);
    assert_eq!(embed::from_bytes(&f32::NAN.to_le_bytes(), 1), None);
    assert_eq!(embed::from_bytes(&[], 0), Some(vec![]));
    let some = vec![None, Some(vec![1.0, 2.0]), None];
    assert_eq!(embed::from_bytes(&embed::to_bytes(&some, 2), 3), Some(some));
    let none = vec![None; 3];
    assert!(embed::to_bytes(&none, 768).is_empty());
    assert_eq!(embed::from_bytes(&[], 3), Some(none));
}
