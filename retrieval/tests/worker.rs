//! Extraction in its real child process, on files made to cause harm. Has a `main` of its own, because the child is this
//! very program, started again with an argument.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets what it did not expect fails"
)]

use std::{
    fmt::Write as _,
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lmao_events::{BlobRef, ContentHash, Failure, document};
use lmao_ports::{
    Blobs, EmbeddingCache, EmbeddingKey, Folder, Ingestion, PendingBlob, SemanticState, Semantics, Space, Unavailable,
};
use lmao_retrieval::{
    ingest::{Ingest, Worker, worker_main},
    text::TextDocument,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The argument that makes this program the child.
const CHILD: &str = "extract";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(CHILD) {
        return worker_main();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let world = World::new();
        deep_html_ends(&world).await;
        pages_of_a_pdf_are_known(&world).await;
        a_cut_pdf_says_what_is_lost(&world).await;
        an_encrypted_pdf_is_named(&world).await;
        hostile_pdfs_end(&world).await;
        a_dropped_call_leaves_no_child(&world).await;
    });
    println!("all worker tests passed");
    ExitCode::SUCCESS
}

async fn deep_html_ends(world: &World) {
    for (open, close) in
        [("<div>", "</div>"), ("<ul><li>", "</ul>"), ("<table><tr><td>", ""), ("<b>", ""), ("<p><i>", "")]
    {
        let page =
            format!("<!doctype html><title>t</title>{}deep words{}", open.repeat(100_000), close.repeat(100_000));
        let (extracted, text) = world.extract("deep.html", page.into_bytes()).await.expect(open);
        assert_eq!(extracted.format, "html");
        assert!(text.text.ends_with("deep words"), "{open}: {:?}", text.text);
    }
}

async fn pages_of_a_pdf_are_known(world: &World) {
    // The name lies; the content tells.
    let pdf = pdf(&["The first page speaks of owls.", "", "The third page speaks of wrens."], "");
    let (extracted, text) = world.extract("notes.txt", pdf).await.expect("a whole PDF");
    assert_eq!((extracted.format.as_str(), extracted.pages, extracted.words), ("pdf", Some(3), 12));
    assert_eq!(extracted.title.as_deref(), Some("Birds"));
    assert_eq!(extracted.warnings, ["1 of 3 pages gave no text (empty, scanned or damaged)"]);
    let pages: Vec<_> = text.blocks.iter().map(|block| (block.page, text.slice(block))).collect();
    assert_eq!(pages, [(Some(1), "The first page speaks of owls."), (Some(3), "The third page speaks of wrens.")]);
    let failure = world.extract("scan.pdf", self::pdf(&["", ""], "")).await.expect_err("no text at all");
    assert_eq!((failure.reason.as_str(), failure.retryable), ("no_text", false));
    assert!(failure.message.contains("OCR"), "{}", failure.message);
}

async fn a_cut_pdf_says_what_is_lost(world: &World) {
    let pages: Vec<String> = (0..40).map(|n| format!("Page number {n} of a document that will be cut.")).collect();
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let whole = pdf(&pages, "");
    let (extracted, _) = world.extract("cut.pdf", whole[..whole.len() * 6 / 10].to_vec()).await.expect("what is left");
    assert!(extracted.warnings[0].contains("the end of the file is missing"), "{:?}", extracted.warnings);
    let failure = world.extract("cut.pdf", whole[..60].to_vec()).await.expect_err("nothing is left");
    assert!(["damaged_pdf", "no_text"].contains(&failure.reason.as_str()), "{failure:?}");
    assert!(!failure.retryable);
}

/// The fixtures were made by `qpdf --encrypt`: one that anybody may read but not print, and one that asks for a password.
async fn an_encrypted_pdf_is_named(world: &World) {
    let readable = include_bytes!("fixtures/owner-password.pdf").to_vec();
    let (_, text) = world.extract("readable.pdf", readable).await.expect("no password is needed to read");
    assert_eq!(text.text, "Anybody may read this page, but not print it.");
    let secret = include_bytes!("fixtures/user-password.pdf").to_vec();
    let failure = world.extract("secret.pdf", secret).await.expect_err("a password is needed");
    assert_eq!((failure.reason.as_str(), failure.retryable), ("encrypted_pdf", false));
}

async fn hostile_pdfs_end(world: &World) {
    let nested = format!("/Nested {}{}", "[".repeat(200_000), "]".repeat(200_000));
    let cycle = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[2 0 R 2 0 R]/Count 9>>endobj\n\
        trailer<</Root 1 0 R>>\n%%EOF"
        .to_vec();
    let noise = [
        b"%PDF-1.7\n".to_vec(),
        (0..100_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect(),
    ]
    .concat();
    for (name, bytes) in [("nested", pdf(&["x"], &nested)), ("cycle", cycle), ("noise", noise)] {
        // Text or a lasting failure: either is an end.
        if let Err(failure) = world.extract("hostile.pdf", bytes).await {
            assert!(!failure.retryable && !failure.message.is_empty(), "{name}: {failure:?}");
        }
    }
}

#[cfg(target_os = "linux")]
async fn a_dropped_call_leaves_no_child(world: &World) {
    let children = || {
        let mine = std::process::id().to_string();
        let parent = |stat: &str| stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
        let all = std::fs::read_dir("/proc").expect("a list of processes").flatten();
        let stats = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        stats.filter(|stat| !stat.contains(") Z ") && parent(stat).as_deref() == Some(&mine)).count()
    };
    let page = format!("<!doctype html>{}", "<p><b>words".repeat(400_000));
    let call = world.extract("long.html", page.into_bytes());
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(300), call).await.is_err(),
        "the call ended too soon"
    );
    for _ in 0..200 {
        if children() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("a child outlived its call");
}

#[cfg(not(target_os = "linux"))]
async fn a_dropped_call_leaves_no_child(_: &World) {}

/// A PDF with one line of text on each page (none where it is empty), and this in its trailer.
fn pdf(pages: &[&str], trailer: &str) -> Vec<u8> {
    let mut objects = vec!["<</Type/Catalog/Pages 2 0 R>>".to_owned()];
    let kids: String = (0..pages.len()).map(|page| format!("{} 0 R ", 5 + page * 2)).collect();
    objects.push(format!("<</Type/Pages/Kids[{kids}]/Count {}>>", pages.len()));
    objects.push("<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_owned());
    objects.push("<</Title(Birds)>>".to_owned());
    for (at, text) in pages.iter().enumerate() {
        let content = if text.is_empty() { String::new() } else { format!("BT /F 12 Tf 72 400 Td ({text}) Tj ET") };
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

struct World {
    ingest: Ingest,
    files: Arc<Files>,
    folder: Folder,
}

impl World {
    fn new() -> Self {
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

    async fn extract(&self, filename: &str, bytes: Vec<u8>) -> Result<(document::Extracted, TextDocument), Failure> {
        let content = self.files.put(self.folder, bytes.into()).await.expect("a blob");
        let metadata = serde_json::json!({});
        let owner = self.folder.owner;
        let file = document::Uploaded { owner, filename: filename.into(), content, metadata, attempt: None };
        let extracted = self.ingest.extract(self.folder, &file).await?;
        let bytes = self.files.get(self.folder, &extracted.text).await.expect("an answer").expect("a blob");
        Ok((extracted, TextDocument::decode(&bytes).expect("a text document")))
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
