//! What effects reach in the simulation, with counters of what really happened.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use lmao_events::{Answer, BlobRef, ContentHash, Failure, Hash, Position, StreamId, Timestamp, document as doc};
use lmao_ports::{
    Blobs, Committed, Explain, Folder, IndexedDocument, Ingestion, Journal, ParkedStream, PendingBlob, Projection,
    ProjectionError, QueryExplained, Retriever, SearchError, SearchRequest, SearchResults, TokenSink, ToolSpec,
    Unavailable, Unparked, Vectors,
};
use lmao_retrieval::answer::{Answerer, Question};
use lmao_tools::{Call, Registry, Tool};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{node::Node, stores::Disk};

/// The world outside the log, the same for all nodes.
#[derive(Debug)]
pub(crate) struct World {
    disk: Arc<Disk>,
    /// How often each call of the tool that may run once really ran.
    pub(crate) runs: Mutex<BTreeMap<Uuid, u32>>,
    /// Answering panics and no document can be loaded, until that is repaired.
    pub(crate) broken: AtomicBool,
    /// Whoever extracts or cuts a file of this name dies of it.
    pub(crate) deadly: Mutex<Option<(&'static str, doc::Step)>>,
    /// Nothing that is handed in is read to its end.
    pub(crate) hung: AtomicBool,
    /// Documents have vectors in both spaces.
    pub(crate) in_both: AtomicBool,
    /// What makes documents findable; without it they are at once.
    pub(crate) search: Mutex<Option<Arc<dyn Projection>>>,
    /// What was searched for.
    searches: Mutex<Vec<SearchRequest>>,
}

impl World {
    pub(crate) fn new(disk: &Arc<Disk>) -> Arc<Self> {
        Arc::new(Self {
            disk: Arc::clone(disk),
            runs: Mutex::default(),
            broken: AtomicBool::new(false),
            deadly: Mutex::default(),
            hung: AtomicBool::new(false),
            in_both: AtomicBool::new(false),
            search: Mutex::default(),
            searches: Mutex::default(),
        })
    }

    /// What was searched for, in order.
    pub(crate) fn searches(&self) -> Vec<SearchRequest> {
        self.searches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The world as a node reaches it.
    pub(crate) fn of(self: &Arc<Self>, node: &Arc<Node>) -> lmao_actors::World {
        let reached = Arc::new(FromNode { world: Arc::clone(self), node: Arc::clone(node) });
        let tool = |name, repeatable| -> Arc<dyn Tool> {
            Arc::new(Counted { reached: Arc::clone(&reached), name, repeatable })
        };
        lmao_actors::World {
            retriever: reached.clone(),
            answerer: reached.clone(),
            tools: Arc::new(Registry::new(vec![tool("once", false), tool("again", true)])),
            steps: reached.clone(),
            blobs: reached.clone(),
            search: reached,
        }
    }
}

#[derive(Debug)]
struct FromNode {
    world: Arc<World>,
    node: Arc<Node>,
}

impl FromNode {
    fn search(&self) -> Option<Arc<dyn Projection>> {
        self.world.search.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn survives(&self, filename: &str, step: doc::Step) {
        if *self.world.deadly.lock().unwrap_or_else(PoisonError::into_inner) == Some((filename, step)) {
            self.node.kill();
            self.node.alive().await;
        }
        if self.world.hung.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    async fn works(&self, step: &str) -> Result<(), Failure> {
        self.node.step().await;
        if self.node.faulty() && self.world.disk.chance(0.05) {
            return Err(Failure::passing("simulated", format!("{step} failed this time")));
        }
        assert!(!(self.node.faulty() && self.world.disk.chance(0.01)), "a simulated panic in {step}");
        tokio::time::sleep(self.world.disk.millis(200)).await;
        self.node.step().await;
        Ok(())
    }
}

#[async_trait]
impl Retriever for FromNode {
    async fn search(&self, request: SearchRequest) -> Result<SearchResults, SearchError> {
        let rewritten = format!("{} ({})", request.query, request.conversation.len());
        let explained =
            (request.explain == Explain::Yes).then(|| QueryExplained { rewritten, ..QueryExplained::default() });
        self.world.searches.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        self.works("search").await.map_err(|failure| SearchError::SemanticOff(failure.message))?;
        Ok(SearchResults { explained, ..SearchResults::default() })
    }
}

#[async_trait]
impl Answerer for FromNode {
    fn name(&self) -> &str {
        "simulation"
    }

    fn needs_history(&self) -> bool {
        false
    }

    async fn answer(&self, question: Question, _: TokenSink) -> Result<Answer, Failure> {
        self.works("answer").await?;
        assert!(!self.world.broken.load(Ordering::Relaxed), "answering is broken");
        Ok(Answer {
            text: format!("an answer to {}", question.standalone.unwrap_or(question.query)),
            citations: vec![],
            model: "simulation".to_owned(),
            usage: None,
            grounded: false,
            notices: vec![],
        })
    }
}

#[derive(Debug)]
struct Counted {
    reached: Arc<FromNode>,
    name: &'static str,
    repeatable: bool,
}

#[async_trait]
impl Tool for Counted {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: self.name.to_owned(),
            description: "counts its runs".to_owned(),
            capabilities: vec![],
            parameters: json!({"type": "object"}),
            repeatable: self.repeatable,
            timeout: Duration::from_secs(1),
        }
    }

