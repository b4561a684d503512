//! Where the live actors of one category are: found or spawned under one lock, gated, passivated, parked.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    marker::PhantomData,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lmao_events::{Decider, StreamId};
use lmao_ports::{CommandError, CommandMeta, Receipt, Unavailable};
use ractor::{ActorCell, ActorId, ActorRef, ActorRuntime};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

use super::actor::{Envelope, Message, Shell};
use crate::{
    metrics,
    perform::Perform,
    placement::{Buckets, Owned},
    runtime::{Limits, Stores},
};

/// Deliveries of a command whose actor ended before it began with it.
const MAX_DELIVERIES: u32 = 8;

/// Whether a command passes the gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Admission {
    /// A client's: bounded, refused when too many wait.
    Gated,
    /// An effect's: bounded by the number of effects.
    Internal,
}

/// Why a command came to nothing here.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// Nothing happened: another node works for the stream.
    NotMine,
    /// What its sender is told.
    Failed(CommandError),
}

impl From<CommandError> for Undelivered {
    fn from(error: CommandError) -> Self {
        Self::Failed(error)
    }
}

impl From<Unavailable> for Undelivered {
    fn from(error: Unavailable) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Undelivered> for CommandError {
    fn from(undelivered: Undelivered) -> Self {
        match undelivered {
            Undelivered::Failed(error) => error,
            Undelivered::NotMine => Unavailable::plain("placement", "another node works for this; try again").into(),
        }
    }
}

/// How the actors of buckets that are another node's now are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// After the message they are at; what they perform is broken off.
    AtOnce,
    /// Once they perform nothing any more.
    WhenDone,
}

/// An actor's place in the directory: counts what waits for it.
#[derive(Debug)]
pub(crate) struct Seat {
    waiting: AtomicUsize,
    used: Mutex<Instant>,
}

impl Seat {
    fn new() -> Self {
        Self { waiting: AtomicUsize::new(0), used: Mutex::new(Instant::now()) }
    }

