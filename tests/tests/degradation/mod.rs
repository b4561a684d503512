//! Servers that go away and come back while the system is used: what needs them is refused at once and says so, everything
//! else goes on, and nothing has to be started again.

mod bucket;
mod servers;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use lmao_adapters::nats::{Nats, NatsLog};
use lmao_events::{Category, DataKey, Header, Payload, Record, StreamId};
use lmao_ports::EventLog as _;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use self::servers::{Own, PATIENCE, Proxy, eventually, variable};
use crate::support::{Client, Reply, Server, lmao};

const PASSWORD: &str = "a password for the first administrator";
const TIDES: &str = "Spring tides come twice a month, at the new and at the full moon.\n";
const QUESTION: &str = "When do spring tides come?";
/// Answers that need what is away come within 2 s; a busy machine adds to that.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A distributed system whose servers are this test's to take away.
struct System {
    folder: TempDir,
    environment: Vec<(String, String)>,
    nats: Own,
    redis: Own,
    postgres: Proxy,
    elasticsearch: Proxy,
}

impl System {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("t{}", Uuid::new_v4().simple());
        let (nats, redis) = (Own::nats(folder.path()).await, Own::redis(folder.path()).await);
        let (postgres, tables) = Proxy::before(&variable("LMAO_TEST_POSTGRES")).await;
        let (elasticsearch, search) = Proxy::before(&variable("LMAO_TEST_ELASTICSEARCH")).await;
        let settings = [
            ("LMAO_LOG", format!("nats://127.0.0.1:{}", nats.port)),
            ("LMAO_READ_MODEL", format!("{tables}?schema={name}")),
            ("LMAO_SEARCH", format!("elasticsearch+{search}?prefix={name}")),
            ("LMAO_CACHE", format!("redis://127.0.0.1:{}?prefix={name}", redis.port)),
            ("LMAO_MASTER_KEY", "7".repeat(64)),
            ("LMAO_ADMIN_PASSWORD", PASSWORD.to_owned()),
        ];
        let environment = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let system = Self { folder, environment, nats, redis, postgres, elasticsearch };
        let mut migrate = lmao(&["migrate", "--data"]);
        migrate.arg(system.folder.path().join("commands")).envs(system.environment.clone());
        // Aside, for it goes over this test's own proxies.
        let migrated = tokio::task::spawn_blocking(move || migrate.output().expect("lmao can be started"));
        let migrated = migrated.await.expect("it ends");
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        system
    }

    /// What all keys in the cache begin with.
    fn prefix(&self) -> String {
        let cache = self.environment.iter().find(|(name, _)| name == "LMAO_CACHE").expect("it is set");
        cache.1.rsplit('=').next().expect("a prefix").to_owned()
    }

    async fn node(&self, name: &str, roles: &str) -> Server {
        let mut settings: Vec<_> = self.environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        settings.push(("LMAO_ROLES", roles));
        Server::start_with(&self.folder.path().join(name), &settings).await
    }

    /// The administrator, once the account is open.
    async fn admin(&self, node: &Server) -> Client {
        let (stranger, credentials) =
            (Client::new(&node.url, ""), json!({ "username": "admin", "password": PASSWORD }));
        eventually("the first account is open", async || {
            stranger.post("/auth/login", &credentials, None).await.is_ok_and(|reply| reply.status == 200)
        })
        .await;
        Client::login(&node.url, "admin", PASSWORD).await
    }
}

/// A part of what a node says of itself.
pub(crate) async fn part(client: &Client, name: &str) -> Value {
    let health = client.get("/health").await.expect("an answer").body;
    let parts = health["components"].as_array().expect("parts");
    parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("{name} is a part: {health}")).clone()
}

/// Waits until a node says that this part is in this state.
async fn stands(client: &Client, name: &str, state: &str) {
    eventually(&format!("{name} is {state}"), async || part(client, name).await["state"] == state).await;
}

/// Whether the metrics say that a server is up, once they do.
async fn measured(client: &Client, name: &str, up: u8) {
    let wanted = format!("lmao_dependency=\"{name}\"");
    eventually(&format!("the metrics say {up} of {name}"), async || {
        let metrics = client.get("/metrics").await.expect("an answer").body;
        let text = metrics.as_str().unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("lmao_dependency_up") && line.contains(&wanted));
        line.is_some_and(|line| line.ends_with(&format!(" {up}")))
    })
    .await;
}

/// A request that cannot be served now is refused at once, with the time to come again; what it says.
async fn refused(client: &Client, method: Method, path: &str, body: Option<Value>) -> String {
    refused_within(client, method, path, body, AT_ONCE).await
}

