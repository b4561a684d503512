//! What effects do in the world: one performer for each decider.
//!
//! A performer may be cancelled at any await and run again later, unless its effect says otherwise; it never touches the
//! log, and reports its outcome as a command to the stream that owes the effect.

mod document;
mod session;
mod starts;
mod tool_call;
mod user;
mod workflow;

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use lmao_events::{AnyCommand, Decider, EffectId, Head, RejectionKind, StreamId, claim::Claim};
use lmao_ports::{
    Blobs, Clock, CommandError, CommandMeta, Entropy, Ingestion, Journal, Live, Projection, Receipt, Retriever,
};
use lmao_retrieval::answer::Answerer;
use lmao_tools::Registry;
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) use self::{document::DocumentWorld, starts::Starts, tool_call::ToolWorld};

/// On whose behalf an effect is performed.
#[derive(Debug, Clone)]
pub(crate) struct EffectContext {
    /// The stream that owes it.
    pub(crate) stream: StreamId,
    /// Which of its effects.
    pub(crate) id: EffectId,
    /// The stream's head when the effect was started: at or behind what made it due.
    pub(crate) head: Head,
    /// For commands that the effect sends.
    pub(crate) meta: CommandMeta,
}

/// What became of an effect.
#[derive(Debug, Clone)]
pub(crate) enum Performed<D: Decider> {
    /// It ended: this command records its outcome.
    Record(D::Command),
    /// Somebody else has it now; the outcome will come as a command.
    Handed,
    /// Nothing happened; try again after this pause.
    Later(Duration),
}

/// Performs the effects of one decider.
#[async_trait]
pub(crate) trait Perform<D: Decider>: Debug + Send + Sync {
    /// Performs one effect.
    async fn perform(&self, context: EffectContext, effect: D::Effect) -> Performed<D>;

    /// A stream was set aside: tells whoever waits for it. Once only, and not after a crash; whoever waits must get to
    /// know by itself in the end.
    async fn parked(&self, _stream: StreamId, _reason: &str) {}
}

/// Commands that effects send; unlike those of clients they pass the gates.
#[async_trait]
pub(crate) trait Internal: Debug + Send + Sync {
    async fn send(&self, stream: StreamId, command: AnyCommand, meta: CommandMeta) -> Result<Receipt, CommandError>;
}

/// Everything that effects reach.
#[derive(Debug, Clone)]
pub struct World {
    /// Searching.
    pub retriever: Arc<dyn Retriever>,
    /// Answering.
    pub answerer: Arc<dyn Answerer>,
    /// The tools.
    pub tools: Arc<Registry>,
    /// The steps of ingestion.
    pub steps: Arc<dyn Ingestion>,
    /// Files, texts, passages, vectors.
    pub blobs: Arc<dyn Blobs>,
    /// The projection that makes documents findable.
    pub search: Arc<dyn Projection>,
}

/// What performers have beside the world.
#[derive(Debug, Clone)]
pub(crate) struct Hands {
    pub(crate) world: World,
    pub(crate) commands: Arc<dyn Internal>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) live: Arc<dyn Live>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// The secret behind keyed ids.
    pub(crate) keyed_ids: [u8; 32],
    /// Runs of workflows and tools at once.
    pub(crate) runs: Arc<Semaphore>,
    /// Starts of steps that may end the process.
    pub(crate) starts: Arc<Starts>,
}

/// The pause before a command that could not be delivered is sent again.
const REDELIVER: Duration = Duration::from_millis(500);

/// How a command that an effect sent came out.
enum Sent {
    /// It was carried out, now or before.
    Done,
    /// The other stream refuses it, for ever.
    Refused(String),
    /// The other stream is set aside, until an operator lets it go on: why.
    Parked(String),
    /// Try again.
    Later(Duration),
}

/// The pause before a command to a parked stream is sent again.
const UNTIL_UNPARKED: Duration = Duration::from_secs(30);

impl Hands {
    async fn tell(&self, stream: StreamId, command: impl Into<AnyCommand>, meta: &CommandMeta) -> Sent {
        match self.commands.send(stream, command.into(), meta.clone()).await {
            Ok(_) => Sent::Done,
            Err(CommandError::Rejected(rejection)) if rejection.kind == RejectionKind::Busy => Sent::Later(REDELIVER),
            Err(CommandError::Rejected(rejection)) => Sent::Refused(rejection.reason),
            Err(CommandError::Erased) => Sent::Refused("erased".to_owned()),
            Err(CommandError::Parked { reason, .. }) => {
                tracing::debug!(%stream, reason, "a command waits for a parked stream");
                Sent::Parked(reason)
            }
            Err(error) => {
                tracing::debug!(%stream, %error, "a command is sent again");
                Sent::Later(REDELIVER)
            }
        }
    }

    fn text_frame(&self, topic: StreamId, of: Uuid, state: &str, text: &str) {
        let frame = lmao_ports::Frame::Status { of, state: state.to_owned(), text: text.to_owned() };
        self.live.publish(topic, frame);
    }
}

/// Claims owe nothing.
#[derive(Debug)]
pub(crate) struct Nothing;

#[async_trait]
impl Perform<Claim> for Nothing {
    async fn perform(&self, _: EffectContext, effect: lmao_events::claim::Effect) -> Performed<Claim> {
        match effect {}
    }
}