    /// A message was taken from the mailbox.
    pub(super) fn handled(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Sends a message and counts it; `false` when the actor has ended.
    pub(super) fn tell<D: Decider>(&self, actor: &ActorRef<Message<D>>, message: Message<D>) -> bool {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let sent = actor.send_message(message).is_ok();
        if !sent {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        sent
    }

    fn idle(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

struct Entry<D: Decider> {
    actor: ActorRef<Message<D>>,
    seat: Arc<Seat>,
}

/// Live actors by stream, and the streams of actors for when they end.
struct Entries<D: Decider> {
    by_stream: BTreeMap<StreamId, Entry<D>>,
    by_actor: HashMap<ActorId, StreamId>,
}

impl<D: Decider> Entries<D> {
    fn insert(&mut self, stream: StreamId, entry: Entry<D>) {
        self.by_actor.insert(entry.actor.get_id(), stream);
        if let Some(old) = self.by_stream.insert(stream, entry) {
            self.by_actor.remove(&old.actor.get_id());
        }
    }

    fn remove(&mut self, stream: StreamId) {
        if let Some(entry) = self.by_stream.remove(&stream) {
            self.by_actor.remove(&entry.actor.get_id());
        }
    }
}

/// The live actors of one decider.
pub(crate) struct Directory<D: Decider> {
    pub(crate) stores: Arc<Stores>,
    owned: Arc<Owned>,
    pub(crate) performer: Arc<dyn Perform<D>>,
    limits: Limits,
    gate: Arc<Semaphore>,
    supervisor: OnceLock<ActorCell>,
    /// No more deliveries: the runtime is ending.
    closed: AtomicBool,
    entries: Mutex<Entries<D>>,
    parked: Mutex<HashMap<StreamId, String>>,
    /// Streams that this process can do nothing for.
    left_alone: Mutex<HashSet<StreamId>>,
}

impl<D: Decider> Directory<D> {
    pub(crate) fn new(
        stores: Arc<Stores>,
        owned: Arc<Owned>,
        performer: Arc<dyn Perform<D>>,
        limits: Limits,
        gate: Arc<Semaphore>,
        parked: HashMap<StreamId, String>,
    ) -> Arc<Self> {
        let entries = Mutex::new(Entries { by_stream: BTreeMap::new(), by_actor: HashMap::new() });
        let parked = Mutex::new(parked);
        Arc::new(Self {
            stores,
            owned,
            performer,
            limits,
            gate,
            supervisor: OnceLock::new(),
            closed: AtomicBool::new(false),
            entries,
            parked,
            left_alone: Mutex::default(),
        })
    }

    /// Names the actor that actors of this directory are linked to.
    pub(crate) fn supervised_by(&self, supervisor: ActorCell) {
        // Set once, by the runtime that made the directory.
        let _ = self.supervisor.set(supervisor);
    }

    /// Takes no more deliveries, so that no actor is spawned while others are ended, and ends all, in the order of streams: a
    /// simulation is replayed exactly.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.lock().by_stream.values().for_each(|entry| entry.actor.stop(None));
    }

    /// Sends a command and waits for its receipt.
    pub(crate) async fn request(
        self: &Arc<Self>,
        stream: StreamId,
        command: D::Command,
        meta: CommandMeta,
        admission: Admission,
    ) -> Result<Receipt, Undelivered> {
        for _ in 0..MAX_DELIVERIES {
            let permit = match admission {
                Admission::Internal => None,
                Admission::Gated => Some(Arc::clone(&self.gate).try_acquire_owned().map_err(|_| refused::<D>())?),
            };
            let (reply, receipt) = oneshot::channel();
            let taken = Arc::new(AtomicBool::new(false));
            let envelope = Envelope {
                command: command.clone(),
                meta: meta.clone(),
                reply,
                taken: Arc::clone(&taken),
                _permit: permit,
            };
            self.deliver(stream, Message::Command(Box::new(envelope)), admission)?;
            match receipt.await {
                Ok(outcome) => return Ok(outcome?),
                Err(_) if taken.load(Ordering::Acquire) => return Err(CommandError::Unknown.into()),
                // The actor ended with the command still in its mailbox: nothing happened, send it again.
                Err(_) => tokio::task::yield_now().await,
            }
        }
        Err(overloaded().into())
    }

    /// Tells a stream's actor that something may be due, spawning it if need be.
    pub(crate) fn wake(self: &Arc<Self>, stream: StreamId) {
        if self.left_alone.lock().unwrap_or_else(PoisonError::into_inner).contains(&stream) {
            return;
        }
        // A parked stream stays asleep until somebody unparks it.
        let _ = self.deliver(stream, Message::Wake, Admission::Internal);
    }

    /// Wakes a stream after a pause.
    pub(super) fn wake_later(self: &Arc<Self>, stream: StreamId, pause: Duration) {
        let directory = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            if let Some(directory) = directory.upgrade() {
                directory.wake(stream);
            }
        });
    }

    fn deliver(
        self: &Arc<Self>,
        stream: StreamId,
        message: Message<D>,
        admission: Admission,
    ) -> Result<(), Undelivered> {
        if self.closed.load(Ordering::Acquire) {
            return Err(CommandError::ShuttingDown.into());
        }
        if let Some(reason) = self.lock_parked().get(&stream) {
            return Err(CommandError::Parked { stream, reason: reason.clone() }.into());
        }
        let mut entries = self.lock();
        // Under the lock that a release takes: no actor is spawned behind it.
        if !self.owned.now().hold(&stream) {
            return Err(Undelivered::NotMine);
        }
        if let Some(entry) = entries.by_stream.get(&stream) {
            let waiting = entry.seat.waiting.load(Ordering::Acquire);
            if admission == Admission::Gated && waiting >= self.limits.waiting_per_stream {
                return Err(refused::<D>().into());
            }
            // An actor that has ended may not be removed yet: it gets a successor.
            if entry.actor.get_status() < ractor::ActorStatus::Stopping {
                // Lost if it ends just now: the requester sees its reply dropped and delivers again.
                entry.seat.tell(&entry.actor, message);
                return Ok(());
            }
        }
        let entry = self.spawn(stream)?;
        entry.seat.tell(&entry.actor, message);
        entries.insert(stream, entry);
        Ok(())
    }

    fn spawn(self: &Arc<Self>, stream: StreamId) -> Result<Entry<D>, CommandError> {
        let supervisor = self.supervisor.get().ok_or(CommandError::ShuttingDown)?.clone();
        let seat = Arc::new(Seat::new());
        let arguments = (stream, Arc::clone(self), Arc::clone(&seat));
        let (actor, _) = ActorRuntime::spawn_linked_instant(None, Shell::<D>(PhantomData), arguments, supervisor)
            .map_err(|error| Unavailable::new("actors", "an actor cannot be spawned", error))?;
        Ok(Entry { actor, seat })
    }

    /// Removes an actor that wants to end; `false` when messages wait for it.
    pub(super) fn leave(&self, stream: StreamId, seat: &Arc<Seat>) -> bool {
        let mut entries = self.lock();
        match entries.by_stream.get(&stream) {
            Some(entry) if Arc::ptr_eq(&entry.seat, seat) => {
                if seat.waiting.load(Ordering::Acquire) > 0 {
                    return false;
                }
                entries.remove(stream);
                true
            }
            _ => true,
        }
    }

    /// Forgets an actor that has ended; the stream it had, if it was still known.
    pub(super) fn ended(&self, actor: ActorId) -> Option<StreamId> {
        let mut entries = self.lock();
        let stream = entries.by_actor.remove(&actor)?;
        entries.remove(stream);
        Some(stream)
    }

    /// Asks the actors that nobody has used for a while to end, and counts those that are live.
    pub(crate) fn sweep(&self, idle: Duration) {
        let entries = self.lock();
        for entry in entries.by_stream.values().filter(|entry| entry.seat.idle() >= idle) {
            entry.seat.tell(&entry.actor, Message::Passivate);
        }
        metrics::live(D::CATEGORY, entries.by_stream.len());
    }

    /// Ends the actors of buckets that are another node's, and forgets what is set aside there: that node knows better.
    pub(crate) fn release(&self, lost: Buckets, how: Release) {
        self.lock_parked().retain(|stream, _| !lost.hold(stream));
        for (_, entry) in self.lock().by_stream.iter().filter(|(stream, _)| lost.hold(stream)) {
            match how {
                Release::AtOnce => entry.actor.stop(None),
                Release::WhenDone => {
                    entry.seat.tell(&entry.actor, Message::Passivate);
                }
            }
        }
    }

    /// Knows of a stream that it was set aside, by whoever worked for it before.
    pub(crate) fn set_aside(&self, stream: StreamId, reason: String) {
        self.lock_parked().insert(stream, reason);
    }

    /// The newest set of events that every live node reads.
    pub(super) fn everyone_reads(&self) -> u32 {
        self.owned.everyone_reads()
    }

    /// A newer build wrote to the stream: this one leaves its bucket to other nodes, or the stream alone.
    pub(super) fn give_up(&self, stream: StreamId) {
        if !self.owned.give_up(stream.bucket()) {
            self.leave_alone(stream);
        }
    }

    /// Whether a stream has a live actor.
    pub(crate) fn is_live(&self, stream: StreamId) -> bool {
        self.lock().by_stream.contains_key(&stream)
    }

    /// From now on a stream is not woken any more: its person was erased, or only a newer build reads it. Either stays so while
    /// this process lives; whoever sends it a command is told.
    pub(super) fn leave_alone(&self, stream: StreamId) {
        self.left_alone.lock().unwrap_or_else(PoisonError::into_inner).insert(stream);
    }

    /// Sets a stream aside, durably as far as the snapshot store allows.
    pub(super) async fn park(&self, stream: StreamId, reason: &str) {
        tracing::error!(%stream, reason, "stream parked");
        metrics::parked(D::CATEGORY);
        self.lock_parked().insert(stream, reason.to_owned());
        let value = Bytes::from(reason.to_owned());
        if let Err(error) = self.stores.snapshots.put(&parked_key(stream), value).await {
            tracing::warn!(%stream, %error, "the parking of a stream was not stored");
        }
        // Not in the way of the actor that ends: whoever waits may be sending it something just now.
        let (performer, reason) = (Arc::clone(&self.performer), reason.to_owned());
        tokio::spawn(async move { performer.parked(stream, &reason).await });
    }

    pub(crate) fn parked(&self) -> Vec<(StreamId, String)> {
        self.lock_parked().iter().map(|(stream, reason)| (*stream, reason.clone())).collect()
    }

    pub(crate) async fn unpark(self: &Arc<Self>, stream: StreamId) -> Result<(), Unavailable> {
        self.stores.snapshots.delete(&parked_key(stream)).await?;
        self.lock_parked().remove(&stream);
        self.wake(stream);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Entries<D>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_parked(&self) -> MutexGuard<'_, HashMap<StreamId, String>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where it is remembered that a stream is parked.
pub(crate) const PARKED: &str = "parked/";

fn parked_key(stream: StreamId) -> String {
    format!("{PARKED}{stream}")
}

fn refused<D: Decider>() -> CommandError {
    metrics::refused(D::CATEGORY);
    overloaded()
}

fn overloaded() -> CommandError {
    CommandError::Overloaded { retry_after: Duration::from_secs(1) }
}
