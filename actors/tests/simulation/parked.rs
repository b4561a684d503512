//! What is set aside, who hears of it, and what happens when it is taken up again. No faults but those named.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use lmao_actors::{Feeder, Keyring, OpenedLog, Projector, SearchProjection};
use lmao_events::{
    AnyCommand, AnyEvent, BlobRef, Category, ContentHash, Failure, Hash, Position, StreamId, Version, document, session,
};
use lmao_ports::{
    CommandMeta, Digest, IndexError, IndexedDocument, Journal, KeywordQuery, LegHit, ModelManifest, ParkedStream,
    Projection, SearchFilter, SearchIndex, SemanticState, Semantics, Snapshots, Space, Unparked,
};
use serde_json::json;
use uuid::Uuid;

use crate::{in_virtual_time, node::Running, stores::Disk, world::World};

const OWNER: Uuid = Uuid::from_u128(7);

pub(crate) struct Scene {
    disk: Arc<Disk>,
    pub(crate) world: Arc<World>,
    faults: Arc<AtomicBool>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let disk = Disk::new(1);
        let world = World::new(&disk);
        Self { disk, world, faults: Arc::new(AtomicBool::new(false)) }
    }

    pub(crate) async fn start(&self) -> Running {
        Running::start(&self.disk, &self.world, &self.faults).await
    }

    fn broken(&self, broken: bool) {
        self.world.broken.store(broken, Ordering::Relaxed);
    }
}

pub(crate) fn opened(node: &Running) -> OpenedLog {
    let reached = Arc::new(node.reached.clone());
    OpenedLog::new(reached.clone(), Keyring::new(reached.clone(), reached))
}

pub(crate) async fn send(node: &Running, stream: StreamId, command: impl Into<AnyCommand>) {
    let id = Uuid::from_u128(0xC0FFEE);
    let meta = CommandMeta { who: None, command: None, causation: id, correlation: id, traceparent: None };
    node.commands().expect("it runs").send(stream, command.into(), meta).await.expect("it is taken");
}

async fn ask(node: &Running, stream: StreamId, message: u128) -> Uuid {
    let message_id = Uuid::from_u128(message);
    let content = "a question".to_owned();
    let command = session::SendMessage { owner: OWNER, message_id, content, context: json!({}), open: true };
    send(node, stream, session::Command::SendMessage(command)).await;
    message_id
}

pub(crate) async fn history(node: &Running, stream: StreamId) -> Vec<AnyEvent> {
    let commits: Vec<_> = opened(node).read(stream, Version(1)).collect().await;
    commits.into_iter().flat_map(|commit| commit.expect("it is read").events.expect("nobody is erased")).collect()
}

