//! What every [`Cache`] promises.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use crate::Cache;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(60);
/// Longer than [`SHORT`], with room for coarse clocks.
const PAST_SHORT: Duration = Duration::from_millis(1_200);

/// The whole suite; `new` opens one. Keys are fresh in each run, so that a shared server does.
pub async fn all(new: impl AsyncFn() -> Arc<dyn Cache>) {
    values_are_remembered_and_replaced(&*new().await).await;
    put_new_keeps_the_first(&*new().await).await;
    values_expire(&*new().await).await;
    invalidation_is_by_prefix(&*new().await).await;
    counters_count_and_expire(&*new().await).await;
    counters_count_every_caller_once(new().await).await;
}

fn fresh() -> String {
    Uuid::new_v4().to_string()
}

async fn get(cache: &dyn Cache, key: &str) -> Option<Bytes> {
    cache.get(key).await.expect("get")
}

/// The last value wins; an unknown key has none.
pub async fn values_are_remembered_and_replaced(cache: &dyn Cache) {
    let key = fresh();
    assert_eq!(get(cache, &key).await, None);
    cache.put(&key, Bytes::from_static(b"one"), LONG).await.expect("put");
    assert_eq!(get(cache, &key).await, Some(Bytes::from_static(b"one")));
    cache.put(&key, Bytes::from_static(b""), LONG).await.expect("put");
    assert_eq!(get(cache, &key).await, Some(Bytes::new()), "an empty value is a value");
}

/// `put_new` stores only what is not known.
pub async fn put_new_keeps_the_first(cache: &dyn Cache) {
    let key = fresh();
    assert!(cache.put_new(&key, Bytes::from_static(b"one"), LONG).await.expect("put_new"));
    assert!(!cache.put_new(&key, Bytes::from_static(b"two"), LONG).await.expect("put_new"));
    assert_eq!(get(cache, &key).await, Some(Bytes::from_static(b"one")));
    let key = fresh();
    assert!(cache.put_new(&key, Bytes::from_static(b"one"), SHORT).await.expect("put_new"));
    tokio::time::sleep(PAST_SHORT).await;
    assert!(cache.put_new(&key, Bytes::from_static(b"two"), LONG).await.expect("put_new"), "the first has expired");
}

/// Nothing outlives its time; a new `put` sets a new one.
pub async fn values_expire(cache: &dyn Cache) {
    let (short, renewed) = (fresh(), fresh());
    cache.put(&short, Bytes::from_static(b"x"), SHORT).await.expect("put");
    cache.put(&renewed, Bytes::from_static(b"x"), SHORT).await.expect("put");
    cache.put(&renewed, Bytes::from_static(b"y"), LONG).await.expect("put");
    tokio::time::sleep(PAST_SHORT).await;
    assert_eq!(get(cache, &short).await, None);
    assert_eq!(get(cache, &renewed).await, Some(Bytes::from_static(b"y")));
}

/// Keys with the prefix are gone at once, others stay.
pub async fn invalidation_is_by_prefix(cache: &dyn Cache) {
    let (scope, other) = (fresh(), fresh());
    for key in [format!("{scope}:a"), format!("{scope}:b*[?"), other.clone()] {
        cache.put(&key, Bytes::from_static(b"x"), LONG).await.expect("put");
    }
    cache.invalidate(&format!("{scope}:")).await.expect("invalidate");
    assert_eq!(get(cache, &format!("{scope}:a")).await, None);
    assert_eq!(get(cache, &format!("{scope}:b*[?")).await, None);
    assert_eq!(get(cache, &other).await, Some(Bytes::from_static(b"x")));
    cache.invalidate(&fresh()).await.expect("a prefix of nothing");
}

/// Counting begins at 1, each key for itself, and begins anew after the first use's `ttl`.
pub async fn counters_count_and_expire(cache: &dyn Cache) {
    let (one, two) = (fresh(), fresh());
    for n in 1..=3 {
        assert_eq!(cache.count(&one, LONG).await.expect("count"), n);
    }
    assert_eq!(cache.count(&two, SHORT).await.expect("count"), 1);
    tokio::time::sleep(PAST_SHORT).await;
    assert_eq!(cache.count(&two, SHORT).await.expect("count"), 1);
    assert_eq!(cache.count(&one, LONG).await.expect("count"), 4);
}

/// No two callers get the same number.
pub async fn counters_count_every_caller_once(cache: Arc<dyn Cache>) {
    let key = fresh();
    let tasks = (0..32).map(|_| {
        let (cache, key) = (Arc::clone(&cache), key.clone());
        tokio::spawn(async move { cache.count(&key, LONG).await.expect("count") })
    });
    let mut seen: Vec<u64> = futures::future::join_all(tasks).await.into_iter().map(|n| n.expect("task")).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=32).collect::<Vec<_>>());
}
