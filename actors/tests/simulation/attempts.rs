//! An attempt whose process died becomes uncertain when its time is up: not before, not much later. No faults but that death.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use lmao_events::{
    AnyEvent, Category, StreamId,
    tool_call::{self, Outcome, UNCERTAIN_AFTER},
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    in_virtual_time,
    node::Running,
    parked::{history, send},
    stores::Disk,
    world::World,
};

const TIMEOUT: Duration = Duration::from_secs(1);
/// For a start, and for the steps of the stores.
const SLACK: Duration = Duration::from_secs(5);

async fn outcome(node: &Running, stream: StreamId) -> Option<Outcome> {
    history(node, stream).await.into_iter().find_map(|event| match event {
        AnyEvent::ToolCall(tool_call::Event::Finished(finished)) => Some(finished.outcome),
        _ => None,
    })
}

#[test]
fn an_attempt_that_was_cut_off_is_given_up_when_its_time_is_up() {
    in_virtual_time(async {
        let disk = Disk::new(1);
        let (world, faults) = (World::new(&disk), Arc::new(AtomicBool::new(false)));
        let first = Running::start(&disk, &world, &faults).await;
        let call = Uuid::from_u128(300);
        let stream = StreamId::new(Category::ToolCall, call);
        let requested = tool_call::Requested {
            owner: Uuid::from_u128(7),
            session_id: None,
            tool: "once".to_owned(),
            parameters: json!({ "call": call }),
            repeatable: false,
            timeout_millis: u64::try_from(TIMEOUT.as_millis()).unwrap(),
        };
        send(&first, stream, tool_call::Command::Request(requested)).await;
        while !world.runs.lock().unwrap().contains_key(&call) {
            sleep(Duration::from_millis(1)).await;
        }
        first.node.kill();
        let killed = Instant::now();

        let second = Running::start(&disk, &world, &faults).await;
        let outcome = loop {
            if let Some(outcome) = outcome(&second, stream).await {
                break outcome;
            }
            assert!(killed.elapsed() < TIMEOUT + UNCERTAIN_AFTER + SLACK, "nobody gives it up");
            sleep(Duration::from_millis(100)).await;
        };
        assert!(matches!(outcome, Outcome::Uncertain(_)), "{outcome:?}");
        assert_eq!(world.runs.lock().unwrap()[&call], 1, "it is not repeated");
        second.drain().await;
    });
}
