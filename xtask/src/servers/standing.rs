//! `cargo xtask up` and `down`: servers that stay between runs, for development.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    Kind, Servers,
    scratch::{Scratch, Started},
};

/// What is running, in `target/servers/standing.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Standing {
    scratch: PathBuf,
    started: Vec<Started>,
    variables: Vec<(String, String)>,
}

fn file() -> PathBuf {
    crate::target().join("servers/standing.json")
}

fn read() -> Result<Option<Standing>> {
    let file = file();
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).map(Some).with_context(|| format!("{} is damaged", file.display()))
}

/// Starts the servers and leaves them running; prints what tests find them by. Those that run already stay.
///
/// # Errors
/// One cannot be obtained or does not get ready; or some of those that were left running have died.
pub(crate) fn up() -> Result<()> {
    if let Some(standing) = read()? {
        if standing.started.iter().all(Started::stands) {
            eprintln!("the servers are running already");
            print(&standing.variables);
            return Ok(());
        }
        eprintln!("some of the servers that were running are gone; all are started anew");
        down()?;
    }
    let servers = Servers::start(&Kind::ALL)?;
    servers.lines().iter().for_each(|line| eprintln!("{line}"));
    let variables: Vec<_> = servers.variables().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();

    let file = file();
    let standing =
        Standing { scratch: servers.scratch.path().to_owned(), started: servers.scratch.started(), variables };
    let folder = file.parent().context("the state has no directory")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Written before they are let go: whoever is killed in between leaves a file of servers that do not run.
    fs::write(&file, serde_json::to_string_pretty(&standing)? + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    servers.scratch.leave()?;
    print(&standing.variables);
    eprintln!("stop them with `cargo xtask down`");
    Ok(())
}

fn print(variables: &[(String, String)]) {
    for (name, value) in variables {
        println!("export {name}='{value}'");
    }
}

/// Stops what [`up`] left running.
///
/// # Errors
/// The state cannot be read or removed.
pub(crate) fn down() -> Result<()> {
    let Some(standing) = read()? else {
        eprintln!("no servers were left running");
        return Ok(());
    };
    drop(Scratch::again(standing.scratch, &standing.started)?);
    fs::remove_file(file()).context("the state cannot be removed")
}
