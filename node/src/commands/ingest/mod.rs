//! `lmao ingest`: files and folders into the system. A few files are on their way at once; each is followed until it can be
//! found or has failed; then older versions of them go. Running it again goes on: the server recognises what it has.

mod obsolete;
mod origin;
mod summary;
mod walk;

use std::time::Duration;

use futures::StreamExt as _;
use indicatif::ProgressBar;
use lmao_events::document::MAX_TAGS;
use lmao_events::document::ORIGIN;
use reqwest::{Method, StatusCode, multipart};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use uuid::Uuid;

use self::{
    obsolete::{Pruned, Rules, Sent},
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
    output::{Output, bytes, count, note, plain},
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
    Ready(Uuid),
    /// It could be found before.
    Duplicate(Uuid),
    /// It cannot.
    Failed(Failed),
}

/// Sends files and prints how it went, however far it came.
///
/// # Errors
/// [`Code::Partial`] when some files failed, [`Code::Interrupted`]; those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, ingest: Ingest) -> anyhow::Result<()> {
    if ingest.tag.len() > MAX_TAGS {
        return Err(Stop::new(Code::Usage, format!("a document has at most {MAX_TAGS} tags")).into());
    }
    let mut paths = ingest.paths.clone();
    let rules = Rules::new(&ingest, &mut paths)?;
    let wanted = wanted(&ingest);
    let found = tokio::task::spawn_blocking(move || walk::walk(&paths, &wanted)).await??;
    if !ingest.force {
        rules.check(&found)?;
    }
    let mut summary = Summary::new(&found);
    let Ingest { tag, dry_run, verbose, .. } = ingest;
    if dry_run {
        let pruned = foretell(invocation, &rules).await?;
        let printed = summary.foretell(invocation.out, &found.files, pruned.as_deref(), verbose);
        return Ok(judge(&summary).and(printed)?);
    }
    let begun = Instant::now();
    let mut done = Ok(());
    if !found.files.is_empty() || rules.prunes() {
        let mut ended = None;
        let served = with_client(invocation, Need::Writable, async |client| {
            ended = Some(replace_all(invocation.out, client, found.files, &tag, &rules, &mut summary).await);
            Ok(())
        })
        .await;
        // Where no server was found there is nothing to sum up.
        let Some(ended) = ended else { return served };
        done = ended.map_err(Into::into).and(served);
    }
    summary.seconds = begun.elapsed().as_secs_f64();
    // How it went is told by the exit code even where nobody reads the rest.
    let printed = summary.print(invocation.out, verbose);
    done?;
    Ok(judge(&summary).and(printed)?)
}

fn wanted(ingest: &Ingest) -> Wanted {
    Wanted {
        include: ingest.include.clone(),
        exclude: ingest.exclude.clone(),
        ignore_files: if ingest.no_ignore { IgnoreFiles::Disregarded } else { IgnoreFiles::Obeyed },
        max_size: ingest.max_size,
        max_files: usize::try_from(ingest.max_files).unwrap_or(usize::MAX),
    }
}

/// What would be deleted; `None` when nothing is to be pruned.
async fn foretell(invocation: &Invocation, rules: &Rules) -> anyhow::Result<Option<Vec<Pruned>>> {
    if !rules.prunes() {
        return Ok(None);
    }
    with_client(invocation, Need::Existing, async |client| Ok(Some(rules.foretell(client).await?))).await
}

/// Sends files, then deletes what they have replaced and what is gone, unless that was cut off.
async fn replace_all(
    out: Output,
    client: &Client,
    files: Vec<Source>,
    tags: &[String],
    rules: &Rules,
    summary: &mut Summary,
) -> Result<(), Stop> {
    let cut_off = |what: &'static str| move |stop: Stop| Stop::new(stop.code, what).because(stop);
    let sent = send_all(out, client, files, tags, rules, summary).await.map_err(cut_off("not all files were sent"))?;
    if summary.interrupted {
        return Ok(());
    }
    let settled = tokio::select! {
        settled = rules.settle(client, &sent, summary) => Some(settled),
        _ = tokio::signal::ctrl_c() => None,
    };
    summary.interrupted = settled.is_none();
    let text = "not all documents were deleted that the files no longer hold; the same command goes on from here";
    settled.unwrap_or(Ok(())).map_err(cut_off(text))
}

