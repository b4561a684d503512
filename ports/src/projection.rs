//! Projections: folds of the log into something that can be queried; and the log as readers see it, opened.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use lmao_events::{AnyEvent, Hash, Head, Header, Position, StreamId, Version};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{Filter, ReadError, Unavailable};

/// Why a record's events cannot be read, though the record is there. A property of its stream, not of the log: the others
/// go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// The person that it belongs to was erased: nobody can read it any more.
    Erased,
    /// It does not open or decode: how.
    Damaged(String),
}

/// A record, opened and decoded.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its position.
    pub position: Position,
    /// Its hash.
    pub hash: Hash,
    /// Its clear part.
    pub header: Header,
    /// Its events, unless they cannot be read.
    pub events: Result<Vec<AnyEvent>, Unreadable>,
}

/// The log, opened: what gateways, projectors and audit tools read.
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// The commits of one stream from version `from` on.
    fn read(&self, stream: StreamId, from: Version) -> BoxStream<'static, Result<Committed, ReadError>>;

    /// All commits after `after` that pass `filter`; then, without end, those that follow.
    fn follow(&self, after: Position, filter: Filter) -> BoxStream<'static, Result<Committed, ReadError>>;

    /// Where a stream ends; `None` when it does not exist. Adapters that can tell without reading the stream do so.
    async fn head(&self, stream: StreamId) -> Result<Option<Head>, ReadError> {
        let mut commits = self.read(stream, Version(1));
        let mut head = None;
        while let Some(commit) = commits.next().await {
            let Committed { position, hash, header, .. } = commit?;
            head = Some(Head { version: header.version, position, hash });
        }
        Ok(head)
    }

    /// The position of the last commit.
    async fn tail(&self) -> Result<Position, ReadError>;

    /// The log's id.
    fn log_id(&self) -> Uuid;
}

/// A stream that a projection cannot take in, set aside with all that depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedStream {
    /// The stream.
    pub stream: StreamId,
    /// The first version that was not taken in.
    pub version: Version,
    /// Its position.
    pub position: Position,
    /// Why.
    pub reason: String,
}

/// What became of a stream that a projection was to take in again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unparked {
    /// It was not set aside.
    NotParked,
    /// All of it up to the checkpoint is taken in.
    TakenIn,
    /// It is set aside again, from here on; what comes before is taken in.
    Again(ParkedStream),
}

/// The commits of a stream that a projection left out while it was set aside.
#[derive(Debug)]
pub struct Missed {
    /// Those that can be taken in, in order.
    pub commits: Vec<Committed>,
    /// Where the stream has to be set aside again, because the log holds nothing readable there.
    pub again: Option<ParkedStream>,
}

impl Missed {
    /// The commits of `stream` from version `from` up to position `through`.
    ///
    /// # Errors
    /// The log cannot be read now.
    pub async fn read(
        log: &dyn Journal,
        stream: StreamId,
        from: Version,
        through: Position,
    ) -> Result<Self, Unavailable> {
        let mut missed = Self { commits: vec![], again: None };
        let mut commits = log.read(stream, from);
        while let Some(commit) = commits.next().await {
            let commit =
                commit.map_err(|error| Unavailable::new("log", "a stream that was set aside cannot be read", error))?;
            if commit.position > through {
                break;
            }
            if let Err(Unreadable::Damaged(how)) = &commit.events {
                let (version, position) = (commit.header.version, commit.position);
                let reason = format!("version {version} cannot be read: {how}");
                missed.again = Some(ParkedStream { stream, version, position, reason });
                break;
            }
            missed.commits.push(commit);
        }
        Ok(missed)
    }

    /// Ends before the commit of `version`, which does not fit.
    pub fn cut(&mut self, version: Version, reason: String) {
        let Some(at) = self.commits.iter().position(|commit| commit.header.version == version) else { return };
        let Committed { header, position, .. } = &self.commits[at];
        self.again = Some(ParkedStream { stream: header.stream, version, position: *position, reason });
        self.commits.truncate(at);
    }
}

/// BLAKE3 of a projection's content, positions and times of projecting excluded.
pub type Digest = Hash;

/// Why a batch was not taken in; nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// This stream's commit cannot be taken in; the others can.
    #[error("{stream} version {version}: {message}")]
    Poisoned {
        /// The stream.
        stream: StreamId,
        /// The commit.
        version: Version,
        /// What is wrong with it.
        message: String,
    },
    /// The store cannot be used now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A fold of the log with its checkpoint. Disposable: reset and replayed, it has the same content.
#[async_trait]
pub trait Projection: Debug + Send + Sync {
    /// Its name: `read_model`, `search`.
    fn name(&self) -> &'static str;

