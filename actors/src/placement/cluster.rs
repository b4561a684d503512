//! A node's place among the others: its lease, and the table that follows from everybody's.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use lmao_ports::{Commands, Entropy, Lease, Membership, NodeId, NodeInfo, Router, Serving, Unavailable};
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use super::{Buckets, Table, commands::Placed, desk::Desk};
use crate::dispatch::Core;

/// How long a view in which somebody is missing may still change before it is believed: after the leases' store was away,
/// many are renewed within a moment.
const SETTLES: Duration = Duration::from_millis(200);
/// How long giving up the lease may take.
const LEAVING: Duration = Duration::from_millis(500);

/// A node among others. Cheap to clone; the lease is dropped with the last clone.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Place>);

/// What the clones share.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) me: NodeId,
    pub(super) membership: Arc<dyn Membership>,
    pub(super) router: Arc<dyn Router>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) table: watch::Sender<Arc<Table>>,
    /// The core of this process, if it is a worker.
    local: OnceLock<(Weak<Core>, Box<dyn Serving>)>,
    standing: Mutex<Standing>,
    watching: OnceLock<AbortHandle>,
}

/// Where a node stands.
#[derive(Debug)]
struct Standing {
    info: NodeInfo,
    lease: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It has no lease yet.
    Outside,
    /// It has one.
    Joined(Arc<dyn Lease>),
    /// It has given it up, for ever.
    Left,
}

impl Cluster {
    /// Begins to watch who lives, as `me`, without a lease yet.
    #[must_use]
    pub fn new(
        membership: Arc<dyn Membership>,
        router: Arc<dyn Router>,
        entropy: Arc<dyn Entropy>,
        me: NodeInfo,
    ) -> Self {
        let views = membership.watch();
        let place = Arc::new(Place {
            me: me.id,
            membership,
            router,
            entropy,
            table: watch::Sender::new(Arc::new(Table::of(vec![]))),
            local: OnceLock::new(),
            standing: Mutex::new(Standing { info: me, lease: Stage::Outside }),
            watching: OnceLock::new(),
        });
        let watching = tokio::spawn(follow(Arc::downgrade(&place), views)).abort_handle();
        // Set once, here.
        let _ = place.watching.set(watching);
        Self(place)
    }

    /// Which node this is.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.0.me
    }

    /// Takes the lease: from now on the others count on this node. Call it when the node is ready to work.
    ///
    /// # Errors
    /// When the leases cannot be reached; it may be called again.
    pub async fn join(&self) -> Result<(), Unavailable> {
        let info = self.0.standing().info.clone();
        let lease = self.0.membership.join(info).await?;
        self.0.standing().lease = Stage::Joined(lease.into());
        Ok(())
    }

    /// Gives the lease up and owns nothing any more: the others take over at once, or, when the leases cannot be reached, once
    /// the lease has ended. Takes at most half a second.
    pub async fn leave(&self) {
        let before = std::mem::replace(&mut self.0.standing().lease, Stage::Left);
        if let Stage::Joined(lease) = before {
            let left = tokio::time::timeout(LEAVING, lease.leave()).await;
            if let Ok(Err(error)) = left {
                tracing::warn!(error = &error as &dyn std::error::Error, "the lease ends by itself");
            }
        }
        let nodes = self.0.table.borrow().nodes().to_vec();
        self.0.apply(nodes);
    }

    /// Who lives, and who owns what, as far as this node knows.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.table.borrow())
    }

    /// As [`Cluster::table`], and each change of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Table>> {
        self.0.table.subscribe()
    }

    /// Commands to whichever node owns their stream.
    #[must_use]
    pub fn commands(&self) -> Arc<dyn Commands> {
        Arc::new(Placed::clients(Arc::clone(&self.0)))
    }

    /// The same for effects.
    pub(crate) fn internal(&self) -> Placed {
        Placed::effects(Arc::clone(&self.0))
    }

    /// From now on this process works for what the table says, by `core`.
    pub(crate) async fn attach(&self, core: &Arc<Core>) -> Result<(), Unavailable> {
        let serving = self.0.router.serve(self.0.me, Arc::new(Desk(Arc::downgrade(core)))).await?;
        let attached = self.0.local.set((Arc::downgrade(core), serving));
        attached.map_err(|_| Unavailable::plain("placement", "this node has a core already"))
    }

    /// Tells the others which buckets this node cannot work for.
    pub(super) async fn give_up(&self, buckets: Buckets) {
        let (info, lease) = {
            let standing = &mut *self.0.standing();
            standing.info.gave_up = buckets.iter().collect::<BTreeSet<u8>>();
            let Stage::Joined(lease) = &standing.lease else { return };
            (standing.info.clone(), Arc::clone(lease))
        };
        tracing::error!(?buckets, "a newer build wrote to these buckets: upgrade this node");
        lease.update(info).await;
    }
}

impl Place {
    /// The core of this process, while it lives.
    pub(super) fn local(&self) -> Option<Arc<Core>> {
        self.local.get()?.0.upgrade()
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn misses_somebody(&self, view: &[NodeInfo]) -> bool {
        self.table.borrow().nodes().iter().any(|known| view.iter().all(|node| node.id != known.id))
    }

    fn apply(&self, mut view: Vec<NodeInfo>) {
        match self.standing().lease {
            Stage::Left => view.retain(|node| node.id != self.me),
            // Either the store lost leases or this process was away: whoever is missing says nothing, until the own lease
            // is renewed.
            Stage::Joined(_) if self.table.borrow().lives(self.me) && view.iter().all(|node| node.id != self.me) => {
                tracing::warn!("the own lease is missing: who else lives is not known now");
                return;
            }
            Stage::Joined(_) | Stage::Outside => {}
        }
        let table = Arc::new(Table::of(view));
        self.table.send_if_modified(|known| {
            let is_new = *known != table;
            *known = table;
            is_new
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(watching) = self.watching.get() {
            watching.abort();
        }
    }
}

/// Keeps the table, without end.
async fn follow(place: Weak<Place>, mut views: BoxStream<'static, Vec<NodeInfo>>) {
    while let Some(mut view) = views.next().await {
        let misses_somebody = {
            let Some(place) = place.upgrade() else { return };
            place.misses_somebody(&view)
        };
        if misses_somebody {
            let settled = Instant::now() + SETTLES;
            while let Ok(Some(newer)) = tokio::time::timeout_at(settled, views.next()).await {
                view = newer;
            }
        }
        let Some(place) = place.upgrade() else { return };
        place.apply(view);
    }
    tracing::error!("nobody says any more who lives");
}
