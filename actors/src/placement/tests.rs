//! The twin keeps the promises of the ports; what a sender is told when nobody answers; what a view is worth.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use lmao_events::{Category, CommandRef, Hash, Head, StreamId, claim};
use lmao_ports::{
    CommandError, CommandMeta, Entropy, Lease, Membership, NodeId, NodeInfo, Receipt, Responder, Role, RouteError,
    Router, Serving, Unavailable, conformance::placement,
};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use super::{
    Cluster, Hub,
    wire::{Reply, encode},
};

const TTL: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn leases() {
    let new = async || {
        let hub = Hub::new(TTL);
        [Arc::new(hub.clone()) as _, Arc::new(hub) as _]
    };
    placement::membership(new, TTL).await;
}

#[tokio::test(start_paused = true)]
async fn requests() {
    let new = async || {
        let hub = Hub::new(TTL);
        [Arc::new(hub.clone()) as _, Arc::new(hub) as _]
    };
    placement::router(new).await;
}

#[derive(Debug)]
struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// Answers that the command was carried out, or never; counts.
#[derive(Debug)]
struct Scripted {
    answers: bool,
    asked: AtomicU32,
}

#[async_trait]
impl Responder for Scripted {
    async fn answer(&self, _: Bytes) -> Bytes {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if !self.answers {
            std::future::pending::<()>().await;
        }
        encode(&Reply::Done(Receipt { head: Head::default(), repeated: false }))
    }
}

/// A worker of a hub, without a core.
struct Worker {
    info: NodeInfo,
    lease: Option<Box<dyn Lease>>,
    responder: Arc<Scripted>,
    _serving: Box<dyn Serving>,
}

async fn worker(hub: &Hub, answers: bool) -> Worker {
    let (info, responder) = (placement::worker("scripted"), Arc::new(Scripted { answers, asked: AtomicU32::new(0) }));
    let serving = hub.serve(info.id, Arc::clone(&responder) as _).await.expect("serve");
    let lease = Some(hub.join(info.clone()).await.expect("join"));
    Worker { info, lease, responder, _serving: serving }
}

fn gateway(name: &str) -> NodeInfo {
    NodeInfo { roles: BTreeSet::from([Role::Gateway]), ..placement::worker(name) }
}

async fn cluster(hub: &Hub, workers: usize) -> Cluster {
    let shared = Arc::new(hub.clone());
    let cluster = Cluster::new(shared.clone(), shared, Arc::new(Fixed), gateway("gateway"));
    cluster.join().await.expect("join");
    let mut table = cluster.watch();
    table.wait_for(|table| table.workers().count() == workers).await.expect("a table");
    cluster
}

/// A claim that `owner` decides.
fn claim_of(cluster: &Cluster, owner: NodeId) -> StreamId {
    let claims = (0..).map(|n| StreamId::new(Category::Claim, Uuid::from_u128(n)));
    claims.into_iter().find(|claim| cluster.table().owner(claim.bucket()) == Some(owner)).expect("some bucket")
}

