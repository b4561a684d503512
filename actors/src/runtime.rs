//! The runtime: the supervision tree with its directories, gates and waker, behind the `Commands` port.

use std::{collections::HashMap, marker::PhantomData, sync::Arc, time::Duration};

use lmao_events::{Decider, StreamId};
use lmao_ports::{Clock, Commands, Entropy, EventLog, Live, Snapshots, Unavailable, Vault};
use ractor::{Actor, ActorCell};
use tokio::{
    sync::{Semaphore, oneshot},
    task::{AbortHandle, JoinHandle},
};

use crate::{
    Cluster, Keyring, OpenedLog,
    dispatch::{Core, Directories, FromInside, parked, sweep},
    perform::{DocumentWorld, Hands, Internal, Nothing, Perform, Starts, ToolWorld, World},
    placement::{Owned, follow},
    shell::{Directory, Supervisor},
    waker::{self, Wake},
};

/// The stores that the core stands on.
#[derive(Debug, Clone)]
pub struct Stores {
    /// The truth.
    pub log: Arc<dyn EventLog>,
    /// What can be computed again.
    pub snapshots: Arc<dyn Snapshots>,
    /// Secrets.
    pub vault: Arc<dyn Vault>,
    /// Hints to watchers.
    pub live: Arc<dyn Live>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Data keys, from the vault.
    pub keyring: Keyring,
}

/// The bounds of a node.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Client commands under way at once; more are refused with a time to come back.
    pub waiting: usize,
    /// Messages that wait for one stream.
    pub waiting_per_stream: usize,
    /// Runs of workflows and tools at once.
    pub runs: usize,
    /// After this long without a message an actor ends.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { waiting: 4096, waiting_per_stream: 64, runs: 64, idle: Duration::from_secs(60) }
    }
}

/// A running core. Dropped without [`Runtime::drain`], it is as if the process had been killed.
pub struct Runtime {
    core: Arc<Core>,
    commands: Arc<dyn Commands>,
    cluster: Option<Cluster>,
    journal: OpenedLog,
    supervisors: Vec<ActorCell>,
    starts: Arc<Starts>,
    stop_waker: Option<oneshot::Sender<()>>,
    waker: Option<JoinHandle<()>>,
    /// What runs beside, until the core is drained.
    beside: Vec<AbortHandle>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

impl Runtime {
    /// Starts the only core of a system: the supervision tree at once, waking what owes something in the background.
    ///
    /// # Errors
    /// When the vault or the snapshots cannot be read.
    pub async fn start(stores: Stores, world: World, limits: Limits) -> Result<Self, Unavailable> {
        let (stores, owned) = (Arc::new(stores), Arc::new(Owned::alone()));
        let core = Core::new(Arc::clone(&stores), Arc::clone(&owned));
        let parked = parked(&stores).await?;
        let inside = Arc::new(FromInside(Arc::downgrade(&core)));
        Self::build(core, stores, owned, inside, world, limits, parked).await
    }

    /// Starts one core of several: it works for those streams that `cluster` gives it, none before [`Cluster::join`].
    ///
    /// # Errors
    /// When the vault cannot be read, the cluster's transport cannot be used, or the cluster has a core already.
    pub async fn start_placed(
        stores: Stores,
        world: World,
        limits: Limits,
        cluster: &Cluster,
    ) -> Result<Self, Unavailable> {
        let (stores, owned) = (Arc::new(stores), Arc::new(Owned::placed()));
        let core = Core::new(Arc::clone(&stores), Arc::clone(&owned));
        let following = follow(Arc::downgrade(&core), Arc::clone(&owned), cluster.clone());
        let inside = Arc::new(cluster.internal());
        let mut this = Self::build(core, stores, owned, inside, world, limits, HashMap::new()).await?;
        cluster.attach(&this.core).await?;
        this.beside.push(tokio::spawn(following).abort_handle());
        this.commands = cluster.commands();
        this.cluster = Some(cluster.clone());
        Ok(this)
    }

