//! Placement: who lives, and how one node reaches another. Neither decides anything that must not go wrong: two nodes that
//! believe the same stream to be theirs stay correct by the log's fence alone.

use std::{collections::BTreeSet, fmt, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Unavailable;

/// The buckets that streams are placed by: as many as [`lmao_events::StreamId::bucket`] has values.
pub const BUCKETS: usize = 256;

/// One process: a new id each time that it starts, so that nobody takes it for the one that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub Uuid);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Answers clients.
    Gateway,
    /// Owns buckets: decides commands and performs effects.
    Worker,
    /// Feeds read model and search index.
    Projector,
}

/// What a node's lease says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Which process.
    pub id: NodeId,
    /// What people call it: host and port, a pod's name.
    pub name: String,
    /// What it does.
    pub roles: BTreeSet<Role>,
    /// The newest set of events that it reads ([`lmao_events::EVENT_SET`] of its build).
    pub reads: u32,
    /// Buckets that it cannot work for, because a newer build wrote to them.
    #[serde(default)]
    pub gave_up: BTreeSet<u8>,
}

/// Who lives, by leases.
#[async_trait]
pub trait Membership: Debug + Send + Sync {
    /// Takes a lease, which is renewed until it is given up or dropped.
    ///
    /// # Errors
    /// When the leases cannot be reached; nobody has seen the node then, or will see it for as long as a lease lasts.
    async fn join(&self, node: NodeInfo) -> Result<Box<dyn Lease>, Unavailable>;

    /// Who lives, by id: the first item soon, another whenever it changes, without end. Nobody who lives and renews in time is
    /// missing in one, and whoever does not renew goes missing once its lease has ended. Changes that follow one another
    /// quickly may be one item. Cancel-safe.
    fn watch(&self) -> BoxStream<'static, Vec<NodeInfo>>;
}

/// A node's lease. Dropped, it is no longer renewed, as if the process had died: the others know once it has ended.
#[async_trait]
pub trait Lease: Debug + Send + Sync {
    /// Says something else of the node from now on; its id stays. What cannot be said now is said when the lease is next
    /// renewed.
    async fn update(&self, node: NodeInfo);

    /// Gives it up: the others know at once.
    ///
    /// # Errors
    /// When the leases cannot be reached: the others know once it has ended.
    async fn leave(&self) -> Result<(), Unavailable>;
}

/// Why a node did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No process serves that node: nothing happened.
    #[error("nobody serves node {0}")]
    Nobody(NodeId),
    /// The request may or may not have been carried out.
    #[error("node {0} did not answer in time")]
    NoAnswer(NodeId),
    /// It was not sent, and never can be.
    #[error("the request has {size} bytes, more than the {limit} that one message holds")]
    TooLarge {
        /// Bytes of the request.
        size: usize,
        /// Bytes that the transport takes.
        limit: usize,
    },
    /// It was not sent.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Requests from node to node. Bytes: what they mean is the callers' affair.
#[async_trait]
pub trait Router: Debug + Send + Sync {
    /// Sends a request and waits for its answer, at most so long. A request is delivered at most once.
    ///
    /// A cancelled call may still be carried out.
    ///
    /// # Errors
    /// [`RouteError`].
    async fn request(&self, to: NodeId, request: Bytes, at_most: Duration) -> Result<Bytes, RouteError>;

    /// Has `responder` answer the requests to this node, each on its own: a slow one is in nobody's way. Ends when the
    /// [`Serving`] is dropped; what has been begun is answered still.
    ///
    /// # Errors
    /// When the transport cannot be used.
    async fn serve(&self, node: NodeId, responder: Arc<dyn Responder>) -> Result<Box<dyn Serving>, Unavailable>;
}

/// Answers requests.
#[async_trait]
pub trait Responder: Debug + Send + Sync {
    /// The answer.
    async fn answer(&self, request: Bytes) -> Bytes;
}

/// Requests are answered until this is dropped.
pub trait Serving: Debug + Send + Sync {}
