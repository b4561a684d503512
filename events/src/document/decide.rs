//! What a document decides: one step after another, each owed until its outcome is recorded.

use uuid::Uuid;

use super::{
    BlobsRemoved, Chunked, Command, Deleted, DomainVectors, Effect, Embedded, Event, Extracted, Failed, File, Indexed,
    MAX_ATTEMPTS, MAX_BATCHES, MAX_CHUNKS, MAX_FILENAME_BYTES, MAX_METADATA_BYTES, MAX_NOTE_BYTES, MAX_TAG_BYTES,
    MAX_TAGS, MAX_WARNINGS, Phase, Published, ReembedRequested, RetryRequested, State, Step, StepFailed, StepOutcome,
    Uploaded,
};
use crate::{
    BlobRef, Category, Decider, Due, Failure, IllegalHistory, Pending, Place, Rejection, Timestamp,
    decider::{RejectionKind, backoff},
    event::EventSet,
    value::cut,
};

/// The decider of documents.
#[derive(Debug)]
pub struct Document;

impl Decider for Document {
    const CATEGORY: Category = Category::Document;
    const STATE_VERSION: u16 = 3;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Effect = Effect;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Upload(uploaded) => upload(state, uploaded),
            Command::RecordStep { effect, outcome, at } => {
                if state.effect != Some(effect) {
                    return Ok(vec![]);
                }
                record(state, outcome, at)
            }
            Command::Retry { owner } => {
                owned(state, owner)?;
                match state.phase {
                    Phase::Failed(_) => Ok(vec![RetryRequested {}.into()]),
                    Phase::Doing(_) => Ok(vec![]),
                    _ => Err(conflict("document_not_failed", "only a failed document can be tried again")),
                }
            }
            Command::Reembed { model, domain } => {
                let file = state.file.as_ref();
                let has_begun = file.is_some_and(|file| file.model.is_some());
                let others = file.is_none_or(|file| file.model.as_ref() != Some(&model) || file.domain_model != domain);
                let wanted = match state.phase {
                    Phase::Ready | Phase::Doing(Step::Index) | Phase::Failed(Step::Index) => others,
                    Phase::Doing(Step::Embed) => has_begun && others,
                    Phase::Failed(Step::Embed) => true,
                    _ => false,
                };
                Ok(if wanted { vec![ReembedRequested {}.into()] } else { vec![] })
            }
            Command::Delete { owner } => {
                owned(state, owner)?;
                Ok(vec![Deleted {}.into()])
            }
        }
    }

    fn evolve(mut state: State, event: &Event, place: Place) -> Result<State, IllegalHistory> {
        if begins_or_ends(&mut state, event, place) || advances(&mut state, event, place) {
            return Ok(state);
        }
        let phase = format!("a document that is {:?}", state.phase);
        Err(IllegalHistory { category: Self::CATEGORY, event: event.name(), state: phase, place })
    }

    fn pending(state: &State) -> Vec<Pending<Effect>> {
        let Some(id) = state.effect else { return vec![] };
        let effect = match (state.phase, &state.file) {
            (Phase::Deleted, _) => state.owner.map(|owner| Effect::RemoveBlobs { owner, attempt: state.attempt }),
            (Phase::Doing(step), Some(file)) => due(step, file),
            _ => None,
        };
        let due = state.retry_at.map_or(Due::Now, Due::At);
        effect.map(|effect| Pending { id, due, effect }).into_iter().collect()
    }

    fn owner(state: &State) -> Option<Uuid> {
        state.owner
    }

    fn owner_of(command: &Command) -> Option<Uuid> {
        match command {
            Command::Upload(uploaded) => Some(uploaded.owner),
            _ => None,
        }
    }
}

/// Uploads, deletions and tries again; `false` when it is none of these, or does not fit.
fn begins_or_ends(state: &mut State, event: &Event, place: Place) -> bool {
    match (event, state.phase) {
        (Event::Uploaded(uploaded), Phase::Absent) => {
            if state.owner.is_some_and(|owner| owner != uploaded.owner) {
                return false;
            }
            state.owner = Some(uploaded.owner);
            state.attempt = uploaded.attempt;
            state.file = Some(File {
                uploaded: uploaded.clone(),
                uploaded_at: place.time,
                extracted: None,
                chunked: None,
                vectors: vec![],
                model: None,
                domain_vectors: vec![],
                domain_model: None,
            });
            state.begin(Step::Extract, place);
        }
        (Event::Deleted(_), Phase::Doing(_) | Phase::Ready | Phase::Failed(_)) => {
            state.begin(Step::RemoveBlobs, place);
            state.file = None;
            state.phase = Phase::Deleted;
        }
        (Event::BlobsRemoved(_), Phase::Deleted) => {
            state.phase = Phase::Absent;
            state.attempt = None;
            state.effect = None;
        }
        (Event::StepFailed(StepFailed { step, retry_at, .. }), phase) if doing(phase) == Some(*step) => {
            state.failures += 1;
            state.retry_at = Some(*retry_at);
            state.effect = Some(place.effect(0));
        }
        _ => return false,
    }
    true
}

