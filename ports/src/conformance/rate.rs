//! What every [`RateLimiter`] promises.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{Admission, Quota, RateLimiter};

/// So slow that nothing comes back while a test runs.
const NEVER: Duration = Quota::MAX_REFILL;

/// The whole suite; `new` opens one. Keys are fresh in each run, so that a shared server does.
pub async fn all(new: impl AsyncFn() -> Arc<dyn RateLimiter>) {
    a_burst_is_admitted_and_no_more(&*new().await).await;
    buckets_are_apart(&*new().await).await;
    tokens_come_back(&*new().await).await;
    a_bucket_holds_no_more_than_its_burst(&*new().await).await;
    a_smaller_quota_counts_at_once(&*new().await).await;
    callers_at_the_same_time_share_the_tokens(new().await).await;
}

fn fresh() -> String {
    format!("{}:chat", Uuid::new_v4())
}

async fn take(limiter: &dyn RateLimiter, key: &str, quota: Quota) -> Admission {
    limiter.take(key, quota).await.expect("take")
}

/// The full bucket is counted down to zero; the refused are told when to come back, and pay nothing for asking.
pub async fn a_burst_is_admitted_and_no_more(limiter: &dyn RateLimiter) {
    let (key, quota) = (fresh(), Quota::new(3, NEVER));
    for remaining in [2, 1, 0] {
        assert_eq!(take(limiter, &key, quota).await, Admission::Admitted { remaining });
    }
    for _ in 0..3 {
        let Admission::Refused { retry_after } = take(limiter, &key, quota).await else {
            panic!("a fourth was admitted")
        };
        assert!(retry_after > Duration::ZERO && retry_after <= NEVER, "{retry_after:?}");
    }
}

/// One person's haste is not another's.
pub async fn buckets_are_apart(limiter: &dyn RateLimiter) {
    let quota = Quota::new(1, NEVER);
    for key in [fresh(), fresh()] {
        assert_eq!(take(limiter, &key, quota).await, Admission::Admitted { remaining: 0 });
    }
}

/// Who waits as long as told is admitted.
pub async fn tokens_come_back(limiter: &dyn RateLimiter) {
    let (key, quota) = (fresh(), Quota::new(1, Duration::from_millis(800)));
    assert_eq!(take(limiter, &key, quota).await, Admission::Admitted { remaining: 0 });
    match take(limiter, &key, quota).await {
        Admission::Refused { retry_after } => {
            assert!(retry_after <= quota.refill(), "{retry_after:?}");
            tokio::time::sleep(retry_after + Duration::from_millis(20)).await;
            assert_eq!(take(limiter, &key, quota).await, Admission::Admitted { remaining: 0 });
        }
        // The machine was so slow that the token is back.
        Admission::Admitted { remaining } => assert_eq!(remaining, 0),
    }
}

/// Waiting long saves nothing up.
pub async fn a_bucket_holds_no_more_than_its_burst(limiter: &dyn RateLimiter) {
    let (key, quota) = (fresh(), Quota::new(2, Duration::from_millis(10)));
    for _ in 0..2 {
        take(limiter, &key, quota).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(take(limiter, &key, quota).await, Admission::Admitted { remaining: 1 });
}

/// Tokens over a new burst are lost.
pub async fn a_smaller_quota_counts_at_once(limiter: &dyn RateLimiter) {
    let key = fresh();
    take(limiter, &key, Quota::new(100, NEVER)).await;
    assert_eq!(take(limiter, &key, Quota::new(2, NEVER)).await, Admission::Admitted { remaining: 1 });
}

/// No token is taken twice.
pub async fn callers_at_the_same_time_share_the_tokens(limiter: Arc<dyn RateLimiter>) {
    let (key, quota) = (fresh(), Quota::new(10, NEVER));
    let tasks = (0..32).map(|_| {
        let (limiter, key) = (Arc::clone(&limiter), key.clone());
        tokio::spawn(async move { take(&*limiter, &key, quota).await })
    });
    let mut left: Vec<u32> = vec![];
    for task in futures::future::join_all(tasks).await {
        if let Admission::Admitted { remaining } = task.expect("task") {
            left.push(remaining);
        }
    }
    left.sort_unstable();
    assert_eq!(left, (0..10).collect::<Vec<_>>());
}
