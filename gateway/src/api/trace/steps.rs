//! A document's history as the steps that it went through: a fold of its stream. Knows no index and no clock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use lmao_events::{
    Failure, Position, Timestamp,
    document::{Embedded, Event, Extracted, Published, Step as Work},
};
use poem_openapi::{Enum, Object};
use serde::Serialize;
use uuid::Uuid;

use crate::app::date;

/// Steps that are shown: those of a document that was embedded again and again are many.
const MAX_STEPS: usize = 200;
/// Errors of one step that are shown.
const MAX_ERRORS: usize = 20;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "StepState", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(super) enum StepState {
    /// It is over.
    Done,
    /// There was nothing to do it with; `notes` says why.
    Skipped,
    /// It is next, or under way.
    GoingOn,
    /// It failed and is tried again at `retry_at`.
    Waiting,
    /// It failed for good.
    Failed,
}

/// A step of a document.
#[derive(Debug, Clone, PartialEq, Object, Serialize)]
#[oai(rename = "TraceStep")]
pub(super) struct Step {
    /// `uploaded`, `extracted`, `chunked`, `embedded`, `published`, `indexed`; and what was asked for: `retry_requested`,
    /// `reembed_requested`, `deleted`, `blobs_removed`.
    pub(super) step: String,
    pub(super) state: StepState,
    /// When the step before it ended.
    began_at: DateTime<Utc>,
    #[oai(nullable)]
    ended_at: Option<DateTime<Utc>>,
    /// Seconds, waiting included.
    #[oai(nullable)]
    duration: Option<f64>,
    /// Times that it was tried.
    attempts: usize,
    /// `bytes`, `pages`, `words`, `warnings`, `chunks`, `batches`, `batches_done`, `cached`: what the step has.
    counts: BTreeMap<String, u64>,
    /// The models whose vectors were made, by space: `general`, `domain`.
    models: BTreeMap<String, String>,
    /// What was found out, and what was lost: the format, the language, each warning.
    notes: Vec<String>,
    /// The last of its failures.
    errors: Vec<StepError>,
    /// When it is tried again.
    #[oai(nullable)]
    retry_at: Option<DateTime<Utc>>,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Object, Serialize)]
pub(super) struct StepError {
    at: DateTime<Utc>,
    /// A stable string.
    reason: String,
    /// What happened, and what to do.
    pub(super) message: String,
}

impl Step {
    fn open(step: &str, at: Timestamp) -> Self {
        Self {
            step: step.to_owned(),
            state: StepState::GoingOn,
            began_at: date(at),
            ended_at: None,
            duration: None,
            attempts: 0,
            counts: BTreeMap::new(),
            models: BTreeMap::new(),
            notes: vec![],
            errors: vec![],
            retry_at: None,
        }
    }

    /// Something that took no time.
    fn instant(step: &str, at: Timestamp) -> Self {
        Self { attempts: 1, ..Self::open(step, at) }.ended(at, StepState::Done)
    }

    fn ended(self, at: Timestamp, state: StepState) -> Self {
        let ended = date(at);
        let took = (ended - self.began_at).num_microseconds().unwrap_or(i64::MAX);
        Self { state, ended_at: Some(ended), duration: Some(took as f64 / 1e6), retry_at: None, ..self }
    }

    fn count(&mut self, name: &str, value: u64) {
        self.counts.insert(name.to_owned(), value);
    }

    pub(super) fn counted(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    pub(super) fn errors(&self) -> &[StepError] {
        &self.errors
    }

    fn note(&mut self, what: &str, value: Option<&str>) {
        self.notes.extend(value.map(|value| format!("{what}: {value}")));
    }

    fn failed(&mut self, at: Timestamp, failure: &Failure) {
        self.attempts += 1;
        let Failure { reason, message, .. } = failure;
        self.errors.push(StepError { at: date(at), reason: reason.clone(), message: message.clone() });
        if self.errors.len() > MAX_ERRORS {
            self.errors.remove(0);
        }
    }
}

/// What was published last.
#[derive(Debug, Clone)]
pub(super) struct InPublic {
    pub(super) at: Position,
    pub(super) chunks: u32,
    pub(super) has_model: bool,
}

/// A document's history.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Whose it is; `None` while nothing is known of it.
    pub(super) owner: Option<Uuid>,
    pub(super) filename: String,
    /// What is over, oldest first.
    pub(super) past: Vec<Step>,
    /// What is next or under way.
    pub(super) current: Option<Step>,
    /// Steps that are not among `past` any more.
    pub(super) omitted: usize,
    pub(super) published: Option<InPublic>,
    pub(super) is_indexed: bool,
    pub(super) is_deleted: bool,
    /// Why there are no vectors.
    pub(super) skipped: Option<String>,
    /// The step that failed last, to be tried again from.
    failed: Option<Work>,
    batches: u64,
}

