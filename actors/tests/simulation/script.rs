//! What clients do to the simulated system, and what must be true when all is quiet.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use lmao_actors::{Keyring, OpenedLog, audit};
use lmao_events::{
    AnyCommand, AnyEvent, BlobRef, Category, CommandRef, ContentHash, Hash, Owes, StreamId, Version, document, session,
    tool_call, user,
};
use lmao_ports::{CommandError, CommandMeta, Committed, Journal};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    node::{Running, Sharing},
    stores::Disk,
    world::World,
};

/// How long faults happen, and how long the rest may take.
const STORM: Duration = Duration::from_secs(40);
const CALM: Duration = Duration::from_secs(900);

struct Simulation {
    disk: Arc<Disk>,
    world: Arc<World>,
    faults: Arc<AtomicBool>,
    sharing: Sharing,
    nodes: tokio::sync::Mutex<Vec<Running>>,
}

/// What clients were told.
#[derive(Default)]
struct Accepted {
    /// Messages by session, in the order sent.
    messages: BTreeMap<StreamId, Vec<Uuid>>,
    calls: Vec<(StreamId, bool)>,
    documents: Vec<(StreamId, bool)>,
    users: Vec<StreamId>,
}

/// Plays a seed and checks it; the digest of the log.
pub(crate) async fn play(seed: u64, sharing: Sharing) -> Hash {
    let disk = Disk::new(seed);
    let world = World::new(&disk);
    let faults = Arc::new(AtomicBool::new(true));
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(Running::start_sharing(sharing, &disk, &world, &faults).await);
    }
    let simulation = Arc::new(Simulation { disk, world, faults, sharing, nodes: tokio::sync::Mutex::new(nodes) });
    let keeper = tokio::spawn(keep_running(Arc::clone(&simulation)));
    let accepted = simulation.clients().await;
    tokio::time::sleep_until(Instant::now() + STORM).await;
    simulation.faults.store(false, Ordering::Relaxed);
    simulation.unpark().await;
    simulation.quiet().await;
    keeper.abort();
    simulation.check(&accepted).await
}

/// Starts a node for each that died.
async fn keep_running(simulation: Arc<Simulation>) {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for slot in 0..2 {
            let dead = simulation.nodes.lock().await[slot].commands().is_none();
            // Now and then a node is ended in order.
            let leaves = simulation.faults.load(Ordering::Relaxed) && simulation.disk.chance(0.01);
            if !dead && !leaves {
                continue;
            }
            let Simulation { disk, world, faults, sharing, .. } = &*simulation;
            let fresh = Running::start_sharing(*sharing, disk, world, faults).await;
            let old = std::mem::replace(&mut simulation.nodes.lock().await[slot], fresh);
            old.drain().await;
        }
    }
}

