//! Where the simulated nodes meet: leases that end when nobody renews them, and requests that may be lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use lmao_actors::Cluster;
use lmao_ports::{
    Entropy, Lease, Membership, NodeId, NodeInfo, Responder, Role, RouteError, Router, Serving, Unavailable,
};
use tokio::{sync::oneshot, task::AbortHandle, time::Instant};
use uuid::Uuid;

use crate::{node::Node, stores::Reached};

/// How long a lease lasts, how often it is renewed, and how soon a change is seen.
const TTL: Duration = Duration::from_secs(3);
const RENEW: Duration = Duration::from_millis(750);
const SEEN: Duration = Duration::from_millis(50);

/// A node, and who answers there.
type Place = (Arc<Node>, Arc<dyn Responder>);

/// The leases and the nodes that answer.
#[derive(Debug, Default)]
pub(crate) struct Meeting {
    leases: Mutex<BTreeMap<NodeId, (NodeInfo, Instant)>>,
    responders: Mutex<BTreeMap<NodeId, Place>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meeting {
    fn renew(&self, node: NodeInfo) {
        lock(&self.leases).insert(node.id, (node, Instant::now() + TTL));
    }

    fn live(&self) -> Vec<NodeInfo> {
        let mut leases = lock(&self.leases);
        leases.retain(|_, (_, ends)| *ends > Instant::now());
        leases.values().map(|(node, _)| node.clone()).collect()
    }
}

impl Reached {
    /// This process among others.
    pub(crate) fn cluster(&self, roles: &[Role]) -> Cluster {
        let mut id = [0; 16];
        self.fill(&mut id);
        let shared = Arc::new(self.clone());
        let me = NodeInfo {
            id: NodeId(Uuid::from_bytes(id)),
            name: "simulated".to_owned(),
            roles: roles.iter().copied().collect(),
            reads: lmao_events::EVENT_SET,
            gave_up: BTreeSet::new(),
        };
        Cluster::new(shared.clone(), shared.clone(), shared, me)
    }
}

#[async_trait]
impl Membership for Reached {
    async fn join(&self, node: NodeInfo) -> Result<Box<dyn Lease>, Unavailable> {
        self.node.step().await;
        self.disk.meeting.renew(node.clone());
        let said = Arc::new(Mutex::new(node));
        let (this, saying) = (self.clone(), Arc::clone(&said));
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW).await;
                this.node.step().await;
                this.disk.meeting.renew(lock(&saying).clone());
            }
        });
        Ok(Box::new(Held { reached: self.clone(), said, renewing: renewing.abort_handle() }))
    }

    fn watch(&self) -> BoxStream<'static, Vec<NodeInfo>> {
        stream::unfold((self.clone(), None), |(this, shown)| async move {
            loop {
                this.node.alive().await;
                let live = this.disk.meeting.live();
                if shown.as_ref() != Some(&live) {
                    return Some((live.clone(), (this, Some(live))));
                }
                tokio::time::sleep(SEEN).await;
            }
        })
        .boxed()
    }
}

#[derive(Debug)]
struct Held {
    reached: Reached,
    said: Arc<Mutex<NodeInfo>>,
    renewing: AbortHandle,
}

#[async_trait]
impl Lease for Held {
    async fn update(&self, node: NodeInfo) {
        *lock(&self.said) = node;
    }

    async fn leave(&self) -> Result<(), Unavailable> {
        self.renewing.abort();
        self.reached.node.step().await;
        let id = lock(&self.said).id;
        lock(&self.reached.disk.meeting.leases).remove(&id);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

#[derive(Debug)]
struct Answering {
    reached: Reached,
    node: NodeId,
}

impl Serving for Answering {}

impl Drop for Answering {
    fn drop(&mut self) {
        lock(&self.reached.disk.meeting.responders).remove(&self.node);
    }
}

#[async_trait]
impl Router for Reached {
    async fn request(&self, to: NodeId, request: Bytes, at_most: Duration) -> Result<Bytes, RouteError> {
        self.node.step().await;
        let responder = lock(&self.disk.meeting.responders).get(&to).cloned();
        // The connection of a process that died is closed.
        let Some((node, responder)) = responder.filter(|(node, _)| !node.is_dead()) else {
            return Err(RouteError::Nobody(to));
        };
        let (reply, answer) = oneshot::channel();
        let is_lost = || self.node.faulty() && self.disk.chance(0.02);
        let (request_lost, answer_lost) = (is_lost(), is_lost());
        tokio::spawn(async move {
            if !request_lost {
                node.step().await;
                let answer = responder.answer(request).await;
                node.step().await;
                if !answer_lost {
                    let _ = reply.send(answer);
                    return;
                }
            }
            // Nobody tells who waits that nothing comes.
            tokio::time::sleep(at_most).await;
        });
        match tokio::time::timeout(at_most, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(RouteError::NoAnswer(to)),
        }
    }

    async fn serve(&self, node: NodeId, responder: Arc<dyn Responder>) -> Result<Box<dyn Serving>, Unavailable> {
        lock(&self.disk.meeting.responders).insert(node, (Arc::clone(&self.node), responder));
        Ok(Box::new(Answering { reached: self.clone(), node }))
    }
}
