//! The OpenTelemetry collector that tests send to: built from `xtask/otelcol` with Go, once for each state of its sources, and
//! kept with the other servers under the target directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use lmao_events::Hash;

/// The variable that names the binary to tests.
pub(crate) const VARIABLE: &str = "LMAO_TEST_OTELCOL";
/// What it is built from.
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "main.go"];

/// The binary, built if need be: some two minutes of processor time, and downloads through Go's ordinary proxy. `None`, said
/// aloud, where there is no Go.
///
/// # Errors
/// The build fails.
pub(crate) fn obtain() -> Result<Option<PathBuf>> {
    let sources = crate::root().join("xtask/otelcol");
    let kept = crate::target().join("servers");
    let binary = kept.join(format!("otelcol-{}", fingerprint(&sources)?));
    if binary.is_file() {
        return Ok(Some(binary));
    }
    if Command::new("go").arg("version").output().is_err() {
        eprintln!(
            "Go is not installed: tests that send to an OpenTelemetry collector are left out (https://go.dev/dl, 1.25)"
        );
        return Ok(None);
    }
    // Beside the sources nothing is written: Go would keep its own notes there.
    let work = kept.join("otelcol-build");
    fs::create_dir_all(&work).with_context(|| format!("{} cannot be made", work.display()))?;
    for name in SOURCES {
        fs::copy(sources.join(name), work.join(name)).with_context(|| format!("{name} cannot be copied"))?;
    }
    let unfinished = kept.join(format!("otelcol-unfinished-{}", std::process::id()));
    eprintln!("> go build (the OpenTelemetry collector, once)");
    let status = Command::new("go")
        .args(["build", "-mod=readonly", "-ldflags=-s -w", "-o"])
        .arg(&unfinished)
        .arg(".")
        .current_dir(&work)
        .env("CGO_ENABLED", "0")
        .status()
        .context("go could not be started")?;
    if !status.success() {
        bail!("the OpenTelemetry collector does not build ({status})");
    }
    fs::rename(&unfinished, &binary).with_context(|| format!("{} cannot be put in its place", binary.display()))?;
    Ok(Some(binary))
}

fn fingerprint(sources: &Path) -> Result<String> {
    let mut text = vec![];
    for name in SOURCES {
        text.extend(fs::read(sources.join(name)).with_context(|| format!("xtask/otelcol/{name} cannot be read"))?);
    }
    Ok(Hash::of(&text).to_string().chars().take(12).collect())
}
