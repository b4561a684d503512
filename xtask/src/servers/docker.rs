//! Servers in containers, where a container engine runs.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Kind, elasticsearch, pause, probe,
    scratch::{Scratch, Started},
};

const POSTGRES: &str = "postgres:17.6";
const PATIENCE: Duration = Duration::from_secs(240);

/// Whether containers can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Running,
    Missing,
}

/// Asks the engine.
pub(super) fn engine() -> Engine {
    let info =
        Command::new("docker").arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if info.is_ok_and(|status| status.success()) { Engine::Running } else { Engine::Missing }
}

/// PostgreSQL, its only user `lmao` without a password.
pub(super) fn postgres(scratch: &Scratch) -> Result<String> {
    let settings = ["POSTGRES_USER=lmao", "POSTGRES_DB=postgres", "POSTGRES_HOST_AUTH_METHOD=trust"];
    let port = |port: &str| format!("postgres://lmao@127.0.0.1:{port}/postgres");
    run(scratch, Kind::Postgres, POSTGRES, &settings, &["-c", "max_connections=300"], "5432", port)
}

/// Elasticsearch as a single node without security.
pub(super) fn elasticsearch(scratch: &Scratch) -> Result<String> {
    let image = format!("docker.elastic.co/elasticsearch/elasticsearch:{}", elasticsearch::VERSION);
    let settings = [
        "discovery.type=single-node",
        "xpack.security.enabled=false",
        "xpack.ml.enabled=false",
        "cluster.routing.allocation.disk.threshold_enabled=false",
        "ES_JAVA_OPTS=-Xms1g -Xmx1g",
    ];
    run(scratch, Kind::Elasticsearch, &image, &settings, &[], "9200", |port| format!("http://127.0.0.1:{port}"))
}

fn run(
    scratch: &Scratch,
    kind: Kind,
    image: &str,
    settings: &[&str],
    arguments: &[&str],
    port: &str,
    url: impl Fn(&str) -> String,
) -> Result<String> {
    let folder = scratch.path().file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{folder}-{}", kind.variable().to_ascii_lowercase());
    eprintln!("> docker pull {image}");
    docker(Command::new("docker").args(["pull", image]).stdout(std::io::stderr()))?;
    scratch.remember(Started::Container { name: name.clone() })?;

    let mut start = Command::new("docker");
    start.args(["run", "--detach", "--name", &name, "--publish", &format!("127.0.0.1::{port}")]);
    for setting in settings {
        start.args(["--env", setting]);
    }
    docker(start.arg(image).args(arguments))?;
    let published = docker(Command::new("docker").args(["port", &name, &format!("{port}/tcp")]))?;
    let published = published.lines().next().and_then(|line| line.rsplit_once(':')).context("it has no port")?.1;
    let url = url(published.trim());

    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = probe::version(kind, &url) {
        if Instant::now() > deadline {
            let log = Command::new("docker").args(["logs", "--tail", "40", &name]).output();
            let log = log.map(|log| [log.stdout, log.stderr].concat()).unwrap_or_default();
            let failed = format!("it was not ready within {} s; its log ends with\n", PATIENCE.as_secs());
            return Err(error.context(failed + &String::from_utf8_lossy(&log)));
        }
        pause();
    }
    Ok(url)
}

/// Runs it; what it printed, unless that went elsewhere.
fn docker(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("docker could not be started")?;
    if !output.status.success() {
        bail!("{command:?} failed ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
