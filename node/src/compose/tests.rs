//! Blobs and the documents that name them, on a node with real stores and no model.

use std::{collections::HashSet, path::Path, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use lmao_actors::{Orphans, OrphansError, audit::Rolling};
use lmao_adapters::data_dir::{DataDir, Mode};
use lmao_events::{
    BlobRef, Position, StreamId, Version,
    document::{Command, Uploaded},
};
use lmao_ports::{CommandMeta, Filter, Folder, Journal as _};
use serde_json::json;
use uuid::Uuid;

use super::{DamagedIndex, Node, Parts, node::stores};
use crate::{
    config::{Config, Models},
    progress::ModelProgress,
};

const OWNER: Uuid = Uuid::from_u128(1);

async fn start(data: &Path) -> Node {
    let config = Config { data: data.to_owned(), models: Models::Off, ..Config::default() };
    let data = DataDir::open(&config.data, Mode::Exclusive).unwrap();
    let parts = Parts::open(&config, data, DamagedIndex::Refuse, Arc::new(ModelProgress::default())).await.unwrap();
    Node::start(parts).await.unwrap()
}

fn folder(document: u128, attempt: Option<u128>) -> Folder {
    Folder { owner: OWNER, document: Uuid::from_u128(document), attempt: attempt.map(Uuid::from_u128) }
}

impl Node {
    async fn keep(&self, folder: Folder) -> BlobRef {
        self.parts().blobs.put(folder, "Owls hunt at night.".into()).await.unwrap()
    }

    async fn folders(&self) -> HashSet<Folder> {
        self.parts().blobs.folders().try_collect().await.unwrap()
    }

    async fn send(&self, stream: StreamId, command: Command) {
        let id = Uuid::new_v4();
        let meta = CommandMeta { who: Some(OWNER), command: None, causation: id, correlation: id, traceparent: None };
        self.commands().send(stream, command.into(), meta).await.unwrap();
    }

    /// Tells the log of a file that is kept already, and waits until it can be found.
    async fn name(&self, folder: Folder, content: BlobRef) {
        let Folder { owner, attempt, .. } = folder;
        let uploaded = Uploaded { owner, filename: "owls.txt".into(), content, metadata: json!({}), attempt };
        self.send(folder.stream(), Command::Upload(uploaded)).await;
        self.ends_with(folder.stream(), "Indexed").await;
    }

    async fn delete(&self, stream: StreamId) {
        self.send(stream, Command::Delete { owner: OWNER }).await;
        self.ends_with(stream, "BlobsRemoved").await;
    }

    async fn ends_with(&self, stream: StreamId, wanted: &str) {
        let journal = &self.parts().journal;
        let known: Vec<_> = journal.read(stream, Version(1)).try_collect().await.unwrap();
        let before = known.first().map_or_else(Default::default, |first| Position(first.position.0 - 1));
        let mut commits = journal.follow(before, Filter::Stream(stream));
        loop {
            let events = commits.next().await.unwrap().unwrap().events.unwrap();
            let last = events.last().unwrap().name();
            assert_ne!(last, "Failed", "{events:?}");
            if last == wanted {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_no_document_names_are_removed_at_the_second_look() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let (named, old_fashioned, deleted) = (folder(10, Some(1)), folder(11, None), folder(12, Some(1)));
    for folder in [named, old_fashioned, deleted] {
        node.name(folder, node.keep(folder).await).await;
    }
    node.delete(deleted.stream()).await;
    assert_eq!(node.folders().await, HashSet::from([named, old_fashioned]));

    // The client went away between file and command; a step that was cut off wrote after the deletion; another attempt
    // came second; another log has its blobs here too.
    let (lost, late, second) = (folder(13, Some(1)), deleted, folder(10, Some(2)));
    let foreign = Folder { owner: Uuid::from_u128(2), ..folder(14, Some(1)) };
    for folder in [lost, late, second, foreign] {
        node.keep(folder).await;
    }
    let mut orphans = Orphans::new(stores(node.parts()), Arc::clone(&node.parts().blobs));
    assert_eq!(orphans.look().await.unwrap(), 0, "each may be named yet");
    let slow = folder(15, Some(1));
    let content = node.keep(slow).await;
    assert_eq!(orphans.look().await.unwrap(), 3);
    assert_eq!(node.folders().await, HashSet::from([named, old_fashioned, foreign, slow]));
    node.name(slow, content).await;
    assert_eq!(orphans.look().await.unwrap(), 0);

    for folder in [named, old_fashioned, slow] {
        node.delete(folder.stream()).await;
    }
    assert_eq!(node.folders().await, HashSet::from([foreign]));
    node.drain().await;
}

/// The documents of the records that were lost look like rubbish.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_for_a_log_that_has_lost_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let lost = folder(13, Some(1));
    node.keep(lost).await;
    let parts = node.parts();
    let tail = parts.log.tail().await.unwrap();
    let ahead = Rolling { position: Position(tail.0 + 1), ..Rolling::default() };
    ahead.keep(parts.vault.as_ref(), parts.log.id()).await.unwrap();
    let mut orphans = Orphans::new(stores(parts), Arc::clone(&parts.blobs));
    for _ in 0..2 {
        assert!(matches!(orphans.look().await, Err(OrphansError::LogCut)));
    }
    assert_eq!(node.folders().await, HashSet::from([lost]));
    node.drain().await;
}

/// What is stored is the same whether or not this build knows of telemetry.
#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_listens_commits_hold_the_trace_that_their_command_came_with() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    for (n, traceparent) in [(20, None), (21, Some(TRACE))] {
        let folder = folder(n, Some(1));
        let Folder { owner, attempt, .. } = folder;
        let content = node.keep(folder).await;
        let uploaded = Uploaded { owner, filename: "owls.txt".into(), content, metadata: json!({}), attempt };
        let id = Uuid::new_v4();
        let traceparent = traceparent.map(str::to_owned);
        let meta = CommandMeta {
            who: Some(OWNER),
            command: None,
            causation: id,
            correlation: id,
            traceparent: traceparent.clone(),
        };
        node.commands().send(folder.stream(), Command::Upload(uploaded).into(), meta).await.unwrap();
        node.ends_with(folder.stream(), "Indexed").await;
        let commits: Vec<_> = node.parts().journal.read(folder.stream(), Version(1)).try_collect().await.unwrap();
        assert!(commits.len() > 3, "{commits:?}");
        for commit in commits {
            assert_eq!(commit.header.traceparent, traceparent, "version {}", commit.header.version);
        }
    }
    node.drain().await;
}
