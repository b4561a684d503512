//! What waits for a model: a bounded queue with two lanes, worked off by the model's thread.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Calls that may wait in each lane; more wait outside, at no cost.
const QUEUE_LIMIT: usize = 64;

/// Queries go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Queries = 0,
    Passages = 1,
}

/// What waits for the model, bounded by the permits of each lane.
pub(super) struct Queue<J> {
    permits: [Arc<Semaphore>; 2],
    waiting: Mutex<Waiting<J>>,
    changed: Condvar,
}

struct Waiting<J> {
    lanes: [VecDeque<J>; 2],
    closed: bool,
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        let permits = || Arc::new(Semaphore::new(QUEUE_LIMIT));
        let waiting = Waiting { lanes: [VecDeque::new(), VecDeque::new()], closed: false };
        Self { permits: [permits(), permits()], waiting: Mutex::new(waiting), changed: Condvar::new() }
    }
}

impl<J> Queue<J> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<J>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a job, to be kept with it; an error when the queue is closed.
    pub(super) async fn room(&self, lane: Lane) -> Result<OwnedSemaphorePermit, AcquireError> {
        Arc::clone(&self.permits[lane as usize]).acquire_owned().await
    }

    /// A queue that is closed drops the job, which its caller sees.
    pub(super) fn push(&self, lane: Lane, job: J) {
        let mut waiting = self.waiting();
        if !waiting.closed {
            waiting.lanes[lane as usize].push_back(job);
            self.changed.notify_one();
        }
    }

    /// The next job to do a part of; waits for it. `None` when the queue is closed.
    pub(super) fn next(&self) -> Option<(Lane, J)> {
        let mut waiting = self.waiting();
        loop {
            if waiting.closed {
                return None;
            }
            for lane in [Lane::Queries, Lane::Passages] {
                if let Some(job) = waiting.lanes[lane as usize].pop_front() {
                    return Some((lane, job));
                }
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops what waits and lets nobody in any more.
    pub(super) fn close(&self) {
        for permits in &self.permits {
            permits.close();
        }
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.lanes.iter_mut().for_each(VecDeque::clear);
        self.changed.notify_all();
    }
}

/// Closes a queue when its worker ends, however it ends, so that nobody waits for it.
pub(super) struct Closing<J>(pub(super) Arc<Queue<J>>);

impl<J> Drop for Closing<J> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The cores: one model computes at a time, in the order of asking, so that several models take no more threads than one.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The next number to be drawn, and the one that is served.
    numbers: Mutex<(u64, u64)>,
    changed: Condvar,
}

/// Until it is dropped, nobody else computes.
pub(super) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Waits until all who asked before are done.
    pub(super) fn take(&self) -> Taken<'_> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = numbers.0;
        numbers.0 += 1;
        while numbers.1 != mine {
            numbers = self.changed.wait(numbers).unwrap_or_else(PoisonError::into_inner);
        }
        Taken(self)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner).1 += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        thread,
    };

    use super::*;

    #[test]
    fn one_computes_at_a_time_and_nobody_is_passed_over() {
        let (turn, inside, most) = (Turn::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            for _ in 0..200 {
                let _taken = turn.take();
                most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                thread::yield_now();
                inside.fetch_sub(1, SeqCst);
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
        assert_eq!(most.load(SeqCst), 1);
        assert_eq!(*turn.numbers.lock().unwrap(), (800, 800));
        // Drawn while it is taken: the first to ask is the first to go.
        let order = Mutex::new(vec![]);
        thread::scope(|scope| {
            let taken = turn.take();
            for n in 0..4_u64 {
                let (turn, order) = (&turn, &order);
                scope.spawn(move || {
                    let _taken = turn.take();
                    order.lock().unwrap().push(n);
                });
                while turn.numbers.lock().unwrap().0 < 802 + n {
                    thread::yield_now();
                }
            }
            drop(taken);
        });
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_closed_queue_lets_nobody_wait() {
        let queue = Queue::default();
        queue.push(Lane::Passages, 1);
        queue.push(Lane::Queries, 2);
        assert_eq!(queue.next(), Some((Lane::Queries, 2)));
        drop(Closing(Arc::new(Queue::<u8>::default())));
        queue.close();
        assert_eq!(queue.next(), None);
        queue.push(Lane::Queries, 3);
        assert_eq!(queue.next(), None);
    }
}