/// What a step led to, for a document with a file; `false` when it does not fit.
fn advances(state: &mut State, event: &Event, place: Place) -> bool {
    let (Some(file), phase) = (state.file.as_mut(), state.phase) else { return false };
    match (event, phase) {
        (Event::Extracted(extracted), Phase::Doing(Step::Extract)) => {
            file.extracted = Some(extracted.clone());
            state.begin(Step::Chunk, place);
        }
        (Event::Chunked(chunked), Phase::Doing(Step::Chunk)) if !chunked.batches.is_empty() => {
            file.chunked = Some(chunked.clone());
            state.begin(Step::Embed, place);
        }
        (Event::Embedded(Embedded { batch, vectors, model, domain, .. }), Phase::Doing(Step::Embed))
            if file.vectors.len() == *batch as usize
                && file.vectors.len() < batches(file)
                && !file.mixes(model, domain.as_ref()) =>
        {
            file.vectors.push(*vectors);
            file.model = Some(model.clone());
            file.domain_vectors.push(domain.as_ref().map(|domain| domain.vectors));
            file.domain_model = domain.as_ref().map(|domain| domain.model.clone()).or(file.domain_model.take());
            state.begin(Step::Embed, place);
        }
        (Event::EmbeddingSkipped(_), Phase::Doing(Step::Embed)) => file.forget_vectors(),
        (Event::Published(published), Phase::Doing(Step::Embed))
            if published.vectors == file.vectors
                && (published.domain_vectors.is_empty() || published.domain_vectors == file.domain_vectors)
                && [0, batches(file)].contains(&file.vectors.len()) =>
        {
            state.begin(Step::Index, place);
        }
        (Event::Indexed(_), Phase::Doing(Step::Index)) => {
            state.phase = Phase::Ready;
            state.effect = None;
        }
        (Event::Failed(Failed { step, .. }), Phase::Doing(doing)) if doing == *step => {
            state.phase = Phase::Failed(*step);
            state.effect = None;
            state.retry_at = None;
        }
        (Event::RetryRequested(_), Phase::Failed(failed)) => {
            if failed == Step::Embed {
                file.forget_vectors();
            }
            state.begin(failed, place);
        }
        (
            Event::ReembedRequested(_),
            Phase::Ready | Phase::Doing(Step::Embed | Step::Index) | Phase::Failed(Step::Embed | Step::Index),
        ) => {
            file.forget_vectors();
            state.begin(Step::Embed, place);
        }
        _ => return false,
    }
    true
}

impl State {
    /// Owes a step, from this place of the history on.
    fn begin(&mut self, step: Step, place: Place) {
        self.phase = Phase::Doing(step);
        self.effect = Some(place.effect(0));
        self.failures = 0;
        self.retry_at = None;
    }
}

impl File {
    /// Vectors of two models are never mixed.
    fn forget_vectors(&mut self) {
        self.vectors.clear();
        self.model = None;
        self.domain_vectors.clear();
        self.domain_model = None;
    }

    /// Whether these vectors are of other models than those before. A batch without passages for the domain model fits any.
    fn mixes(&self, model: &str, domain: Option<&DomainVectors>) -> bool {
        let other = |known: &Option<String>, model: &str| known.as_ref().is_some_and(|known| known != model);
        other(&self.model, model) || domain.is_some_and(|domain| other(&self.domain_model, &domain.model))
    }
}

/// The step that is next.
const fn doing(phase: Phase) -> Option<Step> {
    match phase {
        Phase::Doing(step) => Some(step),
        Phase::Deleted => Some(Step::RemoveBlobs),
        Phase::Absent | Phase::Ready | Phase::Failed(_) => None,
    }
}

fn batches(file: &File) -> usize {
    file.chunked.as_ref().map_or(0, |chunked| chunked.batches.len())
}

fn conflict(reason: &str, message: &str) -> Rejection {
    Rejection::new(RejectionKind::Conflict, reason, message)
}

