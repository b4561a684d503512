//! Snapshots in a bucket of JetStream: one message for each key. Reads ask the leader, so that a checkpoint is never newer than
//! what was put before it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use lmao_ports::{Snapshots, Unavailable};

use super::{Limits, Nats, STORE, keys, migrate::Definition, stream::Stream};

/// The largest value, in bytes.
const MAX_VALUE: usize = 1024 * 1024;
/// Values read at once by a scan.
const AT_ONCE: usize = 16;

/// Snapshots in a bucket.
#[derive(Debug, Clone)]
pub struct NatsSnapshots {
    stream: Stream,
}

impl NatsSnapshots {
    /// Opens the bucket that [`super::migrate`] made.
    ///
    /// # Errors
    /// [`Unavailable`]: it cannot be reached, or was not made.
    pub async fn open(nats: &Nats) -> Result<Self, Unavailable> {
        Ok(Self { stream: Stream::open(nats, Definition::Snapshots, Limits::default()).await? })
    }

    fn subject(&self, key: &str) -> Result<String, Unavailable> {
        Ok(self.stream.subject(&keys::encode(key)?))
    }
}

#[async_trait]
impl Snapshots for NatsSnapshots {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable> {
        Ok(self.stream.last(&self.subject(key)?).await?.map(|stored| stored.payload))
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<(), Unavailable> {
        if value.len() > MAX_VALUE {
            let message = format!("the value of {key} has {} bytes; at most {MAX_VALUE} are taken", value.len());
            return Err(Unavailable::plain(STORE, message));
        }
        self.stream.publish_patiently(&self.subject(key)?, value).await.map(drop)
    }

    async fn put_durable(&self, key: &str, value: Bytes) -> Result<(), Unavailable> {
        // Acknowledged is durable: the server syncs each write, or three have it. The stream keeps the order.
        self.put(key, value).await
    }

    async fn delete(&self, key: &str) -> Result<(), Unavailable> {
        self.stream.purge(&self.subject(key)?).await
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, Unavailable> {
        let subjects = self.stream.subjects(&self.stream.subject(&keys::filter(prefix)?)).await?;
        let named = |subject: String| Some((keys::decode(self.stream.rest(&subject)?)?, subject));
        let wanted = subjects.into_iter().filter_map(named).filter(|(key, _)| key.starts_with(prefix));
        let read = wanted.map(|(key, subject)| async move {
            let stored = self.stream.last(&subject).await?;
            Ok::<_, Unavailable>(stored.map(|stored| (key, stored.payload)))
        });
        // In order, and without those that were deleted meanwhile.
        let reads: Vec<_> = read.collect();
        let found = stream::iter(reads).buffered(AT_ONCE).try_filter_map(|found| future::ready(Ok(found)));
        Ok(found.try_collect::<BTreeMap<String, Bytes>>().await?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lmao_ports::conformance::snapshots as suite;

    use super::{super::testing, *};

    #[tokio::test]
    async fn keep_what_every_store_promises() {
        let nats = testing::migrated().await;
        suite::all(async || Arc::new(NatsSnapshots::open(&nats).await.unwrap()) as Arc<dyn Snapshots>).await;
        let store = NatsSnapshots::open(&nats).await.unwrap();
        let error = store.put("b", vec![0; MAX_VALUE + 1].into()).await.unwrap_err();
        assert!(error.to_string().contains("at most 1048576"), "{error}");
        assert!(store.get("a//b").await.is_err());
    }

    #[tokio::test]
    async fn a_store_that_was_not_made_says_what_to_do() {
        let nats = testing::empty().await;
        let error = NatsSnapshots::open(&nats).await.unwrap_err();
        assert!(error.to_string().contains("lmao migrate"), "{error}");
    }
}
