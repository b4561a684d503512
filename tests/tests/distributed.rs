//! The distributed system as its users see it: nodes by role on real servers, which come and go while it is used.

use std::{
    env, fs,
    path::PathBuf,
    process::Output,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Client, Server, lmao};

pub(crate) const PASSWORD: &str = "a password for the first administrator";

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

/// The servers that the tests run against, and a part of each that is this test's alone.
pub(crate) struct System {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

#[track_caller]
pub(crate) fn server(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run the tests with `cargo xtask test`"))
}

impl System {
    /// An empty one, with its streams, tables and index made.
    pub(crate) fn new() -> Self {
        let name = format!("t{}", Uuid::new_v4().simple());
        let redis = server("LMAO_TEST_REDIS");
        let settings = [
            ("LMAO_LOG", format!("{}?namespace={name}", server("LMAO_TEST_NATS"))),
            ("LMAO_READ_MODEL", format!("{}?schema={name}", server("LMAO_TEST_POSTGRES"))),
            ("LMAO_SEARCH", format!("elasticsearch+{}?prefix={name}", server("LMAO_TEST_ELASTICSEARCH"))),
            ("LMAO_CACHE", format!("{redis}?prefix={name}")),
            ("LMAO_MASTER_KEY", "7".repeat(64)),
            ("LMAO_ADMIN_PASSWORD", PASSWORD.to_owned()),
        ];
        let system = Self::on(settings.map(|(name, value)| (name.to_owned(), value)).to_vec());
        let again = [system.run(&["migrate"]), system.run(&["migrate"])];
        assert!(!again[0].as_array().expect("changes").is_empty(), "the first makes everything: {}", again[0]);
        assert_eq!(again[1], json!([]), "the second finds nothing to do");
        system
    }

    /// One with these settings, on servers that hold nothing of it yet.
    pub(crate) fn on(environment: Vec<(String, String)>) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), environment }
    }

    /// Sets a variable of all its processes.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn settings(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// A node with these roles.
    pub(crate) async fn node(&self, name: &str, roles: &str) -> Server {
        let mut settings = self.settings();
        settings.push(("LMAO_ROLES", roles));
        Server::start_with(&self.data(name), &settings).await
    }

    /// What a command prints as JSON.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Value {
        let output = self.output(arguments);
        let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "lmao {arguments:?} ends with {}:\n{said}{complaint}", output.status);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("lmao {arguments:?} prints no JSON: {error}\n{said}"))
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        let mut command = lmao(arguments);
        command.envs(self.settings()).arg("--json").arg("--data").arg(self.data("commands"));
        command.output().expect("lmao can be started")
    }

    /// The administrator, once a worker has opened the account.
    pub(crate) async fn admin(&self, node: &Server) -> Client {
        let stranger = Client::new(&node.url, "");
        let credentials = json!({ "username": "admin", "password": PASSWORD });
        let begun = Instant::now();
        while !stranger.post("/auth/login", &credentials, None).await.is_ok_and(|reply| reply.is_success()) {
            assert!(begun.elapsed() < PATIENCE, "nobody opens the first account");
            tokio::time::sleep(PAUSE).await;
        }
        Client::login(&node.url, "admin", PASSWORD).await
    }
}

const TIDES: &str = "Spring tides come twice a month, at the new and at the full moon.\n";

