//! What one node of all does at a time: feeding a projection, witnessing the log, sweeping blobs. Alone, a node does all of it.
//! Among others each duty goes to one of those with its role, by rendezvous hashing over the live leases, and moves when
//! that node goes. Two at once are wasteful for a moment and harm nothing.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lmao_actors::{Cluster, Feeder, Orphans, ProjectorHandle};
use lmao_adapters::redis::Recent;
use lmao_ports::{EventLog, Projection, Role, Vault};
use tokio::{sync::watch, task::JoinHandle};

use super::{Parts, node::stores, recent, servers::Server, witness::Witness};

/// The pause before the vault is read again for the witness.
const WITNESS_PAUSE: Duration = Duration::from_secs(5);

/// The duties of this node.
#[derive(Debug)]
pub(crate) struct Duties {
    projectors: Arc<Projectors>,
    stop: watch::Sender<bool>,
    running: Vec<JoinHandle<()>>,
}

/// The projectors that run here, for those who ask how they are.
#[derive(Debug)]
pub(crate) struct Projectors(Vec<Fed>);

/// A projection, and what feeds it while that is this node's duty.
#[derive(Debug)]
struct Fed {
    projection: Arc<dyn Projection>,
    handle: Mutex<Option<ProjectorHandle>>,
}

impl Projectors {
    /// Each projection, with what keeps it from going on, as far as that is known here.
    pub(crate) fn errors(&self) -> Vec<(Arc<dyn Projection>, Option<String>)> {
        let error = |fed: &Fed| fed.handle().as_ref().and_then(|handle| handle.status().error);
        self.0.iter().map(|fed| (Arc::clone(&fed.projection), error(fed))).collect()
    }
}

impl Fed {
    fn handle(&self) -> std::sync::MutexGuard<'_, Option<ProjectorHandle>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Duties {
    /// Takes up what is this node's to do, now and whenever that changes.
    pub(crate) fn start(parts: &Parts, cluster: Option<&Cluster>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let turn = |role, name: &'static str| Turn { cluster: cluster.cloned(), role, name, stopped: stopped.clone() };
        // What lies on this node alone, only this node feeds.
        let own = |name: &'static str| Turn { cluster: None, ..turn(Role::Projector, name) };
        let feds =
            parts.projectors().map(|(projection, projector)| (projector, Fed { projection, handle: Mutex::default() }));
        let (projectors, feds): (Vec<_>, Vec<_>) = feds.into_iter().unzip();
        let shared = Arc::new(Projectors(feds));
        let mut running = vec![];
        for (n, (projector, feeder)) in projectors.into_iter().zip(parts.feeders).enumerate() {
            let name = shared.0[n].projection.name();
            let turn = match feeder {
                Feeder::Here => own(name),
                Feeder::Somewhere => turn(Role::Projector, name),
            };
            let shared = Arc::clone(&shared);
            running.push(tokio::spawn(turn.whenever(move |over| {
                let (shared, projector) = (Arc::clone(&shared), projector.clone());
                async move {
                    *shared.0[n].handle() = Some(projector.spawn());
                    over.await;
                    let handle = shared.0[n].handle().take();
                    if let Some(handle) = handle {
                        handle.stop().await;
                    }
                }
            })));
        }
        let (log, vault) = (Arc::clone(&parts.log), Arc::clone(&parts.vault));
        running.push(tokio::spawn(turn(Role::Projector, "witness").whenever(move |over| {
            let (log, vault) = (Arc::clone(&log), Arc::clone(&vault));
            async move {
                tokio::pin!(over);
                let witness = tokio::select! {
                    witness = begun(log, vault) => witness,
                    () = &mut over => return,
                };
                over.await;
                witness.stop().await;
            }
        })));
        let (stores, blobs) = (stores(parts), Arc::clone(&parts.blobs));
        running.push(tokio::spawn(turn(Role::Worker, "orphans").whenever(move |over| {
            let orphans = Orphans::new(stores.clone(), Arc::clone(&blobs));
            async move {
                tokio::select! {
                    () = orphans.run() => {}
                    () = over => {}
                }
            }
        })));
        let redis = parts.servers.iter().find_map(Server::redis);
        if let Some(recent) = redis.map(Recent::new) {
            let journal = parts.journal.clone();
            running.push(tokio::spawn(turn(Role::Projector, "recent").whenever(move |over| {
                let (journal, recent) = (journal.clone(), recent.clone());
                async move {
                    tokio::select! {
                        () = recent::keep(journal, recent) => {}
                        () = over => {}
                    }
                }
            })));
        }
        Self { projectors: shared, stop, running }
    }

    /// The projectors, for those who ask how they are.
    pub(crate) fn projectors(&self) -> Arc<Projectors> {
        Arc::clone(&self.projectors)
    }

    /// Does this too, until the duties are laid down.
    pub(crate) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut stopped = self.stop.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
    }

    /// Lays down every duty, each in order.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        for running in self.running {
            if let Err(error) = running.await {
                tracing::error!(%error, "a duty ended badly");
            }
        }
    }
}

/// A witness that has begun, tried until the vault can be read.
async fn begun(log: Arc<dyn EventLog>, vault: Arc<dyn Vault>) -> Witness {
    loop {
        match Witness::start(Arc::clone(&log), Arc::clone(&vault)).await {
            Ok(witness) => return witness,
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the log is not witnessed yet"),
        }
        tokio::time::sleep(WITNESS_PAUSE).await;
    }
}

/// Whose turn it is.
#[derive(Debug, Clone)]
struct Turn {
    cluster: Option<Cluster>,
    role: Role,
    name: &'static str,
    stopped: watch::Receiver<bool>,
}

impl Turn {
    /// Does `work` while it is this node's turn, until stopped. What `work` is given resolves when it is to lay it down.
    async fn whenever<W: Future<Output = ()>>(
        mut self,
        work: impl Fn(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> W,
    ) {
        loop {
            if !self.clone().until(true).await {
                return;
            }
            tracing::debug!(duty = self.name, "taken up");
            let over = self.clone();
            work(Box::pin(async move {
                let _ = over.until(false).await;
            }))
            .await;
            tracing::debug!(duty = self.name, "laid down");
            if *self.stopped.borrow_and_update() {
                return;
            }
        }
    }

    /// Waits until it is (or is not) this node's turn; `false` when it is to stop.
    async fn until(mut self, mine: bool) -> bool {
        let Some(cluster) = self.cluster else {
            // Alone: always.
            if !mine {
                let _ = self.stopped.wait_for(|stop| *stop).await;
                return false;
            }
            return !*self.stopped.borrow();
        };
        let (me, mut table) = (cluster.me(), cluster.watch());
        let changed = table.wait_for(|table| (table.on_duty(self.role, self.name) == Some(me)) == mine);
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|stop| *stop) => false,
            changed = changed => changed.is_ok(),
        }
    }
}
