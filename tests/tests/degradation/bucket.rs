//! A bucket for the files that goes away and comes back, beside a system that has all else in its data directory.

use std::{collections::BTreeMap, time::Duration};

use futures::future::{join, join_all};
use serde_json::json;
use tempfile::TempDir;

use super::{
    measured, part,
    servers::{self, Proxy, eventually, variable},
    stands,
};
use crate::support::{Client, Reply, Server};

/// A bucket behind a proxy, and a server that is told of it.
struct Bucket {
    proxy: Proxy,
    environment: Vec<(&'static str, String)>,
    folder: TempDir,
}

impl Bucket {
    async fn new() -> Self {
        let given = variable("LMAO_TEST_S3");
        let (place, settings) = given.split_once('?').expect("it names an endpoint");
        let endpoint = settings.split('&').find_map(|setting| setting.strip_prefix("endpoint=")).expect("an endpoint");
        let (proxy, there) = Proxy::before(endpoint).await;
        let blobs = format!("{place}/{}?{}", uuid::Uuid::new_v4(), settings.replace(endpoint, &there));
        let key = |name: &str| std::env::var(name).unwrap_or_else(|_| "testing".to_owned());
        let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| (name, key(name)));
        let environment = [("LMAO_BLOBS", blobs)].into_iter().chain(keys).collect();
        Self { proxy, environment, folder: tempfile::tempdir().expect("a folder") }
    }

    async fn serve(&self) -> Server {
        let environment: Vec<_> = self.environment.iter().map(|(name, value)| (*name, &**value)).collect();
        Server::start_with(&self.folder.path().join("data"), &environment).await
    }
}

async fn upload(client: &Client, name: &str, text: &str) -> Reply {
    client.upload(name, text.as_bytes().to_vec(), None).await.expect("an answer")
}

/// How many documents there are of each status.
async fn statuses(client: &Client) -> BTreeMap<String, usize> {
    let mut statuses = BTreeMap::new();
    for document in client.all("/api/v1/documents", "documents", None).await {
        *statuses.entry(document["status"].as_str().expect("a status").to_owned()).or_default() += 1;
    }
    statuses
}

#[tokio::test]
async fn without_the_bucket_what_is_indexed_is_found_and_uploads_are_refused() {
    let mut bucket = Bucket::new().await;
    let server = bucket.serve().await;
    let admin = server.admin().await;
    assert_eq!(upload(&admin, "tides.md", super::TIDES).await.status, 200);
    stands(&admin, "s3", "ok").await;
    measured(&admin, "s3", 1).await;

    bucket.proxy.cut().await;
    stands(&admin, "s3", "degraded").await;
    measured(&admin, "s3", 0).await;
    let said = part(&admin, "s3").await["message"].to_string();
    assert!(said.contains("away (") && said.contains("uploads are answered 503"), "{said}");
    let ready = admin.get("/health/ready").await.expect("an answer");
    assert_eq!(ready.status, 200, "{}", ready.body);
    let refused = upload(&admin, "winds.md", "Winds turn at noon.\n").await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    let body = json!({ "query": super::QUESTION });
    let found = admin.post("/api/v1/documents/search", &body, None).await.expect("an answer");
    assert!(found.is_success() && found.body.to_string().contains("tides.md"), "{}", found.body);

    bucket.proxy.mend().await;
    stands(&admin, "s3", "ok").await;
    measured(&admin, "s3", 1).await;
    eventually("uploads are taken again", async || {
        upload(&admin, "winds.md", "Winds turn at noon.\n").await.status == 200
    })
    .await;
    assert!(server.sigterm().await.success());
}

/// Longer than three attempts take.
const OUTAGE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn what_was_taken_in_waits_for_the_bucket_and_so_does_a_server_that_starts() {
    const FILES: usize = 12;
    let mut bucket = Bucket::new().await;
    let server = bucket.serve().await;
    let admin = server.admin().await;
    let text = "Winds turn at noon, and sailors wait for them.\n\n".repeat(2_000);
    let handed_in =
        (0..FILES).map(async |n| upload(&admin, &format!("winds-{n}.md"), &format!("# Wind {n}\n\n{text}")).await);
    let accepted = async || statuses(&admin).await.into_values().sum::<usize>();
    // An upload is answered when the document is ready, or after a while.
    let outage = async {
        eventually("some documents are accepted", async || accepted().await > FILES / 3).await;
        bucket.proxy.cut().await;
        tokio::time::sleep(OUTAGE).await;
        statuses(&admin).await
    };
    let (there, _) = join(outage, join_all(handed_in)).await;
    let all: usize = there.values().sum();
    assert!(there.get("ready").copied().unwrap_or(0) < all, "the bucket was away too late: {there:?}");
    assert_eq!(there.get("failed"), None, "{there:?}");
    assert!(server.sigterm().await.success());

    let server = bucket.serve().await;
    let admin = server.admin().await;
    stands(&admin, "s3", "degraded").await;
    assert_eq!(upload(&admin, "late.md", "Too late.\n").await.status, 503);
    bucket.proxy.mend().await;
    let all = BTreeMap::from([("ready".to_owned(), all)]);
    let within = async {
        while statuses(&admin).await != all {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let ended = tokio::time::timeout(servers::PATIENCE, within).await;
    assert!(ended.is_ok(), "{:?}", statuses(&admin).await);
    assert!(server.sigterm().await.success());
}
