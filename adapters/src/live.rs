//! Live frames over in-process broadcast channels.
//!
//! A topic exists only while somebody watches it: publishing to nobody costs one lookup and keeps nothing. It knows no
//! actors and no sockets; what a watcher does with a frame is not its business.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use lmao_events::StreamId;
use lmao_ports::{Frame, Live};
use tokio::sync::broadcast::{self, error::RecvError};

/// Frames that a watcher may lag behind before it loses the oldest.
const BACKLOG: usize = 512;

type Topics = Arc<RwLock<HashMap<StreamId, broadcast::Sender<Frame>>>>;

/// [`Live`] within one process.
#[derive(Debug, Clone, Default)]
pub struct BroadcastLive {
    topics: Topics,
}

impl BroadcastLive {
    /// Without any topic.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Topics that are being watched now.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A watcher. The receiver is declared first and so dropped first: the lease then sees whether it was the last.
struct Watch {
    frames: broadcast::Receiver<Frame>,
    _lease: Lease,
}

/// Removes the topic when its last watcher goes.
struct Lease {
    topics: Topics,
    topic: StreamId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if topics.get(&self.topic).is_some_and(|sender| sender.receiver_count() == 0) {
            topics.remove(&self.topic);
            if topics.capacity() > 64 && topics.len() < topics.capacity() / 4 {
                topics.shrink_to_fit();
            }
        }
    }
}

#[async_trait]
impl Live for BroadcastLive {
    fn publish(&self, topic: StreamId, frame: Frame) {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = topics.get(&topic) {
            // An error means that the last watcher is just leaving: nobody to show it to.
            let _ = sender.send(frame);
        }
    }

    async fn subscribe(&self, topic: StreamId) -> BoxStream<'static, Frame> {
        let frames = {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            topics.entry(topic).or_insert_with(|| broadcast::Sender::new(BACKLOG)).subscribe()
        };
        let watch = Watch { frames, _lease: Lease { topics: Arc::clone(&self.topics), topic } };
        futures::stream::unfold(watch, |mut watch| async {
            loop {
                match watch.frames.recv().await {
                    Ok(frame) => return Some((frame, watch)),
                    // The port's promise: too slow a watcher loses the oldest and goes on.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use lmao_events::{Category, Position};
    use lmao_ports::conformance;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn keeps_the_ports_promises() {
        conformance::live::all(async || Arc::new(BroadcastLive::new()) as Arc<dyn Live>).await;
    }

    #[tokio::test]
    async fn topics_without_watchers_keep_nothing() {
        let live = BroadcastLive::new();
        for n in 0..1_000_000 {
            let topic = StreamId::new(Category::Session, Uuid::from_u128(n));
            live.publish(topic, Frame::Committed { position: Position(1) });
        }
        assert_eq!(live.topics(), 0);
        let topic = StreamId::new(Category::Session, Uuid::from_u128(1));
        let (one, two) = (live.subscribe(topic).await, live.subscribe(topic).await);
        assert_eq!(live.topics(), 1);
        drop(one);
        assert_eq!(live.topics(), 1);
        drop(two);
        assert_eq!(live.topics(), 0);
    }

    #[tokio::test]
    async fn a_slow_watcher_loses_the_oldest_only() {
        let live = BroadcastLive::new();
        let topic = StreamId::new(Category::Session, Uuid::from_u128(1));
        let mut frames = live.subscribe(topic).await;
        let last = BACKLOG as u64 * 2;
        for n in 1..=last {
            live.publish(topic, Frame::Committed { position: Position(n) });
        }
        let first = frames.next().await.unwrap();
        assert_eq!(first, Frame::Committed { position: Position(last - BACKLOG as u64 + 1) });
    }
}
