//! Performing what a state owes: outside the handler, in a task of its own, its outcome coming back as a message.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use lmao_events::{Decider, Due, EffectId, Pending};
use lmao_ports::{CommandMeta, Span, trace};
use ractor::ActorRef;
use tokio::{task::AbortHandle, time::Instant};

use super::actor::{Memory, Message};
use crate::{
    metrics::AtWork,
    perform::{EffectContext, Performed},
};

/// How an effect ended.
pub(crate) enum Ended<D: Decider> {
    /// As its performer says.
    Performed(Performed<D>),
    /// With a panic.
    Panicked(String),
}

/// Where a pending effect stands, in this process.
pub(super) enum Running {
    /// It runs; dropped with the actor, or when it is no longer pending, it is aborted.
    Task { _task: AbortOnDrop },
    /// Somebody else has it; the outcome comes as a command.
    Handed,
    /// It waits for another try.
    Pause { until: Instant, _task: AbortOnDrop },
    /// It waits for the time that its state names; the waker knows it too, unless something else is due before.
    Timer { until: Instant, _task: AbortOnDrop },
}

pub(super) struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<D: Decider> Memory<D> {
    /// Makes what runs equal to what is pending.
    pub(super) fn settle(&mut self, myself: &ActorRef<Message<D>>) {
        let Some(loaded) = &self.loaded else { return };
        if self.settled == Some(loaded.head.version) {
            return;
        }
        self.settled = Some(loaded.head.version);
        let pending = &loaded.pending;
        let is_pending = |id: &EffectId| pending.iter().any(|effect| effect.id == *id);
        self.running.retain(|id, _| is_pending(id));
        self.strikes.retain(|id, _| is_pending(id));
        self.unrecorded.retain(|id, _| is_pending(id));
        let now = self.directory.stores.clock.now();
        for effect in pending {
            if self.running.contains_key(&effect.id) || self.unrecorded.contains_key(&effect.id) {
                continue;
            }
            let id = effect.id;
            let running = match effect.due {
                Due::At(time) if time > now => {
                    let (until, task) = self.wake_after(time.since(now), myself);
                    Running::Timer { until, _task: task }
                }
                _ => self.start(effect.clone(), myself),
            };
            self.running.insert(id, running);
        }
    }

    /// Whether something goes on here that nobody would go on with if the actor ended now.
    pub(super) fn is_needed(&self) -> bool {
        let any = |is: fn(&Running) -> bool| self.running.values().any(is);
        let works = any(|running| matches!(running, Running::Task { .. } | Running::Pause { .. }));
        // A stream that owes something now has no time in the waker's index, though it owe something else later.
        let keeps_time = any(|running| matches!(running, Running::Timer { .. }))
            && any(|running| matches!(running, Running::Handed));
        works || keeps_time || !self.unrecorded.is_empty()
    }

    /// Tries an effect, or the recording of its outcome, again after a pause.
    pub(super) fn retry(&mut self, effect: EffectId, pause: Duration, myself: &ActorRef<Message<D>>) {
        let (until, task) = self.wake_after(pause, myself);
        self.running.insert(effect, Running::Pause { until, _task: task });
    }

    pub(super) fn drop_expired_timers(&mut self) {
        let now = Instant::now();
        self.running.retain(|_, running| match running {
            Running::Pause { until, .. } | Running::Timer { until, .. } => *until > now,
            Running::Task { .. } | Running::Handed => true,
        });
    }

    /// On whose behalf an effect of this stream acts.
    pub(super) fn meta(&self, effect: EffectId) -> CommandMeta {
        let id = effect.global(self.stream);
        let origin = self.loaded.as_ref().and_then(|loaded| loaded.origins.get(&effect.version));
        CommandMeta {
            who: None,
            command: None,
            causation: id,
            correlation: origin.map_or(id, |origin| origin.correlation),
            traceparent: origin.and_then(|origin| origin.traceparent.clone()),
        }
    }

    fn start(&self, effect: Pending<D::Effect>, myself: &ActorRef<Message<D>>) -> Running {
        let id = effect.id;
        let head = self.loaded.as_ref().map(|loaded| loaded.head).unwrap_or_default();
        let meta = self.meta(id);
        // A decider that owes one thing only has no names for it.
        let name = || match trace::variant(&effect.effect).as_str() {
            "Effect" => format!("{} effect", D::CATEGORY).into(),
            variant => format!("{} effect {variant}", D::CATEGORY).into(),
        };
        let span = Span::of(meta.traceparent.as_deref(), name);
        span.set_with("lmao.stream", || self.stream.to_string());
        let context = EffectContext { stream: self.stream, id, head, meta: meta.within(&span).into_owned() };
        let performer = Arc::clone(&self.directory.performer);
        let seat = Arc::clone(&self.seat);
        let myself = myself.clone();
        let task = tokio::spawn(async move {
            let at_work = AtWork::begin(D::CATEGORY);
            let performing = AssertUnwindSafe(performer.perform(context, effect.effect)).catch_unwind();
            let performed = span.run(performing).await;
            let ended = performed.map_or_else(|panic| Ended::Panicked(text(panic.as_ref())), Ended::Performed);
            if let Ended::Panicked(text) = &ended {
                span.fail(text.clone());
            }
            drop((at_work, span));
            seat.tell(&myself, Message::EffectEnded { effect: id, ended });
        });
        Running::Task { _task: AbortOnDrop(task.abort_handle()) }
    }

    fn wake_after(&self, pause: Duration, myself: &ActorRef<Message<D>>) -> (Instant, AbortOnDrop) {
        let until = Instant::now() + pause;
        let seat = Arc::clone(&self.seat);
        let myself = myself.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            seat.tell(&myself, Message::Wake);
        });
        (until, AbortOnDrop(task.abort_handle()))
    }
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
