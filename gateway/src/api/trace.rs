//! Why a document is, or is not, searchable: each step of its history, and what the index has of it now.

mod steps;

use std::collections::BTreeMap;

use futures::StreamExt;
use lmao_events::{AnyEvent, Category, Position, StreamId, Version};
use lmao_ports::{Committed, Space, Unreadable};
use poem_openapi::{Enum, Object, OpenApi, param::Path};
use serde::Serialize;
use uuid::Uuid;

use self::steps::{History, Step, StepState};
use super::{
    Tag,
    documents::{document_id, no_document},
    projections::all,
};
use crate::{app::App, context::User, error::ApiError, reply::Reply};

/// Passages whose vectors are looked for, spread over the document.
const LOOKED_AT: u32 = 256;

/// Whether a document can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
enum Searchable {
    /// By words and by meaning.
    Yes,
    /// By words only.
    ByWords,
    /// It is on its way.
    NotYet,
    /// It failed, was deleted, or was set aside.
    No,
    /// The index does not answer.
    Unknown,
}

/// Why a document is, or is not, searchable.
#[derive(Debug, Object, Serialize)]
struct TraceResponse {
    document_id: Uuid,
    filename: String,
    searchable: Searchable,
    /// Why, and what to do, in a sentence.
    why: String,
    /// Oldest first; the last one may be going on.
    steps: Vec<Step>,
    /// Earlier steps that are not shown.
    omitted_steps: usize,
    index: IndexState,
    /// What set the document aside, if anything did.
    parked: Vec<SetAside>,
    /// What could not be found out.
    problems: Vec<String>,
}

/// What the index has of a document.
#[derive(Debug, Default, Object, Serialize)]
struct IndexState {
    /// Whether it has it now; `null` when it does not answer.
    #[oai(nullable)]
    holds: Option<bool>,
    /// Passages that were looked at, spread over the document.
    passages_looked_at: usize,
    /// How many of them have vectors, by space: `general`, `domain`.
    with_vectors: BTreeMap<String, usize>,
    /// The models whose vectors it holds, by space.
    models: BTreeMap<String, String>,
    /// Up to where it has taken in the log.
    #[oai(nullable)]
    position: Option<u64>,
    /// Where the log has what was published of the document last.
    #[oai(nullable)]
    published_at: Option<u64>,
}

/// Somebody who set a document aside.
#[derive(Debug, Object, Serialize)]
struct SetAside {
    /// `actor`: it takes no commands. `read_model`: lists do not show it as it is. `search`: it is not found as it is.
    by: String,
    reason: String,
}

super::routes! {
    /// `/api/v1/documents/{id}/trace`
    Trace
}

#[OpenApi(tag = "Tag::Documents")]
impl Trace {
    /// Why is it searchable, or not?
    ///
    /// Read from the document's own history, so it tells of deleted ones too; only to their owner.
    #[oai(path = "/api/v1/documents/:id/trace", method = "get", operation_id = "trace_document")]
    async fn trace(&self, user: User, id: Path<String>) -> Result<Reply<TraceResponse>, ApiError> {
        let app = self.app()?;
        let stream = StreamId::new(Category::Document, document_id(&id.0)?);
        let mut problems = vec![];
        let history = history(app, stream, &mut problems).await?;
        if history.owner != Some(user.0.id) {
            return Err(no_document());
        }
        let parked = parked(app, stream, &mut problems).await;
        let index = index_state(app, stream.id, &history, &mut problems).await;
        let (searchable, why) = verdict(&history, &index, &parked);
        let History { filename, past, current, omitted, .. } = history;
        let steps = past.into_iter().chain(current).collect();
        Ok(Reply::ok(TraceResponse {
            document_id: stream.id,
            filename,
            searchable,
            why,
            steps,
            omitted_steps: omitted,
            index,
            parked,
            problems,
        }))
    }
}

/// What is recorded of a document, as far as it can be read.
async fn history(app: &App, stream: StreamId, problems: &mut Vec<String>) -> Result<History, ApiError> {
    let mut history = History::default();
    let mut commits = app.state.journal.read(stream, Version(1));
    while let Some(commit) = commits.next().await {
        let Committed { position, header, events, .. } = commit?;
        match events {
            Ok(events) => {
                for event in &events {
                    let AnyEvent::Document(event) = event else { continue };
                    history.take(header.time, position, event);
                }
            }
            // Nobody's any more, so nobody is told.
            Err(Unreadable::Erased) => return Ok(History::default()),
            Err(Unreadable::Damaged(how)) => {
                problems.push(format!("version {} of its history cannot be read ({how})", header.version));
                break;
            }
        }
    }
    Ok(history)
}

async fn parked(app: &App, stream: StreamId, problems: &mut Vec<String>) -> Vec<SetAside> {
    let mut aside = vec![];
    match app.state.commands.parked().await {
        Ok(parked) => {
            let of = parked.into_iter().filter(|(parked, _)| *parked == stream);
            aside.extend(of.map(|(_, reason)| SetAside { by: "actor".to_owned(), reason }));
        }
        Err(error) => problems.push(format!("whether its actor was set aside is not known: {error}")),
    }
    for projection in all(app) {
        match projection.parked().await {
            Ok(parked) => {
                let of = parked.into_iter().filter(|parked| parked.stream == stream);
                aside.extend(of.map(|parked| SetAside { by: projection.name().to_owned(), reason: parked.reason }));
            }
            Err(error) => {
                problems.push(format!("whether {} set it aside is not known: {error}", projection.name()));
            }
        }
    }
    aside
}

