//! The chaos test: two gateways, three workers, two projectors, a NATS cluster of three, Postgres, Elasticsearch and Redis are
//! killed, paused and restarted at random while clients talk, upload and run tools. Whatever was accepted ends exactly once,
//! nobody waits in vain, no stream has a gap, and the projections are those that the log makes.

mod dashboard;
mod process;
mod proxy;
mod script;
mod servers;
mod status;
mod tools;

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::{JoinError, LocalSet, spawn_blocking, spawn_local},
    time::timeout,
};
use uuid::Uuid;

use self::{
    dashboard::Watcher,
    process::{Process, Program},
    script::{Victims, disturb},
    status::{check_well, operate},
    tools::{TIMEOUT, check_tools, use_tools},
};
use crate::{
    distributed::{PASSWORD, System},
    promises::{Failures, PATIENCE, check_chains, check_documents, check_log, check_talks, eventually},
    support::{Client, http, lmao},
    tools::Counting,
    users::{Attempts, Seen, Shelf, Talk, World, look, talk, text, upload},
};

const TALKERS: u64 = 3;
const UPLOADERS: u64 = 2;
/// Within this time every request has an answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// A run of so many seconds or more pauses processes for long.
const LONG_RUN: u64 = 300;
const SHORT_PAUSE: Duration = Duration::from_secs(5);
const LONG_PAUSE: Duration = Duration::from_secs(15);

