//! Leases of live nodes: a key for each in the bucket `nodes`, which the server removes when its time to live has passed.

use std::{collections::HashMap, time::Duration};

use async_nats::{
    HeaderMap, header,
    jetstream::kv::{Entry, Operation, Watch},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use lmao_ports::{Lease, Membership, NodeId, NodeInfo, Unavailable};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::Instant,
};

use super::{
    Limits, Nats, STORE,
    migrate::Definition,
    stream::{Expect, Stream},
};

/// How long a node that does not renew its lease is taken to live.
const TTL: Duration = Duration::from_secs(3);
/// How often a lease is renewed in its time.
const RENEWALS: u32 = 4;
/// The pause after a renewal that failed.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the first view may take before the bucket is asked anew.
const FIRST_VIEW: Duration = Duration::from_secs(5);
/// The pause before the bucket is watched anew.
const REWATCH: Duration = Duration::from_millis(200);
/// How long the mark of a lease that was given up stays, for those who watch through a lagging server.
const MARK: &str = "60s";

/// The leases in a bucket of a NATS server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NatsMembership {
    bucket: Stream,
    ttl: Duration,
}

impl NatsMembership {
    /// After so long a watch shows no node that died before it began, even if the server has not removed its lease.
    pub const GONE_WITHIN: Duration = Duration::from_secs(2 * TTL.as_secs());

    /// The leases of the system on `nats`, three seconds long; `migrate` must have made the bucket.
    ///
    /// # Errors
    /// [`Unavailable`]: the bucket is missing, or the server does not answer.
    pub async fn open(nats: &Nats) -> Result<Self, Unavailable> {
        Self::with_ttl(nats, TTL).await
    }

    /// As [`NatsMembership::open`], with leases of another length: whole seconds, one at least.
    ///
    /// # Errors
    /// As [`NatsMembership::open`].
    pub async fn with_ttl(nats: &Nats, ttl: Duration) -> Result<Self, Unavailable> {
        let ttl = Duration::from_secs(ttl.as_secs().max(1));
        let limits = Limits { deadline: ttl, attempt: ttl / 2, away: ttl / 2 };
        Ok(Self { bucket: Stream::open(nats, Definition::Nodes, limits).await?, ttl })
    }

    fn nats(&self) -> &Nats {
        self.bucket.nats()
    }

    /// Says that `node` lives, once.
    async fn renew(&self, node: &NodeInfo) -> Result<(), Unavailable> {
        // What waits for a connection would be said when nobody means it any more.
        if !self.nats().is_connected() {
            return Err(Unavailable::plain(STORE, "there is no connection"));
        }
        let value = serde_json::to_vec(node).map_err(|error| Unavailable::new(STORE, "a lease is no JSON", error))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_MESSAGE_TTL, format!("{}s", self.ttl.as_secs()));
        let said = self.bucket.publish(&self.key(node.id), headers, value.into(), Expect::Anything, self.ttl / 4).await;
        said.map(drop).map_err(super::stream::Unpublished::into_unavailable)
    }

    fn key(&self, node: NodeId) -> String {
        self.bucket.subject(&node.to_string())
    }

    async fn leave(&self, node: NodeId) -> Result<(), Unavailable> {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "PURGE");
        headers.insert(header::NATS_ROLLUP, "sub");
        headers.insert(header::NATS_MESSAGE_TTL, MARK);
        let said = self.bucket.publish(&self.key(node), headers, Bytes::new(), Expect::Anything, self.ttl).await;
        said.map(drop).map_err(super::stream::Unpublished::into_unavailable)
    }

    /// The bucket's keys as they are, then their changes.
    async fn entries(&self) -> Result<(Watch, bool), Unavailable> {
        let failed = |error: async_nats::Error| Unavailable::new(STORE, "the leases cannot be watched", error);
        let name = Definition::Nodes.name(self.nats());
        let bucket = name.trim_start_matches("KV_");
        let store = self.nats().jetstream().get_key_value(bucket).await.map_err(|error| failed(error.into()))?;
        let status = store.status().await.map_err(|error| failed(error.into()))?;
        let watch = store.watch_with_history(">").await.map_err(|error| failed(error.into()))?;
        Ok((watch, status.values() == 0))
    }
}

