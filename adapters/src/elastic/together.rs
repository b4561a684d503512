//! One look for all who ask for it at the same time.
//!
//! Whoever asks gets what was read after the moment of asking, as if it had read alone: a look that had begun before is waited for
//! and not believed, the next one serves all who came meanwhile. Under load that is two looks in the time of one, however many ask.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{sync::Mutex, time::timeout};

/// How long others are waited for. Who has waited so long looks alone.
const PATIENCE: Duration = Duration::from_millis(100);

/// What was read, and by which look.
#[derive(Debug)]
pub(super) struct Together<T> {
    begun: AtomicU64,
    last: Mutex<Look<T>>,
}

#[derive(Debug)]
struct Look<T> {
    /// How many had begun with it.
    number: u64,
    /// `None` if it failed.
    value: Option<T>,
}

impl<T> Default for Together<T> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), last: Mutex::new(Look { number: 0, value: None }) }
    }
}

impl<T: Clone> Together<T> {
    /// What `read` gives, or what it gave to somebody who began with it after this call.
    ///
    /// # Errors
    /// Those of `read`. Somebody else's are not passed on: whoever waited for a look that failed looks alone.
    pub(super) async fn look<E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let before = self.begun.load(Ordering::SeqCst);
        let Ok(mut last) = timeout(PATIENCE, self.last.lock()).await else { return read.await };
        if last.number > before {
            let value = last.value.clone();
            drop(last);
            return match value {
                Some(value) => Ok(value),
                None => read.await,
            };
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = read.await;
        *last = Look { number, value: answer.as_ref().ok().cloned() };
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    /// A store whose reads end when they are let.
    #[derive(Default)]
    struct Store {
        together: Together<u64>,
        value: AtomicU64,
        reads: AtomicU64,
        lets: Option<Semaphore>,
    }

    impl Store {
        async fn read(&self) -> Result<u64, &'static str> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let value = self.value.load(Ordering::SeqCst);
            if let Some(lets) = &self.lets {
                lets.acquire().await.unwrap().forget();
            }
            if value == u64::MAX { Err("away") } else { Ok(value) }
        }

        async fn look(&self) -> Result<u64, &'static str> {
            self.together.look(self.read()).await
        }

        fn spawn(self: &Arc<Self>) -> tokio::task::JoinHandle<Result<u64, &'static str>> {
            let store = Arc::clone(self);
            tokio::spawn(async move { store.look().await })
        }
    }

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_sees_what_was_written_before_and_shares_the_look() {
        let store = Arc::new(Store { lets: Some(Semaphore::new(0)), ..Store::default() });
        let early = store.spawn();
        settle().await;
        store.value.store(7, Ordering::SeqCst);
        let late: Vec<_> = (0..10).map(|_| store.spawn()).collect();
        settle().await;
        assert_eq!(store.reads.load(Ordering::SeqCst), 1, "the others wait");
        store.lets.as_ref().unwrap().add_permits(2);
        assert_eq!(early.await.unwrap(), Ok(0));
        for look in late {
            assert_eq!(look.await.unwrap(), Ok(7), "written before it was asked for");
        }
        assert_eq!(store.reads.load(Ordering::SeqCst), 2);
        store.lets.as_ref().unwrap().add_permits(1);
        store.value.store(8, Ordering::SeqCst);
        assert_eq!(store.look().await, Ok(8), "nothing is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_others_or_suffers_from_their_failure() {
        let store = Arc::new(Store { lets: Some(Semaphore::new(0)), ..Store::default() });
        store.value.store(u64::MAX, Ordering::SeqCst);
        let looks: Vec<_> = (0..3).map(|_| store.spawn()).collect();
        settle().await;
        tokio::time::sleep(2 * PATIENCE).await;
        assert_eq!(store.reads.load(Ordering::SeqCst), 3, "each looks alone after a while");
        store.lets.as_ref().unwrap().add_permits(3);
        for look in looks {
            assert_eq!(look.await.unwrap(), Err("away"));
        }
        store.value.store(1, Ordering::SeqCst);
        store.lets.as_ref().unwrap().add_permits(1);
        assert_eq!(store.look().await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_given_up_is_nobodys() {
        let store = Arc::new(Store { lets: Some(Semaphore::new(0)), ..Store::default() });
        let given_up = store.spawn();
        settle().await;
        let waits = store.spawn();
        settle().await;
        given_up.abort();
        settle().await;
        store.lets.as_ref().unwrap().add_permits(1);
        assert_eq!(waits.await.unwrap(), Ok(0));
    }
}
