//! The actor of one stream: takes commands one after the other, and performs what its state owes.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use lmao_events::{Decider, EffectId, StreamId, Version};
use lmao_ports::{CommandError, CommandMeta, Receipt, Unavailable};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    commit::{CommitError, commit},
    directory::{Directory, Seat},
    effects::{Ended, Running},
    loaded::{LoadError, Loaded, keeps_snapshots, snapshot_key},
};
use crate::{metrics, perform::Performed};

/// Commits between snapshots: as many as one read of the log brings. Reading them again costs less than a snapshot.
const SNAPSHOT_EVERY: u64 = 16;
/// Failures of one effect, panics or refused outcomes, before the stream is parked.
const MAX_STRIKES: u32 = 5;

/// A command on its way to a stream.
pub(crate) struct Envelope<D: Decider> {
    pub(crate) command: D::Command,
    pub(crate) meta: CommandMeta,
    pub(crate) reply: oneshot::Sender<Result<Receipt, CommandError>>,
    /// Set when the actor begins with it: from then on a lost reply is an unknown outcome.
    pub(crate) taken: Arc<AtomicBool>,
    /// The place in the gate that a client's command holds.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

/// What a stream's actor is told.
pub(crate) enum Message<D: Decider> {
    /// Decide.
    Command(Box<Envelope<D>>),
    /// An effect ended.
    EffectEnded { effect: EffectId, ended: Ended<D> },
    /// Something may be due.
    Wake,
    /// Nobody needs the actor: end, unless something is going on.
    Passivate,
}

pub(crate) struct Shell<D>(pub(crate) PhantomData<fn() -> D>);

/// The actor's memory: nothing in it is worth keeping.
pub(crate) struct Memory<D: Decider> {
    pub(super) stream: StreamId,
    pub(super) directory: Arc<Directory<D>>,
    pub(super) seat: Arc<Seat>,
    pub(super) loaded: Option<Loaded<D>>,
    /// The version that `running` was last made to fit.
    pub(super) settled: Option<Version>,
    pub(super) running: BTreeMap<EffectId, Running>,
    pub(super) strikes: BTreeMap<EffectId, u32>,
    /// Outcomes that could not be recorded yet, with the pause before the last try.
    pub(super) unrecorded: BTreeMap<EffectId, (D::Command, Duration)>,
}

#[async_trait]
impl<D: Decider> Actor for Shell<D> {
    type Msg = Message<D>;
    type State = Memory<D>;
    type Arguments = (StreamId, Arc<Directory<D>>, Arc<Seat>);

