//! The other ports, in memory: as little of each as the gateway asks of it.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use lmao_events::{BlobRef, ContentHash, Position, StreamId, Timestamp};
use lmao_ports::{
    Admission, Blobs, Cache, Clock, Committed, Component, Digest, DocumentRow, DocumentStatus, Entropy, Explain,
    Folder, Frame, Health, HealthState, Hit, HitExplained, Intent, Live, MessageRow, Page, PageRequest, ParkedStream,
    PendingBlob, Projection, ProjectionError, QueryExplained, Quota, RateLimiter, ReadModel, Retriever, SearchError,
    SearchRequest, SearchResults, Secret, SessionRow, StageRank, ToolCatalog, ToolSpec, Unavailable, UserRow, Vault,
    VaultError,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Barrier, broadcast};
use uuid::Uuid;

#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicI64::new(1_800_000_000_000_000))
    }
}

impl TestClock {
    pub(crate) fn now_micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn forward(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now_micros())
    }
}

#[derive(Debug)]
pub(crate) struct Random;

impl Entropy for Random {
    fn fill(&self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(16) {
            piece.copy_from_slice(&Uuid::new_v4().as_bytes()[..piece.len()]);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Secrets(pub(crate) Mutex<HashMap<String, Secret>>);

#[async_trait]
impl Vault for Secrets {
    async fn get(&self, key: &str) -> Result<Option<Secret>, VaultError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    async fn put(&self, key: &str, secret: &Secret) -> Result<(), VaultError> {
        self.0.lock().unwrap().insert(key.to_owned(), secret.clone());
        Ok(())
    }

    async fn put_new(&self, key: &str, secret: &Secret) -> Result<Secret, VaultError> {
        Ok(self.0.lock().unwrap().entry(key.to_owned()).or_insert_with(|| secret.clone()).clone())
    }

    async fn destroy(&self, key: &str) -> Result<(), VaultError> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<String>, VaultError> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    values: Mutex<HashMap<String, Bytes>>,
    pub(crate) counters: Mutex<HashMap<String, u64>>,
}

#[async_trait]
impl Cache for Memory {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable> {
        Ok(self.values.lock().unwrap().get(key).cloned())
    }

    async fn put(&self, key: &str, value: Bytes, _: Duration) -> Result<(), Unavailable> {
        self.values.lock().unwrap().insert(key.to_owned(), value);
        Ok(())
    }

    async fn put_new(&self, key: &str, value: Bytes, _: Duration) -> Result<bool, Unavailable> {
        let mut values = self.values.lock().unwrap();
        let fresh = !values.contains_key(key);
        values.entry(key.to_owned()).or_insert(value);
        Ok(fresh)
    }

    async fn invalidate(&self, prefix: &str) -> Result<(), Unavailable> {
        self.values.lock().unwrap().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    async fn count(&self, key: &str, _: Duration) -> Result<u64, Unavailable> {
        let mut counters = self.counters.lock().unwrap();
        let count = counters.entry(key.to_owned()).or_default();
        *count += 1;
        Ok(*count)
    }
}

/// Buckets into which nothing comes back.
#[derive(Debug, Default)]
pub(crate) struct Buckets(Mutex<HashMap<String, u32>>);

#[async_trait]
impl RateLimiter for Buckets {
    async fn take(&self, key: &str, quota: Quota) -> Result<Admission, Unavailable> {
        let mut buckets = self.0.lock().unwrap();
        let tokens = buckets.entry(key.to_owned()).or_insert(quota.burst());
        Ok(match tokens.checked_sub(1) {
            Some(remaining) => {
                *tokens = remaining;
                Admission::Admitted { remaining }
            }
            None => Admission::Refused { retry_after: quota.refill() },
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Channels(Mutex<HashMap<StreamId, broadcast::Sender<Frame>>>);

impl Channels {
    fn sender(&self, topic: StreamId) -> broadcast::Sender<Frame> {
        self.0.lock().unwrap().entry(topic).or_insert_with(|| broadcast::channel(64).0).clone()
    }
}

#[async_trait]
impl Live for Channels {
    fn publish(&self, topic: StreamId, frame: Frame) {
        self.sender(topic).send(frame).ok();
    }

    async fn subscribe(&self, topic: StreamId) -> BoxStream<'static, Frame> {
        let frames = self.sender(topic).subscribe();
        futures::stream::unfold(frames, |mut frames| async move { Some((frames.recv().await.ok()?, frames)) }).boxed()
    }
}

/// Tables and search index that hold nothing but what a test puts there, and may have fallen behind.
#[derive(Debug, Default)]
pub(crate) struct Empty {
    pub(crate) behind: AtomicBool,
    /// The furthest position that somebody waited for.
    pub(crate) waited_for: AtomicU64,
    /// Rows that there are all the same.
    pub(crate) documents: Mutex<Vec<DocumentRow>>,
    pub(crate) messages: Mutex<Vec<MessageRow>>,
}

#[async_trait]
impl Projection for Empty {
    fn name(&self) -> &'static str {
        "empty"
    }

    async fn checkpoint(&self) -> Result<Position, ProjectionError> {
        Ok(Position(0))
    }

    async fn apply(&self, _: &[Committed]) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn park(&self, _: &ParkedStream) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn parked(&self) -> Result<Vec<ParkedStream>, ProjectionError> {
        Ok(vec![])
    }

    async fn reset(&self) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn digest(&self) -> Result<Digest, ProjectionError> {
        Ok(Digest::default())
    }

    async fn wait_for(&self, position: Position, _: Duration) -> bool {
        self.waited_for.fetch_max(position.0, Ordering::SeqCst);
        !self.behind.load(Ordering::SeqCst)
    }
}

/// A cursor is the place of a page's first row.
fn rows<T: Clone>(all: &[T], page: &PageRequest) -> Page<T> {
    let begin = page.cursor.as_ref().map_or(0, |cursor| cursor.parse().unwrap_or(all.len()));
    let end = begin.saturating_add(page.limit as usize).min(all.len());
    let next = (end < all.len()).then(|| end.to_string());
    Page { items: all[begin.min(end)..end].to_vec(), next, total: all.len() as u64 }
}

/// A document of which little is known.
pub(crate) fn document(id: Uuid, sha256: &str) -> DocumentRow {
    DocumentRow {
        id,
        user_id: Uuid::from_u128(0xa),
        filename: "a.txt".to_owned(),
        file_type: "text".to_owned(),
        file_size: 1,
        content_hash: sha256.to_owned(),
        uploaded_at: Timestamp(0),
        processed_at: None,
        status: DocumentStatus::Ready,
        metadata: json!({}),
        chunks_count: Some(1),
    }
}

/// A message of this session.
pub(crate) fn message(session_id: Uuid) -> MessageRow {
    MessageRow {
        id: Uuid::new_v4(),
        session_id,
        role: "user".to_owned(),
        content: "hello".to_owned(),
        created_at: Timestamp(0),
        metadata: json!({}),
        tokens_used: None,
        model_used: None,
    }
}

#[async_trait]
impl ReadModel for Empty {
    async fn user(&self, _: Uuid) -> Result<Option<UserRow>, Unavailable> {
        Ok(None)
    }

    async fn session(&self, _: Uuid, _: Uuid) -> Result<Option<SessionRow>, Unavailable> {
        Ok(None)
    }

    async fn sessions(&self, _: Uuid, page: &PageRequest) -> Result<Page<SessionRow>, Unavailable> {
        Ok(rows(&[], page))
    }

    async fn messages(&self, _: Uuid, of: Uuid, page: &PageRequest) -> Result<Option<Page<MessageRow>>, Unavailable> {
        let mut all = self.messages.lock().unwrap().clone();
        all.retain(|message| message.session_id == of);
        Ok((!all.is_empty()).then(|| rows(&all, page)))
    }

    async fn document(&self, _: Uuid, id: Uuid) -> Result<Option<DocumentRow>, Unavailable> {
        Ok(self.documents.lock().unwrap().iter().find(|document| document.id == id).cloned())
    }

    async fn documents(
        &self,
        _: Uuid,
        _: Option<DocumentStatus>,
        page: &PageRequest,
    ) -> Result<Page<DocumentRow>, Unavailable> {
        Ok(rows(&self.documents.lock().unwrap(), page))
    }

    async fn documents_of_other_models(&self, _: &str) -> Result<Vec<Uuid>, Unavailable> {
        Ok(vec![])
    }
}

#[derive(Debug)]
pub(crate) struct FindsNothing;

#[async_trait]
impl Retriever for FindsNothing {
    async fn search(&self, request: SearchRequest) -> Result<SearchResults, SearchError> {
        match request.query.as_str() {
            "panic" => panic!("asked to"),
            "invalid" => Err(SearchError::Invalid("say more".to_owned())),
            "semantic" => Err(SearchError::SemanticOff("no model".to_owned())),
            "many" => Ok(many(&request, MANY)),
            "deep" => Ok(many(&request, DEEP)),
            _ => Ok(SearchResults { notices: vec!["there is nothing here".to_owned()], ..SearchResults::default() }),
        }
    }
}

/// Passages that a search for `many` finds.
pub(crate) const MANY: u64 = 27;
/// And one for `deep`.
pub(crate) const DEEP: u64 = 250;

/// Looks one deeper than the page, as the pipeline does. What was reranked for the first page is asked of the others.
fn many(request: &SearchRequest, all: u64) -> SearchResults {
    assert_eq!(request.reranked, (request.offset > 0 && all == DEEP).then_some(20).or(request.reranked));
    let deep = u64::try_from(request.offset + request.max_results + 1).unwrap().min(all);
    let explained = |stage| (request.explain == Explain::Yes).then_some(stage);
    let hit = |n: u64| Hit {
        chunk_id: Uuid::from_u128(u128::from(n) + 1),
        ordinal: u32::try_from(n).unwrap(),
        content: format!("passage {n}"),
        score: 1.0 / (n + 1) as f32,
        similarity: None,
        relevant: n == 0,
        document_id: Uuid::nil(),
        filename: "many.rs".to_owned(),
        title: None,
        page_number: None,
        page_turns: vec![],
        section: None,
        chunk_type: "code".to_owned(),
        language: Some("rust".to_owned()),
        parent: None,
        start: n,
        end: n + 1,
        explained: explained(HitExplained {
            stages: vec![StageRank { stage: "keyword".to_owned(), rank: 1, score: 0.5 }],
        }),
    };
    SearchResults {
        hits: (0..all).skip(request.offset).take(request.max_results).map(hit).collect(),
        total: usize::try_from(deep).unwrap(),
        reranked: if request.offset == 0 { 20 } else { 0 },
        intent: Intent::HowTo,
        explained: (request.explain == Explain::Yes).then(|| QueryExplained {
            rewritten: request.query.clone(),
            legs: vec![("keyword".to_owned(), 1.0)],
            ..QueryExplained::default()
        }),
        ..SearchResults::default()
    }
}

#[derive(Debug)]
pub(crate) struct Calculator;

impl ToolCatalog for Calculator {
    fn list(&self) -> Vec<ToolSpec> {
        vec![ToolSpec {
            name: "calculator".to_owned(),
            description: "Reckons.".to_owned(),
            capabilities: vec!["arithmetic".to_owned()],
            parameters: json!({ "type": "object", "required": ["expression"] }),
            repeatable: true,
            timeout: Duration::from_secs(5),
        }]
    }

    fn check(&self, _: &str, parameters: &Value) -> Vec<String> {
        if parameters["expression"].is_string() { vec![] } else { vec!["expression is missing".to_owned()] }
    }
}

/// Files by folder and name.
pub(crate) type Kept = Arc<Mutex<HashMap<(Folder, BlobRef), Vec<u8>>>>;

#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) kept: Kept,
    /// Where the next upload waits twice when its file is kept.
    pub(crate) pause: Arc<Mutex<Option<Arc<Barrier>>>>,
}

#[derive(Debug)]
struct Pending {
    kept: Kept,
    pause: Arc<Mutex<Option<Arc<Barrier>>>>,
    bytes: Vec<u8>,
}

#[async_trait]
impl PendingBlob for Pending {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Unavailable> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn blob(&self) -> BlobRef {
        BlobRef { sha256: ContentHash(Sha256::digest(&self.bytes).into()), size: self.bytes.len() as u64 }
    }

    async fn keep(self: Box<Self>, folder: Folder) -> Result<BlobRef, Unavailable> {
        let blob = self.blob();
        self.kept.lock().unwrap().insert((folder, blob), self.bytes);
        let pause = self.pause.lock().unwrap().take();
        if let Some(pause) = pause {
            pause.wait().await;
            pause.wait().await;
        }
        Ok(blob)
    }
}

#[async_trait]
impl Blobs for Files {
    async fn begin(&self) -> Result<Box<dyn PendingBlob>, Unavailable> {
        Ok(Box::new(Pending { kept: self.kept.clone(), pause: self.pause.clone(), bytes: vec![] }))
    }

    async fn put(&self, folder: Folder, bytes: Bytes) -> Result<BlobRef, Unavailable> {
        Box::new(Pending { kept: self.kept.clone(), pause: Arc::default(), bytes: bytes.to_vec() }).keep(folder).await
    }

    async fn get(&self, folder: Folder, blob: &BlobRef) -> Result<Option<Bytes>, Unavailable> {
        Ok(self.kept.lock().unwrap().get(&(folder, *blob)).cloned().map(Into::into))
    }

    async fn local(&self, _: Folder, _: &BlobRef) -> Result<Option<PathBuf>, Unavailable> {
        Ok(None)
    }

    async fn delete(&self, folder: Folder) -> Result<(), Unavailable> {
        self.kept.lock().unwrap().retain(|(of, _), _| *of != folder);
        Ok(())
    }

    async fn list(&self, folder: Folder) -> Result<Vec<BlobRef>, Unavailable> {
        let kept = self.kept.lock().unwrap();
        Ok(kept.keys().filter(|(of, _)| *of == folder).map(|(_, blob)| *blob).collect())
    }

    fn folders(&self) -> BoxStream<'_, Result<Folder, Unavailable>> {
        futures::stream::empty().boxed()
    }
}

#[derive(Debug)]
pub(crate) struct State(pub(crate) Mutex<HealthState>);

#[async_trait]
impl Health for State {
    async fn report(&self) -> Vec<Component> {
        let state = *self.0.lock().unwrap();
        vec![Component { name: "log".to_owned(), state, message: "as told".to_owned() }]
    }
}

/// Metrics: there is one.
#[derive(Debug)]
pub(crate) struct Two;

impl lmao_ports::Metrics for Two {
    fn render(&self) -> String {
        "two 2\n".to_owned()
    }
}
