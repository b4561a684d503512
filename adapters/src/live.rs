//! Live frames within one process: an inbox for each watcher, which holds what has not been looked at yet.
//!
//! A topic exists only while somebody watches it: publishing to nobody costs one lookup and keeps nothing. An inbox takes room
//! for what is in it, no more: each chat turn opens one, and most get a frame or two. It knows no actors and no sockets; what
//! a watcher does with a frame is not its business.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use lmao_events::StreamId;
use lmao_ports::{Frame, Live};
use tokio::sync::Notify;

/// Frames that a watcher may lag behind before it loses the oldest.
pub(crate) const BACKLOG: usize = 512;

type Topics = Arc<RwLock<HashMap<StreamId, Vec<Arc<Inbox>>>>>;

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

/// What one watcher has not looked at.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    frames: Mutex<VecDeque<Frame>>,
    arrived: Notify,
}

impl Inbox {
    pub(crate) fn put(&self, frame: Frame) {
        let mut frames = self.frames();
        if frames.len() == BACKLOG {
            frames.pop_front();
        }
        frames.push_back(frame);
        drop(frames);
        self.arrived.notify_one();
    }

    /// The next frame. One watcher only: whoever finds nothing is told of the next.
    pub(crate) async fn next(&self) -> Frame {
        loop {
            if let Some(frame) = self.frames().pop_front() {
                return frame;
            }
            self.arrived.notified().await;
        }
    }

    fn frames(&self) -> MutexGuard<'_, VecDeque<Frame>> {
        // Nothing panics half-way through a change of it.
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watcher; the topic goes with its last one.
struct Watch {
    topics: Topics,
    topic: StreamId,
    inbox: Arc<Inbox>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let Some(inboxes) = topics.get_mut(&self.topic) else { return };
        inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
        if inboxes.is_empty() {
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
        for inbox in topics.get(&topic).into_iter().flatten() {
            inbox.put(frame.clone());
        }
    }

    async fn subscribe(&self, topic: StreamId) -> BoxStream<'static, Frame> {
        let inbox = Arc::<Inbox>::default();
        self.topics.write().unwrap_or_else(PoisonError::into_inner).entry(topic).or_default().push(Arc::clone(&inbox));
        let watch = Watch { topics: Arc::clone(&self.topics), topic, inbox };
        futures::stream::unfold(watch, |watch| async {
            let frame = watch.inbox.next().await;
            Some((frame, watch))
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
