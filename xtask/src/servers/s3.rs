//! A server that speaks S3, for the blobs: moto, which comes by pip and keeps all in memory.

use std::{fs, io::Write, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    Kind, packages, probe, ready,
    scratch::{Scratch, Stop, free_port},
};

const VERSION: &str = "5.2.1";
const PATIENCE: Duration = Duration::from_secs(60);
/// The bucket that tests share; each uses a prefix of its own.
const BUCKET: &str = "lmao";

/// Where it is installed to, for no other Python program to see.
fn folder() -> Result<PathBuf> {
    Ok(packages::cache()?.join(format!("moto-{VERSION}")))
}

/// What has to be installed first.
pub(super) fn missing_packages() -> Vec<&'static str> {
    let pip =
        || Command::new("python3").args(["-m", "pip", "--version"]).output().is_ok_and(|pip| pip.status.success());
    if folder().is_ok_and(|folder| folder.is_dir()) || pip() { vec![] } else { vec!["python3-pip"] }
}

/// Installs it if it is not there.
fn obtain(folder: &PathBuf) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let part = folder.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
    }
    packages::download(
        Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
            .arg(&part)
            .arg(format!("moto[server]=={VERSION}")),
        packages::Show::Everything,
    )?;
    fs::rename(&part, folder).with_context(|| format!("cannot rename {}", part.display()))
}

/// Starts it, with an empty bucket.
pub(super) fn start(scratch: &Scratch) -> Result<String> {
    let folder = folder()?;
    obtain(&folder)?;
    let port = free_port()?;
    let url = format!("s3://{BUCKET}?endpoint=http://127.0.0.1:{port}&region=us-east-1");
    let mut server = Command::new("python3");
    server.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    server.env("PYTHONPATH", &folder).current_dir(scratch.path());
    ready(&scratch.launch("s3", &mut server, Stop::Terminate)?, Kind::S3, &url, PATIENCE)?;
    make_bucket(&url)?;
    Ok(url)
}

/// It believes everybody, so the request needs no signature.
fn make_bucket(url: &str) -> Result<()> {
    let mut stream = probe::s3_endpoint(url)?.connect()?;
    write!(stream, "PUT /{BUCKET} HTTP/1.0\r\nHost: s3\r\nContent-Length: 0\r\n\r\n").context("it takes no request")?;
    let answer = probe::read_until(&mut stream, |text| text.contains("\r\n\r\n"))?;
    let status = answer.lines().next().unwrap_or_default();
    if !status.contains(" 200") {
        bail!("it makes no bucket: {status:?}");
    }
    Ok(())
}
