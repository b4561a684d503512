//! The servers that are this test's alone, since it kills them (three of NATS, one of Redis), and ways to those it shares
//! (Postgres, Elasticsearch).

use std::{net::TcpListener, path::Path, process::Command};

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
        std::fs::write(&file, settings).expect("it can be written");
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

/// A way to the server that this variable names, and its URL.
pub(super) async fn shared(variable: &str) -> (Proxy, String) {
    let url = server(variable);
    let (scheme, rest) = url.split_once("://").expect("a URL begins with SCHEME://");
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let (who, host) =
        authority.rsplit_once('@').map_or((String::new(), authority), |(who, host)| (format!("{who}@"), host));
    let proxy = Proxy::start(host).await;
    let through = format!("{scheme}://{who}{}{path}", proxy.authority);
    (proxy, through)
}

/// Removes what the shared servers hold of this system.
pub(super) async fn forget(name: &str) {
    let mut postgres = PgConnection::connect(&server("LMAO_TEST_POSTGRES")).await.expect("Postgres can be reached");
    let drop = sqlx::AssertSqlSafe(format!("DROP SCHEMA \"{name}\" CASCADE"));
    sqlx::raw_sql(drop).execute(&mut postgres).await.expect("the schema can be dropped");
    let (elasticsearch, http) = (server("LMAO_TEST_ELASTICSEARCH"), http());
    let listed = http.get(format!("{elasticsearch}/_cat/indices/{name}*?h=index")).send().await;
    let listed = listed.expect("Elasticsearch can be reached").text().await.expect("a list");
    for index in listed.lines().map(str::trim).filter(|index| !index.is_empty()) {
        let deleted =
            http.delete(format!("{elasticsearch}/{index}")).send().await.expect("Elasticsearch can be reached");
        assert!(deleted.status().is_success(), "{index} can be deleted: {}", deleted.status());
    }
}
