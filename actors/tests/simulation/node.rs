//! A simulated process: it may die or pause at any step. Dead, none of its calls ever returns.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lmao_actors::{Cluster, Keyring, Limits, Runtime, Stores};
use lmao_ports::{Commands, Role};

use crate::{
    stores::{Disk, Reached},
    world::World,
};

/// How likely a call is the process's last.
const CRASH: f64 = 0.002;
/// How likely a call takes half a minute.
const PAUSE: f64 = 0.0005;

#[derive(Debug)]
pub(crate) struct Node {
    disk: Arc<Disk>,
    dead: AtomicBool,
    faults: Arc<AtomicBool>,
}

impl Node {
    pub(crate) fn new(disk: &Arc<Disk>, faults: &Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self { disk: Arc::clone(disk), dead: AtomicBool::new(false), faults: Arc::clone(faults) })
    }

    /// One step of the process: takes a while, and may be the last.
    pub(crate) async fn step(&self) {
        self.alive().await;
        if self.faulty() {
            if self.disk.chance(CRASH) {
                self.dead.store(true, Ordering::Relaxed);
            } else if self.disk.chance(PAUSE) {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
        }
        tokio::time::sleep(self.disk.millis(3)).await;
        self.alive().await;
    }

    pub(crate) async fn alive(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub(crate) fn faulty(&self) -> bool {
        self.faults.load(Ordering::Relaxed)
    }
}

/// How nodes share the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Each believes that all are its own.
    Nothing,
    /// By leases.
    Leases,
}

/// A node with its running core.
pub(crate) struct Running {
    pub(crate) node: Arc<Node>,
    pub(crate) reached: Reached,
    pub(crate) cluster: Option<Cluster>,
    runtime: Option<Runtime>,
}

impl Running {
    /// Starts a node that is, or believes to be, the only one. It may die while it starts: then `commands` is `None`.
    pub(crate) async fn start(disk: &Arc<Disk>, world: &Arc<World>, faults: &Arc<AtomicBool>) -> Self {
        Self::start_sharing(Sharing::Nothing, disk, world, faults).await
    }

    /// Starts one of several nodes.
    pub(crate) async fn start_sharing(
        sharing: Sharing,
        disk: &Arc<Disk>,
        world: &Arc<World>,
        faults: &Arc<AtomicBool>,
    ) -> Self {
        let node = Node::new(disk, faults);
        let reached = Reached { disk: Arc::clone(disk), node: Arc::clone(&node) };
        let shared = Arc::new(reached.clone());
        let stores = Stores {
            log: shared.clone(),
            snapshots: shared.clone(),
            vault: shared.clone(),
            live: shared.clone(),
            clock: shared.clone(),
            entropy: shared.clone(),
            keyring: Keyring::new(shared.clone(), shared.clone()),
        };
        let limits = Limits { idle: Duration::from_secs(2), ..Limits::default() };
        let cluster = (sharing == Sharing::Leases).then(|| reached.cluster(&[Role::Worker]));
        let starting = async {
            let Some(cluster) = &cluster else { return Runtime::start(stores, world.of(&node), limits).await };
            let runtime = Runtime::start_placed(stores, world.of(&node), limits, cluster).await?;
            cluster.join().await?;
            Ok(runtime)
        };
        let runtime = tokio::time::timeout(Duration::from_secs(120), starting).await;
        let runtime = runtime.ok().map(|started| started.expect("the simulated stores answer"));
        Self { node, reached, cluster, runtime }
    }

    pub(crate) fn commands(&self) -> Option<Arc<dyn Commands>> {
        self.runtime.as_ref().filter(|_| !self.node.is_dead()).map(Runtime::commands)
    }

    /// Ends a node in order.
    pub(crate) async fn drain(mut self) {
        if let Some(runtime) = self.runtime.take().filter(|_| !self.node.is_dead()) {
            // It may die on the way.
            let _ = tokio::time::timeout(Duration::from_secs(120), runtime.drain()).await;
        }
    }
}
