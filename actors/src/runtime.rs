//! The runtime: the supervision tree with its directories, gates and waker, behind the `Commands` port.

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lmao_events::{
    AnyCommand, Category, Decider, StreamId, claim::Claim, document::Document, session::Session, tool_call::ToolCall,
    user::User, workflow::Workflow,
};
use lmao_ports::{
    Clock, CommandError, CommandMeta, Commands, Entropy, EventLog, Live, Receipt, Snapshots, Unavailable, Vault,
};
use ractor::{Actor, ActorCell};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};

use crate::{
    Keyring, OpenedLog,
    perform::{DocumentWorld, Hands, Internal, Nothing, Perform, ToolWorld, World},
    shell::{Admission, Directory, PARKED, Supervisor},
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

struct Directories {
    session: Arc<Directory<Session>>,
    workflow: Arc<Directory<Workflow>>,
    document: Arc<Directory<Document>>,
    tool_call: Arc<Directory<ToolCall>>,
    user: Arc<Directory<User>>,
    claim: Arc<Directory<Claim>>,
}

/// A running core. Dropped without [`Runtime::drain`], it is as if the process had been killed.
pub struct Runtime {
    core: Arc<Core>,
    journal: OpenedLog,
    supervisors: Vec<ActorCell>,
    stop_waker: Option<oneshot::Sender<()>>,
    waker: Option<JoinHandle<()>>,
    sweeper: JoinHandle<()>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

struct Core {
    directories: OnceLock<Directories>,
    open: AtomicBool,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

/// Sends an expression's method to the directory of a category.
macro_rules! directory_of {
    ($directories:expr, $category:expr, $directory:ident => $body:expr) => {
        match $category {
            Category::Session => {
                let $directory = &$directories.session;
                $body
            }
            Category::Workflow => {
                let $directory = &$directories.workflow;
                $body
            }
            Category::Document => {
                let $directory = &$directories.document;
                $body
            }
            Category::ToolCall => {
                let $directory = &$directories.tool_call;
                $body
            }
            Category::User => {
                let $directory = &$directories.user;
                $body
            }
            Category::Claim => {
                let $directory = &$directories.claim;
                $body
            }
        }
    };
}

impl Core {
    async fn dispatch(
        &self,
        stream: StreamId,
        command: AnyCommand,
        meta: CommandMeta,
        admission: Admission,
    ) -> Result<Receipt, CommandError> {
        let directories = self.directories.get().ok_or(CommandError::ShuttingDown)?;
        if stream.category != command.category() {
            let text = format!("a command for a {} was sent to {stream}", command.category());
            return Err(Unavailable::plain("actors", text).into());
        }
        match command {
            AnyCommand::Session(command) => directories.session.request(stream, command, meta, admission).await,
            AnyCommand::Workflow(command) => directories.workflow.request(stream, command, meta, admission).await,
            AnyCommand::Document(command) => directories.document.request(stream, command, meta, admission).await,
            AnyCommand::ToolCall(command) => directories.tool_call.request(stream, command, meta, admission).await,
            AnyCommand::User(command) => directories.user.request(stream, command, meta, admission).await,
            AnyCommand::Claim(command) => directories.claim.request(stream, command, meta, admission).await,
        }
    }
}

#[async_trait]
impl Commands for Core {
    async fn send(&self, stream: StreamId, command: AnyCommand, meta: CommandMeta) -> Result<Receipt, CommandError> {
        if !self.open.load(Ordering::Acquire) {
            return Err(CommandError::ShuttingDown);
        }
        self.dispatch(stream, command, meta, Admission::Gated).await
    }

    async fn parked(&self) -> Result<Vec<(StreamId, String)>, Unavailable> {
        let Some(directories) = self.directories.get() else { return Ok(vec![]) };
        let mut parked = Vec::new();
        for category in Category::ALL {
            parked.extend(directory_of!(directories, category, directory => directory.parked()));
        }
        parked.sort_unstable();
        Ok(parked)
    }

    async fn unpark(&self, stream: StreamId) -> Result<(), Unavailable> {
        let Some(directories) = self.directories.get() else { return Ok(()) };
        directory_of!(directories, stream.category, directory => directory.unpark(stream).await)
    }
}

/// The way in for effects. Weak, since effects live inside what they reach.
#[derive(Debug)]
struct FromInside(Weak<Core>);

#[async_trait]
impl Internal for FromInside {
    async fn send(&self, stream: StreamId, command: AnyCommand, meta: CommandMeta) -> Result<Receipt, CommandError> {
        let core = self.0.upgrade().ok_or(CommandError::ShuttingDown)?;
        core.dispatch(stream, command, meta, Admission::Internal).await
    }
}

impl Wake for Core {
    fn wake(&self, stream: StreamId) {
        if let Some(directories) = self.directories.get() {
            directory_of!(directories, stream.category, directory => directory.wake(stream));
        }
    }

    fn is_live(&self, stream: StreamId) -> bool {
        self.directories.get().is_some_and(
            |directories| directory_of!(directories, stream.category, directory => directory.is_live(stream)),
        )
    }
}

impl Runtime {
    /// Starts the core: the supervision tree at once, waking what owes something in the background.
    ///
    /// # Errors
    /// When the vault or the snapshots cannot be read.
    pub async fn start(stores: Stores, world: World, limits: Limits) -> Result<Self, Unavailable> {
        let vault = |error| Unavailable::new("vault", "the secret of keyed ids cannot be read", error);
        let keyed_ids = stores.keyring.keyed_ids().await.map_err(vault)?;
        let journal = OpenedLog::new(Arc::clone(&stores.log), stores.keyring.clone());
        let core = Arc::new(Core { directories: OnceLock::new(), open: AtomicBool::new(true) });
        let hands = Hands {
            world,
            commands: Arc::new(FromInside(Arc::downgrade(&core))),
            journal: Arc::new(journal.clone()),
            live: Arc::clone(&stores.live),
            clock: Arc::clone(&stores.clock),
            entropy: Arc::clone(&stores.entropy),
            keyed_ids,
            runs: Arc::new(Semaphore::new(limits.runs)),
        };
        let stores = Arc::new(stores);
        let parked = parked(&stores).await?;
        let mut tree = Tree {
            stores: Arc::clone(&stores),
            limits,
            gate: Arc::new(Semaphore::new(limits.waiting)),
            parked,
            supervisors: vec![],
        };
        let directories = Directories {
            session: tree.grow(Arc::new(hands.clone())).await?,
            workflow: tree.grow(Arc::new(hands.clone())).await?,
            document: tree.grow(DocumentWorld::new(hands.clone())).await?,
            tool_call: tree.grow(ToolWorld::new(hands.clone())).await?,
            user: tree.grow(Arc::new(hands)).await?,
            claim: tree.grow(Arc::new(Nothing)).await?,
        };
        let sweeper = tokio::spawn(sweep(Arc::downgrade(&core), limits.idle));
        // Set once, here.
        let _ = core.directories.set(directories);
        let (stop_waker, stop) = oneshot::channel();
        let wake: Arc<dyn Wake> = Arc::clone(&core) as _;
        let waker = tokio::spawn(waker::run(stores, wake, stop));
        Ok(Self {
            core,
            journal,
            supervisors: tree.supervisors,
            stop_waker: Some(stop_waker),
            waker: Some(waker),
            sweeper,
        })
    }

    /// The way in.
    #[must_use]
    pub fn commands(&self) -> Arc<dyn Commands> {
        Arc::clone(&self.core) as _
    }

    /// The log, opened.
    #[must_use]
    pub fn journal(&self) -> OpenedLog {
        self.journal.clone()
    }

    /// Takes no more commands, ends the actors after the message they are at, and saves the wake index. Effects that run
    /// are broken off: what may be repeated is repeated after the next start, what may not becomes uncertain.
    pub async fn drain(mut self) {
        self.core.open.store(false, Ordering::Release);
        self.sweeper.abort();
        if let Some(directories) = self.core.directories.get() {
            for category in Category::ALL {
                directory_of!(directories, category, directory => directory.close());
            }
        }
        let ending = self.supervisors.iter().map(|supervisor| async move {
            let at_most = Some(Duration::from_secs(10));
            supervisor.stop_children_and_wait(None, at_most).await;
            if let Err(error) = supervisor.stop_and_wait(None, at_most).await {
                tracing::warn!(%error, "a supervisor did not end in time");
            }
        });
        futures::future::join_all(ending).await;
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

struct Tree {
    stores: Arc<Stores>,
    limits: Limits,
    gate: Arc<Semaphore>,
    parked: HashMap<StreamId, String>,
    supervisors: Vec<ActorCell>,
}

impl Tree {
    /// A directory with its supervisor.
    async fn grow<D: Decider>(&mut self, performer: Arc<dyn Perform<D>>) -> Result<Arc<Directory<D>>, Unavailable> {
        let parked = self
            .parked
            .iter()
            .filter(|(stream, _)| stream.category == D::CATEGORY)
            .map(|(stream, reason)| (*stream, reason.clone()))
            .collect();
        let directory =
            Directory::new(Arc::clone(&self.stores), performer, self.limits, Arc::clone(&self.gate), parked);
        let (supervisor, _) = Actor::spawn(None, Supervisor::<D>(PhantomData), Arc::clone(&directory))
            .await
            .map_err(|error| Unavailable::new("actors", "a supervisor cannot be spawned", error))?;
        self.supervisors.push(supervisor.get_cell());
        Ok(directory)
    }
}

async fn parked(stores: &Stores) -> Result<HashMap<StreamId, String>, Unavailable> {
    let entries = stores.snapshots.scan(PARKED).await?;
    Ok(entries
        .into_iter()
        .filter_map(|(key, reason)| {
            let stream = key.strip_prefix(PARKED)?.parse().ok()?;
            Some((stream, String::from_utf8_lossy(&reason).into_owned()))
        })
        .collect())
}

/// Ends idle actors. Those of streams that end by themselves are not worth keeping for long.
async fn sweep(core: Weak<Core>, idle: Duration) {
    const EVERY: Duration = Duration::from_secs(1);
    let soon = idle.min(EVERY);
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(core) = core.upgrade() else { return };
        let Some(directories) = core.directories.get() else { continue };
        directories.session.sweep(idle);
        directories.user.sweep(idle);
        directories.document.sweep(soon);
        directories.workflow.sweep(soon);
        directories.tool_call.sweep(soon);
        directories.claim.sweep(soon);
    }
}
