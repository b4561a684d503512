//! Nodes that share the streams by leases. No faults but those named.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lmao_actors::{Cluster, Keyring};
use lmao_events::{
    CODEC, Category, CommandRef, CommitId, EventData, Hash, Head, Header, NONCE_BYTES, Owes, Payload, Record, StreamId,
    Timestamp, Version, session,
};
use lmao_ports::{CommandError, CommandMeta, NodeId, Receipt, Role};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    in_virtual_time,
    node::{Node, Running, Sharing},
    parked::{history, outcomes},
    stores::{Disk, Reached},
    world::World,
};

const OWNER: Uuid = Uuid::from_u128(7);

struct Scene {
    disk: Arc<Disk>,
    world: Arc<World>,
    faults: Arc<AtomicBool>,
}

impl Scene {
    fn new() -> Self {
        let disk = Disk::new(1);
        let world = World::new(&disk);
        Self { disk, world, faults: Arc::new(AtomicBool::new(false)) }
    }

    async fn worker(&self) -> Running {
        Running::start_sharing(Sharing::Leases, &self.disk, &self.world, &self.faults).await
    }

    async fn gateway(&self) -> Gateway {
        let reached = Reached { disk: Arc::clone(&self.disk), node: Node::new(&self.disk, &self.faults) };
        let cluster = reached.cluster(&[Role::Gateway]);
        cluster.join().await.expect("no faults");
        Gateway { cluster }
    }
}

/// A node that owns nothing.
struct Gateway {
    cluster: Cluster,
}

impl Gateway {
    /// Waits until so many workers live.
    async fn sees(&self, workers: usize) {
        let is_worker = |node: &&lmao_ports::NodeInfo| node.roles.contains(&Role::Worker);
        let mut table = self.cluster.watch();
        let seen = table.wait_for(|table| table.nodes().iter().filter(is_worker).count() == workers);
        tokio::time::timeout(Duration::from_secs(10), seen).await.expect("in time").expect("the cluster lives");
    }

    fn owner(&self, stream: StreamId) -> Option<NodeId> {
        self.cluster.table().owner(stream.bucket())
    }

    /// Sessions that `node` owns.
    fn sessions_of(&self, node: &Running, n: usize) -> Vec<StreamId> {
        let me = node.cluster.as_ref().expect("a placed node").me();
        let sessions = (0..).map(|id| StreamId::new(Category::Session, Uuid::from_u128(10_000 + id)));
        sessions.filter(|session| self.owner(*session) == Some(me)).take(n).collect()
    }

    async fn ask(&self, stream: StreamId, message: u128) -> Result<Receipt, CommandError> {
        let message_id = Uuid::from_u128(message);
        let content = "a question".to_owned();
        let command = session::SendMessage { owner: OWNER, message_id, content, context: json!({}), open: true };
        let meta = CommandMeta {
            who: None,
            command: Some(CommandRef { id: message_id, body: Hash::of(message_id.as_bytes()) }),
            causation: message_id,
            correlation: message_id,
            traceparent: None,
        };
        self.cluster.commands().send(stream, session::Command::SendMessage(command).into(), meta).await
    }
}

async fn answered(node: &Running, session: StreamId, messages: usize) {
    for (_, failure) in outcomes(node, session, messages).await {
        assert_eq!(failure, None);
    }
}

#[test]
fn a_gateway_reaches_every_owner() {
    in_virtual_time(async {
        let scene = Scene::new();
        let (one, two, gateway) = (scene.worker().await, scene.worker().await, scene.gateway().await);
        gateway.sees(2).await;
        let sessions = [gateway.sessions_of(&one, 5), gateway.sessions_of(&two, 5)].concat();
        for (n, session) in (0..).zip(&sessions) {
            assert!(!gateway.ask(*session, n).await.expect("it is taken").repeated);
            assert!(gateway.ask(*session, n).await.expect("it is taken").repeated, "the key came along");
        }
        for session in sessions {
            answered(&one, session, 1).await;
        }
        // What nobody works for is refused, in the end, and was not carried out.
        let table = gateway.cluster.table();
        assert_eq!(table.everyone_reads(), Some(lmao_events::EVENT_SET));
        one.drain().await;
        two.drain().await;
        let refused = gateway.ask(StreamId::new(Category::Session, Uuid::from_u128(5)), 900).await;
        assert!(
            matches!(refused, Err(CommandError::Unavailable(ref error)) if error.store == "placement"),
            "{refused:?}"
        );
        let worker = scene.worker().await;
        assert!(!gateway.ask(StreamId::new(Category::Session, Uuid::from_u128(5)), 900).await.expect("taken").repeated);
        drop(worker);
    });
}

#[test]
fn a_dead_nodes_sessions_answer_again_and_what_it_owed_is_done() {
    in_virtual_time(async {
        let scene = Scene::new();
        let (dies, lives, gateway) = (scene.worker().await, scene.worker().await, scene.gateway().await);
        gateway.sees(2).await;
        let sessions = gateway.sessions_of(&dies, 10);
        let asked = sessions.iter().zip(0..).map(|(session, n)| gateway.ask(*session, n));
        for receipt in futures::future::join_all(asked).await {
            receipt.expect("it is taken");
        }
        dies.node.kill();
        let killed = Instant::now();
        for (session, n) in sessions.iter().zip(100..) {
            gateway.ask(*session, n).await.expect("it is taken by the successor");
        }
        assert!(killed.elapsed() <= Duration::from_secs(5), "after {:?}", killed.elapsed());
        for session in sessions {
            answered(&lives, session, 2).await;
        }
    });
}