fn owned(state: &State, owner: Uuid) -> Result<&File, Rejection> {
    match &state.file {
        Some(file) if file.uploaded.owner == owner => Ok(file),
        _ => Err(Rejection::new(RejectionKind::NotFound, "document_not_found", "there is no such document")),
    }
}

fn upload(state: &State, uploaded: Uploaded) -> Result<Vec<Event>, Rejection> {
    let invalid = |reason: &str, message: String| Rejection::new(RejectionKind::Invalid, reason, message);
    if uploaded.content.size == 0 {
        return Err(invalid("empty_file", format!("{:?} is empty: there is nothing to find in it", uploaded.filename)));
    }
    let name = &uploaded.filename;
    if name.is_empty() || name.len() > MAX_FILENAME_BYTES || name.chars().any(char::is_control) {
        let text = format!("a file name has 1 to {MAX_FILENAME_BYTES} bytes and no control characters");
        return Err(invalid("bad_filename", text));
    }
    if !uploaded.metadata.is_object() || uploaded.metadata.to_string().len() > MAX_METADATA_BYTES {
        let text = format!("metadata is a JSON object of at most {MAX_METADATA_BYTES} bytes");
        return Err(invalid("bad_metadata", text));
    }
    if state.owner.is_some_and(|owner| owner != uploaded.owner) {
        return Err(conflict("other_owner", "the stream belongs to another person"));
    }
    match state.phase {
        Phase::Absent => Ok(vec![uploaded.into()]),
        Phase::Deleted => Err(Rejection::new(
            RejectionKind::Busy,
            "document_being_deleted",
            "the same content is being deleted; upload it again in a moment",
        )),
        _ => Err(conflict("duplicate", "the same content was uploaded before")),
    }
}

fn due(step: Step, file: &File) -> Option<Effect> {
    match step {
        Step::Extract => Some(Effect::Extract { file: file.uploaded.clone() }),
        Step::Chunk => file.extracted.clone().map(|extracted| Effect::Chunk { file: file.uploaded.clone(), extracted }),
        Step::Embed => {
            let next = file.vectors.len();
            file.chunked.as_ref()?.batches.get(next).map(|chunks| Effect::Embed {
                owner: file.uploaded.owner,
                attempt: file.uploaded.attempt,
                batch: u32::try_from(next).unwrap_or(u32::MAX),
                chunks: *chunks,
                model: file.model.clone(),
            })
        }
        Step::Index => Some(Effect::AwaitIndexed),
        // Not a step of a file: that of a document that is deleted.
        Step::RemoveBlobs => None,
    }
}

fn record(state: &State, outcome: StepOutcome, at: Timestamp) -> Result<Vec<Event>, Rejection> {
    if let StepOutcome::Failed(failure) = outcome {
        return Ok(failed(state, failure, at));
    }
    let wrong = || conflict("wrong_step", "the outcome does not belong to the step that is due");
    match (state.phase, &state.file, outcome) {
        (Phase::Deleted, _, StepOutcome::BlobsRemoved) => Ok(vec![BlobsRemoved {}.into()]),
        (Phase::Doing(Step::Extract), _, StepOutcome::Extracted(extracted)) => Ok(vec![bounded(extracted).into()]),
        (Phase::Doing(Step::Chunk), _, StepOutcome::Chunked(chunked)) => Ok(match unfit(&chunked) {
            Some(failure) => failed(state, failure, at),
            None => vec![chunked.into()],
        }),
        (Phase::Doing(Step::Embed), Some(file), StepOutcome::Embedded(embedded)) => embed(file, embedded),
        (Phase::Doing(Step::Embed), Some(file), StepOutcome::EmbeddingSkipped(skipped)) => {
            let published = published(file, Made::default()).ok_or_else(wrong)?;
            Ok(vec![skipped.into(), published.into()])
        }
        (Phase::Doing(Step::Index), _, StepOutcome::Indexed) => Ok(vec![Indexed {}.into()]),
        _ => Err(wrong()),
    }
}

