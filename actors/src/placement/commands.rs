//! Commands to whichever node owns their stream: this one, or another by request; and again while ownership moves.

use std::{mem::Discriminant, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use lmao_events::{AnyCommand, Rejection, RejectionKind, StreamId};
use lmao_ports::{CommandError, CommandMeta, Commands, NodeId, Receipt, RouteError, Unavailable};
use tokio::time::Instant;

use super::{
    cluster::Place,
    desk::carry_out,
    wire::{Envelope, Reply, Request, decode, encode, millis},
};
use crate::{perform::Internal, shell::Admission};

/// How long a command may take in all: less than the half minute after which a client gives up.
const AT_MOST: Duration = Duration::from_secs(25);
/// How long an owner is looked for: longer than a lease lasts, and its successor needs.
const OWNER_WITHIN: Duration = Duration::from_secs(8);
/// How long the transport may be away before that is the answer.
const TRANSPORT_WITHIN: Duration = Duration::from_secs(1);
/// How long an owner that gave up its lease may still answer what it has.
const GRACE: Duration = Duration::from_millis(500);
/// Pauses between tries.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether a node that is to answer still lives.
const LOOK: Duration = Duration::from_millis(100);
/// How long each node may take to name what it has set aside.
const LIST_WITHIN: Duration = Duration::from_secs(2);

/// The way to all streams, from anywhere.
#[derive(Debug)]
pub(crate) struct Placed {
    place: Arc<Place>,
    admission: Admission,
}

/// Why one try came to nothing.
enum Miss {
    /// Nobody owns the stream, or not yet, or not any more; nothing happened.
    NoOwner,
    /// The transport cannot be used; nothing happened.
    Transport(Unavailable),
    /// Nobody knows what happened.
    NoAnswer,
}

impl Miss {
    /// How long tries that come to the same may go on.
    fn patience(&self, is_repeatable: bool) -> Duration {
        match self {
            Self::NoOwner => OWNER_WITHIN,
            Self::Transport(_) => TRANSPORT_WITHIN,
            Self::NoAnswer if is_repeatable => AT_MOST,
            Self::NoAnswer => Duration::ZERO,
        }
    }
}

impl Placed {
    pub(super) fn clients(place: Arc<Place>) -> Self {
        Self { place, admission: Admission::Gated }
    }

    pub(super) fn effects(place: Arc<Place>) -> Self {
        Self { place, admission: Admission::Internal }
    }

    /// Has the owner of the request's stream carry it out.
    async fn reach(&self, stream: StreamId, request: Request) -> Result<Reply, CommandError> {
        let begun = Instant::now();
        let (bucket, is_repeatable) = (stream.bucket(), request.is_repeatable());
        let (mut pause, mut in_doubt) = (PAUSE, false);
        let mut streak: Option<(Discriminant<Miss>, Instant)> = None;
        loop {
            let owner = self.place.table.borrow().owner(bucket);
            let left = AT_MOST.saturating_sub(begun.elapsed());
            let miss = match self.attempt(owner, &request, left).await? {
                Ok(reply) => return Ok(reply),
                Err(miss) => miss,
            };
            in_doubt |= matches!(miss, Miss::NoAnswer);
            let kind = std::mem::discriminant(&miss);
            let since = match streak {
                Some((known, since)) if known == kind => since,
                _ => streak.insert((kind, Instant::now())).1,
            };
            let is_over = since.elapsed() + pause >= miss.patience(is_repeatable);
            if is_over || begun.elapsed() + pause >= AT_MOST {
                return Err(if in_doubt { CommandError::Unknown } else { given_up(miss) });
            }
            tokio::time::sleep(self.jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One try at this owner.
    async fn attempt(
        &self,
        owner: Option<NodeId>,
        request: &Request,
        left: Duration,
    ) -> Result<Result<Reply, Miss>, CommandError> {
        let Some(owner) = owner else { return Ok(Err(Miss::NoOwner)) };
        let reply = if owner == self.place.me {
            let Some(core) = self.place.local() else { return Ok(Err(Miss::NoOwner)) };
            carry_out(&core, request.clone()).await
        } else {
            match self.ask(owner, request.clone(), left).await {
                Ok(reply) => reply,
                Err(RouteError::Nobody(_)) => return Ok(Err(Miss::NoOwner)),
                Err(RouteError::NoAnswer(_)) => return Ok(Err(Miss::NoAnswer)),
                Err(RouteError::Unavailable(error)) => return Ok(Err(Miss::Transport(error))),
                Err(error @ RouteError::TooLarge { .. }) => return Err(too_large(&error).into()),
            }
        };
        match reply {
            Reply::NotMine => Ok(Err(Miss::NoOwner)),
            Reply::Failed(error) => Err(error.into()),
            Reply::NotUnderstood(how) => {
                let text = format!("node {owner} does not understand this one; upgrade the older of them");
                Err(Unavailable::new("placement", text, how).into())
            }
            reply => Ok(Ok(reply)),
        }
    }

    /// Asks a node, as long as it lives.
    async fn ask(&self, node: NodeId, request: Request, left: Duration) -> Result<Reply, RouteError> {
        let request: Bytes = encode(&Envelope { within_millis: millis(left), request });
        let answer = tokio::select! {
            biased;
            answer = self.place.router.request(node, request, left) => answer?,
            () = self.gone(node) => return Err(RouteError::NoAnswer(node)),
        };
        // What it says cannot be read, so nobody knows what it did.
        decode(&answer).map_err(|error| {
            tracing::error!(%node, %error, "an answer that is none");
            RouteError::NoAnswer(node)
        })
    }

    /// Between half of it and all of it, so that those who wait together do not come back together.
    fn jittered(&self, pause: Duration) -> Duration {
        let mut random = [0; 1];
        self.place.entropy.fill(&mut random);
        pause / 2 + pause * u32::from(random[0]) / 512
    }

    /// Ends when `node` has no lease any more and could have answered since.
    async fn gone(&self, node: NodeId) {
        while self.place.table.borrow().lives(node) {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(GRACE).await;
    }

    async fn parked_of(&self, node: NodeId) -> Result<Vec<(StreamId, String)>, CommandError> {
        match self.attempt(Some(node), &Request::Parked, LIST_WITHIN).await? {
            Ok(Reply::Parked(parked)) => Ok(parked),
            Ok(_) => Err(Unavailable::plain("placement", "the answer is none").into()),
            Err(miss) => Err(given_up(miss)),
        }
    }
}

fn given_up(miss: Miss) -> CommandError {
    match miss {
        Miss::NoAnswer => CommandError::Unknown,
        Miss::Transport(error) => error.into(),
        Miss::NoOwner => {
            let text = "no live worker has taken this over yet, and nothing happened; try again, and if that lasts, see \
                        that workers run";
            Unavailable::plain("placement", text).into()
        }
    }
}

fn too_large(error: &RouteError) -> Rejection {
    let text = format!("{error}; send less at a time");
    Rejection::new(RejectionKind::Invalid, "command_too_large", text)
}

#[async_trait]
impl Commands for Placed {
    async fn send(&self, stream: StreamId, command: AnyCommand, meta: CommandMeta) -> Result<Receipt, CommandError> {
        let request = Request::Send { stream, command: Box::new(command), meta, admission: self.admission };
        match self.reach(stream, request).await? {
            Reply::Done(receipt) => Ok(receipt),
            _ => Err(CommandError::Unknown),
        }
    }

    /// Of every live worker that answers; what one that just died had set aside is named by its successor.
    async fn parked(&self) -> Result<Vec<(StreamId, String)>, Unavailable> {
        let table = Arc::clone(&self.place.table.borrow());
        let asked = table.workers().map(|node| async move { (node, self.parked_of(node).await) });
        let mut parked = Vec::new();
        for (node, answer) in futures::future::join_all(asked).await {
            match answer {
                Ok(streams) => parked.extend(streams),
                Err(error) => tracing::warn!(%node, %error, "a node does not say what it has set aside"),
            }
        }
        parked.sort_unstable();
        parked.dedup_by_key(|(stream, _)| *stream);
        Ok(parked)
    }

    async fn unpark(&self, stream: StreamId) -> Result<(), Unavailable> {
        match self.reach(stream, Request::Unpark { stream }).await {
            Ok(_) => Ok(()),
            Err(CommandError::Unavailable(error)) => Err(error),
            Err(error) => Err(Unavailable::new("placement", "the owner did not say whether it tries again", error)),
        }
    }
}

#[async_trait]
impl Internal for Placed {
    async fn send(&self, stream: StreamId, command: AnyCommand, meta: CommandMeta) -> Result<Receipt, CommandError> {
        Commands::send(self, stream, command, meta).await
    }
}
