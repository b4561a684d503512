//! The core: the directories of all categories behind one way in.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lmao_events::{
    AnyCommand, Category, StreamId, claim::Claim, document::Document, session::Session, tool_call::ToolCall,
    user::User, workflow::Workflow,
};
use lmao_ports::{CommandError, CommandMeta, Commands, Receipt, Unavailable};
use tokio::sync::Semaphore;

use crate::{
    metrics,
    perform::Internal,
    placement::{Buckets, Owned},
    runtime::{Limits, Stores},
    shell::{Admission, Directory, PARKED, Release, Undelivered},
    waker::Wake,
};

pub(crate) struct Directories {
    pub(crate) session: Arc<Directory<Session>>,
    pub(crate) workflow: Arc<Directory<Workflow>>,
    pub(crate) document: Arc<Directory<Document>>,
    pub(crate) tool_call: Arc<Directory<ToolCall>>,
    pub(crate) user: Arc<Directory<User>>,
    pub(crate) claim: Arc<Directory<Claim>>,
}

/// All streams of this process.
pub(crate) struct Core {
    directories: OnceLock<Directories>,
    open: AtomicBool,
    owned: Arc<Owned>,
    stores: Arc<Stores>,
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
    /// A core without directories: they hold what reaches back to it.
    pub(crate) fn new(stores: Arc<Stores>, owned: Arc<Owned>) -> Arc<Self> {
        Arc::new(Self { directories: OnceLock::new(), open: AtomicBool::new(true), owned, stores })
    }

    /// Gives it its directories, once.
    pub(crate) fn furnish(&self, directories: Directories) {
        // Set once, by the runtime that made it.
        let _ = self.directories.set(directories);
    }

    /// Takes no more commands and no more deliveries.
    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Release);
        if let Some(directories) = self.directories.get() {
            for category in Category::ALL {
                directory_of!(directories, category, directory => directory.close());
            }
        }
    }

    /// Whether this process works for `stream`.
    pub(crate) fn owns(&self, stream: StreamId) -> bool {
        self.owned.now().hold(&stream)
    }

    /// Ends the actors of these buckets: another node works for them now.
    pub(crate) fn release(&self, lost: Buckets) {
        let Some(directories) = self.directories.get() else { return };
        directories.session.release(lost, Release::AtOnce);
        directories.workflow.release(lost, Release::AtOnce);
        directories.document.release(lost, Release::AtOnce);
        // An attempt that may not be repeated ends here or nowhere; its outcome passes the fence as any other.
        directories.tool_call.release(lost, Release::WhenDone);
        directories.user.release(lost, Release::AtOnce);
        directories.claim.release(lost, Release::AtOnce);
    }

    /// Makes ready to work for these buckets. When it cannot be learned what is set aside, such streams try again.
    pub(crate) async fn take_over(&self, gained: Buckets) {
        let Some(directories) = self.directories.get() else { return };
        let known = tokio::time::timeout(Duration::from_secs(1), parked(&self.stores)).await;
        let parked = known.unwrap_or_else(|_| Err(Unavailable::plain("snapshots", "they do not answer")));
        let parked = parked.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what is set aside is not known");
            HashMap::new()
        });
        for (stream, reason) in parked.into_iter().filter(|(stream, _)| gained.hold(stream)) {
            directory_of!(directories, stream.category, directory => directory.set_aside(stream, reason));
        }
    }

    pub(crate) async fn dispatch(
        &self,
        stream: StreamId,
        command: AnyCommand,
        meta: CommandMeta,
        admission: Admission,
    ) -> Result<Receipt, Undelivered> {
        if admission == Admission::Gated && !self.open.load(Ordering::Acquire) {
            return Err(CommandError::ShuttingDown.into());
        }
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
        Ok(self.dispatch(stream, command, meta, Admission::Gated).await?)
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
pub(crate) struct FromInside(pub(crate) Weak<Core>);

#[async_trait]
impl Internal for FromInside {
    async fn send(&self, stream: StreamId, command: AnyCommand, meta: CommandMeta) -> Result<Receipt, CommandError> {
        let core = self.0.upgrade().ok_or(CommandError::ShuttingDown)?;
        Ok(core.dispatch(stream, command, meta, Admission::Internal).await?)
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

/// The streams that are set aside, with the reasons, of all buckets.
pub(crate) async fn parked(stores: &Stores) -> Result<HashMap<StreamId, String>, Unavailable> {
    let entries = stores.snapshots.scan(PARKED).await?;
    Ok(entries
        .into_iter()
        .filter_map(|(key, reason)| {
            let stream = key.strip_prefix(PARKED)?.parse().ok()?;
            Some((stream, String::from_utf8_lossy(&reason).into_owned()))
        })
        .collect())
}

/// Ends idle actors, and measures how many there are. Those of streams that end by themselves are not worth keeping for long.
pub(crate) async fn sweep(core: Weak<Core>, gate: Arc<Semaphore>, Limits { idle, waiting, .. }: Limits) {
    const EVERY: Duration = Duration::from_secs(1);
    let soon = idle.min(EVERY);
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(core) = core.upgrade() else { return };
        let Some(directories) = core.directories.get() else { continue };
        metrics::waiting(waiting - gate.available_permits());
        directories.session.sweep(idle);
        directories.user.sweep(idle);
        directories.document.sweep(soon);
        directories.workflow.sweep(soon);
        directories.tool_call.sweep(soon);
        directories.claim.sweep(soon);
    }
}
