//! PostgreSQL: a fresh cluster whose only user is `lmao`, without a password.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    Kind,
    packages::{self, Account},
    ready,
    scratch::{Scratch, Stop, free_port},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// The account that Debian's package brings; the server refuses to run as root.
const ACCOUNT: &str = "postgres";
/// Debian keeps them off the search path, one directory for each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Tests run beside each other, each with a pool of its own.
const MAX_CONNECTIONS: &str = "max_connections=300";

/// Where its programs are: `initdb` and `postgres` of the newest version, those on the search path first.
pub(super) fn programs() -> Option<PathBuf> {
    let complete =
        |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| packages::is_program(&folder.join(name)));
    let on_path = packages::program("initdb").and_then(|path| path.parent().map(PathBuf::from)).filter(complete);
    on_path.or_else(|| {
        let versions = fs::read_dir(DEBIAN).ok()?.filter_map(Result::ok).map(|version| version.path().join("bin"));
        let number = |bin: &PathBuf| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
        versions.filter(complete).max_by_key(number)
    })
}

/// Creates a cluster and starts it.
pub(super) fn start(scratch: &Scratch) -> Result<String> {
    let programs = programs().context("initdb and postgres are not installed")?;
    let account = Account::unprivileged(ACCOUNT)?;
    let home = scratch.path().join("postgres");
    account.create_dir(&home)?;
    let data = home.join("data");

    let mut create = Command::new(programs.join("initdb"));
    create.args(["--auth", "trust", "--username", "lmao", "--encoding", "UTF8", "--no-locale", "--no-sync"]);
    create.arg("--pgdata").arg(&data).current_dir(&home);
    account.run(&mut create);
    let output = create.output().context("initdb could not be started")?;
    if !output.status.success() {
        bail!("initdb failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }

    let port = free_port()?;
    let url = format!("postgres://lmao@127.0.0.1:{port}/postgres");
    let mut server = Command::new(programs.join("postgres"));
    server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    // A socket's path must be short, and nobody needs one.
    server.args(["-c", "unix_socket_directories=", "-c", MAX_CONNECTIONS]).current_dir(&home);
    account.run(&mut server);
    ready(&scratch.launch("postgres", &mut server, Stop::Interrupt)?, Kind::Postgres, &url, PATIENCE)?;
    Ok(url)
}