async fn refused_within(client: &Client, method: Method, path: &str, body: Option<Value>, within: Duration) -> String {
    let begun = Instant::now();
    let mut request = client.request(method, path);
    if let Some(body) = &body {
        request = request.json(body);
    }
    let response = request.send().await.expect("an answer");
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    let retry_after = response.headers().contains_key("retry-after");
    let said = response.text().await.expect("a body");
    println!("{path} is refused after {took:?}");
    assert_eq!(status, 503, "{path}: {said}");
    assert!(retry_after, "{path} says when to come again: {said}");
    assert!(took < within, "{path} took {took:?}: {said}");
    said
}

fn saying(text: &str) -> Option<Value> {
    Some(json!({ "message": text }))
}

async fn search(client: &Client) -> Reply {
    client.post("/api/v1/documents/search", &json!({ "query": "spring tides" }), None).await.expect("an answer")
}

/// The tides are taken in, and somebody has asked for them: in which session.
async fn begin(admin: &Client) -> String {
    let uploaded = admin.upload("tides.txt", TIDES.into(), None).await.expect("an answer");
    assert_eq!(uploaded.status, 200, "{}", uploaded.body);
    let said = admin.chat(None, QUESTION, None).await.expect("an answer");
    assert_eq!(said.status, 200, "{}", said.body);
    let session = said.body["session_id"].as_str().expect("a session").to_owned();
    assert_eq!(admin.all(&messages(&session), "messages", said.position.as_deref()).await.len(), 2);
    session
}

fn messages(session: &str) -> String {
    format!("/api/v1/sessions/{session}/messages")
}

