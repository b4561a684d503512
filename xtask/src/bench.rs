//! `cargo xtask bench`: runs one of the workspace's benchmarks and keeps its figures.
//!
//! A benchmark is a `[[bench]]` target of any crate. It prints its table for people, and one JSON object per line for
//! machines; the objects are collected in `target/bench/NAME.json`. One that needs servers finds them as tests do.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::servers::{Kind, Servers};

/// The servers that a benchmark needs.
const IN_NEED: [(&str, &[Kind]); 3] =
    [("actor_load", &Kind::ALL), ("distributed", &Kind::ALL), ("postgres", &[Kind::Postgres])];

/// Which benchmark.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Its name; without one, those that exist are listed.
    name: Option<String>,
    /// Arguments for the benchmark itself, after `--`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Runs a benchmark.
///
/// # Errors
/// There is none of this name, a server that it needs is missing, it does not build, or it fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let known = benches()?;
    let Some(name) = &options.name else {
        for (package, name) in &known {
            println!("{name:<24} {package}");
        }
        return Ok(());
    };
    let Some((package, name)) = known.iter().find(|(_, known)| known == name) else {
        bail!("there is no benchmark {name:?}; `cargo xtask bench` lists those that exist");
    };
    let kinds = IN_NEED.iter().find(|(known, _)| known == name).map(|(_, kinds)| Servers::start(kinds));
    let servers = kinds.transpose()?;
    let mut bench = crate::cargo();
    bench.envs(servers.iter().flat_map(Servers::variables));
    bench.args(["bench", "--package", package, "--bench", name, "--"]).args(&options.arguments);
    crate::announce(&bench);
    let mut child = bench.stdout(Stdio::piped()).spawn().context("cargo bench could not be started")?;
    let output = child.stdout.take().context("cargo bench has no output")?;
    let mut figures: Vec<Value> = vec![];
    for line in BufReader::new(output).lines() {
        let line = line.context("the benchmark's output cannot be read")?;
        match line.strip_prefix('{').and_then(|_| serde_json::from_str(&line).ok()) {
            Some(figure) => figures.push(figure),
            None => println!("{line}"),
        }
    }
    let status = child.wait().context("cargo bench did not end")?;
    if !status.success() {
        bail!("the benchmark {name} failed ({status})");
    }

    let folder = crate::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(format!("{name}.json"));
    fs::write(&path, serde_json::to_string_pretty(&figures)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    servers.iter().flat_map(Servers::lines).for_each(|server| println!("{server}"));
    println!("{} figures in {}", figures.len(), path.display());
    Ok(())
}

/// `(package, benchmark)` of the workspace.
fn benches() -> Result<Vec<(String, String)>> {
    let output = crate::cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo metadata could not be started")?;
    if !output.status.success() {
        bail!("cargo metadata failed ({})", output.status);
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata says no JSON")?;
    let mut benches: Vec<_> = metadata
        .packages
        .into_iter()
        .flat_map(|package| {
            let benches = package.targets.into_iter().filter(|target| target.kind.iter().any(|kind| kind == "bench"));
            benches.map(move |target| (package.name.clone(), target.name)).collect::<Vec<_>>()
        })
        .collect();
    benches.sort();
    Ok(benches)
}
