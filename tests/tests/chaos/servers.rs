//! The servers that are this test's alone, since it kills them: three of NATS, one of Redis, and, where their programs are on this
//! machine, one of Postgres and one of Elasticsearch; else ways to those that all tests share.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use sqlx::{Connection as _, PgConnection};

use super::{
    Kind,
    process::{Process, Program},
    proxy::Proxy,
};
use crate::{distributed::server, support::http};

/// Ports that were free a moment ago, no two alike.
pub(super) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("it has an address").port())
}

/// A cluster of three, and its URL.
pub(super) fn nats(folder: &Path) -> (Vec<Process>, String) {
    let (ports, routes, monitors) = (free_ports::<3>(), free_ports::<3>(), free_ports::<3>());
    let all = routes.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
    let start = |n: usize| {
        let name = format!("nats-{n}");
        let (file, store) = (folder.join(format!("{name}.conf")), folder.join(&name).display().to_string());
        let (port, route, monitor) = (ports[n], routes[n], monitors[n]);
        let settings = format!(
            "server_name: {name}\nlisten: 127.0.0.1:{port}\nhttp: 127.0.0.1:{monitor}\nmax_payload: 8MB\n\
             jetstream {{ store_dir: {store:?} }}\n\
             cluster {{ name: chaos, listen: 127.0.0.1:{route}, routes: [{all}] }}\n"
        );
        fs::write(&file, settings).expect("it can be written");
        let program = server("LMAO_TEST_NATS_SERVER");
        let command = move || {
            let mut command = Command::new(&program);
            command.arg("-c").arg(&file);
            command
        };
        Process::start(Program {
            output: folder.join(format!("{name}.out")),
            name,
            kind: Kind::Nats,
            command: Box::new(command),
            // Says yes once it has what the others have.
            probe: format!("http://127.0.0.1:{monitor}/healthz"),
        })
    };
    let url = format!("nats://{}", ports.map(|port| format!("127.0.0.1:{port}")).join(","));
    ((0..3).map(start).collect(), url)
}

/// One server, and its URL.
pub(super) fn redis(folder: &Path) -> (Process, String) {
    let ([port], program, folder_of_redis) = (free_ports(), server("LMAO_TEST_REDIS_SERVER"), folder.to_owned());
    let command = move || {
        let mut command = Command::new(&program);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(&folder_of_redis);
        command
    };
    let process = Process::start(Program {
        name: "redis".to_owned(),
        kind: Kind::Redis,
        command: Box::new(command),
        probe: format!("127.0.0.1:{port}"),
        output: folder.join("redis.out"),
    });
    (process, format!("redis://127.0.0.1:{port}"))
}

/// The account that a server runs as which refuses to run as root; `None` where this process is not root's.
fn account(name: &str) -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().expect("id can be started");
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().expect("a number")
    };
    (id(&["-u"]) == 0).then(|| (id(&["-u", name]), id(&["-g", name])))
}

/// Makes a folder that belongs to an account.
fn give(folder: &Path, to: Option<(u32, u32)>) {
    fs::create_dir_all(folder).expect("it can be made");
    if let Some((user, group)) = to {
        chown(folder, Some(user), Some(group)).expect("it can be given away");
    }
}

fn run_as(command: &mut Command, account: Option<(u32, u32)>) {
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
}

/// A Postgres that syncs what it commits, and its URL; `None` where its programs are not named.
pub(super) fn postgres(folder: &Path) -> Option<(Process, String)> {
    let programs = PathBuf::from(env::var_os("LMAO_TEST_POSTGRES_PROGRAMS")?);
    // Another account passes through to what is its own.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).expect("it is ours");
    let (account, home, [port]) = (account("postgres"), folder.join("postgres"), free_ports());
    give(&home, account);
    let data = home.join("data");
    let mut create = Command::new(programs.join("initdb"));
    create.args([
        "--auth",
        "trust",
        "--username",
        "lmao",
        "--encoding",
        "UTF8",
        "--no-locale",
        "--no-sync",
        "--pgdata",
    ]);
    create.arg(&data).current_dir(&home);
    run_as(&mut create, account);
    let created = create.output().expect("initdb can be started");
    assert!(created.status.success(), "initdb: {}", String::from_utf8_lossy(&created.stderr));
    let command = move || {
        let mut command = Command::new(programs.join("postgres"));
        command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories=", "-c", "max_connections=200"]).current_dir(&home);
        run_as(&mut command, account);
        command
    };
    let process = Process::start(Program {
        name: "postgres".to_owned(),
        kind: Kind::Postgres,
        command: Box::new(command),
        probe: format!("127.0.0.1:{port}"),
        output: folder.join("postgres.out"),
    });
    Some((process, format!("postgres://lmao@127.0.0.1:{port}/postgres")))
}