/// Waits until something can be said again.
async fn says(client: &Client, session: &str) {
    eventually("somebody is answered", async || {
        let said = client.chat(Some(session), QUESTION, None).await.expect("an answer");
        assert!(matches!(said.status, 200 | 202 | 503), "{}", said.body);
        said.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_log_reads_go_on() {
    let mut system = System::new().await;
    let worker = system.node("worker", "worker,projector").await;
    let gateway = system.node("gateway", "gateway").await;
    let admin = system.admin(&gateway).await;
    let session = begin(&admin).await;
    for name in ["nats", "postgres", "elasticsearch", "redis"] {
        assert_eq!(part(&admin, name).await["state"], "ok");
    }
    measured(&admin, "nats", 1).await;

    // One is under way while the log goes.
    let (speaker, asked_in) = (admin.clone(), session.clone());
    let under_way = tokio::spawn(async move { speaker.chat(Some(&asked_in), "And neap tides?", None).await });
    system.nats.kill();
    let answered = under_way.await.expect("it ends").expect("an answer");
    assert!(matches!(answered.status, 200 | 202 | 503), "{}", answered.body);

    stands(&admin, "nats", "degraded").await;
    let said = refused(&admin, Method::POST, "/api/v1/chat/message", saying(QUESTION)).await;
    assert!(said.contains("no connection"), "{said}");
    let in_session = json!({ "message": QUESTION, "session_id": session });
    refused(&admin, Method::POST, "/api/v1/chat/message", Some(in_session)).await;
    refused(&admin, Method::POST, "/auth/login", Some(json!({ "username": "admin", "password": PASSWORD }))).await;
    assert!(
        admin.get(&messages(&session)).await.expect("an answer").body["messages"].as_array().expect("a list").len()
            >= 2
    );
    assert_eq!(admin.get("/api/v1/documents").await.expect("an answer").body["total"], 1);
    let found = search(&admin).await;
    assert_eq!(found.body["results"].as_array().map(Vec::len), Some(1), "{}", found.body);
    assert_eq!(admin.get("/health/ready").await.expect("an answer").status, 200, "it can still serve reads");
    let (begun, uploaded) = (Instant::now(), admin.upload("moon.txt", b"The moon is full.\n".to_vec(), None).await);
    println!("an upload is refused after {:?}", begun.elapsed());
    let uploaded = uploaded.expect("an answer");
    assert_eq!(uploaded.status, 503, "{}", uploaded.body);
    assert!(begun.elapsed() < AT_ONCE, "it took {:?}", begun.elapsed());
    measured(&admin, "nats", 0).await;
    let at_worker = admin.at(&worker.url);
    eventually("a worker without a log is not ready", async || {
        at_worker.get("/health/ready").await.expect("an answer").status == 503
    })
    .await;

    system.nats.run().await;
    stands(&admin, "nats", "ok").await;
    says(&admin, &session).await;
    measured(&admin, "nats", 1).await;
    eventually("the worker is ready", async || at_worker.get("/health/ready").await.expect("an answer").status == 200)
        .await;
    let uploaded = admin.upload("moon.txt", b"The moon is full.\n".to_vec(), None).await.expect("an answer");
    assert_eq!(uploaded.status, 200, "{}", uploaded.body);

    // It hangs: whoever waits is told that nobody knows, and then nobody waits.
    system.nats.signal(rustix::process::Signal::STOP);
    let begun = Instant::now();
    let said = refused_within(&admin, Method::POST, "/api/v1/chat/message", saying(QUESTION), PATIENCE).await;
    assert!(said.contains("outcome_unknown") || said.contains("unavailable"), "{said}");
    println!("a server that hangs is noticed after {:?}", begun.elapsed());
    stands(&admin, "nats", "degraded").await;
    refused(&admin, Method::POST, "/api/v1/chat/message", saying(QUESTION)).await;
    assert_eq!(admin.get("/api/v1/documents").await.expect("an answer").body["total"], 2);
    system.nats.signal(rustix::process::Signal::CONT);
    says(&admin, &session).await;
    for node in [gateway, worker] {
        assert!(node.sigterm().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_tables_commands_go_on() {
    let mut system = System::new().await;
    let node = system.node("one", "all").await;
    let admin = system.admin(&node).await;
    let session = begin(&admin).await;

    system.postgres.cut().await;
    refused(&admin, Method::GET, &messages(&session), None).await;
    stands(&admin, "postgres", "degraded").await;
    measured(&admin, "postgres", 0).await;
    refused(&admin, Method::GET, "/api/v1/documents", None).await;
    let said = admin.chat(Some(&session), QUESTION, None).await.expect("an answer");
    assert_eq!(said.status, 200, "{}", said.body);
    assert_eq!(said.body["metadata"]["citations"][0]["filename"], "tides.txt", "{}", said.body);
    let uploaded = admin.upload("moon.txt", b"The moon is full.\n".to_vec(), None).await.expect("an answer");
    assert_eq!(uploaded.status, 200, "{}", uploaded.body);
    assert_eq!(admin.get("/health/ready").await.expect("an answer").status, 200);
    // Another starts all the same.
    let second = system.node("two", "all").await;
    let elsewhere = admin.at(&second.url);
    stands(&elsewhere, "postgres", "degraded").await;
    says(&elsewhere, &session).await;

    system.postgres.mend().await;
    for client in [&admin, &elsewhere] {
        stands(client, "postgres", "ok").await;
        eventually("the tables have caught up", async || {
            let listed = client.get(&messages(&session)).await.expect("an answer");
            listed.status == 200 && listed.body["total"].as_u64() >= Some(6)
        })
        .await;
        assert_eq!(client.get("/api/v1/documents").await.expect("an answer").body["total"], 2);
    }
    measured(&admin, "postgres", 1).await;
    for node in [node, second] {
        assert!(node.sigterm().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_index_documents_wait() {
    let mut system = System::new().await;
    let node = system.node("one", "all").await;
    let admin = system.admin(&node).await;
    let session = begin(&admin).await;
    let known = json!({ "query": "the new moon" });
    let known = async || admin.post("/api/v1/documents/search", &known, None).await.expect("an answer").body;
    let before = known().await;

    system.elasticsearch.cut().await;
    let find = Some(json!({ "query": "spring tides" }));
    refused(&admin, Method::POST, "/api/v1/documents/search", find.clone()).await;
    stands(&admin, "elasticsearch", "degraded").await;
    measured(&admin, "elasticsearch", 0).await;
    let said = refused(&admin, Method::POST, "/api/v1/documents/search", find).await;
    assert!(said.contains("Elasticsearch"), "{said}");
    // What was found before is known still, and it is said from where.
    let found = known().await;
    assert_eq!(found["results"], before["results"], "{found}");
    assert!(found["notices"].to_string().contains("from the cache"), "{found}");
    assert!(!before["notices"].to_string().contains("from the cache"), "{before}");
    let uploading = admin.clone();
    let uploading =
        tokio::spawn(async move { uploading.upload("moon.txt", b"The moon is full.\n".to_vec(), None).await });
    eventually("the document waits for the index", async || {
        let listed = admin.get("/api/v1/documents?status=indexing").await.expect("an answer");
        listed.body["total"] == 1
    })
    .await;
    assert_eq!(admin.all(&messages(&session), "messages", None).await.len(), 2, "reads of the tables go on");
    assert_eq!(admin.get("/health/ready").await.expect("an answer").status, 200);
    // Another starts all the same.
    let second = system.node("two", "all").await;
    assert_eq!(search(&admin.at(&second.url)).await.status, 503);

    system.elasticsearch.mend().await;
    let uploaded = uploading.await.expect("it ends").expect("an answer");
    assert_eq!((uploaded.status, &uploaded.body["status"]), (200, &json!("success")), "{}", uploaded.body);
    stands(&admin, "elasticsearch", "ok").await;
    for client in [&admin, &admin.at(&second.url)] {
        eventually("it is searched again", async || search(client).await.status == 200).await;
    }
    says(&admin, &session).await;
    for node in [node, second] {
        assert!(node.sigterm().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_cache_everything_goes_on() {
    let mut system = System::new().await;
    let node = system.node("one", "all").await;
    let admin = system.admin(&node).await;
    let session = begin(&admin).await;
    let prefix = system.prefix();
    for key in [format!("{prefix}session:{session}"), format!("{prefix}context:{session}")] {
        eventually(&format!("{key} is kept"), async || system.redis.knows(&key).await).await;
    }

    system.redis.kill();
    stands(&admin, "redis", "degraded").await;
    measured(&admin, "redis", 0).await;
    let first = admin.chat(Some(&session), QUESTION, Some("once")).await.expect("an answer");
    let again = admin.chat(Some(&session), QUESTION, Some("once")).await.expect("an answer");
    assert_eq!((first.status, again.status), (200, 200), "{} {}", first.body, again.body);
    assert_eq!(first.body["metadata"], again.body["metadata"], "a retry gets the first outcome");
    // Limits hold for this process: whoever guesses passwords is stopped.
    let stranger = Client::new(&node.url, "");
    let guess = json!({ "username": "nobody", "password": "a password that is a guess" });
    let mut statuses = vec![];
    for _ in 0..30 {
        statuses.push(stranger.post("/auth/login", &guess, None).await.expect("an answer").status);
    }
    assert_eq!((statuses[0], statuses[29]), (401, 429), "{statuses:?}");
    assert_eq!(admin.get("/health/ready").await.expect("an answer").status, 200);

    system.redis.run().await;
    stands(&admin, "redis", "ok").await;
    measured(&admin, "redis", 1).await;
    says(&admin, &session).await;
    assert!(node.sigterm().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_projected_holds_up_no_other() {
    let system = System::new().await;
    let node = system.node("one", "all").await;
    let admin = system.admin(&node).await;
    let (broken, sound) = (begin(&admin).await, begin(&admin).await);
    garble(system.nats.port, &broken).await;

    stands(&admin, "read_model", "degraded").await;
    let said = part(&admin, "read_model").await["message"].to_string();
    assert!(said.contains(&broken), "{said}");
    for n in 1..=3 {
        let said = admin.chat(Some(&sound), QUESTION, None).await.expect("an answer");
        assert_eq!(said.status, 200, "{}", said.body);
        let position = said.position.as_deref();
        assert_eq!(admin.all(&messages(&sound), "messages", position).await.len(), 2 + 2 * n);
    }
    let said = admin.chat(Some(&broken), QUESTION, None).await.expect("an answer");
    assert_eq!((said.status, said.reason()), (503, "parked"), "{}", said.body);
    assert_eq!(admin.all(&messages(&broken), "messages", None).await.len(), 2, "what was taken in before is there");
    assert!(node.sigterm().await.success());
}

/// Appends a record to a session that nobody can open, as a fault of some disk might leave one.
async fn garble(port: u16, session: &str) {
    let nats = Nats::connect(&format!("nats://127.0.0.1:{port}")).await.expect("it runs");
    let log = NatsLog::open(&nats).await.expect("it is migrated");
    let stream = StreamId::new(Category::Session, session.parse().expect("an id"));
    let mut records = log.read(&stream, lmao_events::Version(1));
    let mut last = None;
    while let Some(record) = records.next().await {
        last = Some(record.expect("it can be read"));
    }
    let last = last.expect("the session has records");
    let head = last.head();
    let header = Header { version: head.version.next(), prev: head.hash, ..last.record.header().clone() };
    let payload = Payload { command: None, events: vec![] };
    let record = Record::seal(header, &payload, &DataKey::new([9; 32]), [3; 24]).expect("it is small");
    log.append(&head, Arc::new(record)).await.expect("nobody else writes there");
}