/// How a session's messages ended: the failure, or none for an answer.
pub(crate) async fn outcomes(node: &Running, stream: StreamId, wanted: usize) -> Vec<(Uuid, Option<Failure>)> {
    for _ in 0..600 {
        let events = history(node, stream).await;
        let ended = events.into_iter().filter_map(|event| match event {
            AnyEvent::Session(session::Event::ReplyCompleted(reply)) => Some((reply.message_id, None)),
            AnyEvent::Session(session::Event::ReplyFailed(reply)) => Some((reply.message_id, Some(reply.failure))),
            _ => None,
        });
        let ended: Vec<_> = ended.collect();
        if ended.len() >= wanted {
            return ended;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{stream} waits for ever: {:?}", history(node, stream).await);
}

fn assert_parked(outcome: &(Uuid, Option<Failure>), message: Uuid, reason: &str) {
    let (of, Some(failure)) = outcome else { panic!("it was answered") };
    assert_eq!((*of, failure.reason.as_str(), failure.retryable), (message, "workflow_parked", false));
    assert!(failure.message.contains(reason), "{failure:?}");
}

#[test]
fn a_session_answers_with_the_parking_of_its_workflow_and_goes_on() {
    in_virtual_time(async {
        let scene = Scene::new();
        let node = scene.start().await;
        let chat = StreamId::new(Category::Session, Uuid::from_u128(200));
        scene.broken(true);
        let first = ask(&node, chat, 1).await;
        assert_parked(&outcomes(&node, chat, 1).await[0], first, "answering is broken");
        let workflow = StreamId::new(Category::Workflow, session::workflow_of(first));
        let commands = node.commands().expect("it runs");
        let parked = commands.parked().await.expect("kept in memory");
        assert_eq!(parked.iter().map(|(stream, _)| *stream).collect::<Vec<_>>(), [workflow]);

        scene.broken(false);
        let second = ask(&node, chat, 2).await;
        assert_eq!(outcomes(&node, chat, 2).await[1], (second, None));

        // Let go on, the workflow answers and is heard no more.
        commands.unpark(workflow).await.expect("it is let go on");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(outcomes(&node, chat, 2).await.len(), 2);
        let last = history(&node, workflow).await.pop();
        assert_eq!(last.as_ref().map(AnyEvent::name), Some("ReplyDelivered"), "{last:?}");
    });
}

/// Nobody told the session when it happened: it learns it when it asks for the workflow.
#[test]
fn a_session_learns_of_a_workflow_that_was_parked_before_a_crash() {
    in_virtual_time(async {
        let scene = Scene::new();
        let chat = StreamId::new(Category::Session, Uuid::from_u128(200));
        let workflow = StreamId::new(Category::Workflow, session::workflow_of(Uuid::from_u128(1)));
        let before = scene.start().await;
        before.reached.put(&format!("parked/{workflow}"), Bytes::from_static(b"as it was")).await.expect("it is kept");
        before.drain().await;
        let node = scene.start().await;
        let message = ask(&node, chat, 1).await;
        assert_parked(&outcomes(&node, chat, 1).await[0], message, "as it was");
    });
}

#[test]
fn a_damaged_record_keeps_nobody_else_from_what_is_owed() {
    in_virtual_time(async {
        let scene = Scene::new();
        let node = scene.start().await;
        let [damaged, whole] = [200, 201].map(|n| StreamId::new(Category::Session, Uuid::from_u128(n)));
        ask(&node, damaged, 1).await;
        let message = ask(&node, whole, 2).await;
        node.node.kill();
        scene.disk.damage(Position(1));
        let node = scene.start().await;
        assert_eq!(outcomes(&node, whole, 1).await, [(message, None)]);
    });
}

/// An index of documents' ids, and of whose vectors it was given last.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Held>);

#[derive(Debug, Default)]
pub(crate) struct Held {
    documents: BTreeSet<Uuid>,
    pub(crate) models: BTreeMap<Space, ModelManifest>,
    /// The spaces that the last document had vectors in.
    pub(crate) spaces: Vec<Space>,
    checkpoint: Position,
    saved: Position,
    /// Takes no document, and never says so.
    stuck: bool,
}

impl Shelf {
    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap()
    }

    fn holds(&self) -> Vec<Uuid> {
        self.held().documents.iter().copied().collect()
    }
}

#[async_trait]
impl SearchIndex for Shelf {
    async fn checkpoint(&self) -> Result<Position, IndexError> {
        Ok(self.held().checkpoint)
    }
    async fn model(&self, space: Space) -> Result<Option<ModelManifest>, IndexError> {
        Ok(self.held().models.get(&space).cloned())
    }
    async fn use_model(&self, space: Space, manifest: &ModelManifest) -> Result<(), IndexError> {
        self.held().models.insert(space, manifest.clone());
        Ok(())
    }
    async fn put(&self, document: IndexedDocument) -> Result<(), IndexError> {
        if self.held().stuck {
            std::future::pending::<()>().await;
        }
        let held = &mut *self.held();
        held.documents.insert(document.document_id);
        held.spaces = Space::ALL.into_iter().filter(|space| !document.vectors.of(*space).is_empty()).collect();
        Ok(())
    }
    async fn delete(&self, document: Uuid) -> Result<(), IndexError> {
        self.held().documents.remove(&document);
        Ok(())
    }
    async fn commit(&self, checkpoint: Position) -> Result<(), IndexError> {
        self.held().checkpoint = checkpoint;
        Ok(())
    }
    async fn save(&self) -> Result<(), IndexError> {
        let held = &mut *self.held();
        held.saved = held.checkpoint;
        Ok(())
    }
    async fn reset(&self) -> Result<(), IndexError> {
        *self.held() = Held::default();
        Ok(())
    }
    async fn keyword(&self, _: &KeywordQuery, _: &SearchFilter, _: usize) -> Result<Vec<LegHit>, IndexError> {
        Ok(vec![])
    }
    async fn vectors(&self, _: Space, wanted: &[(Uuid, u32)]) -> Result<Vec<Option<Vec<f32>>>, IndexError> {
        Ok(vec![None; wanted.len()])
    }
    async fn nearest(&self, _: Space, _: &[f32], _: &SearchFilter, _: usize) -> Result<Vec<LegHit>, IndexError> {
        Ok(vec![])
    }
    async fn chunks(&self, _: &[(Uuid, u32)]) -> Result<Vec<LegHit>, IndexError> {
        Ok(vec![])
    }
    async fn holds(&self, document: Uuid) -> Result<bool, IndexError> {
        Ok(self.held().documents.contains(&document))
    }
    async fn count(&self) -> Result<u64, IndexError> {
        Ok(self.holds().len() as u64)
    }
    async fn without_vectors(&self) -> Result<u64, IndexError> {
        Ok(0)
    }
    async fn digest(&self) -> Result<Digest, IndexError> {
        Ok(Hash::of(format!("{:?}", self.holds()).as_bytes()))
    }
}

#[derive(Debug)]
struct Off;

#[async_trait]
impl Semantics for Off {
    fn state(&self, _: Space) -> SemanticState {
        SemanticState::Off("words alone".to_owned())
    }
    async fn settled(&self, _: Space) -> SemanticState {
        self.state(Space::General)
    }
}

pub(crate) async fn hand_in(node: &Running, n: u128) -> StreamId {
    let stream = StreamId::new(Category::Document, Uuid::from_u128(n));
    let uploaded = document::Uploaded {
        owner: OWNER,
        filename: format!("{n}.txt"),
        content: BlobRef { sha256: ContentHash([1; 32]), size: 1 },
        metadata: json!({}),
        attempt: Some(Uuid::from_u128(1000 + n)),
    };
    send(node, stream, document::Command::Upload(uploaded)).await;
    for _ in 0..600 {
        let events = history(node, stream).await;
        if events.iter().any(|event| matches!(event, AnyEvent::Document(document::Event::Published(_)))) {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{stream} is not published");
}

/// The search projection into `shelf`.
async fn search_into(shelf: &Arc<Shelf>, scene: &Scene, node: &Running) -> Arc<dyn Projection> {
    let steps = scene.world.of(&node.node).steps;
    let snapshots: Arc<dyn Snapshots> = Arc::new(node.reached.clone());
    let search =
        SearchProjection::open(Arc::clone(shelf) as _, steps, Arc::new(Off), opened(node), snapshots, Feeder::Here);
    Arc::new(search.await.expect("it opens"))
}

#[test]
fn a_document_that_was_left_out_of_the_index_is_taken_in_again() {
    in_virtual_time(async {
        let scene = Scene::new();
        let node = scene.start().await;
        let (log, shelf) = (opened(&node), Arc::new(Shelf::default()));
        let search = search_into(&shelf, &scene, &node).await;
        let projector = Projector::new(Arc::clone(&search), log.clone(), SearchProjection::wants).spawn();
        let reach = async || {
            let end = log.tail().await.expect("it is read");
            assert!(search.wait_for(end, Duration::from_secs(60)).await, "{:?}", projector.status());
        };

        let whole = hand_in(&node, 400).await;
        reach().await;
        scene.broken(true);
        let (kept, deleted) = (hand_in(&node, 401).await, hand_in(&node, 402).await);
        reach().await;
        assert_eq!(shelf.holds(), [whole.id], "the others are left out, and nothing stops");
        let parked = search.parked().await.expect("it is known");
        assert_eq!(parked.iter().map(|parked| parked.stream).collect::<Vec<_>>(), [kept, deleted]);
        assert!(parked[0].reason.contains("loading is broken"), "{parked:?}");
        scene.disk.cut_power();
        assert_eq!(
            search.parked().await.expect("it is known"),
            parked,
            "the checkpoint that passed them is durable too"
        );

        // Whoever tries too early finds it as it was.
        let again = search.unpark(kept, &log).await.expect("it is tried");
        let Unparked::Again(ParkedStream { stream, version, .. }) = again else { panic!("{again:?}") };
        assert_eq!((stream, version), (kept, parked[0].version));
        assert_eq!(search.parked().await.expect("it is known").len(), 2);

        // A deletion needs nothing that is missing.
        send(&node, deleted, document::Command::Delete { owner: OWNER }).await;
        reach().await;
        assert_eq!(search.unpark(deleted, &log).await.expect("it is tried"), Unparked::NotParked);

        scene.broken(false);
        assert_eq!(search.unpark(kept, &log).await.expect("it is tried"), Unparked::TakenIn);
        assert_eq!(shelf.holds(), [whole.id, kept.id]);
        assert_eq!(search.parked().await.expect("it is known"), []);
        let reached = shelf.held().checkpoint;
        assert_ne!(shelf.held().saved, reached, "nothing was saved meanwhile");
        projector.stop().await;
        assert_eq!(shelf.held().saved, reached, "what it reached is saved when it ends");
    });
}

/// The parking was lost, and the checkpoint is past the document: it is not called findable before it is.
#[test]
fn a_document_whose_parking_was_lost_is_taken_in_before_it_is_ready() {
    in_virtual_time(async {
        let scene = Scene::new();
        let node = scene.start().await;
        let shelf = Arc::new(Shelf::default());
        let serve = |search| *scene.world.search.lock().unwrap() = Some(search);
        serve(search_into(&shelf, &scene, &node).await);
        let document = hand_in(&node, 400).await;
        shelf.held().checkpoint = opened(&node).tail().await.expect("it is read");
        serve(search_into(&shelf, &scene, &node).await);
        for _ in 0..600 {
            let events = history(&node, document).await;
            if events.iter().any(|event| matches!(event, AnyEvent::Document(document::Event::Indexed(_)))) {
                assert_eq!(shelf.holds(), [document.id]);
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("{document} waits for ever");
    });
}

#[test]
fn a_projector_that_waits_for_something_ends_with_its_checkpoint_saved() {
    in_virtual_time(async {
        let scene = Scene::new();
        let node = scene.start().await;
        let (log, shelf) = (opened(&node), Arc::new(Shelf::default()));
        let search = search_into(&shelf, &scene, &node).await;
        hand_in(&node, 400).await;
        let projector = Projector::new(Arc::clone(&search), log.clone(), SearchProjection::wants).spawn();
        let end = log.tail().await.expect("it is read");
        assert!(search.wait_for(end, Duration::from_secs(60)).await, "{:?}", projector.status());
        shelf.held().stuck = true;
        hand_in(&node, 401).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let reached = shelf.held().checkpoint;
        shelf.held().saved = Position(0);
        projector.stop().await;
        assert_eq!(shelf.held().saved, reached);
    });
}
