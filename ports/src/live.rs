//! Live frames: tokens and progress for whoever is watching. Hints, never truth: they may be lost, and are never stored.

use std::fmt::Debug;

use async_trait::async_trait;
use futures::stream::BoxStream;
use lmao_events::{Position, StreamId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a watcher is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    /// A piece of an answer that is being written.
    Token {
        /// The message that is answered.
        message_id: Uuid,
        /// The piece's number, from 0 in each attempt: a gap means frames were lost, 0 begins anew.
        n: u32,
        /// The text.
        text: String,
    },
    /// What is being done.
    Status {
        /// The message that is answered, or the document.
        of: Uuid,
        /// A word: `retrieving`, `synthesizing`, `embedding`.
        state: String,
        /// For people.
        text: String,
    },
    /// The stream has a new commit: read the log.
    Committed {
        /// Its position.
        position: Position,
    },
}

/// Publish and subscribe by stream.
#[async_trait]
pub trait Live: Debug + Send + Sync {
    /// Shows a frame to those who watch now. Never waits for them.
    fn publish(&self, topic: StreamId, frame: Frame);

    /// Frames from now on. A watcher that is too slow loses the oldest. Cancel-safe.
    async fn subscribe(&self, topic: StreamId) -> BoxStream<'static, Frame>;
}
