//! The buckets that this process works for, as its actors and its waker see them, and how they follow the table.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::watch;

use super::{Buckets, Cluster};
use crate::dispatch::Core;

/// The buckets that this process works for now.
#[derive(Debug)]
pub(crate) struct Owned {
    now: watch::Sender<Buckets>,
    /// Those that it cannot work for, unless it is alone: then there is nobody to give them to.
    given_up: Option<watch::Sender<Buckets>>,
    /// The newest set of events that every live node reads.
    everyone_reads: AtomicU32,
}

impl Owned {
    /// All buckets, for ever: there is no other process.
    pub(crate) fn alone() -> Self {
        Self { now: watch::Sender::new(Buckets::ALL), given_up: None, everyone_reads: AtomicU32::new(u32::MAX) }
    }

    /// None yet: they follow the table.
    pub(crate) fn placed() -> Self {
        let given_up = Some(watch::Sender::new(Buckets::NONE));
        Self { now: watch::Sender::new(Buckets::NONE), given_up, everyone_reads: AtomicU32::new(0) }
    }

    pub(crate) fn now(&self) -> Buckets {
        *self.now.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Buckets> {
        self.now.subscribe()
    }

    /// The newest set of events that may be written now; no limit for who is alone. What is in the first set always may.
    pub(crate) fn everyone_reads(&self) -> u32 {
        self.everyone_reads.load(Ordering::Relaxed)
    }

    /// Tells those who watch, if that is new.
    fn set(&self, buckets: Buckets) {
        self.now.send_if_modified(|now| std::mem::replace(now, buckets) != buckets);
    }

    /// From now on another node is to work for `bucket`; `false` when there can be none.
    pub(crate) fn give_up(&self, bucket: u8) -> bool {
        let Some(given_up) = &self.given_up else { return false };
        given_up.send_if_modified(|buckets| {
            let is_new = !buckets.contains(bucket);
            buckets.insert(bucket);
            is_new
        });
        true
    }
}

/// Makes what `core` works for follow the table, without end.
pub(crate) async fn follow(core: Weak<Core>, owned: Arc<Owned>, cluster: Cluster) {
    let Some(given_up) = &owned.given_up else { return };
    let (mut table, mut given_up) = (cluster.watch(), given_up.subscribe());
    loop {
        let refused = *given_up.borrow_and_update();
        let assigned = {
            let table = table.borrow_and_update();
            // While nobody is seen to live, what was known holds.
            if let Some(reads) = table.everyone_reads() {
                owned.everyone_reads.store(reads, Ordering::Relaxed);
            }
            table.buckets_of(cluster.me()).minus(refused)
        };
        let (lost, gained) = (owned.now().minus(assigned), assigned.minus(owned.now()));
        if !lost.is_empty() {
            owned.set(owned.now().minus(lost));
        }
        {
            let Some(core) = core.upgrade() else { return };
            if !lost.is_empty() {
                core.release(lost);
            }
            if !gained.is_empty() {
                core.take_over(gained).await;
            }
        }
        if !lost.is_empty() || !gained.is_empty() {
            tracing::info!(lost = lost.len(), gained = gained.len(), owned = assigned.len(), "buckets");
        }
        owned.set(assigned);
        tokio::select! {
            biased;
            changed = given_up.changed() => {
                if changed.is_err() {
                    return;
                }
                let refused = *given_up.borrow();
                owned.set(owned.now().minus(refused));
                cluster.give_up(refused).await;
            }
            changed = table.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
