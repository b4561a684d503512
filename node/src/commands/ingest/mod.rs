//! `lmao ingest`: files and folders into the system. A few files are on their way at once; each is followed until it can be
//! found or has failed. Running it again goes on: the server recognises what it has.

mod summary;
mod walk;

use std::time::Duration;

use futures::StreamExt as _;
use indicatif::ProgressBar;
use lmao_events::document::MAX_TAGS;
use reqwest::{Method, StatusCode, multipart};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use uuid::Uuid;

use self::{
    summary::{Failed, Summary, shown},
    walk::{IgnoreFiles, Source, Wanted},
};
use super::{
    Invocation,
    session::{Need, with_client},
};
use crate::{
    cli::Ingest,
    client::{Client, Document, IDEMPOTENCY_KEY, POSITION, Uploaded},
    exit::{Code, Stop},
    output::{Output, bytes, note, plain},
    progress,
};

/// Files on their way at once: enough to keep extraction and embedding busy, few enough for the server's queues.
const AT_ONCE: usize = 8;
const FIRST_POLL: Duration = Duration::from_millis(150);
const LAST_POLL: Duration = Duration::from_secs(2);
/// Without a terminal, a line in so many files and in so much time.
const LINE_EVERY: u64 = 50;
const LINE_AFTER: Duration = Duration::from_secs(10);

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

/// Sends files and prints how it went, however far it came.
///
/// # Errors
/// [`Code::Partial`] when some files failed, [`Code::Interrupted`]; those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, ingest: Ingest) -> anyhow::Result<()> {
    let Ingest { paths, include, exclude, no_ignore, max_size, max_files, tag, dry_run, verbose } = ingest;
    if tag.len() > MAX_TAGS {
        return Err(Stop::new(Code::Usage, format!("a document has at most {MAX_TAGS} tags")).into());
    }
    let ignore_files = if no_ignore { IgnoreFiles::Disregarded } else { IgnoreFiles::Obeyed };
    let max_files = usize::try_from(max_files).unwrap_or(usize::MAX);
    let wanted = Wanted { include, exclude, ignore_files, max_size, max_files };
    let found = tokio::task::spawn_blocking(move || walk::walk(&paths, &wanted)).await??;
    let mut summary = Summary::new(&found);
    if dry_run {
        let printed = summary.foretell(invocation.out, &found.files, verbose);
        return Ok(judge(&summary).and(printed)?);
    }
    let begun = Instant::now();
    let mut sent = Ok(());
    if !found.files.is_empty() {
        let mut ended = None;
        let served = with_client(invocation, Need::Writable, async |client| {
            ended = Some(send_all(invocation.out, client, found.files, &tag, &mut summary).await);
            Ok(())
        })
        .await;
        // Where no server was found there is nothing to sum up.
        let Some(ended) = ended else { return served };
        let cut_off = |stop: Stop| Stop::new(stop.code, "not all files were sent").because(stop).into();
        sent = ended.map_err(cut_off).and(served);
    }
    summary.seconds = begun.elapsed().as_secs_f64();
    // How it went is told by the exit code even where nobody reads the rest.
    let printed = summary.print(invocation.out, verbose);
    sent?;
    Ok(judge(&summary).and(printed)?)
}

fn judge(summary: &Summary) -> Result<(), Stop> {
    match summary {
        Summary { interrupted: true, .. } => Err(Stop::silent(Code::Interrupted)),
        Summary { failed, .. } if failed.is_empty() => Ok(()),
        Summary { ready: 0, duplicate: 0, .. } => Err(Stop::silent(Code::Failed)),
        _ => Err(Stop::silent(Code::Partial)),
    }
}

/// Sends files until all have ended, one failure concerns all of them, or the user interrupts.
async fn send_all(
    out: Output,
    client: &Client,
    files: Vec<Source>,
    tags: &[String],
    summary: &mut Summary,
) -> Result<(), Stop> {
    let progress = Progress::new(out, &files);
    let mut results = futures::stream::iter(files)
        .map(async |file| {
            let outcome = send(client, &file, tags).await;
            (file, outcome)
        })
        .buffer_unordered(AT_ONCE);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut ticks = interval_at(Instant::now() + LINE_AFTER, LINE_AFTER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (file, outcome) = tokio::select! {
            next = results.next() => match next {
                Some(next) => next,
                None => break,
            },
            _ = ticks.tick() => {
                progress.tell();
                continue;
            }
            _ = &mut interrupted => {
                summary.interrupted = true;
                break;
            }
        };
        let outcome = outcome.inspect_err(|_| progress.end())?;
        summary.remaining -= 1;
        match outcome {
            Outcome::Ready => summary.ready += 1,
            Outcome::Duplicate => summary.duplicate += 1,
            Outcome::Failed(failed) => {
                progress.say(&format!("failed  {}: {}", plain(&failed.path), plain(&failed.message)));
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
async fn send(client: &Client, file: &Source, tags: &[String]) -> Result<Outcome, Stop> {
    let failed = |document_id, reason: &str, message: String| {
        Outcome::Failed(Failed { path: shown(&file.path), document_id, reason: reason.to_owned(), message })
    };
    // The same key on every attempt: however often it arrives, it is uploaded once.
    let key = Uuid::new_v4().to_string();
    let answer = match client.send(async || form(client, file, tags, &key).await).await {
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

async fn form(client: &Client, file: &Source, tags: &[String], key: &str) -> Result<reqwest::RequestBuilder, Stop> {
    let part = multipart::Part::file(&file.path)
        .await
        .map_err(|error| Stop::new(Code::Failed, "the file cannot be read").because(error))?;
    // What is known of the file goes first, so that the server has it before the bytes.
    let mut metadata = json!({ "path": shown(&file.path) });
    if !tags.is_empty() {
        metadata["tags"] = json!(tags);
    }
    let form = multipart::Form::new().text("metadata", metadata.to_string()).part("file", part.file_name(file.name()));
    let request = client.request(Method::POST, "/api/v1/documents/upload", &[("wait", "0".to_owned())]);
    Ok(request.header(IDEMPOTENCY_KEY, key).multipart(form))
}

fn concerns_all(stop: &Stop) -> bool {
    match &stop.api {
        Some(api) => matches!(api.status, 401 | 403 | 500..),
        None => stop.code == Code::Unreachable,
    }
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
            note(format_args!("{} files, {}", files.len(), bytes(total)));
        }
        Self { bar, lines }
    }

    fn one(&self, file: &Source) {
        self.bar.set_message(plain(&shown(&file.path)));
        self.bar.inc(1);
        if self.bar.position().is_multiple_of(LINE_EVERY) {
            self.tell();
        }
    }

    fn tell(&self) {
        if self.lines {
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            note(format_args!("{done}/{all} after {} s", self.bar.elapsed().as_secs()));
        }
    }

    fn say(&self, line: &str) {
        if self.lines { note(line) } else { self.bar.println(line) }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
