//! What every [`Membership`] and every [`Router`] promises.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use uuid::Uuid;

use crate::{Membership, NodeId, NodeInfo, Responder, Role, RouteError, Router};

/// How long anything may take before a suite gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The suite of leases; `new` opens two ways to one store that nobody else uses, with leases that last for `ttl`.
pub async fn membership(new: impl AsyncFn() -> [Arc<dyn Membership>; 2], ttl: Duration) {
    a_node_is_seen_by_all_until_it_leaves(new().await).await;
    a_lease_that_nobody_renews_ends(new().await).await;
    a_lease_that_is_renewed_lasts(new().await, ttl).await;
    what_a_lease_says_can_change(new().await, ttl).await;
}

/// A worker that nobody knows.
#[must_use]
pub fn worker(name: &str) -> NodeInfo {
    NodeInfo {
        id: NodeId(Uuid::new_v4()),
        name: name.to_owned(),
        roles: BTreeSet::from([Role::Worker]),
        reads: 1,
        gave_up: BTreeSet::new(),
    }
}

/// Waits for a view of exactly these nodes.
async fn seen(views: &mut BoxStream<'static, Vec<NodeInfo>>, wanted: &[&NodeInfo]) {
    let mut wanted: Vec<_> = wanted.iter().map(|node| (*node).clone()).collect();
    wanted.sort_by_key(|node| node.id);
    let mut last = None;
    let waiting = async {
        while let Some(view) = views.next().await {
            if view == wanted {
                return;
            }
            last = Some(view);
        }
        panic!("the views ended");
    };
    let met = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(met.is_ok(), "wanted {wanted:?}, seen last {last:?}");
}

/// Watchers from before and from after see who joins, and who leaves.
pub async fn a_node_is_seen_by_all_until_it_leaves([one, two]: [Arc<dyn Membership>; 2]) {
    let mut early = two.watch();
    seen(&mut early, &[]).await;
    let (a, b) = (worker("a"), worker("b"));
    let lease_a = one.join(a.clone()).await.expect("join");
    seen(&mut early, &[&a]).await;
    let lease_b = two.join(b.clone()).await.expect("join");
    let (mut late, mut own) = (two.watch(), one.watch());
    for views in [&mut early, &mut late, &mut own] {
        seen(views, &[&a, &b]).await;
    }
    lease_a.leave().await.expect("leave");
    for views in [&mut early, &mut late, &mut own] {
        seen(views, &[&b]).await;
    }
    lease_b.leave().await.expect("leave");
    seen(&mut early, &[]).await;
    drop((lease_a, lease_b));
    seen(&mut one.watch(), &[]).await;
}

/// Whoever dies is missed in the end.
pub async fn a_lease_that_nobody_renews_ends([one, two]: [Arc<dyn Membership>; 2]) {
    let (dies, lives) = (worker("dies"), worker("lives"));
    let lease = one.join(dies.clone()).await.expect("join");
    let _lives = two.join(lives.clone()).await.expect("join");
    let mut views = two.watch();
    seen(&mut views, &[&dies, &lives]).await;
    drop(lease);
    seen(&mut views, &[&lives]).await;
}

/// Whoever lives is never missed.
pub async fn a_lease_that_is_renewed_lasts([one, two]: [Arc<dyn Membership>; 2], ttl: Duration) {
    let node = worker("lives");
    let _lease = one.join(node.clone()).await.expect("join");
    let mut views = two.watch();
    seen(&mut views, &[&node]).await;
    let until = tokio::time::Instant::now() + 3 * ttl;
    while let Ok(view) = tokio::time::timeout_at(until, views.next()).await {
        assert_eq!(view.expect("views do not end"), std::slice::from_ref(&node));
    }
}

/// An update is seen, and outlasts the lease's time.
pub async fn what_a_lease_says_can_change([one, two]: [Arc<dyn Membership>; 2], ttl: Duration) {
    let node = worker("changes");
    let lease = one.join(node.clone()).await.expect("join");
    let mut views = two.watch();
    seen(&mut views, &[&node]).await;
    let changed = NodeInfo { gave_up: BTreeSet::from([3, 255]), ..node };
    lease.update(changed.clone()).await;
    seen(&mut views, &[&changed]).await;
    tokio::time::sleep(2 * ttl).await;
    seen(&mut two.watch(), &[&changed]).await;
    lease.leave().await.expect("leave");
}

