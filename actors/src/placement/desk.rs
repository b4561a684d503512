//! The desk where other nodes' requests are answered.

use std::{sync::Weak, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use lmao_ports::{CommandError, Commands, Responder};

use super::wire::{Envelope, Reply, Request, decode, encode};
use crate::{dispatch::Core, shell::Undelivered};

/// Streams set aside that one answer names: more do not fit a message, and nobody reads them.
const MAX_PARKED: usize = 1000;

/// Answers for a core as long as it lives.
#[derive(Debug)]
pub(crate) struct Desk(pub(crate) Weak<Core>);

#[async_trait]
impl Responder for Desk {
    async fn answer(&self, request: Bytes) -> Bytes {
        encode(&self.reply(&request).await)
    }
}

impl Desk {
    async fn reply(&self, request: &[u8]) -> Reply {
        let Envelope { within_millis, request } = match decode(request) {
            Ok(envelope) => envelope,
            Err(error) => return Reply::NotUnderstood(error.to_string()),
        };
        let Some(core) = self.0.upgrade() else { return Reply::NotMine };
        // Whoever asks waits no longer than this, and takes the outcome for unknown.
        let at_most = Duration::from_millis(within_millis);
        let carried_out = tokio::time::timeout(at_most, carry_out(&core, request)).await;
        carried_out.unwrap_or_else(|_| Reply::Failed(CommandError::Unknown.into()))
    }
}

/// Does what was asked, if it is for `core` to do.
pub(crate) async fn carry_out(core: &Core, request: Request) -> Reply {
    match request {
        Request::Send { stream, command, meta, admission } => {
            match core.dispatch(stream, *command, meta, admission).await {
                Ok(receipt) => Reply::Done(receipt),
                // It ends, and its buckets are about to be another's: nothing happened.
                Err(Undelivered::NotMine | Undelivered::Failed(CommandError::ShuttingDown)) => Reply::NotMine,
                Err(Undelivered::Failed(error)) => Reply::Failed(error.into()),
            }
        }
        Request::Unpark { stream } if !core.owns(stream) => Reply::NotMine,
        Request::Unpark { stream } => match core.unpark(stream).await {
            Ok(()) => Reply::Unparked,
            Err(error) => Reply::Failed(error.into()),
        },
        Request::Parked => match core.parked().await {
            Ok(mut parked) => {
                parked.truncate(MAX_PARKED);
                Reply::Parked(parked)
            }
            Err(error) => Reply::Failed(error.into()),
        },
    }
}