    async fn build(
        core: Arc<Core>,
        stores: Arc<Stores>,
        owned: Arc<Owned>,
        commands: Arc<dyn Internal>,
        world: World,
        limits: Limits,
        parked: HashMap<StreamId, String>,
    ) -> Result<Self, Unavailable> {
        let vault = |error| Unavailable::new("vault", "the secret of keyed ids cannot be read", error);
        let keyed_ids = stores.keyring.keyed_ids().await.map_err(vault)?;
        let journal = OpenedLog::new(Arc::clone(&stores.log), stores.keyring.clone());
        let starts = Starts::new(Arc::clone(&stores.snapshots));
        let hands = Hands {
            world,
            commands,
            journal: Arc::new(journal.clone()),
            live: Arc::clone(&stores.live),
            clock: Arc::clone(&stores.clock),
            entropy: Arc::clone(&stores.entropy),
            keyed_ids,
            runs: Arc::new(Semaphore::new(limits.runs)),
            starts: Arc::clone(&starts),
        };
        let gate = Arc::new(Semaphore::new(limits.waiting));
        let mut tree = Tree { stores, owned, limits, gate: Arc::clone(&gate), parked, supervisors: vec![] };
        core.furnish(tree.directories(hands).await?);
        let sweeper = tokio::spawn(sweep(Arc::downgrade(&core), gate, limits));
        let (stop_waker, stop) = oneshot::channel();
        let wake: Arc<dyn Wake> = Arc::clone(&core) as _;
        let waker = tokio::spawn(waker::run(tree.stores, wake, tree.owned.watch(), stop));
        Ok(Self {
            commands: Arc::clone(&core) as _,
            core,
            cluster: None,
            journal,
            supervisors: tree.supervisors,
            starts,
            stop_waker: Some(stop_waker),
            waker: Some(waker),
            beside: vec![sweeper.abort_handle()],
        })
    }

    /// The way in, to all streams.
    #[must_use]
    pub fn commands(&self) -> Arc<dyn Commands> {
        Arc::clone(&self.commands)
    }

    /// The log, opened.
    #[must_use]
    pub fn journal(&self) -> OpenedLog {
        self.journal.clone()
    }

    /// Gives up its lease, so that others take over; takes no more commands, ends the actors after the message they are at, and
    /// saves the wake index. Effects that run are broken off: what may be repeated is repeated after the next start or
    /// elsewhere, what may not becomes uncertain.
    pub async fn drain(mut self) {
        if let Some(cluster) = &self.cluster {
            cluster.leave().await;
        }
        self.core.close();
        let ending = self.supervisors.iter().map(|supervisor| async move {
            let at_most = Some(Duration::from_secs(10));
            supervisor.stop_children_and_wait(None, at_most).await;
            if let Err(error) = supervisor.stop_and_wait(None, at_most).await {
                tracing::warn!(%error, "a supervisor did not end in time");
            }
        });
        futures::future::join_all(ending).await;
        self.starts.forget_all().await;
        if let Some(stop) = self.stop_waker.take() {
            let _ = stop.send(());
        }
        if let Some(waker) = self.waker.take()
            && let Err(error) = waker.await
        {
            tracing::error!(%error, "the waker ended badly");
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for beside in &self.beside {
            beside.abort();
        }
    }
}

struct Tree {
    stores: Arc<Stores>,
    owned: Arc<Owned>,
    limits: Limits,
    gate: Arc<Semaphore>,
    parked: HashMap<StreamId, String>,
    supervisors: Vec<ActorCell>,
}

impl Tree {
    async fn directories(&mut self, hands: Hands) -> Result<Directories, Unavailable> {
        Ok(Directories {
            session: self.grow(Arc::new(hands.clone())).await?,
            workflow: self.grow(Arc::new(hands.clone())).await?,
            document: self.grow(DocumentWorld::new(hands.clone())).await?,
            tool_call: self.grow(ToolWorld::new(hands.clone())).await?,
            user: self.grow(Arc::new(hands)).await?,
            claim: self.grow(Arc::new(Nothing)).await?,
        })
    }

    /// A directory with its supervisor.
    async fn grow<D: Decider>(&mut self, performer: Arc<dyn Perform<D>>) -> Result<Arc<Directory<D>>, Unavailable> {
        let parked = self
            .parked
            .iter()
            .filter(|(stream, _)| stream.category == D::CATEGORY)
            .map(|(stream, reason)| (*stream, reason.clone()))
            .collect();
        let (stores, owned) = (Arc::clone(&self.stores), Arc::clone(&self.owned));
        let directory = Directory::new(stores, owned, performer, self.limits, Arc::clone(&self.gate), parked);
        let (supervisor, _) = Actor::spawn(None, Supervisor::<D>(PhantomData), Arc::clone(&directory))
            .await
            .map_err(|error| Unavailable::new("actors", "a supervisor cannot be spawned", error))?;
        self.supervisors.push(supervisor.get_cell());
        Ok(directory)
    }
}