    async fn pre_start(
        &self,
        _: ActorRef<Message<D>>,
        (stream, directory, seat): Self::Arguments,
    ) -> Result<Memory<D>, ActorProcessingErr> {
        Ok(Memory {
            stream,
            directory,
            seat,
            loaded: None,
            settled: None,
            running: BTreeMap::new(),
            strikes: BTreeMap::new(),
            unrecorded: BTreeMap::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message<D>>,
        message: Message<D>,
        memory: &mut Memory<D>,
    ) -> Result<(), ActorProcessingErr> {
        memory.seat.handled();
        match message {
            Message::Command(envelope) => memory.command(*envelope, &myself).await?,
            Message::EffectEnded { effect, ended } => memory.ended(effect, ended, &myself).await?,
            Message::Wake => memory.wake(&myself).await?,
            Message::Passivate => memory.passivate(&myself).await,
        }
        Ok(())
    }
}

impl<D: Decider> Memory<D> {
    async fn command(
        &mut self,
        envelope: Envelope<D>,
        myself: &ActorRef<Message<D>>,
    ) -> Result<(), ActorProcessingErr> {
        envelope.taken.store(true, Ordering::Release);
        let (stores, reads) = (&self.directory.stores, self.directory.everyone_reads());
        let outcome = commit(stores, self.stream, &mut self.loaded, &envelope.command, &envelope.meta, reads).await;
        let (reply, result) = match outcome {
            Ok(decided) => (Ok(decided.receipt), Ok(())),
            Err(CommitError::Answer(error)) => (Err(error), Ok(())),
            Err(CommitError::Newer(error)) => {
                self.directory.give_up(self.stream);
                myself.stop(None);
                let newer = Unavailable::new("log", "a newer build wrote to this; upgrade this node", error);
                (Err(newer.into()), Ok(()))
            }
            Err(CommitError::Broken(reason)) => {
                self.directory.park(self.stream, &reason).await;
                (Err(CommandError::Parked { stream: self.stream, reason: reason.clone() }), Err(reason))
            }
        };
        // The requester may have gone: the log is what counts.
        let _ = envelope.reply.send(reply);
        result?;
        if self.loaded.is_none() {
            // Nobody knows what the log holds now: look again soon, since it may owe something.
            self.directory.wake_later(self.stream, Duration::from_millis(200));
        }
        self.save_if_due().await;
        self.settle(myself);
        Ok(())
    }

    async fn ended(
        &mut self,
        effect: EffectId,
        ended: Ended<D>,
        myself: &ActorRef<Message<D>>,
    ) -> Result<(), ActorProcessingErr> {
        match ended {
            Ended::Performed(Performed::Record(command)) => return self.record(effect, command, myself).await,
            Ended::Performed(Performed::Handed) => {
                self.running.insert(effect, Running::Handed);
            }
            Ended::Performed(Performed::Later(pause)) => self.retry(effect, pause, myself),
            Ended::Panicked(reason) => self.strike(effect, &reason, myself).await?,
        }
        Ok(())
    }

    /// Records an effect's outcome; keeps it for another try when the log cannot take it now.
    async fn record(
        &mut self,
        effect: EffectId,
        command: D::Command,
        myself: &ActorRef<Message<D>>,
    ) -> Result<(), ActorProcessingErr> {
        let meta = self.meta(effect);
        let (stores, reads) = (&self.directory.stores, self.directory.everyone_reads());
        match commit(stores, self.stream, &mut self.loaded, &command, &meta, reads).await {
            Ok(_) => {
                self.running.remove(&effect);
                self.strikes.remove(&effect);
                self.unrecorded.remove(&effect);
                self.save_if_due().await;
                self.settle(myself);
            }
            Err(CommitError::Broken(reason)) => {
                self.directory.park(self.stream, &reason).await;
                return Err(reason.into());
            }
            Err(CommitError::Newer(_)) => {
                self.directory.give_up(self.stream);
                myself.stop(None);
            }
            Err(CommitError::Answer(CommandError::Rejected(rejection))) => {
                let reason = format!("an effect's outcome was refused: {rejection}");
                self.strike(effect, &reason, myself).await?;
            }
            Err(CommitError::Answer(CommandError::Erased)) => {
                self.directory.leave_alone(self.stream);
                myself.stop(None);
            }
            Err(CommitError::Answer(error)) => {
                tracing::warn!(stream = %self.stream, %error, "an outcome cannot be recorded yet");
                let pause = self.unrecorded.get(&effect).map_or(Duration::from_millis(100), |(_, pause)| *pause * 2);
                let pause = pause.min(Duration::from_secs(10));
                self.unrecorded.insert(effect, (command, pause));
                self.retry(effect, pause, myself);
            }
        }
        Ok(())
    }

    async fn wake(&mut self, myself: &ActorRef<Message<D>>) -> Result<(), ActorProcessingErr> {
        if self.loaded.is_none() {
            match Loaded::load(&self.directory.stores, self.stream).await {
                Ok(loaded) => self.loaded = Some(loaded),
                Err(LoadError::Damaged(reason)) => {
                    self.directory.park(self.stream, &reason).await;
                    return Err(reason.into());
                }
                // What is erased owes nothing.
                Err(LoadError::Erased) => {
                    self.directory.leave_alone(self.stream);
                    myself.stop(None);
                    return Ok(());
                }
                // What only a newer build reads is not ours.
                Err(LoadError::Newer(error)) => {
                    tracing::error!(stream = %self.stream, %error, "a newer build wrote to the stream");
                    self.directory.give_up(self.stream);
                    myself.stop(None);
                    return Ok(());
                }
                // Not this stream's fault: no failure, only a later try.
                Err(LoadError::Unavailable(error)) => {
                    tracing::warn!(stream = %self.stream, %error, "a stream cannot be loaded now");
                    self.directory.wake_later(self.stream, Duration::from_secs(1));
                    return Ok(());
                }
            }
        }
        self.settled = None;
        self.drop_expired_timers();
        let due: Vec<_> = self.unrecorded.iter().filter(|(id, _)| !self.running.contains_key(id)).collect();
        let due: Vec<_> = due.into_iter().map(|(id, (command, _))| (*id, command.clone())).collect();
        for (effect, command) in due {
            self.record(effect, command, myself).await?;
        }
        self.settle(myself);
        Ok(())
    }

    async fn strike(
        &mut self,
        effect: EffectId,
        reason: &str,
        myself: &ActorRef<Message<D>>,
    ) -> Result<(), ActorProcessingErr> {
        metrics::failed(D::CATEGORY);
        let strikes = self.strikes.entry(effect).or_default();
        *strikes += 1;
        tracing::error!(stream = %self.stream, reason, strikes, "an effect failed");
        if *strikes >= MAX_STRIKES {
            self.directory.park(self.stream, reason).await;
            return Err(reason.to_owned().into());
        }
        let pause = Duration::from_millis(100 << *strikes);
        self.unrecorded.remove(&effect);
        self.retry(effect, pause, myself);
        Ok(())
    }

    async fn save_if_due(&mut self) {
        let Some(loaded) = &mut self.loaded else { return };
        let due = loaded.head.version.0 >= loaded.saved.0 + SNAPSHOT_EVERY;
        if !due || !keeps_snapshots(self.stream.category) {
            return;
        }
        let Some(bytes) = loaded.encode(&self.directory.stores, self.stream).await else { return };
        loaded.saved = loaded.head.version;
        let snapshots = Arc::clone(&self.directory.stores.snapshots);
        let key = snapshot_key(self.stream);
        tokio::spawn(async move {
            if let Err(error) = snapshots.put(&key, Bytes::from(bytes)).await {
                tracing::warn!(key, %error, "a snapshot was not stored");
            }
        });
    }

    /// Ends the actor unless a message waits or something is going on that nobody else would wake it for.
    async fn passivate(&mut self, myself: &ActorRef<Message<D>>) {
        if self.is_needed() || !self.directory.leave(self.stream, &self.seat) {
            return;
        }
        myself.stop(None);
    }
}