impl Simulation {
    /// Sends a command as a client does: with an idempotency key, again until it is answered, to whichever node.
    async fn send(&self, stream: StreamId, command: impl Into<AnyCommand>, key: u64) -> Result<(), CommandError> {
        let command = command.into();
        let id = Uuid::from_u128(0x00C0_FFEE_0000 + u128::from(key));
        let meta = CommandMeta {
            who: None,
            command: Some(CommandRef { id, body: Hash::of(id.as_bytes()) }),
            causation: id,
            correlation: id,
            traceparent: None,
        };
        for _ in 0..60 {
            let node = usize::try_from(self.disk.below(2)).unwrap_or(0);
            let commands = self.nodes.lock().await[node].commands();
            if let Some(commands) = commands {
                let sent = commands.send(stream, command.clone(), meta.clone());
                match tokio::time::timeout(Duration::from_secs(5), sent).await {
                    Ok(Ok(_)) => {
                        // A client that lost the answer sends again.
                        if self.disk.chance(0.9) {
                            return Ok(());
                        }
                    }
                    Ok(Err(CommandError::Rejected(rejection))) => return Err(rejection.into()),
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            tokio::time::sleep(self.disk.millis(1500)).await;
        }
        Err(CommandError::Unknown)
    }

    async fn clients(&self) -> Accepted {
        let mut accepted = Accepted::default();
        let (users, sessions, calls, documents) =
            tokio::join!(self.register(), self.converse(), self.call_tools(), self.hand_in());
        accepted.users = users;
        accepted.messages = sessions;
        accepted.calls = calls;
        accepted.documents = documents;
        accepted
    }

    /// Three people, two of whom want the same name.
    async fn register(&self) -> Vec<StreamId> {
        let one = |n: u64| async move {
            let id = Uuid::from_u128(100 + u128::from(n));
            let stream = StreamId::new(Category::User, id);
            let registered = user::Registered {
                id,
                username: if n == 2 { "carol" } else { "alice" }.to_owned(),
                email: format!("{n}@example.org"),
                role: user::Role::User,
            };
            tokio::time::sleep(self.disk.millis(300)).await;
            self.send(stream, user::Command::Register(registered), n).await.is_ok().then_some(stream)
        };
        futures::future::join_all((0..3).map(one)).await.into_iter().flatten().collect()
    }

    async fn converse(&self) -> BTreeMap<StreamId, Vec<Uuid>> {
        let one = |n: u64| async move {
            let stream = StreamId::new(Category::Session, Uuid::from_u128(200 + u128::from(n)));
            let mut sent = Vec::new();
            for m in 0..=self.disk.below(4) {
                let message_id = Uuid::from_u128(1000 + u128::from(n * 10 + m));
                let message = session::SendMessage {
                    owner: Uuid::from_u128(7),
                    message_id,
                    content: format!("message {m} of session {n}"),
                    context: json!({}),
                    open: m == 0,
                };
                let outcome = self.send(stream, session::Command::SendMessage(message), 1000 + n * 10 + m).await;
                if outcome.is_ok() {
                    sent.push(message_id);
                } else if m == 0 {
                    break;
                }
                tokio::time::sleep(self.disk.millis(2000)).await;
            }
            (stream, sent)
        };
        futures::future::join_all((0..3).map(one)).await.into_iter().collect()
    }

    async fn call_tools(&self) -> Vec<(StreamId, bool)> {
        let one = |n: u64| async move {
            let id = Uuid::from_u128(300 + u128::from(n));
            let stream = StreamId::new(Category::ToolCall, id);
            let repeatable = n % 3 == 2;
            let requested = tool_call::Requested {
                owner: Uuid::from_u128(7),
                session_id: None,
                tool: if repeatable { "again" } else { "once" }.to_owned(),
                parameters: json!({"call": id}),
                repeatable,
                timeout_millis: 1000,
            };
            tokio::time::sleep(self.disk.millis(5000)).await;
            let outcome = self.send(stream, tool_call::Command::Request(requested), 3000 + n).await;
            outcome.is_ok().then_some((stream, repeatable))
        };
        futures::future::join_all((0..6).map(one)).await.into_iter().flatten().collect()
    }

    async fn hand_in(&self) -> Vec<(StreamId, bool)> {
        let one = |n: u64| async move {
            let stream = StreamId::new(Category::Document, Uuid::from_u128(400 + u128::from(n)));
            let owner = Uuid::from_u128(8);
            let uploaded = document::Uploaded {
                owner,
                filename: format!("{n}.txt"),
                content: BlobRef { sha256: ContentHash([1; 32]), size: 1 },
                metadata: json!({}),
                attempt: Some(Uuid::from_u128(500 + u128::from(n))),
            };
            self.send(stream, document::Command::Upload(uploaded), 4000 + n).await.ok()?;
            let delete = self.disk.chance(0.4);
            if delete {
                tokio::time::sleep(self.disk.millis(3000)).await;
                let deleted = self.send(stream, document::Command::Delete { owner }, 5000 + n).await.is_ok();
                return Some((stream, deleted));
            }
            Some((stream, false))
        };
        futures::future::join_all((0..3).map(one)).await.into_iter().flatten().collect()
    }

    /// Lets streams go on that the storm has parked.
    async fn unpark(&self) {
        for node in self.nodes.lock().await.iter() {
            let Some(commands) = node.commands() else { continue };
            for (stream, _) in commands.parked().await.expect("kept in memory") {
                let _ = tokio::time::timeout(Duration::from_secs(60), commands.unpark(stream)).await;
            }
        }
    }

    async fn parked(&self) -> Vec<(StreamId, String)> {
        let mut parked = Vec::new();
        for node in self.nodes.lock().await.iter() {
            if let Some(commands) = node.commands() {
                parked.extend(commands.parked().await.expect("kept in memory"));
            }
        }
        parked
    }

    /// Waits until no stream owes anything.
    async fn quiet(&self) {
        let deadline = Instant::now() + CALM;
        loop {
            let mut owing = BTreeMap::new();
            for recorded in self.disk.records() {
                let header = recorded.record.header();
                owing.insert(header.stream, header.owes);
            }
            owing.retain(|_, owes| *owes != Owes::Nothing);
            if owing.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "these owe something for ever: {owing:?}, parked: {:?}",
                self.parked().await
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.sharing == Sharing::Leases {
                // What nobody worked for when the storm ended was not named then.
                self.unpark().await;
            }
        }
    }

    async fn check(&self, accepted: &Accepted) -> Hash {
        // A last node, untouched by faults, reads what is there.
        let last = Running::start(&self.disk, &self.world, &self.faults).await;
        let reached = Arc::new(last.reached.clone());
        let log = OpenedLog::new(reached.clone(), Keyring::new(reached.clone(), reached.clone()));
        let report = audit::verify(reached.as_ref(), None, |_, _| {}).await.expect("the log can be read");
        assert_eq!(report.problems, Vec::<String>::new());

        for (stream, messages) in &accepted.messages {
            check_session(&read(&log, *stream).await, messages);
        }
        let active =
            count(&log, &accepted.users, |event| matches!(event, AnyEvent::User(user::Event::Activated(_)))).await;
        if accepted.users.len() == 3 {
            assert_eq!(active, 2, "one of the two who want the same name, and the third");
        }
        for (stream, repeatable) in &accepted.calls {
            self.check_call(&read(&log, *stream).await, stream.id, *repeatable);
        }
        for (stream, deleted) in &accepted.documents {
            check_document(&read(&log, *stream).await, *deleted);
        }
        let hashes: Vec<u8> = self.disk.records().iter().flat_map(|recorded| recorded.hash.0).collect();
        Hash::of(&hashes)
    }

    fn check_call(&self, commits: &[Committed], call: Uuid, repeatable: bool) {
        let ended: Vec<_> = events(commits)
            .filter_map(|event| match event {
                AnyEvent::ToolCall(tool_call::Event::Finished(finished)) => Some(&finished.outcome),
                _ => None,
            })
            .collect();
        assert_eq!(ended.len(), 1, "an accepted call ends exactly once");
        let runs = self.world.runs.lock().expect("not poisoned").get(&call).copied().unwrap_or(0);
        let done = matches!(ended[0], tool_call::Outcome::Success(_));
        assert!(runs >= 1 || !done, "success without a run");
        assert!(repeatable || runs <= 1, "a tool that may run once ran {runs} times");
    }
}

async fn read(log: &OpenedLog, stream: StreamId) -> Vec<Committed> {
    log.read(stream, Version(1)).map(|commit| commit.expect("the log can be read")).collect().await
}

async fn count(log: &OpenedLog, streams: &[StreamId], wanted: fn(&AnyEvent) -> bool) -> usize {
    let mut found = 0;
    for stream in streams {
        found += events(&read(log, *stream).await).filter(|event| wanted(event)).count();
    }
    found
}

fn events(commits: &[Committed]) -> impl Iterator<Item = &AnyEvent> {
    commits.iter().flat_map(|commit| commit.events.as_ref().expect("nobody is erased"))
}

/// Every accepted message is there once and ends once, in the order of receipt.
fn check_session(commits: &[Committed], accepted: &[Uuid]) {
    let (mut received, mut ended) = (Vec::new(), Vec::new());
    for event in events(commits) {
        match event {
            AnyEvent::Session(session::Event::MessageReceived(message)) => received.push(message.message_id),
            AnyEvent::Session(session::Event::ReplyCompleted(reply)) => ended.push(reply.message_id),
            AnyEvent::Session(session::Event::ReplyFailed(reply)) => ended.push(reply.message_id),
            _ => {}
        }
    }
    assert_eq!(received, ended, "messages end exactly once, in order");
    for message in accepted {
        assert_eq!(received.iter().filter(|known| *known == message).count(), 1, "{message} was accepted");
    }
}

fn check_document(commits: &[Committed], deleted: bool) {
    let last = events(commits).last().map(AnyEvent::name);
    let ends: &[&str] = if deleted { &["BlobsRemoved"] } else { &["Indexed", "Failed", "BlobsRemoved"] };
    assert!(last.is_some_and(|last| ends.contains(&last)), "an accepted document ends, not with {last:?}");
}
