//! Files that end whoever reads them: they are left alone after some tries, the others are taken in. No faults but these.

use std::{sync::atomic::Ordering, time::Duration};

use lmao_events::{AnyEvent, BlobRef, Category, ContentHash, Failure, StreamId, document};
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    in_virtual_time,
    node::Running,
    parked::{Scene, history, send},
};

const OWNER: Uuid = Uuid::from_u128(7);
const DEADLY: &str = "deadly.pdf";
const TRIES: usize = 3;

async fn upload(node: &Running, n: u128, filename: &str) -> StreamId {
    let stream = StreamId::new(Category::Document, Uuid::from_u128(n));
    let uploaded = document::Uploaded {
        owner: OWNER,
        filename: filename.to_owned(),
        content: BlobRef { sha256: ContentHash([1; 32]), size: 1 },
        metadata: json!({}),
        attempt: Some(Uuid::from_u128(1000 + n)),
    };
    send(node, stream, document::Command::Upload(uploaded)).await;
    stream
}

/// How a document ended since it was last asked for, if it has.
async fn end(node: &Running, stream: StreamId) -> Option<Result<(), Failure>> {
    let mut end = None;
    for event in history(node, stream).await {
        match event {
            AnyEvent::Document(document::Event::Failed(failed)) => end = Some(Err(failed.failure)),
            AnyEvent::Document(document::Event::Indexed(_)) => end = Some(Ok(())),
            AnyEvent::Document(document::Event::RetryRequested(_)) => end = None,
            _ => {}
        }
    }
    end
}

/// Until all have ended, or the process has.
async fn watch(node: &Running, streams: &[StreamId]) -> Option<Vec<Result<(), Failure>>> {
    for _ in 0..600 {
        if node.node.is_dead() {
            return None;
        }
        // A process that died meanwhile reads nothing.
        let read = tokio::time::timeout(Duration::from_secs(20), async {
            let mut ends = vec![];
            for stream in streams {
                ends.extend(end(node, *stream).await);
            }
            ends
        });
        if let Ok(ends) = read.await
            && ends.len() == streams.len()
        {
            return Some(ends);
        }
        sleep(Duration::from_millis(500)).await;
    }
    panic!("some document does not end");
}

/// Starts the process until it lives; how often it died, and the documents' ends.
async fn live(scene: &Scene, mut node: Running, streams: &[StreamId]) -> (usize, Running, Vec<Result<(), Failure>>) {
    for deaths in 0..20 {
        if let Some(ends) = watch(&node, streams).await {
            return (deaths, node, ends);
        }
        node = scene.start().await;
    }
    panic!("it dies for ever");
}

fn dies_of(step: document::Step) {
    in_virtual_time(async {
        let scene = Scene::new();
        *scene.world.deadly.lock().unwrap() = Some((DEADLY, step));
        let node = scene.start().await;
        let mut streams = vec![];
        for n in 0..6 {
            let name = if n == 2 { DEADLY } else { "harmless.txt" };
            // Whoever dies of one that came before takes no more.
            let taken = tokio::time::timeout(Duration::from_secs(1), upload(&node, 300 + n, name)).await;
            streams.extend(taken.ok());
        }
        assert!(streams.len() > 2, "it died too soon");
        let (deaths, node, ends) = live(&scene, node, &streams).await;
        assert_eq!(deaths, TRIES);
        for (at, end) in ends.iter().enumerate() {
            match (at, end) {
                (2, Err(failure)) => {
                    assert_eq!((failure.reason.as_str(), failure.retryable), ("server_ended", false));
                    assert!(failure.message.contains("ended 3 times"), "{}", failure.message);
                }
                (2, Ok(())) => panic!("who reads it dies"),
                (_, end) => assert_eq!(*end, Ok(()), "{at}"),
            }
        }

        // Asked for anew, it is counted anew.
        send(&node, streams[2], document::Command::Retry { owner: OWNER }).await;
        let (deaths, node, ends) = live(&scene, node, &streams).await;
        assert_eq!(deaths, TRIES);
        assert!(ends[2].is_err());
        *scene.world.deadly.lock().unwrap() = None;
        send(&node, streams[2], document::Command::Retry { owner: OWNER }).await;
        let (deaths, node, ends) = live(&scene, node, &streams).await;
        assert_eq!((deaths, &ends[2]), (0, &Ok(())));
        node.drain().await;
    });
}

#[test]
fn a_file_that_ends_who_extracts_it_is_left_alone() {
    dies_of(document::Step::Extract);
}

#[test]
fn a_file_that_ends_who_cuts_it_is_left_alone() {
    dies_of(document::Step::Chunk);
}

#[test]
fn processes_that_end_in_order_are_not_counted() {
    in_virtual_time(async {
        let scene = Scene::new();
        let mut node = scene.start().await;
        scene.world.hung.store(true, Ordering::Relaxed);
        let stream = upload(&node, 300, "slow.pdf").await;
        for _ in 0..2 * TRIES {
            sleep(Duration::from_secs(5)).await;
            node.drain().await;
            node = scene.start().await;
        }
        scene.world.hung.store(false, Ordering::Relaxed);
        node.drain().await;
        let (deaths, node, ends) = live(&scene, scene.start().await, &[stream]).await;
        assert_eq!((deaths, ends), (0, vec![Ok(())]));
        node.drain().await;
    });
}
