//! What every [`Snapshots`] promises.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::Snapshots;

/// The whole suite; `new` opens a store. Keys are fresh in each run, so that a shared server does.
pub async fn all(new: impl AsyncFn() -> Arc<dyn Snapshots>) {
    the_last_value_wins(&*new().await).await;
    what_is_deleted_is_gone(&*new().await).await;
    a_scan_is_by_prefix_and_in_order(&*new().await).await;
    large_values_and_long_keys_are_kept(&*new().await).await;
}

async fn put(store: &dyn Snapshots, key: &str, value: &'static str) {
    store.put(key, Bytes::from_static(value.as_bytes())).await.expect("put");
}

async fn get(store: &dyn Snapshots, key: &str) -> Option<Bytes> {
    store.get(key).await.expect("get")
}

/// A key has the value that was put last, or none.
pub async fn the_last_value_wins(store: &dyn Snapshots) {
    let key = format!("{}/a", Uuid::new_v4());
    assert_eq!(get(store, &key).await, None);
    for value in ["one", "", "two"] {
        put(store, &key, value).await;
        assert_eq!(get(store, &key).await, Some(Bytes::from_static(value.as_bytes())));
    }
    store.put_durable(&key, Bytes::from_static(b"three")).await.expect("put_durable");
    assert_eq!(get(store, &key).await, Some(Bytes::from_static(b"three")));
    put(store, &key, "four").await;
    assert_eq!(get(store, &key).await, Some(Bytes::from_static(b"four")));
}

/// Deleting is fine with and without a value.
pub async fn what_is_deleted_is_gone(store: &dyn Snapshots) {
    let key = Uuid::new_v4().to_string();
    store.delete(&key).await.expect("delete");
    put(store, &key, "one").await;
    store.delete(&key).await.expect("delete");
    assert_eq!(get(store, &key).await, None);
    assert_eq!(store.scan(&key).await.expect("scan"), []);
}

/// Only keys with the prefix, in order; characters that mean something to a database mean nothing here.
pub async fn a_scan_is_by_prefix_and_in_order(store: &dyn Snapshots) {
    let root = Uuid::new_v4().to_string();
    let key = |tail: &str| format!("{root}/{tail}");
    for tail in ["wake/b", "wake/a", "wake/c/d", "wake", "wakf", "w%ke/x", "WAKE/a", "wake0"] {
        put(store, &key(tail), "v").await;
    }
    let scan = async |prefix: String| -> Vec<String> {
        store.scan(&prefix).await.expect("scan").into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(scan(key("wake/")).await, [key("wake/a"), key("wake/b"), key("wake/c/d")]);
    assert_eq!(scan(key("w%")).await, [key("w%ke/x")]);
    assert_eq!(scan(key("nothing")).await, [""; 0]);
    assert_eq!(scan(root).await.len(), 8);
}

/// Up to the limits of the port.
pub async fn large_values_and_long_keys_are_kept(store: &dyn Snapshots) {
    let key = format!("{:a<200}", Uuid::new_v4());
    let value: Bytes = (0..1024 * 1024_u32).map(|n| n.to_le_bytes()[0]).collect();
    store.put(&key, value.clone()).await.expect("put");
    assert_eq!(get(store, &key).await, Some(value));
}
