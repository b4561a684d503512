//! The log as readers see it: opened and decoded.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use lmao_events::{Category, DecodeError, Head, OpenError, Position, StreamId, Version, decode_any};
use lmao_ports::{Committed, EventLog, Filter, Journal, ReadError, Recorded, Unavailable, Unreadable};
use uuid::Uuid;

use crate::{Keyring, KeyringError};

/// The log with a keyring. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OpenedLog {
    log: Arc<dyn EventLog>,
    keyring: Keyring,
}

impl OpenedLog {
    /// Reads `log` with the keys of `keyring`.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, keyring: Keyring) -> Self {
        Self { log, keyring }
    }

    /// All commits after `after`, with the events of those categories that `wanted` names; others come with none, which
    /// saves opening them.
    #[must_use]
    pub fn follow_only(
        &self,
        after: Position,
        wanted: fn(Category) -> bool,
    ) -> BoxStream<'static, Result<Committed, ReadError>> {
        let this = self.clone();
        self.log
            .subscribe(after, Filter::All)
            .then(move |recorded| {
                let this = this.clone();
                async move {
                    let recorded = recorded?;
                    if wanted(recorded.record.header().stream.category) {
                        return this.open(recorded).await;
                    }
                    Ok(committed(&recorded, Ok(vec![])))
                }
            })
            .boxed()
    }

    async fn open(&self, recorded: Recorded) -> Result<Committed, ReadError> {
        let header = recorded.record.header();
        let key = match self.keyring.get(header.key).await {
            Ok(key) => key,
            Err(KeyringError::Erased) => return Ok(committed(&recorded, Err(Unreadable::Erased))),
            Err(error) => return Err(Unavailable::new("vault", "a data key cannot be read", error).into()),
        };
        let damaged = |how: String| Ok(committed(&recorded, Err(Unreadable::Damaged(how))));
        let payload = match recorded.record.open(&key) {
            Ok(payload) => payload,
            Err(error @ OpenError::Codec(_)) => return Err(newer(error)),
            Err(error) => return damaged(error.to_string()),
        };
        let mut events = Vec::with_capacity(payload.events.len());
        for stored in &payload.events {
            match decode_any(header.stream.category, stored) {
                Ok(event) => events.push(event),
                Err(error @ DecodeError::Newer { .. }) => return Err(newer(error)),
                Err(error) => return damaged(error.to_string()),
            }
        }
        Ok(committed(&recorded, Ok(events)))
    }
}

fn newer(error: impl std::error::Error + Send + Sync + 'static) -> ReadError {
    Unavailable::new("log", "a newer build wrote to it; upgrade this one", error).into()
}

fn committed(recorded: &Recorded, events: Result<Vec<lmao_events::AnyEvent>, Unreadable>) -> Committed {
    let header = recorded.record.header().clone();
    Committed { position: recorded.position, hash: recorded.hash, header, events }
}

#[async_trait]
impl Journal for OpenedLog {
    fn read(&self, stream: StreamId, from: Version) -> BoxStream<'static, Result<Committed, ReadError>> {
        let this = self.clone();
        self.log
            .read(&stream, from)
            .then(move |recorded| {
                let this = this.clone();
                async move { this.open(recorded?).await }
            })
            .boxed()
    }

    fn follow(&self, after: Position, filter: Filter) -> BoxStream<'static, Result<Committed, ReadError>> {
        let this = self.clone();
        self.log
            .subscribe(after, filter)
            .then(move |recorded| {
                let this = this.clone();
                async move { this.open(recorded?).await }
            })
            .boxed()
    }

    async fn head(&self, stream: StreamId) -> Result<Option<Head>, ReadError> {
        Ok(self.log.last(&stream).await?.map(|last| last.head()))
    }

    async fn tail(&self) -> Result<Position, ReadError> {
        self.log.tail().await
    }

    fn log_id(&self) -> Uuid {
        self.log.id()
    }
}