impl History {
    /// Takes in what happened at this time and position.
    pub(super) fn take(&mut self, at: Timestamp, position: Position, event: &Event) {
        match event {
            Event::Uploaded(uploaded) => {
                // What a deleted document of the same content went through is over.
                *self = Self { owner: Some(uploaded.owner), filename: uploaded.filename.clone(), ..Self::default() };
                let mut step = Step::instant("uploaded", at);
                step.count("bytes", uploaded.content.size);
                self.push(step);
                self.begin(Work::Extract, at);
            }
            Event::Extracted(extracted) => {
                self.finish(at, |step| say_extracted(step, extracted));
                self.begin(Work::Chunk, at);
            }
            Event::Chunked(chunked) => {
                self.batches = chunked.batches.len() as u64;
                let batches = self.batches;
                self.finish(at, |step| {
                    step.count("chunks", chunked.chunks.into());
                    step.count("batches", batches);
                });
                self.begin(Work::Embed, at);
            }
            Event::Embedded(embedded) => self.embedded(embedded),
            Event::EmbeddingSkipped(skipped) => {
                self.skipped = Some(skipped.reason.clone());
                if let Some(step) = &mut self.current {
                    step.notes.push(skipped.reason.clone());
                }
            }
            Event::Published(published) => self.publish(at, position, published),
            Event::Indexed(_) => {
                self.is_indexed = true;
                self.finish(at, |_| {});
            }
            Event::StepFailed(failed) => {
                if let Some(step) = &mut self.current {
                    step.failed(at, &failed.failure);
                    step.state = StepState::Waiting;
                    step.retry_at = Some(date(failed.retry_at));
                }
            }
            Event::Failed(failed) => {
                self.failed = Some(failed.step);
                if let Some(mut step) = self.current.take() {
                    step.failed(at, &failed.failure);
                    self.push(step.ended(at, StepState::Failed));
                }
            }
            Event::RetryRequested(_) => {
                self.push(Step::instant("retry_requested", at));
                let from = self.failed.take().unwrap_or(Work::Extract);
                self.begin(from, at);
            }
            Event::ReembedRequested(_) => {
                self.is_indexed = false;
                self.push(Step::instant("reembed_requested", at));
                self.begin(Work::Embed, at);
            }
            Event::Deleted(_) => {
                self.is_deleted = true;
                self.current = None;
                self.push(Step::instant("deleted", at));
            }
            Event::BlobsRemoved(_) => self.push(Step::instant("blobs_removed", at)),
        }
    }

    fn embedded(&mut self, embedded: &Embedded) {
        let Some(step) = &mut self.current else { return };
        // Another model than before: the first batch begins anew.
        let cached = if embedded.batch == 0 { 0 } else { step.counted("cached") };
        step.count("cached", cached + u64::from(embedded.cached));
        step.count("batches_done", u64::from(embedded.batch) + 1);
        step.models.insert("general".to_owned(), embedded.model.clone());
        if let Some(domain) = &embedded.domain {
            step.models.insert("domain".to_owned(), domain.model.clone());
        }
        step.state = StepState::GoingOn;
        step.retry_at = None;
    }

    fn publish(&mut self, at: Timestamp, position: Position, published: &Published) {
        let has_model = published.model.is_some();
        if has_model {
            self.skipped = None;
        }
        if let Some(mut step) = self.current.take() {
            step.attempts += 1;
            let state = if has_model || published.chunks == 0 { StepState::Done } else { StepState::Skipped };
            self.push(step.ended(at, state));
        }
        let mut step = Step::instant("published", at);
        step.count("chunks", published.chunks.into());
        step.count("batches", published.batches.len() as u64);
        let models = [("general", &published.model), ("domain", &published.domain_model)];
        let models = models.into_iter().filter_map(|(space, model)| Some((space.to_owned(), model.clone()?)));
        step.models.extend(models);
        self.push(step);
        self.published = Some(InPublic { at: position, chunks: published.chunks, has_model });
        self.begin(Work::Index, at);
    }

    fn begin(&mut self, work: Work, at: Timestamp) {
        let name = match work {
            Work::Extract => "extracted",
            Work::Chunk => "chunked",
            Work::Embed => "embedded",
            Work::Index => "indexed",
            Work::RemoveBlobs => return,
        };
        let mut step = Step::open(name, at);
        if work == Work::Embed {
            step.count("batches", self.batches);
            step.count("batches_done", 0);
        }
        self.current = Some(step);
    }

