//! Commands while the servers may be away that carry them: refused at once when that is known, and never waited for long.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lmao_adapters::{Standing, nats::Nats};
use lmao_events::{AnyCommand, StreamId};
use lmao_ports::{CommandError, CommandMeta, Commands, Receipt, Unavailable};
use tokio::time::Instant;

/// A connection that was lost for so long may not be back soon. Before, it is waited for.
const KNOWN: Duration = Duration::from_secs(1);
/// A command that is under way while the servers are away is given up after this; longer than whoever carries it out waits, who
/// may know that nothing happened.
const GIVEN_UP: Duration = Duration::from_millis(1500);
/// How often the connection is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Commands that go by way of NATS.
#[derive(Debug)]
pub(crate) struct Reachable {
    commands: Arc<dyn Commands>,
    nats: Nats,
}

impl Reachable {
    pub(super) fn new(commands: Arc<dyn Commands>, nats: Nats) -> Self {
        Self { commands, nats }
    }

    /// Whether it makes sense to try.
    fn check(&self) -> Result<(), Unavailable> {
        let away = self.nats.away_for();
        match self.nats.standing() {
            Standing::Down { why } if away.is_zero() || away >= KNOWN => {
                Err(Unavailable::plain("NATS", format!("{why}; nothing happened, try again in a moment")))
            }
            Standing::Down { .. } | Standing::Up => Ok(()),
        }
    }

    /// Ends when there has been no connection, or no answer on it, for a while.
    async fn lost(&self) {
        let mut up = Instant::now();
        while up.elapsed() < GIVEN_UP {
            tokio::time::sleep(LOOK).await;
            if self.nats.standing() == Standing::Up {
                up = Instant::now();
            }
        }
    }
}

#[async_trait]
impl Commands for Reachable {
    async fn send(&self, stream: StreamId, command: AnyCommand, meta: CommandMeta) -> Result<Receipt, CommandError> {
        self.check()?;
        tokio::select! {
            biased;
            outcome = self.commands.send(stream, command, meta) => outcome,
            // It may have landed.
            () = self.lost() => Err(CommandError::Unknown),
        }
    }

    async fn parked(&self) -> Result<Vec<(StreamId, String)>, Unavailable> {
        self.check()?;
        self.commands.parked().await
    }

    async fn unpark(&self, stream: StreamId) -> Result<(), Unavailable> {
        self.check()?;
        self.commands.unpark(stream).await
    }
}