#[async_trait]
impl Membership for NatsMembership {
    async fn join(&self, node: NodeInfo) -> Result<Box<dyn Lease>, Unavailable> {
        self.renew(&node).await?;
        let said = watch::Sender::new(node.clone());
        let renewing = tokio::spawn(keep(self.clone(), said.subscribe())).abort_handle();
        Ok(Box::new(Kept { leases: self.clone(), node: node.id, said, renewing }))
    }

    fn watch(&self) -> BoxStream<'static, Vec<NodeInfo>> {
        // One view waits at most: a newer one includes it.
        let (views, seen) = mpsc::channel(1);
        let watching = tokio::spawn(Watcher::new(self.clone()).run(views));
        let ending = AbortOnDrop(watching.abort_handle());
        futures::stream::unfold((seen, ending), |(mut seen, ending)| async move {
            let view = seen.recv().await?;
            Some((view, (seen, ending)))
        })
        .boxed()
    }
}

/// Renews until it is aborted.
async fn keep(leases: NatsMembership, mut said: watch::Receiver<NodeInfo>) {
    let (mut pause, mut is_said) = (leases.ttl / RENEWALS, false);
    loop {
        tokio::select! {
            changed = said.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
        let node = said.borrow_and_update().clone();
        pause = match leases.renew(&node).await {
            Ok(()) => {
                is_said = false;
                leases.ttl / RENEWALS
            }
            Err(error) => {
                // It is tried ten times a second.
                if !std::mem::replace(&mut is_said, true) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the lease was not renewed");
                }
                said.mark_unchanged();
                AGAIN
            }
        };
    }
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A lease that is renewed.
#[derive(Debug)]
struct Kept {
    leases: NatsMembership,
    node: NodeId,
    said: watch::Sender<NodeInfo>,
    renewing: AbortHandle,
}

#[async_trait]
impl Lease for Kept {
    async fn update(&self, node: NodeInfo) {
        self.said.send_replace(node);
    }

    async fn leave(&self) -> Result<(), Unavailable> {
        // What it has sent arrives before what is sent now.
        self.renewing.abort();
        self.leases.leave(self.node).await
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// What is known of a node.
#[derive(Debug)]
struct Known {
    info: NodeInfo,
    revision: u64,
    /// When that revision was seen first.
    seen: Instant,
}

/// Watches the bucket, and watches it anew when that ends.
struct Watcher {
    leases: NatsMembership,
    known: HashMap<String, Known>,
    shown: Option<Vec<NodeInfo>>,
}

impl Watcher {
    fn new(leases: NatsMembership) -> Self {
        Self { leases, known: HashMap::new(), shown: None }
    }

    async fn run(mut self, views: mpsc::Sender<Vec<NodeInfo>>) {
        loop {
            if let Err(error) = self.follow(&views).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the leases are watched anew");
            }
            if views.is_closed() {
                return;
            }
            tokio::time::sleep(REWATCH).await;
            self.show(&views).await;
        }
    }

    /// Follows the bucket until it cannot be followed any more, or nobody looks.
    async fn follow(&mut self, views: &mpsc::Sender<Vec<NodeInfo>>) -> Result<(), Unavailable> {
        let (mut entries, is_empty) = self.leases.entries().await?;
        let mut held = HashMap::new();
        if !is_empty {
            first(&mut entries, &mut held).await?;
        }
        // What was seen before has not been renewed just because it is read again.
        for (key, known) in &mut held {
            if let Some(before) = self.known.get(key).filter(|before| before.revision == known.revision) {
                known.seen = before.seen;
            }
        }
        self.known = held;
        let mut tick = tokio::time::interval(self.leases.ttl / 2);
        loop {
            if !self.show(views).await {
                return Ok(());
            }
            tokio::select! {
                entry = entries.next() => take(&mut self.known, entry.ok_or_else(ended)?.map_err(broken)?),
                _ = tick.tick() => {}
            }
        }
    }

    /// Shows who lives if that is new; `false` when nobody looks any more. Who has not renewed for twice the time does not
    /// live, should the server fail to say so; without a connection nobody knows.
    async fn show(&mut self, views: &mpsc::Sender<Vec<NodeInfo>>) -> bool {
        if !self.leases.nats().is_connected() {
            return !views.is_closed();
        }
        let lives = |known: &&Known| known.seen.elapsed() <= 2 * self.leases.ttl;
        let mut view: Vec<NodeInfo> = self.known.values().filter(lives).map(|known| known.info.clone()).collect();
        view.sort_by_key(|node| node.id);
        if self.shown.as_ref() == Some(&view) {
            return !views.is_closed();
        }
        self.shown = Some(view.clone());
        views.send(view).await.is_ok()
    }
}

/// Takes in what the bucket holds: no view is shown of a part of it.
async fn first(entries: &mut Watch, held: &mut HashMap<String, Known>) -> Result<(), Unavailable> {
    let until = Instant::now() + FIRST_VIEW;
    loop {
        let entry = tokio::time::timeout_at(until, entries.next()).await;
        let entry = entry.map_err(|_| ended())?.ok_or_else(ended)?.map_err(broken)?;
        let is_last = entry.delta == 0;
        take(held, entry);
        if is_last {
            return Ok(());
        }
    }
}

fn take(known: &mut HashMap<String, Known>, entry: Entry) {
    if entry.operation != Operation::Put {
        known.remove(&entry.key);
        return;
    }
    match serde_json::from_slice(&entry.value) {
        Ok(info) => {
            known.insert(entry.key, Known { info, revision: entry.revision, seen: Instant::now() });
        }
        Err(error) => tracing::error!(key = entry.key, %error, "a lease that is none"),
    }
}

fn ended() -> Unavailable {
    Unavailable::plain(STORE, "the leases cannot be followed any more")
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Unavailable {
    Unavailable::new(STORE, "the leases cannot be followed any more", error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lmao_ports::conformance::placement;

    use super::{
        super::{Replicas, migrate, testing},
        *,
    };

    #[tokio::test]
    async fn conformance() {
        let ttl = Duration::from_secs(1);
        let spaces = std::sync::Mutex::new(vec![]);
        let new = async || {
            let space = testing::migrated().await;
            let other = Nats::connect(space.url()).await.unwrap();
            let one = NatsMembership::with_ttl(&space, ttl).await.unwrap();
            let two = NatsMembership::with_ttl(&other, ttl).await.unwrap();
            spaces.lock().unwrap().push(space);
            [Arc::new(one) as Arc<dyn Membership>, Arc::new(two)]
        };
        placement::membership(new, ttl).await;
    }

    #[tokio::test]
    async fn a_lease_that_the_server_does_not_remove_ends_nevertheless() {
        let space = testing::migrated().await;
        let leases = NatsMembership::with_ttl(&space, Duration::from_secs(1)).await.unwrap();
        let dead = placement::worker("dead");
        let value = serde_json::to_vec(&dead).unwrap();
        leases.bucket.publish_patiently(&leases.key(dead.id), value.into()).await.unwrap();
        let mut views = leases.watch();
        assert_eq!(views.next().await.unwrap(), [dead]);
        let then = tokio::time::timeout(Duration::from_secs(30), views.next()).await.expect("another view");
        assert_eq!(then.unwrap(), []);
    }

    #[tokio::test]
    async fn without_the_bucket_it_says_what_to_do() {
        let space = testing::empty().await;
        let error = NatsMembership::open(&space).await.unwrap_err().to_string();
        assert!(error.contains("lmao migrate"), "{error}");
        migrate(&space, Replicas::One).await.unwrap();
        NatsMembership::open(&space).await.unwrap();
    }

    /// The process is there, its connection is not.
    #[tokio::test]
    async fn whoever_loses_the_server_is_missed_and_comes_back() {
        let space = testing::migrated().await;
        let cut = Nats::connect(space.url()).await.unwrap();
        let leases = NatsMembership::with_ttl(&cut, Duration::from_secs(1)).await.unwrap();
        let node = placement::worker("cut off");
        let lease = leases.join(node.clone()).await.unwrap();
        let mut views = NatsMembership::open(&space).await.unwrap().watch();
        let mut seen = async |wanted: &[NodeInfo]| {
            let waiting = async { while views.next().await.expect("views do not end") != wanted {} };
            tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("a view in time");
        };
        seen(std::slice::from_ref(&node)).await;
        drop(lease);
        cut.close().await.unwrap();
        seen(&[]).await;
        let again = NatsMembership::open(&space).await.unwrap().join(node.clone()).await.unwrap();
        seen(std::slice::from_ref(&node)).await;
        again.leave().await.unwrap();
        seen(&[]).await;
    }
}
