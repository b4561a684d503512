//! The supervisor of one category's actors: a failure touches its own stream only, which is woken again after a pause,
//! and parked when it keeps failing.

use std::{
    collections::{HashMap, VecDeque},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use lmao_events::{Decider, StreamId};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;

use super::directory::Directory;
use crate::metrics;

/// Failures of one stream's actor within [`WINDOW`] before the stream is parked.
const MAX_FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

pub(crate) struct Supervisor<D>(pub(crate) PhantomData<fn() -> D>);

pub(crate) struct Watch<D: Decider> {
    directory: Arc<Directory<D>>,
    failures: HashMap<StreamId, VecDeque<Instant>>,
}

#[async_trait]
impl<D: Decider> Actor for Supervisor<D> {
    type Msg = ();
    type State = Watch<D>;
    type Arguments = Arc<Directory<D>>;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        directory: Self::Arguments,
    ) -> Result<Watch<D>, ActorProcessingErr> {
        directory.supervised_by(myself.get_cell());
        Ok(Watch { directory, failures: HashMap::new() })
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        watch: &mut Watch<D>,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(actor, ..) => {
                watch.directory.ended(actor.get_id());
            }
            SupervisionEvent::ActorFailed(actor, reason) => {
                if let Some(stream) = watch.directory.ended(actor.get_id()) {
                    watch.failed(stream, &reason.to_string()).await;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl<D: Decider> Watch<D> {
    async fn failed(&mut self, stream: StreamId, reason: &str) {
        let now = Instant::now();
        self.failures.retain(|_, times| times.back().is_some_and(|last| now.duration_since(*last) < WINDOW));
        let times = self.failures.entry(stream).or_default();
        times.push_back(now);
        while times.front().is_some_and(|first| now.duration_since(*first) >= WINDOW) {
            times.pop_front();
        }
        tracing::warn!(%stream, reason, failures = times.len(), "an actor failed");
        if times.len() >= MAX_FAILURES {
            self.failures.remove(&stream);
            self.directory.park(stream, reason).await;
            return;
        }
        metrics::restarted(D::CATEGORY);
        let pause = Duration::from_millis(100 << times.len());
        self.directory.wake_later(stream, pause);
    }
}
