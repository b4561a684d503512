//! Live frames on core NATS: a subject for each topic, nothing stored.
//!
//! Publishing puts a frame into a bounded queue that one task empties into the connection; it never waits. What does not fit,
//! and what comes while there is no connection, is lost: frames are hints.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use lmao_events::StreamId;
use lmao_ports::{Frame, Live};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::Nats;
use crate::live::Inbox;

/// Frames that wait to be sent.
const QUEUE: usize = 4096;
/// How long a new watcher waits for the server to know of it.
const KNOWN: Duration = Duration::from_secs(1);

/// [`Live`] among all processes of a system. Clones share it.
#[derive(Debug, Clone)]
pub struct NatsLive {
    nats: Nats,
    queue: mpsc::Sender<Item>,
}

#[derive(Debug)]
enum Item {
    Frame(StreamId, Frame),
    /// All frames before this were handed to the connection.
    Reached(oneshot::Sender<()>),
}

impl NatsLive {
    /// On this connection. Must be called within a runtime.
    #[must_use]
    pub fn new(nats: &Nats) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        tokio::spawn(send_all(nats.clone(), items));
        Self { nats: nats.clone(), queue }
    }
}

/// Ends when nobody can publish any more.
async fn send_all(nats: Nats, mut items: mpsc::Receiver<Item>) {
    while let Some(item) = items.recv().await {
        match item {
            Item::Frame(topic, frame) => {
                let Ok(bytes) = rmp_serde::to_vec_named(&frame) else { continue };
                if nats.is_connected()
                    && let Err(error) = nats.client().publish(subject(&nats, &topic), bytes.into()).await
                {
                    tracing::debug!(%error, "a live frame is lost");
                }
            }
            Item::Reached(reply) => _ = reply.send(()),
        }
    }
}

fn subject(nats: &Nats, topic: &StreamId) -> String {
    nats.subject(&format!("live.{}.{}", topic.category, topic.id))
}

#[async_trait]
impl Live for NatsLive {
    fn publish(&self, topic: StreamId, frame: Frame) {
        if self.queue.try_send(Item::Frame(topic, frame)).is_err() {
            tracing::debug!("too many live frames wait to be sent; one is lost");
        }
    }

    async fn subscribe(&self, topic: StreamId) -> BoxStream<'static, Frame> {
        let begun = async {
            // What was published here before goes out before the subscription: it is not for the new watcher.
            let (reply, reached) = oneshot::channel();
            if self.queue.send(Item::Reached(reply)).await.is_ok() {
                let _ = reached.await;
            }
            let messages = self.nats.client().subscribe(subject(&self.nats, &topic)).await.ok()?;
            // The server answers in order: that nobody serves this request it says when it knows of the subscription.
            // Without an answer, or a connection, that is a little later: frames are hints.
            if self.nats.is_connected() {
                let nobody = self.nats.client().request(self.nats.subject("live"), Bytes::new());
                let _ = tokio::time::timeout(KNOWN, nobody).await;
            }
            Some(messages)
        };
        let Ok(Some(mut messages)) = tokio::time::timeout(2 * KNOWN, begun).await else {
            // The connection is stuck, or was closed for good: there is nothing to see.
            return stream::pending().boxed();
        };
        let inbox = Arc::<Inbox>::default();
        let filled = Arc::clone(&inbox);
        let pump = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                if let Ok(frame) = rmp_serde::from_slice(&message.payload) {
                    filled.put(frame);
                }
            }
        }));
        stream::unfold((inbox, pump), |(inbox, pump)| async {
            let frame = inbox.next().await;
            Some((frame, (inbox, pump)))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use lmao_events::{Category, Position};
    use lmao_ports::conformance;
    use uuid::Uuid;

    use super::{super::testing, *};

    const TOPIC: StreamId = StreamId::new(Category::Session, Uuid::from_u128(9));

    #[tokio::test]
    async fn keeps_the_ports_promises() {
        let nats = testing::empty().await;
        conformance::live::all(async || Arc::new(NatsLive::new(&nats)) as Arc<dyn Live>).await;
    }

    #[tokio::test]
    async fn frames_reach_other_processes_and_no_other_system() {
        let (nats, stranger) = (testing::empty().await, testing::empty().await);
        let other = Nats::connect(nats.url()).await.unwrap();
        let mut here = NatsLive::new(&nats).subscribe(TOPIC).await;
        let mut there = NatsLive::new(&other).subscribe(TOPIC).await;
        let frame = |n| Frame::Committed { position: Position(n) };
        let strange = NatsLive::new(&stranger);
        strange.publish(TOPIC, frame(1));
        // What was published before is on its way when a subscription stands.
        drop(strange.subscribe(TOPIC).await);
        NatsLive::new(&nats).publish(TOPIC, frame(2));
        for frames in [&mut here, &mut there] {
            let first = tokio::time::timeout(Duration::from_secs(10), frames.next()).await.unwrap();
            assert_eq!(first, Some(frame(2)));
        }
    }

    #[tokio::test]
    async fn a_slow_watcher_loses_the_oldest_only() {
        let nats = testing::empty().await;
        let live = NatsLive::new(&nats);
        let (mut slow, mut quick) = (live.subscribe(TOPIC).await, live.subscribe(TOPIC).await);
        let last = crate::live::BACKLOG as u64 * 2;
        for n in 1..=last {
            live.publish(TOPIC, Frame::Committed { position: Position(n) });
            let seen = tokio::time::timeout(Duration::from_secs(10), quick.next()).await.unwrap();
            assert_eq!(seen, Some(Frame::Committed { position: Position(n) }));
        }
        let Some(Frame::Committed { position }) = slow.next().await else { panic!("no frame") };
        assert!(position.0 > 1 && position.0 <= last - crate::live::BACKLOG as u64 + 1, "{position}");
    }
}