async fn index_state(app: &App, id: Uuid, history: &History, problems: &mut Vec<String>) -> IndexState {
    let mut state = IndexState {
        published_at: history.published.as_ref().map(|published| published.at.0),
        ..IndexState::default()
    };
    let looked = async {
        let index = &app.state.index;
        state.position = Some(index.checkpoint().await?.0);
        let holds = index.holds(id).await?;
        let chunks = history.published.as_ref().filter(|_| holds).map_or(0, |published| published.chunks);
        let count = chunks.min(LOOKED_AT);
        let wanted: Vec<(Uuid, u32)> = (0..count).map(|n| (id, spread(n, count, chunks))).collect();
        state.passages_looked_at = wanted.len();
        for space in Space::ALL {
            if let Some(model) = index.model(space).await? {
                state.models.insert(space.name().to_owned(), model.id);
                let found = index.vectors(space, &wanted).await?;
                state.with_vectors.insert(space.name().to_owned(), found.iter().flatten().count());
            }
        }
        state.holds = Some(holds);
        Ok::<_, lmao_ports::IndexError>(())
    };
    if let Err(error) = looked.await {
        problems.push(format!("what the index has of it is not known: {error}"));
    }
    state
}

/// The n-th of `count` numbers below `all`, evenly spread.
fn spread(n: u32, count: u32, all: u32) -> u32 {
    let at = u64::from(n) * u64::from(all) / u64::from(count.max(1));
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn verdict(history: &History, index: &IndexState, parked: &[SetAside]) -> (Searchable, String) {
    if history.is_deleted {
        return (Searchable::No, "It was deleted; upload the file again to have it back.".to_owned());
    }
    let aside = parked.iter().find(|aside| aside.by != "read_model");
    let found = found(history, index);
    match (found, aside, &history.current) {
        (Some((searchable, why)), None, None) => (searchable, why),
        // While it is made anew, what was published before can be found.
        (Some((searchable, why)), None, Some(_)) if !history.is_indexed && index.holds == Some(true) => {
            (searchable, format!("{why} New vectors are being made, or have yet to be taken in."))
        }
        (Some((Searchable::Unknown, why)), ..) => (Searchable::Unknown, why),
        (_, Some(SetAside { by, reason }), _) => {
            let text = format!(
                "It was set aside ({by}): {reason}. An administrator can have it tried again with `lmao parked retry`."
            );
            (Searchable::No, text)
        }
        (Some(found), None, _) => found,
        (None, None, Some(step)) => (Searchable::NotYet, on_its_way(step)),
        (None, None, None) => (Searchable::No, failed(history)),
    }
}

/// What the index says of a document that was published.
fn found(history: &History, index: &IndexState) -> Option<(Searchable, String)> {
    let published = history.published.as_ref()?;
    let Some(holds) = index.holds else {
        let text = "The search index does not answer, so nothing can be found now.";
        return Some((Searchable::Unknown, text.to_owned()));
    };
    let passed = index.position.is_some_and(|position| Position(position) >= published.at);
    if !holds {
        // Before it was indexed for the first time there is nothing to be missed.
        return history.is_indexed.then(|| {
            if passed {
                let text =
                    "It was published, and the index has lost it: `lmao projections rebuild search` brings it back.";
                return (Searchable::No, text.to_owned());
            }
            (Searchable::NotYet, "Not yet: the index is being filled anew and has not come to it.".to_owned())
        });
    }
    if published.chunks == 0 {
        return Some((Searchable::No, "It has no passages: there is no text in it.".to_owned()));
    }
    let with = index.with_vectors.values().copied().max().unwrap_or_default();
    if with > 0 {
        return Some((Searchable::Yes, "It can be found by words and by meaning.".to_owned()));
    }
    let why = match &history.skipped {
        Some(reason) if !published.has_model => reason.clone(),
        _ => "the index holds vectors of another model, or none".to_owned(),
    };
    let text = format!("It can be found by words only ({why}); `lmao models reembed` makes vectors.");
    Some((Searchable::ByWords, text))
}

fn on_its_way(step: &Step) -> String {
    let what = match step.step.as_str() {
        "extracted" => "its text is being read".to_owned(),
        "chunked" => "its text is being cut into passages".to_owned(),
        "embedded" => {
            let [done, all] = ["batches_done", "batches"].map(|name| step.counted(name));
            format!("its passages are being embedded, {done} of {all} batches done")
        }
        _ => "the index has yet to take it in".to_owned(),
    };
    match (step.state, step.errors().last()) {
        (StepState::Waiting, Some(error)) => {
            format!("Not yet: {what}; that failed and is tried again. {}", error.message)
        }
        _ => format!("Not yet: {what}."),
    }
}

fn failed(history: &History) -> String {
    let failure = history.past.iter().rev().find(|step| step.state == StepState::Failed);
    let error = failure.and_then(|step| Some((step, step.errors().last()?)));
    match error {
        Some((step, error)) => format!(
            "It failed before it was {}: {} Once that is put right, `lmao documents retry` tries again.",
            step.step, error.message
        ),
        None => "Its history ends here.".to_owned(),
    }
}
