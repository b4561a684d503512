//! What every [`Vault`] promises.

use std::sync::Arc;

use futures::future::join_all;
use uuid::Uuid;

use crate::{Secret, Vault};

/// The whole suite; `new` opens a vault. Keys are fresh in each run, so that a shared server does.
pub async fn all(new: impl AsyncFn() -> Arc<dyn Vault>) {
    the_last_secret_wins(&*new().await).await;
    what_is_destroyed_is_gone(&*new().await).await;
    put_new_keeps_the_first(&*new().await).await;
    of_two_at_once_one_wins_for_both(new().await).await;
    secrets_are_not_printed();
}

fn fresh() -> String {
    format!("test/{}", Uuid::new_v4())
}

fn secret(byte: u8) -> Secret {
    Secret(vec![byte; 32])
}

async fn get(vault: &dyn Vault, key: &str) -> Option<Secret> {
    vault.get(key).await.expect("get")
}

/// A key has the secret that was put last, or none; up to 4 KiB.
pub async fn the_last_secret_wins(vault: &dyn Vault) {
    let key = fresh();
    assert_eq!(get(vault, &key).await, None);
    for secret in [secret(1), Secret(vec![]), Secret(vec![9; 4096])] {
        vault.put(&key, &secret).await.expect("put");
        assert_eq!(get(vault, &key).await, Some(secret));
    }
}

/// Destroying is fine with and without a secret, and makes room for another.
pub async fn what_is_destroyed_is_gone(vault: &dyn Vault) {
    let key = fresh();
    vault.destroy(&key).await.expect("destroy");
    vault.put(&key, &secret(1)).await.expect("put");
    vault.destroy(&key).await.expect("destroy");
    assert_eq!(get(vault, &key).await, None);
    assert!(!vault.keys().await.expect("keys").contains(&key));
    assert_eq!(vault.put_new(&key, &secret(2)).await.expect("put_new"), secret(2));
    assert!(vault.keys().await.expect("keys").contains(&key));
}

/// A secret that stands is returned and stays.
pub async fn put_new_keeps_the_first(vault: &dyn Vault) {
    let key = fresh();
    assert_eq!(vault.put_new(&key, &secret(1)).await.expect("put_new"), secret(1));
    assert_eq!(vault.put_new(&key, &secret(2)).await.expect("put_new"), secret(1));
    assert_eq!(get(vault, &key).await, Some(secret(1)));
}

/// All who ask at once get the one that stands.
pub async fn of_two_at_once_one_wins_for_both(vault: Arc<dyn Vault>) {
    let key = fresh();
    let tasks = (0..16).map(|n| {
        let (vault, key) = (Arc::clone(&vault), key.clone());
        tokio::spawn(async move { vault.put_new(&key, &secret(n)).await.expect("put_new") })
    });
    let winners: Vec<Secret> = join_all(tasks).await.into_iter().map(|winner| winner.expect("no panic")).collect();
    let stands = get(&*vault, &key).await.expect("one stands");
    assert!(winners.iter().all(|winner| *winner == stands), "everybody has the one that stands");
}

/// Not even by accident.
fn secrets_are_not_printed() {
    assert!(!format!("{:?}", Secret(vec![123])).contains("123"));
}
