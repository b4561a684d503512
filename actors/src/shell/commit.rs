//! From a command to a durable commit: decide, seal, append; again when the stream has moved on.

use std::{sync::Arc, time::Duration};

use lmao_events::{
    CODEC, Category, CommitId, Decider, DecodeError, EventSet, Head, Header, Payload, Pending, Place, Record,
    RecordError, Rejection, RejectionKind, StreamId, Version, owes, set_of,
};
use lmao_ports::{AppendError, CommandError, CommandMeta, Frame, Receipt, Span, Unavailable, trace};
use tokio::time::Instant;

use super::loaded::{LoadError, Loaded, Origin};
use crate::{metrics, runtime::Stores};

/// Decisions taken again because somebody else's commit came first.
const MAX_CONFLICTS: u32 = 16;
/// How long an append whose outcome is unknown is asked again.
const UNKNOWN_AT_MOST: Duration = Duration::from_secs(10);

/// Why something is not written while builds differ.
const OLDER: &str = "a node of an older build is at work that cannot read what this would write; nothing was done: upgrade that \
                     node, or stop it";

/// Why a command led to no commit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// The answer for whoever sent the command.
    #[error(transparent)]
    Answer(#[from] CommandError),
    /// A newer build wrote to the stream: this one must leave it alone.
    #[error("a newer build wrote to the stream")]
    Newer(#[source] DecodeError),
    /// The stream itself is broken: the actor must not go on.
    #[error("{0}")]
    Broken(String),
}

impl From<LoadError> for CommitError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Erased => Self::Answer(CommandError::Erased),
            LoadError::Unavailable(error) => Self::Answer(CommandError::Unavailable(error)),
            LoadError::Newer(error) => Self::Newer(error),
            error @ LoadError::Damaged(_) => Self::Broken(error.to_string()),
        }
    }
}

/// What a command led to.
pub(crate) struct Decided {
    pub(crate) receipt: Receipt,
}

/// Has `command` decided and its events stored; `loaded` is at the new head afterwards. After an error whose outcome is
/// unknown, `loaded` is `None`: what the log holds must be read again. Nothing is stored that is newer than the set of events
/// `everyone_reads`.
pub(crate) async fn commit<D: Decider>(
    stores: &Stores,
    stream: StreamId,
    loaded: &mut Option<Loaded<D>>,
    command: &D::Command,
    meta: &CommandMeta,
    everyone_reads: u32,
) -> Result<Decided, CommitError> {
    let guessed = loaded.is_none() && D::begins(command);
    if guessed {
        *loaded = Some(Loaded::default());
    }
    let span = Span::of(meta.traceparent.as_deref(), || format!("{} {}", D::CATEGORY, trace::variant(command)).into());
    span.set_with("lmao.stream", || stream.to_string());
    let meta = meta.within(&span);
    let decided = span.run(decide_and_append(stores, stream, loaded, command, &meta, everyone_reads)).await;
    match &decided {
        Ok(decided) => span.set("lmao.version", decided.receipt.head.version.0.cast_signed()),
        Err(error) => span.fail(error.to_string()),
    }
    if guessed && decided.is_err() {
        // Perhaps the stream was not empty.
        *loaded = None;
    }
    decided
}

async fn decide_and_append<D: Decider>(
    stores: &Stores,
    stream: StreamId,
    loaded: &mut Option<Loaded<D>>,
    command: &D::Command,
    meta: &CommandMeta,
    everyone_reads: u32,
) -> Result<Decided, CommitError> {
    for _ in 0..MAX_CONFLICTS {
        let current = match loaded {
            Some(current) => current,
            None => loaded.insert(Loaded::load(stores, stream).await?),
        };
        if let Some(known) = known(current, meta)? {
            return Ok(Decided { receipt: known });
        }
        let events = match D::decide(&current.state, command.clone()) {
            Ok(events) if !events.is_empty() => events,
            // No append, so no fence: another owner may have moved the stream on, and then the answer is another one.
            undecided if is_last(stores, stream, &current.head).await? => {
                undecided.map_err(CommandError::Rejected)?;
                return Ok(Decided { receipt: Receipt { head: current.head, repeated: true } });
            }
            _ => {
                *loaded = None;
                continue;
            }
        };
        let next = next::<D>(stores, stream, current, command, &events, meta).await?;
        // The first set is read by every build there ever was.
        if next.set > everyone_reads.max(1) {
            return Err(CommandError::Unavailable(Unavailable::plain("log", OLDER)).into());
        }
        let span = Span::here(|| "append".into());
        match span.run(append(stores, &current.head, &next.record)).await {
            Ok(head) => {
                let origin = Origin { correlation: meta.correlation, traceparent: meta.traceparent.clone() };
                current.advance(next.state, next.pending, head, meta.command, origin);
                if is_watched(stream.category) {
                    stores.live.publish(stream, Frame::Committed { position: head.position });
                }
                return Ok(Decided { receipt: Receipt { head, repeated: false } });
            }
            Err(AppendError::Conflict) => {
                metrics::conflict(D::CATEGORY);
                *loaded = None;
            }
            Err(AppendError::Unknown(error)) => {
                tracing::warn!(%stream, %error, "outcome of an append unknown");
                *loaded = None;
                return Err(CommandError::Unknown.into());
            }
            Err(AppendError::Unavailable(error)) => return Err(CommandError::Unavailable(error).into()),
        }
    }
    Err(CommandError::Overloaded { retry_after: Duration::from_secs(1) }.into())
}