    /// Commits that it takes in best at once; a whole batch is held in memory.
    fn batch(&self) -> usize {
        500
    }

    /// Which log its content is computed from: `log`, if it was of none before. It stays so until a reset. One that keeps no
    /// note of it takes every log for its own.
    async fn computed_from(&self, log: Uuid) -> Result<Uuid, ProjectionError> {
        Ok(log)
    }

    /// The position up to which the log was taken in; 0 at the beginning.
    async fn checkpoint(&self) -> Result<Position, ProjectionError>;

    /// Takes in `batch` (in the order of positions) and moves the checkpoint to its last position, both or neither.
    /// Commits at or below the checkpoint, and those of parked streams, are skipped. The checkpoint of a batch that changes
    /// nothing may be known in memory only: after a crash its commits come again, and change nothing again.
    async fn apply(&self, batch: &[Committed]) -> Result<(), ProjectionError>;

    /// Writes the checkpoint down where it is known in memory only. Worth a call at the end, and now and then before.
    async fn save(&self) -> Result<(), ProjectionError> {
        Ok(())
    }

    /// Sets a stream aside from this commit on, durably before any checkpoint passes it.
    async fn park(&self, parked: &ParkedStream) -> Result<(), ProjectionError>;

    /// The streams set aside.
    async fn parked(&self) -> Result<Vec<ParkedStream>, ProjectionError>;

    /// Whether there is anything of a stream that ought to be there: taken in up to the checkpoint, not parked and not deleted.
    /// One that keeps its parkings in one store with its rows never loses one without the other.
    async fn holds(&self, stream: StreamId) -> Result<bool, ProjectionError> {
        let _ = stream;
        Ok(true)
    }

    /// Takes in again what was left out of a stream since it was set aside, read from `log` up to the checkpoint, which
    /// stays where it is; nothing else is taken in meanwhile. The parking is forgotten with that or after it, so that
    /// whoever dies in between finds the stream still parked. One that never parks has nothing to do.
    async fn unpark(&self, stream: StreamId, log: &dyn Journal) -> Result<Unparked, ProjectionError> {
        let _ = (stream, log);
        Ok(Unparked::NotParked)
    }

    /// Forgets everything, the checkpoint and parked streams included.
    async fn reset(&self) -> Result<(), ProjectionError>;

    /// The digest of the content: equal for equal histories, however often replayed.
    async fn digest(&self) -> Result<Digest, ProjectionError>;

    /// Waits until the checkpoint is at `position` or beyond; `false` when that takes longer than `at_most`.
    async fn wait_for(&self, position: Position, at_most: Duration) -> bool;

    /// Resolves while somebody waits: until then, whoever feeds it may let commits gather. One that cannot tell is always
    /// waited for.
    async fn awaited(&self) {}
}

/// How far a projection is, kept by the process that feeds it, with those who wait for it.
#[derive(Debug)]
pub struct Progress {
    checkpoint: watch::Sender<Position>,
    waiting: watch::Sender<usize>,
}

impl Progress {
    /// At this checkpoint, and nobody waits.
    #[must_use]
    pub fn at(checkpoint: Position) -> Self {
        Self { checkpoint: watch::Sender::new(checkpoint), waiting: watch::Sender::new(0) }
    }

    /// The checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Position {
        *self.checkpoint.borrow()
    }

    /// Moves the checkpoint, and lets those go on who waited for it.
    pub fn reach(&self, checkpoint: Position) {
        self.checkpoint.send_replace(checkpoint);
    }

    /// Moves the checkpoint forward, as [`Progress::reach`]; one that is further already stays. For those who learn of it late.
    pub fn rise(&self, checkpoint: Position) {
        self.checkpoint.send_if_modified(|reached| {
            let further = checkpoint > *reached;
            *reached = checkpoint.max(*reached);
            further
        });
    }

    /// As [`Projection::wait_for`]. Cancel-safe.
    pub async fn wait_for(&self, position: Position, at_most: Duration) -> bool {
        let mut checkpoint = self.checkpoint.subscribe();
        if *checkpoint.borrow_and_update() >= position {
            return true;
        }
        let _waiting = Waiting::among(&self.waiting);
        let reached = checkpoint.wait_for(|checkpoint| *checkpoint >= position);
        matches!(tokio::time::timeout(at_most, reached).await, Ok(Ok(_)))
    }

    /// As [`Projection::awaited`]. Cancel-safe.
    pub async fn awaited(&self) {
        // The sender is this one's own, which outlives the call.
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await;
    }
}

/// One who waits, also when dropped half-way.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn among(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Nobody waits for fewer.
        self.0.send_if_modified(|waiting| {
            *waiting -= 1;
            false
        });
    }
}