    fn finish(&mut self, at: Timestamp, say: impl FnOnce(&mut Step)) {
        let Some(mut step) = self.current.take() else { return };
        step.attempts += 1;
        say(&mut step);
        self.push(step.ended(at, StepState::Done));
    }

    fn push(&mut self, step: Step) {
        self.past.push(step);
        if self.past.len() > MAX_STEPS {
            self.past.remove(0);
            self.omitted += 1;
        }
    }
}

fn say_extracted(step: &mut Step, extracted: &Extracted) {
    step.count("words", extracted.words);
    step.count("warnings", extracted.warnings.len() as u64);
    if let Some(pages) = extracted.pages {
        step.count("pages", pages.into());
    }
    step.note("format", Some(&extracted.format));
    step.note("title", extracted.title.as_deref());
    step.note("language", extracted.language.as_deref());
    extracted.warnings.iter().for_each(|warning| step.note("warning", Some(warning)));
}

#[cfg(test)]
mod tests {
    use lmao_events::{
        BlobRef, ContentHash,
        document::{Chunked, Deleted, Failed, StepFailed, Uploaded},
    };
    use serde_json::json;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn blob() -> BlobRef {
        BlobRef { sha256: ContentHash([7; 32]), size: 9 }
    }

    /// What is known after these events, a second between them.
    fn history(events: &[Event]) -> History {
        let mut history = History::default();
        for (n, event) in (1..).zip(events) {
            history.take(Timestamp(n * SECOND), Position(n.unsigned_abs()), event);
        }
        history
    }

    fn uploaded() -> Event {
        let (owner, filename) = (Uuid::from_u128(1), "a.md".to_owned());
        Uploaded { owner, filename, content: blob(), metadata: json!({}), attempt: None }.into()
    }

    fn extracted() -> Event {
        Extracted {
            text: blob(),
            format: "pdf".to_owned(),
            title: Some("Tides".to_owned()),
            pages: Some(3),
            language: None,
            words: 12,
            warnings: vec!["page 2 has no text".to_owned()],
            authors: vec![],
            written: None,
            tags: vec![],
        }
        .into()
    }

    fn embedded(batch: u32, model: &str, cached: u32) -> Event {
        Embedded { batch, vectors: blob(), model: model.to_owned(), cached, domain: None }.into()
    }

    #[test]
    fn batches_are_counted_and_another_model_begins_anew() {
        let chunked: Event = Chunked { batches: vec![blob(); 3], chunks: 150 }.into();
        let told = history(&[uploaded(), extracted(), chunked, embedded(0, "one", 5), embedded(1, "one", 6)]);
        let step = told.current.as_ref().unwrap();
        assert_eq!(["batches", "batches_done", "cached"].map(|name| step.counted(name)), [3, 2, 11]);
        assert_eq!(told.past[1].counted("pages"), 3);
        assert_eq!(told.past[1].notes, ["format: pdf", "title: Tides", "warning: page 2 has no text"]);
        assert_eq!(told.past[2].duration, Some(1.0));
        let mut told = told;
        told.take(Timestamp(9 * SECOND), Position(9), &embedded(0, "other", 1));
        let step = told.current.unwrap();
        assert_eq!(["batches_done", "cached"].map(|name| step.counted(name)), [1, 1]);
        assert_eq!(step.models["general"], "other");
    }

    #[test]
    fn what_failed_waits_until_it_has_failed_for_good() {
        let failure = Failure::passing("busy", "The store is busy.");
        let again: Event =
            StepFailed { step: Work::Extract, failure: failure.clone(), retry_at: Timestamp(60 * SECOND) }.into();
        let told = history(&[uploaded(), again.clone(), again.clone()]);
        let step = told.current.as_ref().unwrap();
        assert_eq!((step.state, step.attempts, step.errors.len()), (StepState::Waiting, 2, 2));
        assert_eq!(step.retry_at, Some(date(Timestamp(60 * SECOND))));
        let told = history(&[uploaded(), again, Failed { step: Work::Extract, failure }.into()]);
        let step = told.past.last().unwrap();
        assert_eq!((step.state, step.attempts, step.retry_at, told.current), (StepState::Failed, 2, None, None));
    }

    #[test]
    fn a_history_that_is_too_long_keeps_its_end() {
        let mut events = vec![uploaded(), extracted()];
        events.extend((0..MAX_STEPS).map(|_| Event::from(Deleted {})));
        let told = history(&events);
        assert_eq!((told.past.len(), told.omitted), (MAX_STEPS, 2));
    }
}