    async fn run(&self, call: Call) -> Result<Value, Failure> {
        self.reached.node.alive().await;
        let call: Uuid = serde_json::from_value(call.parameters["call"].clone()).expect("the script names its calls");
        *self.reached.world.runs.lock().unwrap_or_else(PoisonError::into_inner).entry(call).or_default() += 1;
        self.reached.node.step().await;
        tokio::time::sleep(self.reached.world.disk.millis(1500)).await;
        self.reached.node.step().await;
        Ok(json!({"done": call}))
    }
}

fn blob(text: &str) -> BlobRef {
    BlobRef { sha256: ContentHash(Hash::of(text.as_bytes()).0), size: text.len() as u64 }
}

#[async_trait]
impl Ingestion for FromNode {
    async fn extract(&self, _: Folder, file: &doc::Uploaded) -> Result<doc::Extracted, Failure> {
        self.survives(&file.filename, doc::Step::Extract).await;
        self.works("extract").await?;
        Ok(doc::Extracted {
            text: blob(&file.filename),
            format: "text".to_owned(),
            title: None,
            pages: None,
            language: None,
            words: 1,
            warnings: vec![],
            authors: vec![],
            written: None,
            tags: vec![],
        })
    }

    async fn chunk(&self, _: Folder, file: &doc::Uploaded, _: &doc::Extracted) -> Result<doc::Chunked, Failure> {
        self.survives(&file.filename, doc::Step::Chunk).await;
        self.works("chunk").await?;
        Ok(doc::Chunked { batches: vec![blob("a"), blob("b"), blob("c")], chunks: 3 })
    }

    async fn embed(
        &self,
        _: Folder,
        batch: u32,
        chunks: &BlobRef,
        _: Option<&str>,
    ) -> Result<doc::StepOutcome, Failure> {
        self.works("embed").await?;
        Ok(doc::StepOutcome::Embedded(doc::Embedded {
            batch,
            vectors: *chunks,
            model: "m".to_owned(),
            cached: 0,
            domain: self
                .world
                .in_both
                .load(Ordering::Relaxed)
                .then(|| doc::DomainVectors { vectors: *chunks, model: "d".to_owned() }),
        }))
    }

    async fn load(&self, folder: Folder, published: &doc::Published) -> Result<IndexedDocument, Failure> {
        if self.world.broken.load(Ordering::Relaxed) {
            return Err(Failure::lasting("missing_blob", "loading is broken"));
        }
        Ok(IndexedDocument {
            document_id: folder.document,
            owner: folder.owner,
            filename: String::new(),
            format: "text".to_owned(),
            language: None,
            metadata: json!({}),
            created_at: Timestamp(0),
            chunks: vec![],
            title: None,
            authors: vec![],
            tags: vec![],
            vectors: if published.domain_model.is_some() {
                Vectors { general: vec![Some(vec![1.0])], domain: vec![Some(vec![1.0])] }
            } else {
                Vectors::default()
            },
        })
    }
}

#[async_trait]
impl Blobs for FromNode {
    async fn begin(&self) -> Result<Box<dyn PendingBlob>, Unavailable> {
        Err(Unavailable::plain("simulation", "no blobs"))
    }

    async fn put(&self, _: Folder, _: Bytes) -> Result<BlobRef, Unavailable> {
        Err(Unavailable::plain("simulation", "no blobs"))
    }

    async fn get(&self, _: Folder, _: &BlobRef) -> Result<Option<Bytes>, Unavailable> {
        Ok(None)
    }

    async fn local(&self, _: Folder, _: &BlobRef) -> Result<Option<PathBuf>, Unavailable> {
        Ok(None)
    }

    async fn delete(&self, _: Folder) -> Result<(), Unavailable> {
        self.works("delete").await.map_err(|failure| Unavailable::plain("simulation", failure.message))
    }

    async fn list(&self, _: Folder) -> Result<Vec<BlobRef>, Unavailable> {
        Ok(vec![])
    }

    fn folders(&self) -> BoxStream<'_, Result<Folder, Unavailable>> {
        futures::stream::empty().boxed()
    }
}

#[async_trait]
impl Projection for FromNode {
    fn name(&self) -> &'static str {
        "search"
    }

    async fn checkpoint(&self) -> Result<Position, ProjectionError> {
        Ok(Position(0))
    }

    async fn apply(&self, _: &[Committed]) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn park(&self, parked: &ParkedStream) -> Result<(), ProjectionError> {
        let Some(search) = self.search() else { return Ok(()) };
        search.park(parked).await
    }

    async fn parked(&self) -> Result<Vec<ParkedStream>, ProjectionError> {
        let Some(search) = self.search() else { return Ok(vec![]) };
        search.parked().await
    }

    async fn holds(&self, stream: StreamId) -> Result<bool, ProjectionError> {
        let Some(search) = self.search() else { return Ok(true) };
        search.holds(stream).await
    }

    async fn unpark(&self, stream: StreamId, log: &dyn Journal) -> Result<Unparked, ProjectionError> {
        let Some(search) = self.search() else { return Ok(Unparked::NotParked) };
        search.unpark(stream, log).await
    }

    async fn reset(&self) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn digest(&self) -> Result<Hash, ProjectionError> {
        Ok(Hash::default())
    }

    async fn wait_for(&self, position: Position, at_most: Duration) -> bool {
        self.node.step().await;
        if let Some(search) = self.search() {
            return search.wait_for(position, at_most).await;
        }
        !(self.node.faulty() && self.world.disk.chance(0.1))
    }
}
