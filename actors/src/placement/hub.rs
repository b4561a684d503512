//! Leases and requests of nodes that live in one process: the twin of the distributed ones, for tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use lmao_ports::{Lease, Membership, NodeId, NodeInfo, Responder, RouteError, Router, Serving, Unavailable};
use tokio::sync::watch;

/// A place where nodes of one process meet. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Meeting>);

#[derive(Debug)]
struct Meeting {
    ttl: Duration,
    nodes: watch::Sender<BTreeMap<NodeId, NodeInfo>>,
    responders: Mutex<HashMap<NodeId, Arc<dyn Responder>>>,
}

impl Hub {
    /// An empty one; a lease that was dropped ends after `ttl`.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        let nodes = watch::Sender::new(BTreeMap::new());
        Self(Arc::new(Meeting { ttl, nodes, responders: Mutex::default() }))
    }
}

impl Meeting {
    fn leave(&self, node: NodeId) {
        self.nodes.send_if_modified(|nodes| nodes.remove(&node).is_some());
    }

    fn responders(&self) -> std::sync::MutexGuard<'_, HashMap<NodeId, Arc<dyn Responder>>> {
        self.responders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct HubLease {
    meeting: Arc<Meeting>,
    node: NodeId,
}

#[async_trait]
impl Membership for Hub {
    async fn join(&self, node: NodeInfo) -> Result<Box<dyn Lease>, Unavailable> {
        let lease = HubLease { meeting: Arc::clone(&self.0), node: node.id };
        self.0.nodes.send_modify(|nodes| drop(nodes.insert(node.id, node)));
        Ok(Box::new(lease))
    }

    fn watch(&self) -> BoxStream<'static, Vec<NodeInfo>> {
        let mut nodes = self.0.nodes.subscribe();
        nodes.mark_changed();
        stream::unfold(nodes, |mut nodes| async move {
            if nodes.changed().await.is_err() {
                // The hub is gone: nobody comes or goes any more.
                std::future::pending::<()>().await;
            }
            let view = nodes.borrow_and_update().values().cloned().collect();
            Some((view, nodes))
        })
        .boxed()
    }
}

#[async_trait]
impl Lease for HubLease {
    async fn update(&self, node: NodeInfo) {
        self.meeting.nodes.send_if_modified(|nodes| nodes.get_mut(&self.node).map(|known| *known = node).is_some());
    }

    async fn leave(&self) -> Result<(), Unavailable> {
        self.meeting.leave(self.node);
        Ok(())
    }
}

impl Drop for HubLease {
    fn drop(&mut self) {
        let (meeting, node) = (Arc::clone(&self.meeting), self.node);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(meeting.ttl).await;
                meeting.leave(node);
            })),
            Err(_) => meeting.leave(node),
        }
    }
}

#[derive(Debug)]
struct HubServing {
    meeting: Weak<Meeting>,
    node: NodeId,
}

impl Serving for HubServing {}

impl Drop for HubServing {
    fn drop(&mut self) {
        if let Some(meeting) = self.meeting.upgrade() {
            meeting.responders().remove(&self.node);
        }
    }
}

#[async_trait]
impl Router for Hub {
    async fn request(&self, to: NodeId, request: Bytes, at_most: Duration) -> Result<Bytes, RouteError> {
        let responder = self.0.responders().get(&to).cloned().ok_or(RouteError::Nobody(to))?;
        // In a task of its own, since a requester that goes away takes nothing back.
        let answer = tokio::spawn(async move { responder.answer(request).await });
        match tokio::time::timeout(at_most, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(RouteError::NoAnswer(to)),
        }
    }

    async fn serve(&self, node: NodeId, responder: Arc<dyn Responder>) -> Result<Box<dyn Serving>, Unavailable> {
        self.0.responders().insert(node, responder);
        Ok(Box::new(HubServing { meeting: Arc::downgrade(&self.0), node }))
    }
}
