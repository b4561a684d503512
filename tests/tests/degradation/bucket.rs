//! A bucket for the files that goes away and comes back, beside a system that has all else in its data directory.

use serde_json::json;

use super::{
    measured, part,
    servers::{Proxy, eventually, variable},
    stands,
};
use crate::support::Server;

#[tokio::test]
async fn without_the_bucket_what_is_indexed_is_found_and_uploads_are_refused() {
    let given = variable("LMAO_TEST_S3");
    let (place, settings) = given.split_once('?').expect("it names an endpoint");
    let endpoint = settings.split('&').find_map(|setting| setting.strip_prefix("endpoint=")).expect("an endpoint");
    let (mut proxy, there) = Proxy::before(endpoint).await;
    let blobs = format!("{place}/{}?{}", uuid::Uuid::new_v4(), settings.replace(endpoint, &there));
    let key = |name: &str| std::env::var(name).unwrap_or_else(|_| "testing".to_owned());
    let (id, secret) = (key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY"));
    let folder = tempfile::tempdir().expect("a folder");
    let environment = [("LMAO_BLOBS", &*blobs), ("AWS_ACCESS_KEY_ID", &id), ("AWS_SECRET_ACCESS_KEY", &secret)];
    let server = Server::start_with(&folder.path().join("data"), &environment).await;
    let admin = server.admin().await;
    let upload =
        async |name: &str, text: &str| admin.upload(name, text.as_bytes().to_vec(), None).await.expect("an answer");
    assert_eq!(upload("tides.md", super::TIDES).await.status, 200);
    stands(&admin, "s3", "ok").await;
    measured(&admin, "s3", 1).await;

    proxy.cut().await;
    stands(&admin, "s3", "degraded").await;
    measured(&admin, "s3", 0).await;
    let said = part(&admin, "s3").await["message"].to_string();
    assert!(said.contains("away (") && said.contains("uploads are answered 503"), "{said}");
    let ready = admin.get("/health/ready").await.expect("an answer");
    assert_eq!(ready.status, 200, "{}", ready.body);
    let refused = upload("winds.md", "Winds turn at noon.\n").await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    let body = json!({ "query": super::QUESTION });
    let found = admin.post("/api/v1/documents/search", &body, None).await.expect("an answer");
    assert!(found.is_success() && found.body.to_string().contains("tides.md"), "{}", found.body);

    proxy.mend().await;
    stands(&admin, "s3", "ok").await;
    measured(&admin, "s3", 1).await;
    eventually("uploads are taken again", async || upload("winds.md", "Winds turn at noon.\n").await.status == 200)
        .await;
    assert!(server.sigterm().await.success());
}
