//! Who runs tools while parts of the system die, against a server that counts: one tool may not run twice, the other may.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    support::{Client, Reply},
    tools::Counting,
    users::{World, text},
};

/// Seconds that a tool may run.
pub(super) const TIMEOUT: u32 = 5;
/// Before it is asked again what became of a call.
const PAUSE: Duration = Duration::from_millis(200);

/// A call, and how it ended.
#[derive(Debug)]
pub(super) struct Used {
    tool: &'static str,
    what: String,
    status: String,
}

/// Runs one tool after another.
pub(super) async fn use_tools(world: World, name: String, seed: u64) -> Vec<Used> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut used = vec![];
    while world.goes_on() {
        let tool = if random.random_bool(0.7) { "once" } else { "again" };
        let what = format!("wait {name} {}", used.len());
        let reply = loop {
            let reply = world.insist(async |client| call(&client, tool, &what).await).await;
            if reply.status != 202 {
                break reply;
            }
            sleep(PAUSE).await;
        };
        assert_eq!(reply.status, 200, "{tool} is refused: {}", reply.body);
        used.push(Used { tool, what, status: text(&reply.body["status"]) });
        sleep(Duration::from_millis(random.random_range(0..200))).await;
    }
    used
}

async fn call(client: &Client, tool: &str, what: &str) -> reqwest::Result<Reply> {
    let body = json!({ "parameters": { "do": what } });
    client.post(&format!("/api/v1/tools/{tool}/execute"), &body, Some(&format!("{tool} {what}"))).await
}

/// What may not run twice ran at most once, what ended well ran, and the outcome stays; returns how many ended how.
pub(super) async fn check_tools(client: &Client, used: &[Used], counting: &Counting) -> BTreeMap<String, u32> {
    let mut ends = BTreeMap::new();
    for Used { tool, what, status } in used {
        let ran = counting.asked(what).len();
        assert!(*tool == "again" || ran <= 1, "{what:?} may run once and ran {ran} times");
        assert!(status != "success" || ran >= 1, "{what:?} is said to have run and has not");
        assert!(*tool == "once" || status != "uncertain", "{what:?} may be repeated and was not");
        let again = call(client, tool, what).await.expect("an answer");
        assert_eq!((again.status, &again.body["status"]), (200, &Value::from(status.as_str())), "{what:?} ended once");
        assert_eq!(counting.asked(what).len(), ran, "{what:?} ran again when it was asked after");
        *ends.entry(format!("{tool} {status}")).or_insert(0) += 1;
    }
    ends
}
