//! `lmao ingest`: files and folders into the system. A few files are on their way at once; each is followed until it can be
//! found or has failed. Running it again goes on: the server recognises what it has.

mod walk;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use futures::StreamExt as _;
use indicatif::ProgressBar;
use reqwest::{Method, StatusCode, multipart};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use self::walk::Source;
use super::{
    Invocation,
    session::{Need, with_client},
};
use crate::{
    cli::Ingest,
    client::{Client, Document, IDEMPOTENCY_KEY, POSITION, Uploaded},
    exit::{self, Code, Stop},
    output::{Ink, Output, bytes, plain, shorten},
    progress,
};

/// Files on their way at once: enough to keep extraction and embedding busy, few enough for the server's queues.
const AT_ONCE: usize = 8;
const FIRST_POLL: Duration = Duration::from_millis(150);
const LAST_POLL: Duration = Duration::from_secs(2);
/// Without a terminal, one line in so many files.
const LINE_EVERY: u64 = 50;

/// How one file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It can be found.
    Ready,
    /// It could be found before.
    Duplicate,
    /// It cannot.
    Failed(Failed),
}

/// A file that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Failed {
    path: PathBuf,
    document_id: Option<Uuid>,
    reason: String,
    message: String,
}

/// How it went altogether.
#[derive(Debug, Default, Serialize)]
struct Summary {
    ready: usize,
    duplicate: usize,
    failed: Vec<Failed>,
    left_out: BTreeMap<&'static str, usize>,
    seconds: f64,
    interrupted: bool,
}

/// Sends files and prints how it went.
///
/// # Errors
/// [`Code::Partial`] when some files failed; those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, ingest: Ingest) -> anyhow::Result<()> {
    let found = tokio::task::spawn_blocking(move || walk::walk(&ingest.paths)).await??;
    let unreadable = found.unreadable.into_iter().map(|(path, error)| Failed {
        path,
        document_id: None,
        reason: "unreadable".to_owned(),
        message: error.to_string(),
    });
    let mut summary = Summary { left_out: found.left_out, failed: unreadable.collect(), ..Summary::default() };
    let begun = Instant::now();
    let mut sent = Ok(());
    if !found.files.is_empty() {
        let files = found.files;
        sent = with_client(invocation, Need::Writable, async |client| {
            send_all(invocation.out, client, files, &mut summary).await
        })
        .await;
    }
    summary.seconds = begun.elapsed().as_secs_f64();
    if let Err(error) = sent {
        if summary.ready + summary.duplicate > 0 {
            report(invocation.out, &summary)?;
            let stop = Stop::new(exit::code_of(&error), "not all files were sent").because(error);
            return Err(stop.hint("the same command goes on where it stopped").into());
        }
        return Err(error);
    }
    report(invocation.out, &summary)?;
    match summary {
        Summary { interrupted: true, .. } => Err(Stop::silent(Code::Interrupted).into()),
        Summary { failed, ready: 0, duplicate: 0, .. } if !failed.is_empty() => Err(Stop::silent(Code::Failed).into()),
        Summary { failed, .. } if !failed.is_empty() => Err(Stop::silent(Code::Partial).into()),
        _ => Ok(()),
    }
}

async fn send_all(out: Output, client: &Client, files: Vec<Source>, summary: &mut Summary) -> anyhow::Result<()> {
    let progress = Progress::new(out, &files);
    let mut results = futures::stream::iter(files)
        .map(async |file| {
            let outcome = send(client, &file).await;
            (file, outcome)
        })
        .buffer_unordered(AT_ONCE);
    loop {
        let next = tokio::select! {
            next = results.next() => next,
            _ = tokio::signal::ctrl_c() => {
                summary.interrupted = true;
                break;
            }
        };
        let Some((file, outcome)) = next else { break };
        match outcome? {
            Outcome::Ready => summary.ready += 1,
            Outcome::Duplicate => summary.duplicate += 1,
            Outcome::Failed(failed) => {
                progress.say(&format!("failed  {}: {}", failed.path.display(), plain(&failed.message)));
                summary.failed.push(failed);
            }
        }
        progress.one(&file);
    }
    progress.end();
    Ok(())
}

