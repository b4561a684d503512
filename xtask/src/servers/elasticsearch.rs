//! Elasticsearch: the slim distribution that its own integration tests use, from the Maven repository.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    Kind,
    packages::{self, Account, Show},
    ready,
    scratch::{Scratch, Stop, free_port},
};

pub(super) const VERSION: &str = "8.19.21";
const SHA256: &str = "215d5f3dbf0609a149f6218a9e47b6ae2df34ebbff3c5754e35f15a5e5393c8a";
const MAVEN_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:2.8:get";
/// What it needs to run.
const MIN_JAVA: u32 = 17;
/// A start takes 40 s on two busy cores.
const PATIENCE: Duration = Duration::from_secs(240);
/// It refuses to run as root; this account is there on every system.
const ACCOUNT: &str = "nobody";

/// The Java virtual machine's options: what tests need, and no writing outside of the scratch directory.
const JVM_OPTIONS: &str = "\
-Xms512m
-Xmx512m
-XX:+UseSerialGC
-XX:-AlwaysPreTouch
-XX:+ExitOnOutOfMemoryError
-Djava.io.tmpdir=${ES_TMPDIR}
";
const LOGGING: &str = "\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
";

/// The unpacked distribution, whether it is there or not.
fn home() -> Result<PathBuf> {
    Ok(packages::cache()?.join(format!("elasticsearch-{VERSION}")).join(format!("elasticsearch-{VERSION}")))
}

fn is_unpacked(home: &Path) -> bool {
    packages::is_program(&home.join("bin/elasticsearch"))
}

/// Where it is unpacked, if it is.
pub(super) fn unpacked() -> Option<String> {
    home().ok().filter(|home| is_unpacked(home)).map(|home| home.display().to_string())
}

/// What has to be installed first.
pub(super) fn missing_packages() -> Vec<&'static str> {
    let java = java().is_none().then_some("default-jre-headless");
    let maven = !home().is_ok_and(|home| is_unpacked(&home)) && packages::program("mvn").is_none();
    java.into_iter().chain(maven.then_some("maven")).collect()
}

/// The home of a Java that is new enough.
fn java() -> Option<PathBuf> {
    let named = ["ES_JAVA_HOME", "JAVA_HOME"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let on_path = packages::program("java").and_then(|java| fs::canonicalize(java).ok());
    let on_path = on_path.and_then(|java| Some(java.parent()?.parent()?.to_owned()));
    named.chain(on_path).find(|home| java_version(home).is_some_and(|version| version >= MIN_JAVA))
}

/// The first number of `openjdk version "17.0.16" 2025-07-15`.
fn java_version(home: &Path) -> Option<u32> {
    let output = Command::new(home.join("bin/java")).arg("-version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.split('"').nth(1)?.split(['.', '-', '+']).next()?.parse().ok()
}

/// Downloads and unpacks it if it is not there.
fn obtain(home: &Path) -> Result<()> {
    if is_unpacked(home) {
        return Ok(());
    }
    let repository = packages::cache()?.join("maven");
    let artifact = format!("org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip");
    packages::download(
        Command::new("mvn")
            .args(["--batch-mode", MAVEN_PLUGIN, "-Dtransitive=false"])
            .arg(format!("-Dartifact={artifact}"))
            .arg(format!("-Dmaven.repo.local={}", repository.display())),
        Show::Lines(".zip"),
    )?;
    let archive = repository
        .join("org/elasticsearch/distribution/integ-test-zip/elasticsearch")
        .join(format!("{VERSION}/elasticsearch-{VERSION}.zip"));
    packages::check(&archive, SHA256)?;
    let folder = home.parent().context("the distribution has no directory")?;
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    packages::unpack(&archive, folder)?;
    fs::remove_dir_all(&repository).with_context(|| format!("cannot remove {}", repository.display()))?;
    if !is_unpacked(home) {
        bail!("{} holds no bin/elasticsearch", archive.display());
    }
    Ok(())
}

/// Starts one node without security, which binds to this machine only.
pub(super) fn start(scratch: &Scratch) -> Result<String> {
    let home = home()?;
    obtain(&home)?;
    let java = java().with_context(|| format!("there is no Java {MIN_JAVA} or newer"))?;
    let account = Account::unprivileged(ACCOUNT)?;
    let own = scratch.path().join("elasticsearch");
    let (config, data, logs, temporary) = (own.join("config"), own.join("data"), own.join("logs"), own.join("tmp"));
    for folder in [&own, &config, &data, &logs, &temporary] {
        account.create_dir(folder)?;
    }
    let (port, transport) = (free_port()?, free_port()?);
    let settings = format!(
        "discovery.type: single-node
network.host: 127.0.0.1
http.port: {port}
transport.port: {transport}
xpack.security.enabled: false
path.data: {}
path.logs: {}
# A full disk of a developer is no reason to refuse documents.
cluster.routing.allocation.disk.threshold_enabled: false
",
        data.display(),
        logs.display()
    );
    for (name, text) in
        [("elasticsearch.yml", settings.as_str()), ("jvm.options", JVM_OPTIONS), ("log4j2.properties", LOGGING)]
    {
        fs::write(config.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }

    let url = format!("http://127.0.0.1:{port}");
    let mut server = Command::new(home.join("bin/elasticsearch"));
    server.env("ES_JAVA_HOME", java).env("ES_PATH_CONF", &config).env("ES_TMPDIR", &temporary).env("HOME", &own);
    server.env_remove("ES_JAVA_OPTS").env_remove("JAVA_TOOL_OPTIONS").current_dir(&own);
    account.run(&mut server);
    ready(&scratch.launch("elasticsearch", &mut server, Stop::Terminate)?, Kind::Elasticsearch, &url, PATIENCE)?;
    Ok(url)
}