/// Whether clients wait for what streams of this category come to. What a workflow comes to, its session tells; a claim,
/// whoever made it.
fn is_watched(category: Category) -> bool {
    match category {
        Category::Session | Category::Document | Category::ToolCall | Category::User => true,
        Category::Workflow | Category::Claim => false,
    }
}

/// Whether the stream still ends at `head`.
async fn is_last(stores: &Stores, stream: StreamId, head: &Head) -> Result<bool, LoadError> {
    let last = stores.log.last(&stream).await?;
    Ok(last.map_or(Version(0), |last| last.head().version) == head.version)
}

/// The first outcome of a client command that comes again.
fn known<D: Decider>(loaded: &Loaded<D>, meta: &CommandMeta) -> Result<Option<Receipt>, CommandError> {
    let Some(command) = meta.command else { return Ok(None) };
    match loaded.recent.iter().find(|recent| recent.command.id == command.id) {
        None => Ok(None),
        Some(recent) if recent.command.body != command.body => Err(CommandError::KeyReused),
        Some(recent) => Ok(Some(Receipt { head: recent.head, repeated: true })),
    }
}

struct Next<D: Decider> {
    record: Arc<Record>,
    /// The first set of events that holds these.
    set: u32,
    state: D::State,
    pending: Vec<Pending<D::Effect>>,
}

/// The commit that would hold `events`, and the state after it.
async fn next<D: Decider>(
    stores: &Stores,
    stream: StreamId,
    current: &Loaded<D>,
    command: &D::Command,
    events: &[D::Event],
    meta: &CommandMeta,
) -> Result<Next<D>, CommitError> {
    let broken = |text: String| CommitError::Broken(text);
    let person = D::owner(&current.state)
        .or_else(|| D::owner_of(command))
        .ok_or_else(|| broken(format!("{stream} belongs to nobody")))?;
    let new = current.head.version == Version(0);
    let key = if new { stores.keyring.get_or_create(person).await } else { stores.keyring.get(person).await };
    let key = key.map_err(LoadError::from)?;

    let time = stores.clock.now();
    let version = current.head.version.next();
    let mut state = current.state.clone();
    for (index, event) in (0..).zip(events) {
        state = D::evolve(state, event, Place { version, index, time })
            .map_err(|error| broken(format!("a decision that cannot be folded: {error}")))?;
    }
    let pending = D::pending(&state);
    let header = Header {
        id: CommitId(stores.entropy.id(time)),
        stream,
        version,
        codec: CODEC,
        time,
        who: meta.who,
        key: person,
        causation: meta.causation,
        correlation: meta.correlation,
        traceparent: meta.traceparent.clone(),
        prev: current.head.hash,
        owes: owes(&pending),
    };
    let payload = Payload { command: meta.command, events: events.iter().map(EventSet::encode).collect() };
    let set = payload.events.iter().map(set_of).max().unwrap_or(1);
    let record = Record::seal(header, &payload, &key, stores.entropy.nonce()).map_err(|error| match error {
        RecordError::TooLarge { size } => CommandError::Rejected(Rejection::new(
            RejectionKind::Invalid,
            "commit_too_large",
            format!("what this leads to has {size} bytes, more than one commit holds; send less at a time"),
        )),
        error => CommandError::Unavailable(Unavailable::new("log", "the commit cannot be made", error)),
    })?;
    Ok(Next { record: Arc::new(record), set, state, pending })
}

/// Appends, and asks again with the same bytes while the outcome is unknown.
async fn append(stores: &Stores, expected: &Head, record: &Arc<Record>) -> Result<Head, AppendError> {
    let begun = Instant::now();
    let appended = append_until_known(stores, expected, record, begun + UNKNOWN_AT_MOST).await;
    metrics::appended(record.header().stream.category, begun.elapsed());
    appended
}

async fn append_until_known(
    stores: &Stores,
    expected: &Head,
    record: &Arc<Record>,
    deadline: Instant,
) -> Result<Head, AppendError> {
    let mut pause = Duration::from_millis(20);
    let mut in_doubt = None;
    loop {
        match stores.log.append(expected, Arc::clone(record)).await {
            Err(AppendError::Unknown(error)) if Instant::now() < deadline => in_doubt = Some(error),
            // Not stored by this call, but perhaps by the one before whose outcome stayed unknown.
            Err(AppendError::Unavailable(error)) if in_doubt.is_some() => {
                if Instant::now() >= deadline {
                    return Err(AppendError::Unknown(error));
                }
            }
            outcome => return outcome,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
