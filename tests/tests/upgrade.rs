//! A rolling upgrade: nodes of two builds on one log, of which the newer one has a new version of an event that every message
//! leads to. Nothing is written that a live node cannot read, nothing is refused while the upgrade goes on, and a node of the
//! old build that comes back leaves alone what it cannot read.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    distributed::System,
    support::{Client, Reply, Server},
};

const TIDES: &str = "Spring tides come twice a month, at the new and at the full moon.\n";
const QUESTION: &str = "When do spring tides come?";
/// Every message leads to one.
const NEXT: (&str, &str) = ("LMAO_TEST_NEXT_EVENT", "MessageReceived");
/// What the next build reads.
const NEXT_SET: u32 = lmao_events::EVENT_SET + 1;
const PATIENCE: Duration = Duration::from_secs(60);

async fn new_build(system: &System, name: &str) -> Server {
    let mut settings = system.settings();
    settings.extend([("LMAO_ROLES", "all"), NEXT]);
    Server::start_with(&system.data(name), &settings).await
}

/// What the leases say: how many buckets those nodes own that read this set of events; `None` where nobody reads it.
fn owned_by_readers_of(status: &Value, set: u32) -> Option<u64> {
    let nodes = status["nodes"].as_array().expect("nodes");
    let readers: Vec<_> = nodes.iter().filter(|node| node["reads"] == set).collect();
    (!readers.is_empty()).then(|| readers.iter().map(|node| node["buckets"].as_u64().expect("a number")).sum())
}

async fn said(client: &Client, session: Option<&str>) -> Reply {
    let (key, begun) = (Uuid::new_v4().to_string(), Instant::now());
    let said = loop {
        let said = client.chat(session, QUESTION, Some(&key)).await.expect("an answer");
        // One that was under way while its owner left: its key gets the first outcome.
        if said.reason() != "outcome_unknown" || begun.elapsed() > PATIENCE {
            break said;
        }
    };
    assert_eq!(said.status, 200, "{}", said.body);
    assert_eq!(said.body["metadata"]["citations"][0]["filename"], "tides.txt", "{}", said.body);
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_two_builds_work_together_and_nothing_is_lost() {
    let system = System::new();
    let (one, two) = (system.node("old-1", "all").await, system.node("old-2", "all").await);
    let admin = system.admin(&one).await;
    let uploaded = admin.upload("tides.txt", TIDES.into(), None).await.expect("an answer");
    assert_eq!(uploaded.status, 200, "{}", uploaded.body);
    let mut sessions = vec![];
    for _ in 0..8 {
        sessions.push(said(&admin, None).await.body["session_id"].as_str().expect("a session").to_owned());
    }

    // One by one.
    let three = new_build(&system, "new-1").await;
    let status = system.run(&["status"]);
    if owned_by_readers_of(&status, NEXT_SET).is_none() {
        println!("left out: the upgrade: this build has no debug assertions and cannot play the next one");
        return;
    }
    assert_eq!(owned_by_readers_of(&status, NEXT_SET), Some(0), "the older ones write: {status}");
    let newer = admin.at(&three.url);
    for session in &sessions {
        said(&newer, Some(session)).await;
        said(&admin, Some(session)).await;
    }
    assert!(one.sigterm().await.success());
    let four = new_build(&system, "new-2").await;
    for session in &sessions {
        said(&newer, Some(session)).await;
    }
    // All along: no message is refused while the last of the old ones hands over.
    let goes_on = async {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            for session in &sessions {
                said(&newer, Some(session)).await;
            }
        }
    };
    let (status, ()) = tokio::join!(two.sigterm(), goes_on);
    assert!(status.success());
    let status = system.run(&["status"]);
    assert_eq!(owned_by_readers_of(&status, NEXT_SET), Some(256), "{status}");
    let last = said(&newer, Some(&sessions[0])).await;
    let messages = format!("/api/v1/sessions/{}/messages", sessions[0]);
    let before = newer.all(&messages, "messages", last.position.as_deref()).await;

    // One of the old ones comes back. It reads what it can, and the rest waits for it to leave.
    let back = system.node("old-3", "all").await;
    let begun = Instant::now();
    let refused = loop {
        let reply = newer.chat(Some(&sessions[0]), QUESTION, None).await.expect("an answer");
        if reply.status == 503 && reply.body.to_string().contains("upgrade") {
            break reply;
        }
        assert!(begun.elapsed() < PATIENCE, "what the old one cannot read is written: {}", reply.body);
    };
    println!("refused: {}", refused.body);
    let status = system.run(&["status"]);
    assert_eq!(status["parked"], serde_json::json!([]), "{status}");
    assert!(back.sigterm().await.success());
    let begun = Instant::now();
    while newer.chat(Some(&sessions[0]), QUESTION, None).await.expect("an answer").status != 200 {
        assert!(begun.elapsed() < PATIENCE, "the new ones do not go on alone");
        sleep(Duration::from_millis(100)).await;
    }
    let after = newer.all(&messages, "messages", None).await;
    assert_eq!(after[..before.len()], before[..], "nothing was lost");
    let status = system.run(&["status"]);
    assert_eq!(status["parked"], serde_json::json!([]), "{status}");
    for node in [three, four] {
        assert!(node.sigterm().await.success());
    }
}
