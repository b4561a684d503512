//! The Redis server: a cache, so it keeps nothing on disk.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};

use super::{
    Kind, packages, ready,
    scratch::{Scratch, Stop, free_port},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// The program.
pub(super) fn program() -> Result<String> {
    let program = packages::program("redis-server").context("redis-server is not on the search path")?;
    Ok(program.display().to_string())
}

/// Starts it.
pub(super) fn start(program: &str, scratch: &Scratch) -> Result<String> {
    let port = free_port()?;
    let url = format!("redis://127.0.0.1:{port}");
    let mut server = Command::new(program);
    server.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    server.arg("--dir").arg(scratch.path()).current_dir(scratch.path());
    ready(&scratch.launch("redis", &mut server, Stop::Terminate)?, Kind::Redis, &url, PATIENCE)?;
    Ok(url)
}