#[tokio::test(flavor = "multi_thread")]
async fn nodes_by_role_do_the_main_job_together() {
    let system = System::new();
    let worker = system.node("worker", "worker").await;
    let projector = system.node("projector", "projector").await;
    let (one, two) = (system.node("one", "gateway").await, system.node("two", "gateway").await);
    let admin = system.admin(&one).await;

    let uploaded = admin.upload("tides.txt", TIDES.into(), Some("tides")).await.expect("an answer");
    assert_eq!((uploaded.status, &uploaded.body["status"]), (200, &json!("success")), "{}", uploaded.body);
    // The other gateway knows the user, the document and the session.
    let elsewhere = admin.at(&two.url);
    let said = elsewhere.chat(None, "When do spring tides come?", None).await.expect("an answer");
    assert_eq!(said.status, 200, "{}", said.body);
    assert_eq!(said.body["metadata"]["citations"][0]["filename"], "tides.txt", "{}", said.body);
    let session = said.body["session_id"].as_str().expect("a session");
    let messages = format!("/api/v1/sessions/{session}/messages");
    assert_eq!(admin.all(&messages, "messages", said.position.as_deref()).await.len(), 2);
    // A retry, to the other gateway, gets the first outcome.
    let again = elsewhere.upload("tides.txt", TIDES.into(), Some("tides")).await.expect("an answer");
    assert_eq!(again.body["document_id"], uploaded.body["document_id"]);

    // Workers come and go, by signal and by kill; sessions answer all along.
    let second = system.node("worker-2", "worker").await;
    for n in 0..8 {
        let said = admin.chat(Some(session), &format!("When do spring tides come, asked {n} times?"), None).await;
        assert_eq!(said.expect("an answer").status, 200);
    }
    assert!(worker.sigterm().await.success());
    let said =
        admin.chat(Some(session), "When do spring tides come after a hand-over?", None).await.expect("an answer");
    assert_eq!(said.status, 200, "{}", said.body);
    let third = system.node("worker-3", "worker").await;
    second.kill9();
    let said = admin.chat(Some(session), "When do spring tides come after a death?", None).await.expect("an answer");
    assert_eq!(said.status, 200, "{}", said.body);
    assert_eq!(admin.all(&messages, "messages", said.position.as_deref()).await.len(), 2 * 11);

    for node in [one, two, third, projector] {
        assert!(node.sigterm().await.success());
    }
    let verified = system.run(&["audit", "verify"]);
    assert_eq!(verified["ok"], true, "{verified}");
    let live = system.run(&["projections", "digest"]);
    let beside = system.node("beside", "worker").await;
    let refused = system.output(&["projections", "rebuild"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nodes are at work"), "{refused:?}");
    beside.kill9();
    system.run(&["projections", "rebuild"]);
    assert_eq!(digests(&system.run(&["projections", "digest"])), digests(&live), "a rebuild has the same content");
}

fn digests(projections: &Value) -> Vec<(String, String)> {
    let one = |row: &Value| (row["name"].to_string(), row["digest"].to_string());
    projections.as_array().expect("a list").iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_system_moves_to_the_servers() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("embedded");
    let server = Server::start_with(&data, &[("LMAO_ADMIN_PASSWORD", PASSWORD)]).await;
    let admin = server.admin().await;
    let uploaded = admin.upload("tides.txt", TIDES.into(), None).await.expect("an answer");
    assert_eq!(uploaded.status, 200, "{}", uploaded.body);
    let said = admin.chat(None, "When do spring tides come?", None).await.expect("an answer");
    assert_eq!(said.status, 200, "{}", said.body);
    assert!(server.sigterm().await.success());
    let embedded = |arguments: &[&str]| crate::support::lmao_json(&data, arguments, "off");
    let archive = folder.path().join("archive.lmao");
    let path = archive.to_str().expect("UTF-8");
    let exported = embedded(&["log", "export", path, "--with-keys"]);
    let before = embedded(&["projections", "digest"]);

    let system = System::new();
    let imported = system.run(&["log", "import", path]);
    assert_eq!(imported["imported"]["records"], exported["exported"]["records"], "{imported}");
    // An import that was broken off and begun again finds what it had done.
    let again = system.run(&["log", "import", path]);
    assert_eq!(again["imported"]["present"], exported["exported"]["records"], "{again}");
    assert_eq!(
        digests(&system.run(&["projections", "digest"])),
        digests(&before),
        "the same history, the same content"
    );
    let node = system.node("all", "all").await;
    let admin = system.admin(&node).await;
    let session = said.body["session_id"].as_str().expect("a session");
    let said = admin.chat(Some(session), "And when do spring tides come now?", None).await.expect("an answer");
    assert_eq!(said.body["metadata"]["citations"][0]["filename"], "tides.txt", "{}", said.body);
    assert!(node.sigterm().await.success());

    // An archive that was cut is refused.
    let bytes = fs::read(&archive).expect("it can be read");
    fs::write(&archive, &bytes[..bytes.len() / 2]).expect("it can be cut");
    let output = lmao(&["log", "import", path, "--data"]).arg(folder.path().join("other")).output().expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cut off"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ready_is_said() {
    let system = System::new();
    let without_key: Vec<_> = system.settings().into_iter().filter(|(name, _)| *name != "LMAO_MASTER_KEY").collect();
    let refused = |settings: &[(&str, &str)], arguments: &[&str]| {
        let mut command = lmao(arguments);
        command.envs(settings.iter().copied()).arg("--data").arg(system.data("refused"));
        let output = command.output().expect("lmao can be started");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused(&without_key, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(said.contains("LMAO_MASTER_KEY"), "{said}");
    let mut elsewhere = system.settings();
    let log = format!("{}?namespace=nobody-made-this", server("LMAO_TEST_NATS"));
    elsewhere.push(("LMAO_LOG", &log));
    let said = refused(&elsewhere, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(said.contains("lmao migrate"), "{said}");
    let mut unreachable = system.settings();
    unreachable.push(("LMAO_LOG", "nats://127.0.0.1:1"));
    let said = refused(&unreachable, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(said.contains("127.0.0.1:1"), "{said}");
}
