//! A long history, written straight into a data directory's log: sessions of five answered messages each, which owe nothing.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use futures::StreamExt as _;
use lmao_actors::Keyring;
use lmao_adapters::{
    clock::OsEntropy,
    sqlite::{Access, MasterKey, SqliteLog, SqliteVault},
};
use lmao_events::{
    Answer, AnyEvent, CODEC, Category, CommitId, DataKey, Head, Header, Owes, Payload, Position, Record, StreamId,
    Timestamp, session,
};
use lmao_ports::{Entropy as _, EventLog, Filter};
use serde_json::json;
use uuid::Uuid;

use super::Server;

/// Records of one session.
pub(crate) const PER_SESSION: usize = 10;
/// Appends at once.
const WRITERS: usize = 512;

/// A data directory with a history.
pub(crate) struct History {
    /// The folder.
    pub(crate) data: PathBuf,
    /// Its sessions.
    pub(crate) sessions: usize,
    _temporary: Option<tempfile::TempDir>,
}

impl History {
    /// Writes `LMAO_BENCH_EVENTS` records (1,000,000 unless told), ten a stream; in the folder `LMAO_BENCH_DATA` they stay,
    /// and are found again.
    pub(crate) async fn make() -> Self {
        let sessions = super::size("LMAO_BENCH_EVENTS", 1_000_000) / PER_SESSION;
        let kept = std::env::var_os("LMAO_BENCH_DATA").map(PathBuf::from);
        let temporary = kept.is_none().then(|| tempfile::tempdir().unwrap());
        let data = kept.unwrap_or_else(|| temporary.as_ref().unwrap().path().join("data"));
        if !data.join("format").exists() {
            // The first start opens the administrator's account.
            Server::start(&data, None).stop();
            let begun = Instant::now();
            write(&data, sessions).await;
            println!("{sessions} sessions written in {:.1} s", begun.elapsed().as_secs_f64());
        }
        Self { data, sessions, _temporary: temporary }
    }

    /// The id of session number `n`.
    pub(crate) fn session(&self, n: usize) -> Uuid {
        assert!(n < self.sessions);
        id(n)
    }
}

/// The id of the session of this number.
pub(crate) fn id(n: usize) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n as u128)
}

async fn write(data: &Path, sessions: usize) {
    let log = Arc::new(SqliteLog::open(&data.join("log.db"), Access::ReadWrite).await.unwrap());
    let admin = log.subscribe(Position(0), Filter::Category(Category::User)).next().await.unwrap().unwrap();
    let owner = admin.record.header().stream.id;
    let master = MasterKey::load_or_create(&data.join("master.key")).await.unwrap();
    let vault = SqliteVault::open(&data.join("vault.db"), &master).await.unwrap();
    let key = Keyring::new(Arc::new(vault), Arc::new(OsEntropy)).get(owner).await.unwrap();
    let next = Arc::new(AtomicUsize::new(0));
    let writers = (0..WRITERS).map(|_| {
        let (log, key, next) = (Arc::clone(&log), key.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < sessions) {
                let stream = StreamId::new(Category::Session, id(n));
                converse(&*log, &key, owner, stream, Head::default(), 0..PER_SESSION / 2).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// Messages and their answers, appended behind `head`: those that the conversation has in these places.
pub(crate) async fn converse(
    log: &dyn EventLog,
    key: &DataKey,
    owner: Uuid,
    stream: StreamId,
    mut head: Head,
    turns: Range<usize>,
) -> Head {
    for turn in turns {
        let message_id = Uuid::new_v4();
        let mut said = vec![session::Event::MessageReceived(session::MessageReceived {
            message_id,
            content: format!("Question {turn}: who owns a value, and for how long?"),
            context: json!({}),
        })];
        if turn == 0 {
            said.insert(0, session::Event::Opened(session::Opened { owner }));
        }
        let reply = session::ReplyCompleted { message_id, answer: answer(), tasks_completed: 2, millis: 7 };
        for events in [said, vec![session::Event::ReplyCompleted(reply)]] {
            let events = events.into_iter().map(|event| AnyEvent::Session(event).encode()).collect();
            let record = record(stream, &head, key, owner, events);
            head = log.append(&head, Arc::new(record)).await.unwrap();
        }
    }
    head
}

/// What the language model says.
pub(crate) fn answer() -> Answer {
    Answer {
        text: "Each value has one owner at a time; when the owner goes out of scope, it is dropped.".to_owned(),
        citations: vec![],
        model: "instant".to_owned(),
        usage: None,
        grounded: false,
        notices: vec![],
    }
}

fn record(stream: StreamId, head: &Head, key: &DataKey, owner: Uuid, events: Vec<lmao_events::EventData>) -> Record {
    let header = Header {
        id: CommitId(Uuid::now_v7()),
        stream,
        version: head.version.next(),
        codec: CODEC,
        time: Timestamp(1_750_000_000_000_000),
        who: Some(owner),
        key: owner,
        causation: Uuid::new_v4(),
        correlation: Uuid::new_v4(),
        traceparent: None,
        prev: head.hash,
        owes: Owes::Nothing,
    };
    Record::seal(header, &Payload { command: None, events }, key, OsEntropy.nonce()).unwrap()
}
