//! The distributed system for a benchmark: nodes by role, each a process of the real program, on NATS servers of the
//! benchmark's own and on shared Postgres, Elasticsearch and Redis servers; and the benchmark's own view of its placement.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use lmao_actors::{Cluster, placement::Table};
use lmao_adapters::{
    clock::{OsEntropy, SystemClock},
    nats::{Nats, NatsMembership, NatsRouter},
};
use lmao_events::{Category, EVENT_SET, StreamId};
use lmao_ports::{Clock as _, CommandMeta, Entropy as _, NodeId, NodeInfo, Role};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Server, lmao};

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// The key that wraps the vault, as hexadecimal digits.
const MASTER_KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";
/// The same, as bytes.
pub(crate) const MASTER_KEY_BYTES: [u8; 32] = [7; 32];

/// A system whose streams, tables and index are made.
pub(crate) struct System {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
    llm: String,
    nats: Nats,
    cluster: Cluster,
}

impl System {
    /// An empty one, with everything `replicas` times on these NATS servers.
    pub(crate) async fn new(nats: &str, replicas: u8, llm: &str) -> Self {
        let name = format!("b{}", Uuid::new_v4().simple());
        let environment = vec![
            ("LMAO_LOG", nats.to_owned()),
            ("LMAO_READ_MODEL", format!("{}?schema={name}", server("LMAO_TEST_POSTGRES"))),
            ("LMAO_SEARCH", format!("elasticsearch+{}?prefix={name}", server("LMAO_TEST_ELASTICSEARCH"))),
            ("LMAO_CACHE", format!("{}?prefix={name}", server("LMAO_TEST_REDIS"))),
            ("LMAO_MASTER_KEY", MASTER_KEY.to_owned()),
        ];
        let folder = tempfile::tempdir().unwrap();
        let mut migrate = lmao(&folder.path().join("commands"));
        migrate.envs(environment.iter().cloned()).args(["migrate", "--replicas", &replicas.to_string()]);
        let output = migrate.output().unwrap();
        assert!(output.status.success(), "lmao migrate: {}", String::from_utf8_lossy(&output.stderr));
        let nats = Nats::connect(nats).await.unwrap();
        let cluster = look_on(&nats).await;
        Self { folder, environment, llm: llm.to_owned(), nats, cluster }
    }

    /// The benchmark's own connection.
    pub(crate) fn nats(&self) -> &Nats {
        &self.nats
    }

    /// The benchmark's place among the nodes: it has no lease, so it asks and nobody counts on it.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A node with these roles; what it complains of is kept until the system goes.
    pub(crate) fn node(&self, name: &str, roles: &str) -> Server {
        let mut command = self.command(name);
        command.env("LMAO_ROLES", roles);
        Server::run(command, Some(&self.llm))
    }

    fn command(&self, name: &str) -> Command {
        let mut command = lmao(&self.folder.path().join(name));
        command.envs(self.environment.iter().cloned());
        command.stderr(fs::File::create(self.folder.path().join(format!("{name}.err"))).unwrap());
        command
    }

    /// The administrator's token, once a worker has opened the account.
    pub(crate) async fn token(&self, gateway: &Server) -> String {
        let begun = Instant::now();
        loop {
            if let Some(token) = gateway.connect().await.login().await {
                return token;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody opens the first account");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until so many workers own everything between them.
    pub(crate) async fn workers(&self, count: usize) {
        let mut tables = self.cluster.watch();
        let are_so_many = |table: &Arc<Table>| {
            let workers = table.nodes().iter().filter(|node| node.roles.contains(&Role::Worker)).count();
            workers == count && (0..=u8::MAX).all(|bucket| table.owner(bucket).is_some())
        };
        let seen = tokio::time::timeout(PATIENCE, tables.wait_for(are_so_many)).await;
        assert!(seen.is_ok(), "there are no {count} workers after a minute");
    }

    /// Whether this node owns this session.
    pub(crate) fn owns(&self, node: &Server, session: &str) -> bool {
        let stream = StreamId::new(Category::Session, session.parse().unwrap());
        let (table, ending) = (self.cluster.table(), format!(":{}", node.pid()));
        let owner = table.owner(stream.bucket());
        table.nodes().iter().any(|known| Some(known.id) == owner && known.name.ends_with(&ending))
    }
}

#[track_caller]
fn server(variable: &str) -> String {
    let url = std::env::var(variable);
    assert!(url.is_ok(), "{variable} is not set: run it with `cargo xtask bench`");
    url.unwrap()
}

async fn look_on(nats: &Nats) -> Cluster {
    let entropy = Arc::new(OsEntropy);
    let me = NodeInfo {
        id: NodeId(entropy.id(SystemClock.now())),
        name: "benchmark".to_owned(),
        roles: BTreeSet::new(),
        reads: EVENT_SET,
        gave_up: BTreeSet::new(),
    };
    let leases = NatsMembership::open(nats).await.unwrap();
    Cluster::new(Arc::new(leases), Arc::new(NatsRouter::new(nats)), entropy, me)
}

/// A command of the system, without an idempotency key.
pub(crate) fn meta() -> CommandMeta {
    CommandMeta { who: None, command: None, causation: Uuid::new_v4(), correlation: Uuid::new_v4(), traceparent: None }
}
