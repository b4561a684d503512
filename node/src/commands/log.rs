//! `lmao log`: the whole log in one file, out of one set of stores and into another.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, BufWriter},
    path::Path,
    sync::Arc,
};

use indicatif::{HumanBytes, ProgressBar};
use lmao_actors::archive::{self, Archived, Copied, Keys};

use super::{
    Invocation,
    occupied::{Absent, lock},
};
use crate::{
    cli::Log,
    compose::{Parts, Reader, refuse_beside_nodes},
    exit::{Code, Stop},
    output::count,
    progress,
};

/// Bytes read or written at once.
const BUFFER: usize = 1024 * 1024;

/// Runs the command.
///
/// # Errors
/// [`Code::Failed`] when the archive or the stores are not what they should be.
pub(crate) async fn run(invocation: &Invocation, log: Log) -> anyhow::Result<()> {
    match log {
        Log::Export { file, with_keys } => {
            let keys = if with_keys { Keys::Included } else { Keys::LeftOut };
            export(invocation, &file, keys).await
        }
        Log::Import { file } => import(invocation, &file).await,
    }
}

async fn export(invocation: &Invocation, path: &Path, keys: Keys) -> anyhow::Result<()> {
    if path.exists() {
        let text = format!("{} exists already", path.display());
        return Err(Stop::new(Code::Usage, text).hint("name a file that does not exist").into());
    }
    let config = invocation.configuration(None)?.config;
    let reader = Reader::open(&config).await?;
    let from = Archived {
        log: Arc::clone(&reader.log),
        vault: Arc::clone(&reader.vault),
        blobs: reader.blobs(&config).await?,
    };
    // Whole or not at all: the name is given when everything is on the disk.
    let partial = path.with_added_extension("partial");
    let failed = |error| Stop::new(Code::Failed, format!("{} cannot be written", path.display())).because(error);
    let file = create(&partial).map_err(failed)?;
    let bar = bar();
    let written =
        archive::export(&from, keys, BufWriter::with_capacity(BUFFER, &file), |copied| tell(&bar, copied)).await;
    bar.finish_and_clear();
    let copied = match written {
        Ok(copied) => copied,
        Err(error) => {
            fs::remove_file(&partial).ok();
            return Err(Stop::new(Code::Failed, "the log was not exported").because(error).into());
        }
    };
    file.sync_all().and_then(|()| fs::rename(&partial, path)).map_err(failed)?;
    let left_out = match keys {
        Keys::Included => "It holds the keys to everything: keep it like a password.",
        Keys::LeftOut => "It holds no keys: only a system that has them can read it (--with-keys).",
    };
    report(invocation, "exported", &copied, Some(left_out))
}

async fn import(invocation: &Invocation, path: &Path) -> anyhow::Result<()> {
    let file = File::open(path)
        .map_err(|error| Stop::new(Code::Failed, format!("{} cannot be read", path.display())).because(error))?;
    let config = invocation.configuration(None)?.config;
    let data = lock(&config, Absent::Make).await?;
    refuse_beside_nodes(&config).await?;
    let into = Parts::archived(&config, &data).await?;
    let bar = bar();
    let taken = archive::import(BufReader::with_capacity(BUFFER, file), &into, |copied| tell(&bar, copied)).await;
    bar.finish_and_clear();
    let copied = taken.map_err(|error| Stop::new(Code::Failed, "the log was not imported").because(error))?;
    report(invocation, "imported", &copied, None)
}

/// A new file for its owner alone.
fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn bar() -> ProgressBar {
    progress::bar(None, "{spinner} {msg}")
}

fn tell(bar: &ProgressBar, copied: &Copied) {
    bar.set_message(format!(
        "{}, {}, {}",
        count(copied.blobs, "file"),
        HumanBytes(copied.bytes),
        count(copied.records, "record")
    ));
    bar.tick();
}

fn report(invocation: &Invocation, done: &str, copied: &Copied, note: Option<&str>) -> anyhow::Result<()> {
    let out = invocation.out;
    if out.is_json() {
        return Ok(out.json(&serde_json::json!({ done: copied }))?);
    }
    let Copied { secrets, blobs, bytes, records, present } = copied;
    let before = if *present > 0 { format!(" ({present} of them there before)") } else { String::new() };
    let (records, blobs, secrets) = (count(*records, "record"), count(*blobs, "file"), count(*secrets, "secret"));
    out.line(format!("{done}: {records}{before}, {blobs} of {}, {secrets}", HumanBytes(*bytes)))?;
    Ok(note.map_or(Ok(()), |note| out.line(note))?)
}