#[test]
fn a_node_that_is_drained_hands_over_within_a_second_and_nobody_notices() {
    in_virtual_time(async {
        let scene = Scene::new();
        let (leaves, stays, gateway) = (scene.worker().await, scene.worker().await, scene.gateway().await);
        gateway.sees(2).await;
        let sessions = gateway.sessions_of(&leaves, 3);
        let begun = Instant::now();
        let drained = async {
            leaves.drain().await;
            assert!(begun.elapsed() <= Duration::from_secs(1), "after {:?}", begun.elapsed());
        };
        let asked = async {
            for n in 0..20 {
                for (session, m) in sessions.iter().zip(0..) {
                    // Busy with eight open questions is an answer, too.
                    match gateway.ask(*session, n * 10 + m).await {
                        Ok(_) | Err(CommandError::Rejected(_)) => {}
                        Err(error) => panic!("{session}: {error:?}"),
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::join!(drained, asked);
        for session in sessions {
            answered(&stays, session, 1).await;
        }
    });
}

#[test]
fn what_is_set_aside_stays_so_under_its_next_owner_until_it_is_let_go_on() {
    in_virtual_time(async {
        let scene = Scene::new();
        let (one, two, gateway) = (scene.worker().await, scene.worker().await, scene.gateway().await);
        gateway.sees(2).await;
        let commands = gateway.cluster.commands();
        let session = gateway.sessions_of(&one, 1)[0];
        scene.world.broken.store(true, Ordering::Relaxed);
        gateway.ask(session, 1).await.expect("it is taken");
        let workflow = StreamId::new(Category::Workflow, session::workflow_of(Uuid::from_u128(1)));
        let parked = async || {
            let parked = commands.parked().await.expect("they answer");
            parked.into_iter().map(|(stream, _)| stream).collect::<Vec<_>>()
        };
        outcomes(&two, session, 1).await;
        assert_eq!(parked().await, [workflow]);

        let owner = gateway.owner(workflow);
        let is_first = owner == one.cluster.as_ref().map(Cluster::me);
        let (owner, other) = if is_first { (one, two) } else { (two, one) };
        owner.node.kill();
        gateway.sees(1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(parked().await, [workflow]);

        scene.world.broken.store(false, Ordering::Relaxed);
        commands.unpark(workflow).await.expect("it is let go on");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let last = history(&other, workflow).await.pop();
        assert_eq!(last.as_ref().map(lmao_events::AnyEvent::name), Some("ReplyDelivered"), "{last:?}");
        assert_eq!(parked().await, []);
    });
}

/// A commit of a build that does not exist yet.
async fn newer_build_writes(node: &Running, stream: StreamId) {
    let reached = Arc::new(node.reached.clone());
    let key = Keyring::new(reached.clone(), reached).get_or_create(OWNER).await.expect("a key");
    let header = Header {
        id: CommitId(Uuid::from_u128(1)),
        stream,
        version: Version(1),
        codec: CODEC,
        time: Timestamp(1),
        who: None,
        key: OWNER,
        causation: Uuid::nil(),
        correlation: Uuid::nil(),
        traceparent: None,
        prev: Hash::default(),
        owes: Owes::Now,
    };
    let event = EventData { name: "Dreamt".to_owned(), version: 1, data: vec![0x80] };
    let payload = Payload { command: None, events: vec![event] };
    let record = Record::seal(header, &payload, &key, [9; NONCE_BYTES]).expect("a small record");
    node.reached.disk.store(&Head::default(), &Arc::new(record)).expect("it is stored");
}

#[test]
fn a_bucket_that_a_newer_build_wrote_to_is_given_up_and_nothing_is_set_aside() {
    in_virtual_time(async {
        let scene = Scene::new();
        let (one, two, gateway) = (scene.worker().await, scene.worker().await, scene.gateway().await);
        gateway.sees(2).await;
        let session = gateway.sessions_of(&one, 1)[0];
        newer_build_writes(&one, session).await;
        let mut table = gateway.cluster.watch();
        let given_up = table.wait_for(|table| table.owner(session.bucket()).is_none());
        tokio::time::timeout(Duration::from_secs(30), given_up)
            .await
            .expect("both give it up")
            .expect("the cluster lives");
        let refused = gateway.ask(session, 1).await;
        assert!(matches!(refused, Err(CommandError::Unavailable(_))), "{refused:?}");
        assert_eq!(gateway.cluster.commands().parked().await.expect("they answer"), []);

        // Only that bucket.
        let other = gateway.sessions_of(&two, 1)[0];
        gateway.ask(other, 2).await.expect("it is taken");
        answered(&two, other, 1).await;
        assert_eq!(gateway.cluster.table().nodes().iter().filter(|node| !node.gave_up.is_empty()).count(), 2);
    });
}