fn judge(summary: &Summary) -> Result<(), Stop> {
    match summary {
        Summary { interrupted: true, .. } => Err(Stop::silent(Code::Interrupted)),
        Summary { failed, undeleted, .. } if failed.is_empty() && undeleted.is_empty() => Ok(()),
        Summary { ready: 0, duplicate: 0, undeleted, .. } if undeleted.is_empty() => Err(Stop::silent(Code::Failed)),
        _ => Err(Stop::silent(Code::Partial)),
    }
}

/// Sends files until all have ended, one failure concerns all of them, or the user interrupts.
async fn send_all(
    out: Output,
    client: &Client,
    files: Vec<Source>,
    tags: &[String],
    rules: &Rules,
    summary: &mut Summary,
) -> Result<Vec<Sent>, Stop> {
    let mut sent = vec![];
    let progress = Progress::new(out, &files);
    let mut results = futures::stream::iter(files)
        .map(async |file| {
            let origin = rules.origin(&file.path);
            let outcome = send(client, &file, origin.as_deref(), tags).await;
            (file, origin, outcome)
        })
        .buffer_unordered(AT_ONCE);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut ticks = interval_at(Instant::now() + LINE_AFTER, LINE_AFTER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (file, origin, outcome) = tokio::select! {
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
        progress.one(&file);
        let (document_id, is_ready) = match &outcome {
            Outcome::Ready(id) | Outcome::Duplicate(id) => (Some(*id), true),
            Outcome::Failed(failed) => (failed.document_id, false),
        };
        sent.push(Sent { path: file.path, origin, document_id, is_ready });
        match outcome {
            Outcome::Ready(_) => summary.ready += 1,
            Outcome::Duplicate(_) => summary.duplicate += 1,
            Outcome::Failed(failed) => {
                progress.say(&format!("failed  {}: {}", plain(&failed.path), plain(&failed.message)));
                summary.failed.push(failed);
            }
        }
    }
    progress.end();
    Ok(sent)
}

/// Sends one file and follows it to its end.
///
/// # Errors
/// Only what would meet every other file too: nobody answers, or nobody lets us in.
async fn send(client: &Client, file: &Source, origin: Option<&str>, tags: &[String]) -> Result<Outcome, Stop> {
    let failed = |document_id, reason: &str, message: String| {
        let (path, reason) = (shown(&file.path), reason.to_owned());
        Outcome::Failed(Failed { path, document_id, reason, message, older_stays: false })
    };
    // The same key on every attempt: however often it arrives, it is uploaded once.
    let key = Uuid::new_v4().to_string();
    let answer = match client.send(async || form(client, file, origin, tags, &key).await).await {
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
    let id = uploaded.document_id;
    let done = if uploaded.duplicate { Outcome::Duplicate(id) } else { Outcome::Ready(id) };
    if is_done {
        return Ok(done);
    }
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

async fn form(
    client: &Client,
    file: &Source,
    origin: Option<&str>,
    tags: &[String],
    key: &str,
) -> Result<reqwest::RequestBuilder, Stop> {
    let part = multipart::Part::file(&file.path)
        .await
        .map_err(|error| Stop::new(Code::Failed, "the file cannot be read").because(error))?;
    // What is known of the file goes first, so that the server has it before the bytes.
    let mut metadata = json!({ "path": shown(&file.path) });
    if let Some(origin) = origin {
        metadata[ORIGIN] = json!(origin);
    }
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
            note(format_args!("{}, {}", count(files.len() as u64, "file"), bytes(total)));
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
