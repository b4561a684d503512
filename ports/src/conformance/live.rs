//! What every [`Live`] promises.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use lmao_events::{Category, Position, StreamId};
use uuid::Uuid;

use crate::{Frame, Live};

/// How long a frame may take before the suite gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The whole suite; `new` opens an empty one.
pub async fn all(new: impl AsyncFn() -> Arc<dyn Live>) {
    frames_reach_all_watchers_in_order(&*new().await).await;
    topics_are_apart(&*new().await).await;
    nothing_from_before_is_shown(&*new().await).await;
    a_dropped_watcher_does_not_stop_the_others(&*new().await).await;
}

fn topic(n: u128) -> StreamId {
    StreamId::new(Category::Session, Uuid::from_u128(n))
}

fn frame(n: u32) -> Frame {
    Frame::Token { message_id: Uuid::from_u128(7), n, text: format!("token {n}") }
}

async fn next(frames: &mut (impl StreamExt<Item = Frame> + Unpin)) -> Frame {
    tokio::time::timeout(PATIENCE, frames.next()).await.expect("a frame in time").expect("a frame")
}

/// Each watcher sees each frame once, in the order published.
pub async fn frames_reach_all_watchers_in_order(live: &dyn Live) {
    let (mut one, mut two) = (live.subscribe(topic(1)).await, live.subscribe(topic(1)).await);
    for n in 0..100 {
        live.publish(topic(1), frame(n));
    }
    for n in 0..100 {
        assert_eq!(next(&mut one).await, frame(n));
        assert_eq!(next(&mut two).await, frame(n));
    }
}

/// A watcher sees its own topic only.
pub async fn topics_are_apart(live: &dyn Live) {
    let (mut one, mut two) = (live.subscribe(topic(1)).await, live.subscribe(topic(2)).await);
    live.publish(topic(1), frame(1));
    live.publish(topic(2), Frame::Committed { position: Position(9) });
    live.publish(topic(1), frame(2));
    assert_eq!(next(&mut one).await, frame(1));
    assert_eq!(next(&mut one).await, frame(2));
    assert_eq!(next(&mut two).await, Frame::Committed { position: Position(9) });
}

/// Frames begin with the subscription.
pub async fn nothing_from_before_is_shown(live: &dyn Live) {
    live.publish(topic(1), frame(1));
    let mut frames = live.subscribe(topic(1)).await;
    assert!(frames.next().now_or_never().is_none());
    live.publish(topic(1), frame(2));
    assert_eq!(next(&mut frames).await, frame(2));
}

/// One watcher's end is nobody else's, and watching again works.
pub async fn a_dropped_watcher_does_not_stop_the_others(live: &dyn Live) {
    let (mut one, two) = (live.subscribe(topic(1)).await, live.subscribe(topic(1)).await);
    drop(two);
    live.publish(topic(1), frame(1));
    assert_eq!(next(&mut one).await, frame(1));
    drop(one);
    live.publish(topic(1), frame(2));
    let mut again = live.subscribe(topic(1)).await;
    live.publish(topic(1), frame(3));
    assert_eq!(next(&mut again).await, frame(3));
}
