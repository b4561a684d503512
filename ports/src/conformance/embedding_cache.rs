//! What every [`EmbeddingCache`] promises.

use std::sync::Arc;

use uuid::Uuid;

use crate::{EmbeddingCache, EmbeddingKey};

/// The whole suite; `new` opens a cache. Keys are fresh in each run, so that a shared server does.
pub async fn all(new: impl AsyncFn() -> Arc<dyn EmbeddingCache>) {
    vectors_come_in_the_order_asked_for(&*new().await).await;
    vectors_come_back_bit_by_bit(&*new().await).await;
    many_at_once_are_fine(&*new().await).await;
}

fn fresh() -> EmbeddingKey {
    let mut key = [0; 32];
    key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    key
}

async fn get(cache: &dyn EmbeddingCache, keys: &[EmbeddingKey]) -> Vec<Option<Vec<f32>>> {
    cache.get(keys).await.expect("get")
}

/// One answer to each key, also where the same is asked for twice.
pub async fn vectors_come_in_the_order_asked_for(cache: &dyn EmbeddingCache) {
    let (a, b, unknown) = (fresh(), fresh(), fresh());
    cache.put(&[(a, vec![1.0, 2.0]), (b, vec![3.0])]).await.expect("put");
    assert_eq!(get(cache, &[b, unknown, a, b]).await, [Some(vec![3.0]), None, Some(vec![1.0, 2.0]), Some(vec![3.0])]);
    assert_eq!(get(cache, &[]).await, []);
    cache.put(&[]).await.expect("put");
    cache.put(&[(a, vec![1.0, 2.0])]).await.expect("the same again");
}

/// No rounding.
pub async fn vectors_come_back_bit_by_bit(cache: &dyn EmbeddingCache) {
    let (key, vector) = (fresh(), vec![0.1, -0.0, f32::MIN_POSITIVE, f32::MAX, 1.0 / 3.0]);
    cache.put(&[(key, vector.clone())]).await.expect("put");
    let bits = |vector: &[f32]| vector.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let found = get(cache, &[key]).await.remove(0).expect("it is known");
    assert_eq!(bits(&found), bits(&vector));
}

/// More than a statement or a message would hold.
pub async fn many_at_once_are_fine(cache: &dyn EmbeddingCache) {
    let entries: Vec<(EmbeddingKey, Vec<f32>)> = (0..3_000_u16).map(|n| (fresh(), vec![f32::from(n); 16])).collect();
    cache.put(&entries).await.expect("put");
    let keys: Vec<EmbeddingKey> = entries.iter().map(|(key, _)| *key).collect();
    let expected: Vec<Option<Vec<f32>>> = entries.into_iter().map(|(_, vector)| Some(vector)).collect();
    assert!(get(cache, &keys).await == expected, "all of them, in order");
}