/// What can be disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gateway,
    Worker,
    Projector,
    Nats,
    Redis,
    Postgres,
    Elasticsearch,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Gateway, Self::Worker, Self::Projector, Self::Nats, Self::Redis, Self::Postgres, Self::Elasticsearch];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_ends_exactly_once_whatever_dies() {
    LocalSet::new().run_until(run()).await;
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// What is found wrong, all of it: one breach does not hide the next.
#[derive(Debug, Default)]
struct Breaches(Vec<String>);

impl Breaches {
    /// The outcome of a check that panics where something is wrong.
    fn judge<T: Default>(&mut self, what: &str, outcome: Result<T, JoinError>) -> T {
        outcome.unwrap_or_else(|error| {
            let panic = error.into_panic();
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
            self.0.push(format!("{what}: {}", said.unwrap_or_default()));
            T::default()
        })
    }
}

async fn run() {
    let (seconds, seed) = (setting("LMAO_TEST_CHAOS_SECONDS", 90), setting("LMAO_TEST_CHAOS_SEED", 1));
    let folder = tempfile::tempdir().expect("a folder").keep();
    println!("LMAO_TEST_CHAOS_SEED={seed}, {seconds} s; {} is kept if this fails", folder.display());
    let mut random = StdRng::seed_from_u64(seed);
    let mut breaches = Breaches::default();

    let (name, counting) = (format!("t{}", Uuid::new_v4().simple()), Arc::new(Counting::start().await));
    let Started { system, victims, gateways, nodes } = start(&folder, &name, &counting).await;
    let watcher = Watcher::start(&folder, &nodes).await;
    let client = log_in(&gateways[0]).await;
    println!("everything runs");
    let disturbed = excuses(&victims, &gateways);
    let attempts = Attempts::new(DEADLINE, disturbed);
    let (_place, places) = watch::channel(gateways.clone());
    let world = World::new(client.clone(), places, attempts.clone());
    let talkers: Vec<_> =
        (0..TALKERS).map(|n| spawn_local(talk(world.clone(), format!("talker {n}"), seed * 100 + n))).collect();
    let uploaders: Vec<_> =
        (0..UPLOADERS).map(|n| spawn_local(upload(world.clone(), format!("flock-{n}"), seed * 200 + n))).collect();
    let user = spawn_local(use_tools(world.clone(), "tools".to_owned(), seed * 400));
    let operator = spawn_local(operate(world.clone(), Arc::clone(&system)));
    let looker = spawn_local(look(world.clone(), seed * 300));

    let pause = if seconds >= LONG_RUN { LONG_PAUSE } else { SHORT_PAUSE };
    let blows = disturb(&victims, &mut random, Duration::from_secs(seconds), pause).await;
    victims.calm().await;
    println!("all is quiet again");
    world.end();

    let (mut talks, mut shelves): (Vec<Talk>, Vec<Shelf>) = (vec![], vec![]);
    let until = Instant::now() + PATIENCE;
    for talker in talkers {
        talks.extend(join(&mut breaches, "a talker", until, talker).await);
    }
    for uploader in uploaders {
        shelves.push(join(&mut breaches, "an uploader", until, uploader).await);
    }
    let used = join(&mut breaches, "who uses tools", until, user).await;
    let status = join(&mut breaches, "the operator", until, operator).await;
    let seen: Seen = join(&mut breaches, "the looker", until, looker).await;

    let client = client.at(&gateways[0]);
    let (talks, shelves, seen) = (Arc::new(talks), Arc::new(shelves), Arc::new(seen));
    let (to, said, saw) = (client.clone(), Arc::clone(&talks), Arc::clone(&seen));
    let checked = spawn_local(async move { check_talks(&to, &said, &saw, Failures::Told).await });
    let messages = breaches.judge("messages", checked.await);
    let (to, sent, saw) = (client.clone(), Arc::clone(&shelves), Arc::clone(&seen));
    let checked = spawn_local(async move { check_documents(&to, &sent, &saw, Failures::Told).await });
    let documents = breaches.judge("documents", checked.await);
    let to = client.clone();
    let checked = spawn_local(async move { check_tools(&to, &used, &counting).await });
    let tools = breaches.judge("tools", checked.await);
    let to = client.clone();
    breaches.judge("the log", spawn_local(async move { check_log(&to).await }).await);
    let to = client.clone();
    let records = breaches.judge("the chains", spawn_local(async move { check_chains(&to).await }).await);
    let of = Arc::clone(&system);
    breaches.judge("status", spawn_local(async move { check_well(&of).await }).await);
    let dashboard = match watcher {
        Some(watcher) => breaches.judge("the dashboard", spawn_local(async move { watcher.check().await }).await),
        None => Value::Null,
    };
    let live = breaches.judge("live projections", spawn_local(async move { live(&client).await }).await);

    let mut failed_starts = 0;
    let is_node = |process: &Process| [Kind::Gateway, Kind::Worker, Kind::Projector].contains(&process.kind);
    let (nodes, stores): (Vec<_>, Vec<_>) = victims.processes.into_iter().partition(is_node);
    for node in nodes {
        failed_starts += node.failed_starts();
        breaches.0.extend(node.end().await);
    }
    let stopped = Arc::clone(&system);
    breaches.judge("what is kept", spawn_blocking(move || check_kept(&stopped, &live)).await);
    let owned = [Kind::Postgres, Kind::Elasticsearch].map(|kind| stores.iter().any(|store| store.kind == kind));
    for store in stores {
        breaches.0.extend(store.breaches());
        store.end().await;
    }

    let tally = attempts.tally();
    breaches.0.extend(tally.overdue.iter().map(|overdue| format!("waited in vain: {overdue}")));
    let report = json!({
        "seed": seed, "seconds": seconds, "blows": blows, "failed_starts": failed_starts,
        "requests": tally.sent, "later": tally.later, "broken": tally.broken, "overdue": tally.overdue.len(),
        "longest_wait_ms": u64::try_from(tally.longest.as_millis()).unwrap_or(u64::MAX),
        "messages": messages.ended, "messages_failed": messages.failed,
        "documents": documents.ended, "documents_failed": documents.failed,
        "tools": tools, "status": status, "dashboard": dashboard, "records": records, "breaches": breaches.0,
    });
    println!("chaos: {report}");
    assert!(breaches.0.is_empty(), "{} breaches:\n{}", breaches.0.len(), breaches.0.join("\n"));
    servers::forget(&name, owned).await;
    fs::remove_dir_all(&folder).expect("the folder is ours");
}

/// Everything that runs.
struct Started {
    system: Arc<System>,
    victims: Victims,
    /// URLs.
    gateways: Vec<String>,
    /// Where each node tells of itself.
    nodes: Vec<String>,
}

async fn start(folder: &Path, name: &str, counting: &Counting) -> Started {
    let (mut processes, log) = servers::nats(folder);
    let (redis, cache) = servers::redis(folder);
    processes.push(redis);
    let own = [servers::postgres(folder), servers::elasticsearch(folder)];
    let [own_tables, own_index] = own.map(|own| own.map(|(process, url)| (processes.push(process), url).1));
    for (name, own) in [("Postgres", &own_tables), ("Elasticsearch", &own_index)] {
        if own.is_none() {
            println!("{name} is one that others use too: it is cut off and held up, and not killed");
        }
    }
    let (postgres, tables) = servers::through(own_tables.as_deref(), "LMAO_TEST_POSTGRES").await;
    let (elasticsearch, search) = servers::through(own_index.as_deref(), "LMAO_TEST_ELASTICSEARCH").await;
    let settings = [
        ("LMAO_LOG", format!("{log}?namespace={name}")),
        ("LMAO_READ_MODEL", format!("{tables}?schema={name}")),
        ("LMAO_SEARCH", format!("elasticsearch+{search}?prefix={name}")),
        ("LMAO_CACHE", format!("{cache}?prefix={name}")),
        ("LMAO_MASTER_KEY", "7".repeat(64)),
        ("LMAO_ADMIN_PASSWORD", PASSWORD.to_owned()),
        ("LMAO_CONFIG", counting.configuration(folder, TIMEOUT)),
    ];
    let settings: Vec<_> = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let system = Arc::new(System::on(settings.clone()));
    for process in &processes {
        process.up().await;
    }
    let migrating = Arc::clone(&system);
    spawn_blocking(move || migrate(&migrating)).await.expect("the stores are made");

    let roles = [(Kind::Gateway, "gateway", 2), (Kind::Worker, "worker", 3), (Kind::Projector, "projector", 2)];
    let (mut gateways, mut nodes) = (vec![], vec![]);
    for (kind, role, count) in roles {
        for n in 1..=count {
            let (name, [port, metrics]) = (format!("{role}-{n}"), servers::free_ports());
            let (data, settings) = (folder.join(&name), settings.clone());
            let address = format!("127.0.0.1:{port}");
            gateways.extend((kind == Kind::Gateway).then(|| format!("http://{address}")));
            let metrics = format!("127.0.0.1:{metrics}");
            nodes.push(metrics.clone());
            let probe = format!("http://{address}/health/live");
            let command = move || {
                let mut command = lmao(&["serve", "--listen", &address, "--roles", role, "--data"]);
                command.arg(&data).envs(settings.iter().map(|(name, value)| (name, value)));
                command.env("LMAO_TELEMETRY__METRICS_LISTEN", &metrics);
                command
            };
            let output = folder.join(format!("{name}.out"));
            processes.push(Process::start(Program { name, kind, command: Box::new(command), probe, output }));
        }
    }
    let proxies = vec![(Kind::Postgres, postgres), (Kind::Elasticsearch, elasticsearch)];
    let victims = Victims { processes, proxies };
    victims.calm().await;
    Started { system, victims, gateways, nodes }
}

/// Makes all stores, three copies of each stream; a cluster that was just started may have no leader yet.
fn migrate(system: &System) {
    let begun = Instant::now();
    loop {
        let mut command = lmao(&["migrate", "--replicas", "3", "--data"]);
        let output = command.arg(system.data("commands")).envs(system.settings()).output().expect("it can be started");
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(begun.elapsed() < PATIENCE, "lmao migrate: {said}");
    }
}

/// The administrator, once the account is open.
async fn log_in(url: &str) -> Client {
    let credentials = json!({ "username": "admin", "password": PASSWORD });
    let token = eventually("the administrator can log in", async || {
        let sent = http().post(format!("{url}/auth/login")).json(&credentials).send().await;
        let body: Value = sent.map_err(|e| e.to_string())?.json().await.map_err(|e| e.to_string())?;
        body["access_token"].as_str().map(str::to_owned).ok_or_else(|| body.to_string())
    });
    Client::new(url, &token.await)
}

/// Whether the gateway at an address was itself disturbed since then.
fn excuses(victims: &Victims, gateways: &[String]) -> impl Fn(&str, Instant) -> bool + Send + Sync + use<> {
    let histories = victims.of(Kind::Gateway).map(Process::history);
    let by_address: BTreeMap<String, _> = gateways.iter().cloned().zip(histories).collect();
    move |address, since| by_address.get(address).is_none_or(|history| history.was_disturbed(since))
}

/// What a client was promised; one that is not content, or does not come to its end, is a breach.
async fn join<T: Default>(
    breaches: &mut Breaches,
    who: &str,
    until: Instant,
    mut client: tokio::task::JoinHandle<T>,
) -> T {
    match timeout(until.saturating_duration_since(Instant::now()), &mut client).await {
        Ok(ended) => breaches.judge(who, ended),
        Err(_) => {
            breaches.0.push(format!("{who} still waits after {PATIENCE:?} without any disturbance"));
            client.abort();
            T::default()
        }
    }
}

/// The projections as a gateway shows them, once they have taken in the log.
async fn live(client: &Client) -> Value {
    eventually("the projections take in the log", async || {
        let reply = client.get("/admin/projections?digest=true").await.map_err(|error| error.to_string())?;
        if reply.is_success() { Ok(reply.body["projections"].clone()) } else { Err(reply.body.to_string()) }
    })
    .await
}

/// What is left when no node runs is whole, and the projections, `live` ones too, are what the log makes.
fn check_kept(system: &System, live: &Value) {
    let audit = system.run(&["audit", "verify"]);
    assert_eq!(audit["ok"], true, "{audit:#}");
    let kept = system.run(&["projections", "digest"]);
    system.run(&["projections", "rebuild"]);
    let again = system.run(&["projections", "digest"]);
    for rows in [live, &kept, &again] {
        for row in rows.as_array().expect("a list") {
            assert_eq!(row["parked"], json!([]), "{row:#}");
        }
    }
    let digests = |rows: &Value| -> BTreeMap<String, String> {
        rows.as_array().expect("a list").iter().map(|row| (text(&row["name"]), text(&row["digest"]))).collect()
    };
    assert_eq!(digests(live).len(), 2, "tables and search: {live}");
    assert_eq!(digests(live), digests(&kept), "what a node shows is not what is kept");
    assert_eq!(digests(&kept), digests(&again), "the projections are not what a rebuild makes");
}
