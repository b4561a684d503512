//! The log when the world is unkind: acknowledgements that are lost, late or doubled, servers that die. Behind a proxy of the
//! test's own, and on servers of its own.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, future::join_all, stream::BoxStream};
use lmao_events::{AnyEvent, Category, Hash, Head, Position, Record, StreamId, Version, user};
use lmao_ports::{
    AppendError, EventLog, Filter, ReadError, Recorded,
    conformance::{
        fixtures::{record, stream},
        log as suite,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::NatsLog;
use crate::nats::{
    Limits, Nats, Replicas, migrate,
    testing::{self, Server},
};

const SHORT: Limits =
    Limits { deadline: Duration::from_secs(5), attempt: Duration::from_millis(300), away: Duration::from_millis(300) };

fn next(stream: StreamId, head: &Head) -> Arc<Record> {
    record(stream, head, &[AnyEvent::User(user::LoggedIn {}.into())])
}

/// What the proxy does with what it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    Pass,
    /// The next acknowledgement is lost with its connection.
    CutAtAck,
    /// The next publish arrives in half and its connection ends.
    CutInPublish,
    /// What the server says waits until the mode changes.
    HoldAnswers,
    /// What the client says waits until the mode changes.
    HoldRequests,
    /// Each publish is sent twice.
    DoublePublishes,
    /// Connections end, and no other is taken.
    Away,
}

/// Stands between a client and its server.
struct Proxy {
    mode: Arc<AtomicU8>,
    used: Arc<AtomicBool>,
    url: String,
}

impl Proxy {
    async fn before(scratch: &testing::Scratch) -> Self {
        let server = testing::url().rsplit_once(['/', '@']).unwrap().1.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}?{}", listener.local_addr().unwrap(), scratch.query());
        let (mode, used) = (Arc::new(AtomicU8::new(Mode::Pass as u8)), Arc::<AtomicBool>::default());
        let (shared, seen) = (Arc::clone(&mode), Arc::clone(&used));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if shared.load(Ordering::SeqCst) == Mode::Away as u8 {
                    continue;
                }
                let (from, to) = client.into_split();
                let (back, forth) = TcpStream::connect(&server).await.unwrap().into_split();
                tokio::spawn(pipe(from, forth, Side::Client, Arc::clone(&shared), Arc::clone(&seen)));
                tokio::spawn(pipe(back, to, Side::Server, Arc::clone(&shared), Arc::clone(&seen)));
            }
        });
        Self { mode, used, url }
    }

    fn set(&self, mode: Mode) {
        self.used.store(false, Ordering::SeqCst);
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// The mode has done what it says at least once.
    fn was_used(&self) -> bool {
        self.used.load(Ordering::SeqCst)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Ends with either connection's end: the other is closed when both halves are dropped.
async fn pipe(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, side: Side, mode: Arc<AtomicU8>, used: Arc<AtomicBool>) {
    let is = |wanted: Mode| mode.load(Ordering::SeqCst) == wanted as u8;
    let mut bytes = vec![0; 1024 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            () = async { while !is(Mode::Away) { tokio::time::sleep(Duration::from_millis(5)).await } } => 0,
        };
        if read == 0 {
            return;
        }
        let said = &bytes[..read];
        let publishes = said.windows(4).any(|word| word == b"HPUB") && contains(said, b"events.");
        let acknowledges = contains(said, br#""seq":"#) && contains(said, br#"{"stream":"#);
        match side {
            Side::Server if acknowledges && is(Mode::CutAtAck) => {
                mode.store(Mode::Pass as u8, Ordering::SeqCst);
                used.store(true, Ordering::SeqCst);
                return;
            }
            Side::Client if publishes && is(Mode::CutInPublish) => {
                mode.store(Mode::Pass as u8, Ordering::SeqCst);
                used.store(true, Ordering::SeqCst);
                let _ = to.write_all(&said[..read / 2]).await;
                return;
            }
            _ => {}
        }
        while (side == Side::Server && is(Mode::HoldAnswers)) || (side == Side::Client && is(Mode::HoldRequests)) {
            used.store(true, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let twice = side == Side::Client && publishes && is(Mode::DoublePublishes);
        for _ in 0..=usize::from(twice) {
            if to.write_all(said).await.is_err() {
                return;
            }
        }
        if twice {
            used.store(true, Ordering::SeqCst);
        }
    }
}

fn contains(said: &[u8], wanted: &[u8]) -> bool {
    said.windows(wanted.len()).any(|window| window == wanted)
}

/// A log behind a proxy, and one beside it.
async fn behind_a_proxy() -> (testing::Scratch, Proxy, NatsLog, NatsLog) {
    let scratch = testing::migrated().await;
    let proxy = Proxy::before(&scratch).await;
    let nats = Nats::connect(&proxy.url).await.unwrap();
    let far = NatsLog::open_with(&nats, SHORT).await.unwrap();
    let near = NatsLog::open(&scratch).await.unwrap();
    (scratch, proxy, far, near)
}

async fn hashes(log: &NatsLog, stream: StreamId) -> Vec<Hash> {
    log.read(&stream, Version(1)).map_ok(|recorded| recorded.hash).try_collect().await.unwrap()
}

#[tokio::test]
async fn an_append_whose_acknowledgement_is_lost_is_found_again() {
    let (_scratch, proxy, far, near) = behind_a_proxy().await;
    let stream = stream(Category::Session);
    let (mut head, mut appended) = (Head::default(), vec![]);
    for mode in [Mode::CutAtAck, Mode::Pass, Mode::CutInPublish, Mode::DoublePublishes, Mode::CutAtAck] {
        proxy.set(mode);
        let record = next(stream, &head);
        head = far.append(&head, Arc::clone(&record)).await.unwrap();
        assert_eq!(head.hash, record.hash());
        assert!(proxy.was_used() || mode == Mode::Pass, "{mode:?}");
        appended.push(record.hash());
        proxy.set(Mode::Pass);
    }
    assert_eq!(hashes(&near, stream).await, appended);
}

#[tokio::test]
async fn one_that_lost_its_acknowledgement_and_the_race_conflicts() {
    let (_scratch, proxy, far, near) = behind_a_proxy().await;
    let stream = stream(Category::Session);
    proxy.set(Mode::HoldRequests);
    let (late, first) = (next(stream, &Head::default()), next(stream, &Head::default()));
    let appending = tokio::spawn({
        let far = far.clone();
        async move { far.append(&Head::default(), late).await }
    });
    near.append(&Head::default(), Arc::clone(&first)).await.unwrap();
    proxy.set(Mode::Pass);
    let refused = appending.await.unwrap();
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
    assert_eq!(hashes(&near, stream).await, [first.hash()]);
}

#[tokio::test]
async fn without_any_answer_the_outcome_is_unknown_and_asking_again_tells() {
    let (_scratch, proxy, far, near) = behind_a_proxy().await;
    let stream = stream(Category::Session);
    let record = next(stream, &Head::default());
    proxy.set(Mode::HoldAnswers);
    let unknown = far.append(&Head::default(), Arc::clone(&record)).await;
    assert!(matches!(unknown, Err(AppendError::Unknown(_))), "{unknown:?}");
    // It has landed, as those know who can ask.
    assert_eq!(hashes(&near, stream).await, [record.hash()]);
    proxy.set(Mode::Pass);
    // A server that said nothing for so long is left alone for a moment.
    let head = loop {
        match far.append(&Head::default(), Arc::clone(&record)).await {
            Err(AppendError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            found => break found.unwrap(),
        }
    };
    assert_eq!((head.version, head.hash), (Version(1), record.hash()));
    assert_eq!(hashes(&near, stream).await, [record.hash()], "once");
}

#[tokio::test]
async fn without_a_connection_nothing_is_stored_and_nothing_lands_later() {
    let (_scratch, proxy, far, near) = behind_a_proxy().await;
    let stream = stream(Category::Session);
    proxy.set(Mode::Away);
    while far.shared.stream.nats().is_connected() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = far.append(&Head::default(), next(stream, &Head::default())).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert!(far.last(&stream).await.is_err() && far.tail().await.is_err());
    proxy.set(Mode::Pass);
    while !far.shared.stream.nats().is_connected() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let head = far.append(&Head::default(), next(stream, &Head::default())).await.unwrap();
    assert_eq!(hashes(&near, stream).await, [head.hash]);
}

#[tokio::test]
async fn subscribers_miss_nothing_when_connections_break() {
    let (_scratch, proxy, far, near) = behind_a_proxy().await;
    let stream = stream(Category::Session);
    let mut records = far.subscribe(Position(0), Filter::Stream(stream));
    let (mut head, mut seen) = (Head::default(), 0);
    for _ in 0..3 {
        let appended = head.version.0 + 150;
        while head.version.0 < appended {
            head = near.append(&head, next(stream, &head)).await.unwrap();
        }
        follow(&mut records, &mut seen, appended - 20).await;
        proxy.set(Mode::Away);
        while far.shared.stream.nats().is_connected() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        head = near.append(&head, next(stream, &head)).await.unwrap();
        proxy.set(Mode::Pass);
        follow(&mut records, &mut seen, head.version.0).await;
    }
}

/// The versions behind `seen` come in order, up to this one.
async fn follow(records: &mut BoxStream<'static, Result<Recorded, ReadError>>, seen: &mut u64, until: u64) {
    while *seen < until {
        let recorded =
            tokio::time::timeout(Duration::from_secs(30), records.next()).await.expect("records keep coming");
        *seen += 1;
        assert_eq!(recorded.unwrap().unwrap().record.header().version.0, *seen);
    }
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_has_everything() {
    let dir = TempDir::new().unwrap();
    let [port] = testing::free_ports();
    let store = dir.path().join("store");
    let config = format!(
        "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {:?}, sync_interval: always }}\n",
        store.display().to_string()
    );
    let mut server = Server::start(dir.path(), &config);
    let nats = testing::connect_when_ready(&format!("nats://127.0.0.1:{port}")).await;
    migrate(&nats, Replicas::One).await.unwrap();
    let log = NatsLog::open_with(&nats, SHORT).await.unwrap();
    let stream = stream(Category::Session);
    let mut records = log.subscribe(Position(0), Filter::All);
    let (mut head, mut seen) = (Head::default(), 0);
    for _ in 0..2 {
        for _ in 0..20 {
            head = log.append(&head, next(stream, &head)).await.unwrap();
        }
        follow(&mut records, &mut seen, head.version.0).await;
        server.kill();
        let refused = log.append(&head, next(stream, &head)).await;
        assert!(matches!(refused, Err(AppendError::Unavailable(_) | AppendError::Unknown(_))), "{refused:?}");
        server.run();
        while !nats.is_connected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        head = log.last(&stream).await.unwrap().unwrap().head();
    }
    head = log.append(&head, next(stream, &head)).await.unwrap();
    follow(&mut records, &mut seen, head.version.0).await;
    assert_eq!(hashes(&log, stream).await.len() as u64, head.version.0);
}

/// Three servers, everything on each of them.
struct Cluster {
    _dir: TempDir,
    servers: Vec<Server>,
    url: String,
}

impl Cluster {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let (ports, routes) = (testing::free_ports::<3>(), testing::free_ports::<3>());
        let all = routes.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        let servers = (0..3).map(|n| {
            let home = dir.path().join(format!("n{n}"));
            let (port, route, store) = (ports[n], routes[n], home.join("store").display().to_string());
            let config = format!(
                "server_name: n{n}\nlisten: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?} }}\n\
                 cluster {{ name: test, listen: 127.0.0.1:{route}, routes: [{all}] }}\n"
            );
            Server::start(&home, &config)
        });
        let url = format!("nats://{}", ports.map(|port| format!("127.0.0.1:{port}")).join(","));
        Self { servers: servers.collect(), _dir: dir, url }
    }
}

/// The number of the server that leads the log.
async fn leader(log: &NatsLog) -> usize {
    loop {
        if let Ok(info) = log.shared.stream.handle().get_info().await
            && let Some(leader) = info.cluster.and_then(|cluster| cluster.leader)
        {
            return leader.trim_start_matches('n').parse().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Appends to a stream until told to stop; every acknowledged head, and what was appended.
async fn write(log: NatsLog, stream: StreamId, stop: Arc<AtomicBool>) -> (Head, HashMap<Version, Hash>) {
    let (mut head, mut acknowledged) = (Head::default(), HashMap::new());
    while !stop.load(Ordering::SeqCst) {
        let record = next(stream, &head);
        // One answer is owed, however long an election takes: asked again, the outcome becomes known.
        head = loop {
            match log.append(&head, Arc::clone(&record)).await {
                Ok(head) => break head,
                Err(AppendError::Conflict) => panic!("nobody else writes {stream}"),
                Err(AppendError::Unknown(_) | AppendError::Unavailable(_)) => {}
            }
        };
        acknowledged.insert(head.version, head.hash);
    }
    (head, acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_leader_dies() {
    let mut cluster = Cluster::start();
    let nats = testing::connect_when_ready(&cluster.url).await;
    while let Err(error) = migrate(&nats, Replicas::Three).await {
        assert!(!error.to_string().contains("cluster of three"), "{error:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let error = migrate(&nats, Replicas::One).await.unwrap_err();
    assert!(error.to_string().contains("is not reduced"), "{error}");

    // Whatever replica answers, and whichever publishes are in flight.
    suite::all(async || Arc::new(NatsLog::open(&nats).await.unwrap()) as Arc<dyn EventLog>).await;

    let log = NatsLog::open(&nats).await.unwrap();
    let start = log.tail().await.unwrap();
    let streams: Vec<StreamId> = (0..8).map(|_| stream(Category::Session)).collect();
    let stop = Arc::<AtomicBool>::default();
    let mut records = log.subscribe(start, Filter::All);
    let writers: Vec<_> =
        streams.iter().map(|stream| tokio::spawn(write(log.clone(), *stream, Arc::clone(&stop)))).collect();
    let mut seen: HashMap<StreamId, u64> = HashMap::new();
    take(&mut records, &mut seen, 400).await;
    let first = leader(&log).await;
    cluster.servers[first].kill();
    take(&mut records, &mut seen, 400).await;
    assert_ne!(leader(&log).await, first);
    cluster.servers[first].run();
    stop.store(true, Ordering::SeqCst);
    let written: Vec<_> = join_all(writers).await.into_iter().map(Result::unwrap).collect();

    for (stream, (head, acknowledged)) in streams.iter().zip(written) {
        assert_eq!(log.last(stream).await.unwrap().unwrap().head(), head);
        let stored = hashes(&log, *stream).await;
        assert_eq!(stored.len() as u64, head.version.0);
        assert!((1..).zip(&stored).all(|(version, hash)| acknowledged[&Version(version)] == *hash), "{stream}");
        while seen.get(stream).copied().unwrap_or_default() < head.version.0 {
            take(&mut records, &mut seen, 1).await;
        }
    }
}

/// So many more records, each stream's in order.
async fn take(
    records: &mut BoxStream<'static, Result<Recorded, ReadError>>,
    seen: &mut HashMap<StreamId, u64>,
    count: usize,
) {
    for _ in 0..count {
        let recorded =
            tokio::time::timeout(Duration::from_secs(60), records.next()).await.expect("records keep coming");
        let recorded = recorded.unwrap().unwrap();
        let version = seen.entry(recorded.record.header().stream).or_default();
        *version += 1;
        assert_eq!(recorded.record.header().version.0, *version, "{}", recorded.record.header().stream);
    }
}