/// Sends one file and follows it to its end.
///
/// # Errors
/// Only what would meet every other file too: nobody answers, or nobody lets us in.
async fn send(client: &Client, file: &Source) -> Result<Outcome, Stop> {
    let failed = |document_id, reason: &str, message: String| {
        Outcome::Failed(Failed { path: file.path.clone(), document_id, reason: reason.to_owned(), message })
    };
    // The same key on every attempt: however often it arrives, it is uploaded once.
    let key = Uuid::new_v4().to_string();
    let answer = match client.send(async || form(client, file, &key).await).await {
        Ok(answer) => answer,
        Err(stop) if concerns_all(&stop) => return Err(stop),
        Err(stop) => {
            let reason = stop.api.as_ref().map_or("unreadable", |api| api.reason.as_str()).to_owned();
            let cause = std::error::Error::source(&stop).map_or_else(String::new, |cause| format!(": {cause}"));
            return Ok(failed(None, &reason, format!("{stop}{cause}")));
        }
    };
    let position = answer.position.clone().unwrap_or_default();
    let is_done = answer.status == StatusCode::OK;
    let uploaded: Uploaded = answer.into_body()?;
    let done = if uploaded.duplicate { Outcome::Duplicate } else { Outcome::Ready };
    if is_done {
        return Ok(done);
    }
    let id = uploaded.document_id;
    let mut pause = FIRST_POLL;
    loop {
        let path = format!("/api/v1/documents/{id}");
        let request = async || Ok(client.request(Method::GET, &path, &[]).header(POSITION, &position));
        let document: Document = match client.send(request).await {
            Ok(answer) => answer.into_body()?,
            Err(stop) if concerns_all(&stop) => return Err(stop),
            Err(stop) => return Ok(failed(Some(id), "gone", stop.to_string())),
        };
        match document.status.as_str() {
            "ready" => return Ok(done),
            "failed" => {
                let (reason, message) = document.failure();
                return Ok(failed(Some(id), &reason, message));
            }
            _ => sleep(pause).await,
        }
        pause = (pause * 3 / 2).min(LAST_POLL);
    }
}

async fn form(client: &Client, file: &Source, key: &str) -> Result<reqwest::RequestBuilder, Stop> {
    let part = multipart::Part::file(&file.path)
        .await
        .map_err(|error| Stop::new(Code::Failed, "the file cannot be read").because(error))?;
    // What is known of the file goes first, so that the server has it before the bytes.
    let form = multipart::Form::new()
        .text("metadata", json!({ "path": file.name }).to_string())
        .part("file", part.file_name(file.name.clone()));
    let request = client.request(Method::POST, "/api/v1/documents/upload", &[("wait", "0".to_owned())]);
    Ok(request.header(IDEMPOTENCY_KEY, key).multipart(form))
}

fn concerns_all(stop: &Stop) -> bool {
    match &stop.api {
        Some(api) => matches!(api.status, 401 | 403 | 500..),
        None => stop.code == Code::Unreachable,
    }
}

fn report(out: Output, summary: &Summary) -> Result<(), Stop> {
    if out.is_json() {
        return out.json(summary);
    }
    let left_out = summary.left_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>();
    if !summary.failed.is_empty() {
        out.line(out.paint(Ink::Red, "failed"))?;
    }
    for failed in &summary.failed {
        let message = if failed.message.is_empty() { &failed.reason } else { &failed.message };
        out.line(format!("  {}  {}", plain(&failed.path.display().to_string()), shorten(message, 160)))?;
    }
    let counts = format!(
        "{} ready, {} there before, {} failed, in {:.1} s",
        summary.ready,
        summary.duplicate,
        summary.failed.len(),
        summary.seconds
    );
    out.line(counts)?;
    if !left_out.is_empty() {
        out.line(out.paint(Ink::Dim, &format!("left out: {}", left_out.join(", "))))?;
    }
    if summary.interrupted {
        out.line("interrupted; the same command goes on where it stopped")?;
    }
    Ok(())
}

/// How far it is: a bar on a terminal, now and then a line elsewhere.
struct Progress {
    bar: ProgressBar,
    lines: bool,
}

impl Progress {
    fn new(out: Output, files: &[Source]) -> Self {
        let template = "{bar:30} {pos}/{len}  {elapsed}, {eta} left  {wide_msg}";
        let bar = progress::bar(Some(files.len() as u64), template);
        let total = files.iter().map(|file| file.size).sum();
        let lines = !out.shows_progress();
        if lines {
            eprintln!("{} files, {}", files.len(), bytes(total));
        }
        Self { bar, lines }
    }

    fn one(&self, file: &Source) {
        self.bar.set_message(plain(&file.name));
        self.bar.inc(1);
        if self.lines && self.bar.position().is_multiple_of(LINE_EVERY) {
            eprintln!("{}/{}", self.bar.position(), self.bar.length().unwrap_or_default());
        }
    }

    fn say(&self, line: &str) {
        self.bar.println(line);
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
