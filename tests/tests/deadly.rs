//! A file that ends the server while it is extracted: after three ends it is left alone, and what was handed in beside it is
//! found. The ends come from outside here, each while the extraction process lives.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::support::{Client, Reply, Server};

const ENDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(5);

/// Takes seconds to extract.
fn slow() -> Vec<u8> {
    format!("<!doctype html><title>Slow</title>{}", "<p><b>words".repeat(400_000)).into_bytes()
}

fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the server lives").flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    children.flat_map(|ids| ids.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Whether a process works; one that has ended may wait to be noticed.
fn lives(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Ends the server as soon as it extracts; its extraction process ends with it.
async fn end(server: Server) {
    let extracting = async {
        loop {
            let children = children(server.id());
            if !children.is_empty() {
                return children;
            }
            sleep(PAUSE).await;
        }
    };
    let extracting = timeout(PATIENCE, extracting).await.expect("it extracts");
    server.kill9();
    let gone = async {
        while extracting.iter().any(|child| lives(*child)) {
            sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE / 4, gone).await.expect("the extraction process ends");
}

/// The document of this name, once it has ended.
async fn ended(client: &Client, name: &str) -> Value {
    let wait = async {
        loop {
            let all = client.all("/api/v1/documents", "documents", None).await;
            let found = all.into_iter().find(|document| document["filename"] == name).expect("it was accepted");
            if ["ready", "failed"].iter().any(|state| found["status"] == **state) {
                return found;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it ends")
}

async fn restart(data: &Path, client: &Client) -> (Server, Client) {
    let server = Server::start(data).await;
    let client = client.at(&server.url);
    (server, client)
}

#[tokio::test]
async fn a_file_that_ends_the_server_is_left_alone_after_three_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let uploading = {
        let admin = admin.clone();
        tokio::spawn(async move { admin.upload("slow.html", slow(), None).await })
    };
    end(server).await;
    // Whether the upload was answered before the end is chance.
    drop(uploading.await.expect("it does not panic"));
    for _ in 1..ENDS {
        end(Server::spawn(&data, &[])).await;
    }

    let (server, client) = restart(&data, &admin).await;
    let other = client.upload("owls.md", b"# Owls\n\nOwls hunt at night.\n".to_vec(), None).await.expect("an answer");
    assert_eq!(other.status, 200, "{}", other.body);
    let slow = ended(&client, "slow.html").await;
    let id = slow["document_id"].as_str().expect("an id").to_owned();
    let trace = client.get(&format!("/api/v1/documents/{id}/trace")).await.expect("an answer").body;
    assert!(trace.to_string().contains("The server ended 3 times while its text was extracted"), "{trace:#}");
    assert_eq!(slow["status"], "failed", "{slow:#}");

    // Another try is counted by itself, and goes through when nothing ends it.
    let retried: Reply =
        client.post(&format!("/api/v1/documents/{id}/retry"), &json!({}), None).await.expect("an answer");
    assert!(retried.is_success(), "{}", retried.body);
    assert_eq!(ended(&client, "slow.html").await["status"], "ready");
    assert!(server.sigterm().await.success());
}