async fn send(cluster: &Cluster, stream: StreamId, key: Option<Uuid>) -> Result<Receipt, CommandError> {
    let id = Uuid::from_u128(1);
    let command = key.map(|id| CommandRef { id, body: Hash::default() });
    let meta = CommandMeta { who: None, command, causation: id, correlation: id, traceparent: None };
    cluster.commands().send(stream, claim::Command::Claim { holder: id }.into(), meta).await
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_never_answers_leaves_the_outcome_unknown_unless_a_key_allows_to_ask_again() {
    let hub = Hub::new(TTL);
    let (mut silent, successor) = (worker(&hub, false).await, worker(&hub, true).await);
    let cluster = cluster(&hub, 2).await;
    let claim = claim_of(&cluster, silent.info.id);
    let begun = Instant::now();
    let died = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(silent.lease.take());
    };
    let (keyless, keyed, ()) =
        tokio::join!(send(&cluster, claim, None), send(&cluster, claim, Some(Uuid::from_u128(2))), died);
    assert!(matches!(keyless, Err(CommandError::Unknown)), "{keyless:?}");
    keyed.expect("the successor carries it out");
    assert!(begun.elapsed() < Duration::from_secs(6), "not before its time: {:?}", begun.elapsed());
    let asked = |worker: &Worker| worker.responder.asked.load(Ordering::Relaxed);
    assert_eq!((asked(&silent), asked(&successor)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lives_and_is_silent_leaves_the_outcome_unknown_in_time() {
    let hub = Hub::new(TTL);
    let silent = worker(&hub, false).await;
    let cluster = cluster(&hub, 1).await;
    let claim = claim_of(&cluster, silent.info.id);
    let begun = Instant::now();
    for key in [None, Some(Uuid::from_u128(2))] {
        let sent = send(&cluster, claim, key).await;
        assert!(matches!(sent, Err(CommandError::Unknown)), "{sent:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
}

/// A transport that is away, or takes nothing so large.
#[derive(Debug)]
struct Broken(Option<usize>);

#[async_trait]
impl Router for Broken {
    async fn request(&self, _: NodeId, request: Bytes, _: Duration) -> Result<Bytes, RouteError> {
        Err(match self.0 {
            Some(limit) => RouteError::TooLarge { size: request.len(), limit },
            None => Unavailable::plain("nats", "away").into(),
        })
    }

    async fn serve(&self, _: NodeId, _: Arc<dyn Responder>) -> Result<Box<dyn Serving>, Unavailable> {
        Err(Unavailable::plain("nats", "away"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_is_away_is_the_answer_within_two_seconds() {
    let hub = Hub::new(TTL);
    let worker = worker(&hub, true).await;
    for (limit, reason) in [(None, "nats: away"), (Some(10), "send less at a time")] {
        let cluster = Cluster::new(Arc::new(hub.clone()), Arc::new(Broken(limit)), Arc::new(Fixed), gateway("gateway"));
        cluster.watch().wait_for(|table| table.workers().count() == 1).await.expect("a table");
        let begun = Instant::now();
        let refused = send(&cluster, claim_of(&cluster, worker.info.id), None).await.expect_err("nothing is sent");
        assert!(refused.to_string().contains(reason), "{refused}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}

/// Shows the views that a test sends.
#[derive(Debug)]
struct Shown(Mutex<Option<mpsc::UnboundedReceiver<Vec<NodeInfo>>>>);

#[derive(Debug)]
struct NoLease;

#[async_trait]
impl Lease for NoLease {
    async fn update(&self, _: NodeInfo) {}

    async fn leave(&self) -> Result<(), Unavailable> {
        Ok(())
    }
}

#[async_trait]
impl Membership for Shown {
    async fn join(&self, _: NodeInfo) -> Result<Box<dyn Lease>, Unavailable> {
        Ok(Box::new(NoLease))
    }

    fn watch(&self) -> BoxStream<'static, Vec<NodeInfo>> {
        let views = self.0.lock().unwrap().take().expect("watched once");
        stream::unfold(views, |mut views| async move { Some((views.recv().await?, views)) }).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_without_the_own_lease_says_nothing_about_others() {
    let (views, shown) = mpsc::unbounded_channel();
    let (me, other) = (placement::worker("me"), placement::worker("other"));
    let membership = Arc::new(Shown(Mutex::new(Some(shown))));
    let cluster = Cluster::new(membership, Arc::new(Broken(None)), Arc::new(Fixed), me.clone());
    let nodes = async |view: Vec<&NodeInfo>| {
        views.send(view.into_iter().cloned().collect()).expect("it watches");
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.table().nodes().len()
    };
    assert_eq!(nodes(vec![&other]).await, 1, "it only looks on yet");
    cluster.join().await.expect("join");
    assert_eq!(nodes(vec![&me, &other]).await, 2);
    assert_eq!(nodes(vec![]).await, 2, "the store lost its leases");
    assert_eq!(nodes(vec![&other]).await, 2, "this one was away for too long");
    assert_eq!(nodes(vec![&me]).await, 1, "the other is gone");
    cluster.leave().await;
    assert!(cluster.table().buckets_of(me.id).is_empty(), "at once, not when the others have seen it");
    assert_eq!(nodes(vec![&me, &other]).await, 1, "a late view does not bring it back");
}