/// The last batch publishes the document in the same commit.
fn embed(file: &File, embedded: Embedded) -> Result<Vec<Event>, Rejection> {
    let wrong = || conflict("wrong_step", "the vectors do not belong to the batch that is due");
    if embedded.batch as usize != file.vectors.len() {
        return Err(wrong());
    }
    // Each batch names the domain model in use: one that came or went meanwhile leaves code of the same document in both
    // spaces, found by neither model alone.
    let domain = embedded.domain.as_ref();
    let came_or_went = !file.vectors.is_empty() && file.domain_model.is_some() != domain.is_some();
    if came_or_went || file.mixes(&embedded.model, domain) {
        return Ok(vec![ReembedRequested {}.into()]);
    }
    if file.vectors.len() + 1 < batches(file) {
        return Ok(vec![embedded.into()]);
    }
    let domain = embedded.domain.clone();
    let made = Made {
        vectors: file.vectors.iter().copied().chain([embedded.vectors]).collect(),
        model: Some(embedded.model.clone()),
        domain_vectors: file
            .domain_vectors
            .iter()
            .copied()
            .chain([domain.as_ref().map(|domain| domain.vectors)])
            .collect(),
        domain_model: domain.map(|domain| domain.model).or_else(|| file.domain_model.clone()),
    };
    let published = published(file, made).ok_or_else(wrong)?;
    Ok(vec![embedded.into(), published.into()])
}

/// The vectors of a whole document.
#[derive(Default)]
struct Made {
    vectors: Vec<BlobRef>,
    model: Option<String>,
    domain_vectors: Vec<Option<BlobRef>>,
    domain_model: Option<String>,
}

fn published(file: &File, made: Made) -> Option<Published> {
    let (Some(extracted), Some(chunked)) = (&file.extracted, &file.chunked) else { return None };
    let Made { vectors, model, mut domain_vectors, domain_model } = made;
    if domain_model.is_none() {
        domain_vectors.clear();
    }
    Some(Published {
        owner: file.uploaded.owner,
        filename: file.uploaded.filename.clone(),
        format: extracted.format.clone(),
        language: extracted.language.clone(),
        metadata: file.uploaded.metadata.clone(),
        uploaded_at: file.uploaded_at,
        chunks: chunked.chunks,
        batches: chunked.batches.clone(),
        vectors,
        model,
        attempt: file.uploaded.attempt,
        title: extracted.title.clone(),
        authors: extracted.authors.clone(),
        tags: tags(&file.uploaded, extracted),
        domain_vectors,
        domain_model,
    })
}

/// The uploader's tags (`tags` of the metadata: a list of texts, or one) and the file's own, each once.
fn tags(uploaded: &Uploaded, extracted: &Extracted) -> Vec<String> {
    let given = &uploaded.metadata["tags"];
    let given = given.as_array().map_or(std::slice::from_ref(given), Vec::as_slice);
    let given = given.iter().filter_map(|tag| tag.as_str()).map(|tag| cut(tag.trim().to_owned(), MAX_TAG_BYTES));
    let mut tags: Vec<String> = vec![];
    for tag in given.chain(extracted.tags.iter().cloned()) {
        if !tag.is_empty() && !tags.contains(&tag) && tags.len() < MAX_TAGS {
            tags.push(tag);
        }
    }
    tags
}

/// What a file says of itself, in a form that one record can hold.
fn bounded(mut extracted: Extracted) -> Extracted {
    let note = |text| cut(text, MAX_NOTE_BYTES);
    extracted.title = extracted.title.map(note);
    extracted.language = extracted.language.map(note);
    extracted.warnings.truncate(MAX_WARNINGS);
    extracted.warnings = extracted.warnings.into_iter().map(note).collect();
    extracted.written = extracted.written.map(note);
    for names in [&mut extracted.authors, &mut extracted.tags] {
        names.truncate(MAX_TAGS);
        names.iter_mut().for_each(|name| *name = cut(std::mem::take(name), MAX_TAG_BYTES));
    }
    extracted
}

/// Why passages cannot be taken in.
fn unfit(chunked: &Chunked) -> Option<Failure> {
    if chunked.batches.is_empty() {
        let text = "the file has no text that could be found; a scanned document needs text recognition first";
        return Some(Failure::lasting("no_text", text));
    }
    if chunked.batches.len() > MAX_BATCHES || chunked.chunks as usize > MAX_CHUNKS {
        let text = format!("the text has {} passages, at most {MAX_CHUNKS} are taken; split the file", chunked.chunks);
        return Some(Failure::lasting("document_too_large", text));
    }
    None
}

fn failed(state: &State, failure: Failure, at: Timestamp) -> Vec<Event> {
    let step = doing(state.phase).unwrap_or(Step::RemoveBlobs);
    // Blobs of a deleted document are removed however long it takes: nobody could ask for another try.
    let endless = step == Step::RemoveBlobs;
    if endless || (failure.retryable && state.failures + 1 < MAX_ATTEMPTS) {
        let retry_at = at.after(backoff(state.failures + 1));
        return vec![StepFailed { step, failure, retry_at }.into()];
    }
    vec![Failed { step, failure }.into()]
}