/// The home of the Java on the search path.
fn java() -> PathBuf {
    if let Some(home) = env::var_os("ES_JAVA_HOME") {
        return home.into();
    }
    let path = env::var_os("PATH").expect("a search path");
    let java = env::split_paths(&path).map(|folder| folder.join("java")).find(|java| java.exists()).expect("a Java");
    let java = fs::canonicalize(java).expect("it is there");
    java.ancestors().nth(2).expect("it lies in HOME/bin").to_owned()
}

/// An Elasticsearch of one node, and its URL; `None` where its home is not named.
pub(super) fn elasticsearch(folder: &Path) -> Option<(Process, String)> {
    let program = PathBuf::from(env::var_os("LMAO_TEST_ELASTICSEARCH_HOME")?).join("bin/elasticsearch");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).expect("it is ours");
    let (account, home, [port, transport]) = (account("nobody"), folder.join("elasticsearch"), free_ports());
    let [config, data, logs, temporary] = ["config", "data", "logs", "tmp"].map(|name| home.join(name));
    for folder in [&home, &config, &data, &logs, &temporary] {
        give(folder, account);
    }
    let settings = format!(
        "discovery.type: single-node\nnetwork.host: 127.0.0.1\nhttp.port: {port}\ntransport.port: {transport}\n\
         xpack.security.enabled: false\npath.data: {}\npath.logs: {}\n\
         cluster.routing.allocation.disk.threshold_enabled: false\n",
        data.display(),
        logs.display()
    );
    let options = "-Xms512m\n-Xmx512m\n-XX:+UseSerialGC\n-Djava.io.tmpdir=${ES_TMPDIR}\n";
    let logging = "status = error\nappender.console.type = Console\nappender.console.name = console\n\
                   appender.console.layout.type = PatternLayout\nappender.console.layout.pattern = [%d{ISO8601}][%-5p] %m%n\n\
                   rootLogger.level = warn\nrootLogger.appenderRef.console.ref = console\n";
    for (name, text) in
        [("elasticsearch.yml", settings.as_str()), ("jvm.options", options), ("log4j2.properties", logging)]
    {
        fs::write(config.join(name), text).expect("it can be written");
    }
    let java = java();
    let command = move || {
        let mut command = Command::new(&program);
        command.env("ES_JAVA_HOME", &java).env("ES_PATH_CONF", &config).env("ES_TMPDIR", &temporary).env("HOME", &home);
        command.env_remove("ES_JAVA_OPTS").env_remove("JAVA_TOOL_OPTIONS").current_dir(&home);
        run_as(&mut command, account);
        command
    };
    let process = Process::start(Program {
        name: "elasticsearch".to_owned(),
        kind: Kind::Elasticsearch,
        command: Box::new(command),
        probe: format!("http://127.0.0.1:{port}/_cluster/health"),
        output: folder.join("elasticsearch.out"),
    });
    Some((process, format!("http://127.0.0.1:{port}")))
}

/// A way to the test's own server, or to the one that this variable names, and its URL.
pub(super) async fn through(own: Option<&str>, variable: &str) -> (Proxy, String) {
    let url = own.map_or_else(|| server(variable), str::to_owned);
    let (scheme, rest) = url.split_once("://").expect("a URL begins with SCHEME://");
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let (who, host) =
        authority.rsplit_once('@').map_or((String::new(), authority), |(who, host)| (format!("{who}@"), host));
    let proxy = Proxy::start(host).await;
    let through = format!("{scheme}://{who}{}{path}", proxy.authority);
    (proxy, through)
}

/// Removes what the shared servers hold of this system; of Postgres and Elasticsearch, which were its own.
pub(super) async fn forget(name: &str, [own_tables, own_index]: [bool; 2]) {
    if !own_tables {
        forget_tables(name).await;
    }
    if !own_index {
        forget_index(name).await;
    }
}

async fn forget_tables(name: &str) {
    let mut postgres = PgConnection::connect(&server("LMAO_TEST_POSTGRES")).await.expect("Postgres can be reached");
    let drop = sqlx::AssertSqlSafe(format!("DROP SCHEMA \"{name}\" CASCADE"));
    sqlx::raw_sql(drop).execute(&mut postgres).await.expect("the schema can be dropped");
}

async fn forget_index(name: &str) {
    let (elasticsearch, http) = (server("LMAO_TEST_ELASTICSEARCH"), http());
    let listed = http.get(format!("{elasticsearch}/_cat/indices/{name}*?h=index")).send().await;
    let listed = listed.expect("Elasticsearch can be reached").text().await.expect("a list");
    for index in listed.lines().map(str::trim).filter(|index| !index.is_empty()) {
        let deleted =
            http.delete(format!("{elasticsearch}/{index}")).send().await.expect("Elasticsearch can be reached");
        assert!(deleted.status().is_success(), "{index} can be deleted: {}", deleted.status());
    }
}
