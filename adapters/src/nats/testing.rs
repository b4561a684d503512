//! What the tests of the NATS stores share: namespaces that go with their test.

use std::ops::Deref;

use uuid::Uuid;

use super::{Nats, Replicas, migrate};

/// The URL of the server that tests share.
pub(super) fn url() -> String {
    std::env::var("LMAO_TEST_NATS").expect("LMAO_TEST_NATS is not set: run the tests with cargo xtask test")
}

/// A namespace of a test's own; its streams are deleted when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    nats: Nats,
    url: String,
}

impl Scratch {
    /// The URL with the namespace.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The namespace's part of a URL.
    pub(super) fn query(&self) -> &str {
        self.url.split_once('?').expect("a namespace").1
    }
}

impl Deref for Scratch {
    type Target = Nats;

    fn deref(&self) -> &Nats {
        &self.nats
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let url = self.url.clone();
        // A runtime of its own: that of the test may be ending.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let Ok(nats) = Nats::connect(&url).await else { return };
                for definition in migrate::Definition::ALL {
                    let _ = nats.jetstream().delete_stream(definition.name(&nats)).await;
                }
            });
        });
        let _ = cleaned.join();
    }
}

/// A namespace without streams.
pub(super) async fn empty() -> Scratch {
    let url = format!("{}?namespace=t{}", url(), Uuid::new_v4().simple());
    Scratch { nats: Nats::connect(&url).await.unwrap(), url }
}

/// A namespace with all streams.
pub(super) async fn migrated() -> Scratch {
    let scratch = empty().await;
    migrate(&scratch, Replicas::One).await.unwrap();
    scratch
}