/// The suite of requests; `new` opens two ways to one transport.
pub async fn router(new: impl AsyncFn() -> [Arc<dyn Router>; 2]) {
    a_request_is_answered_by_its_node(new().await).await;
    nobody_is_told_from_no_answer(new().await).await;
    a_slow_request_is_in_nobodys_way(new().await).await;
    large_requests_arrive(new().await).await;
    what_was_begun_is_answered_still(new().await).await;
}

/// Answers with its name and the request; `wait` takes a second, `never` for ever.
#[derive(Debug)]
struct Echo {
    name: &'static str,
    begun: AtomicUsize,
}

impl Echo {
    fn new(name: &'static str) -> Self {
        Self { name, begun: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl Responder for Echo {
    async fn answer(&self, request: Bytes) -> Bytes {
        self.begun.fetch_add(1, Ordering::AcqRel);
        match request.as_ref() {
            b"wait" => tokio::time::sleep(Duration::from_secs(1)).await,
            b"never" => std::future::pending().await,
            _ => {}
        }
        [self.name.as_bytes(), b" ", &request].concat().into()
    }
}

fn node() -> NodeId {
    NodeId(Uuid::new_v4())
}

async fn ask(router: &dyn Router, to: NodeId, request: &'static str) -> Result<Bytes, RouteError> {
    router.request(to, Bytes::from_static(request.as_bytes()), PATIENCE).await
}

/// Each node answers its own requests, from both sides.
pub async fn a_request_is_answered_by_its_node([one, two]: [Arc<dyn Router>; 2]) {
    let (a, b) = (node(), node());
    let _a = one.serve(a, Arc::new(Echo::new("a"))).await.expect("serve");
    let _b = two.serve(b, Arc::new(Echo::new("b"))).await.expect("serve");
    for router in [&one, &two] {
        assert_eq!(ask(&**router, a, "hello").await.expect("a answers"), "a hello");
        assert_eq!(ask(&**router, b, "").await.expect("b answers"), "b ");
    }
}

/// A request that nobody took is not one whose outcome is unknown.
pub async fn nobody_is_told_from_no_answer([one, two]: [Arc<dyn Router>; 2]) {
    let a = node();
    assert!(matches!(ask(&*two, a, "hello").await, Err(RouteError::Nobody(to)) if to == a));
    let serving = one.serve(a, Arc::new(Echo::new("a"))).await.expect("serve");
    let never = two.request(a, Bytes::from_static(b"never"), Duration::from_millis(300)).await;
    assert!(matches!(never, Err(RouteError::NoAnswer(to)) if to == a), "{never:?}");
    drop(serving);
    let gone = async {
        while !matches!(ask(&*two, a, "hello").await, Err(RouteError::Nobody(_))) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("a node that serves no more is nobody");
}

/// Many requests are answered at once, while some never are.
pub async fn a_slow_request_is_in_nobodys_way([one, two]: [Arc<dyn Router>; 2]) {
    let a = node();
    let _a = one.serve(a, Arc::new(Echo::new("a"))).await.expect("serve");
    let never = futures::future::join_all((0..300).map(|_| ask(&*two, a, "never")));
    let quick = async {
        for answer in futures::future::join_all((0..100).map(|_| ask(&*two, a, "hello"))).await {
            assert_eq!(answer.expect("an answer"), "a hello");
        }
    };
    tokio::select! {
        biased;
        _ = never => panic!("what is never answered was answered"),
        () = quick => {}
    }
}

/// As large as the largest command, and more.
pub async fn large_requests_arrive([one, two]: [Arc<dyn Router>; 2]) {
    let a = node();
    let _a = one.serve(a, Arc::new(Echo::new("a"))).await.expect("serve");
    let request = Bytes::from(vec![b'x'; 600 * 1024]);
    let answer = two.request(a, request.clone(), PATIENCE).await.expect("an answer");
    assert_eq!(answer[2..], request);
}

/// A node that stops serving answers what it has.
pub async fn what_was_begun_is_answered_still([one, two]: [Arc<dyn Router>; 2]) {
    let (a, echo) = (node(), Arc::new(Echo::new("a")));
    let serving = one.serve(a, Arc::clone(&echo) as _).await.expect("serve");
    let stop = async {
        while echo.begun.load(Ordering::Acquire) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(serving);
    };
    let both = async { tokio::join!(ask(&*two, a, "wait"), stop) };
    let (answer, ()) = tokio::time::timeout(PATIENCE, both).await.expect("the request arrives");
    assert_eq!(answer.expect("an answer"), "a wait");
}
