use uuid::Uuid;

use super::{
    BlobsRemoved, Command, Deleted, Effect, Embedded, Event, Failed, File, Indexed, MAX_ATTEMPTS, MAX_FILENAME_BYTES,
    MAX_METADATA_BYTES, Phase, Published, ReembedRequested, RetryRequested, State, Step, StepFailed, StepOutcome,
    Uploaded,
};
use crate::{
    Category, Decider, Due, Failure, IllegalHistory, Pending, Place, Rejection, Timestamp,
    decider::{RejectionKind, backoff},
    event::EventSet,
};

/// The decider of documents.
#[derive(Debug)]
pub struct Document;

impl Decider for Document {
    const CATEGORY: Category = Category::Document;
    const STATE_VERSION: u16 = 1;
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
            Command::Reembed { model } => {
                let known = state.file.as_ref().and_then(|file| file.model.as_ref());
                Ok(match state.phase {
                    Phase::Ready if known != Some(&model) => vec![ReembedRequested {}.into()],
                    _ => vec![],
                })
            }
            Command::Delete { owner } => {
                owned(state, owner)?;
                Ok(vec![Deleted {}.into()])
            }
        }
    }

    fn evolve(mut state: State, event: &Event, place: Place) -> Result<State, IllegalHistory> {
        let illegal = |state: &State| IllegalHistory {
            category: Self::CATEGORY,
            event: event.name(),
            state: format!("a document that is {:?}", state.phase),
            place,
        };
        let step = |state: &mut State, step: Step| {
            state.phase = Phase::Doing(step);
            state.effect = Some(place.effect(0));
            state.failures = 0;
            state.retry_at = None;
        };
        match (event, state.phase) {
            (Event::Uploaded(uploaded), Phase::Absent | Phase::Deleted) => {
                if state.owner.is_some_and(|owner| owner != uploaded.owner) {
                    return Err(illegal(&state));
                }
                state.owner = Some(uploaded.owner);
                state.file = Some(File {
                    uploaded: uploaded.clone(),
                    uploaded_at: place.time,
                    extracted: None,
                    chunked: None,
                    vectors: vec![],
                    model: None,
                });
                step(&mut state, Step::Extract);
                return Ok(state);
            }
            (Event::Deleted(_), Phase::Doing(_) | Phase::Ready | Phase::Failed(_)) => {
                step(&mut state, Step::RemoveBlobs);
                state.file = None;
                state.phase = Phase::Deleted;
                return Ok(state);
            }
            (Event::BlobsRemoved(_), Phase::Deleted) => {
                state.phase = Phase::Absent;
                state.effect = None;
                return Ok(state);
            }
            (Event::StepFailed(StepFailed { retry_at, .. }), Phase::Doing(_) | Phase::Deleted) => {
                state.failures += 1;
                state.retry_at = Some(*retry_at);
                state.effect = Some(place.effect(0));
                return Ok(state);
            }
            _ => {}
        }
        let (Some(file), phase) = (state.file.as_mut(), state.phase) else { return Err(illegal(&state)) };
        match (event, phase) {
            (Event::Extracted(extracted), Phase::Doing(Step::Extract)) => {
                file.extracted = Some(extracted.clone());
                step(&mut state, Step::Chunk);
            }
            (Event::Chunked(chunked), Phase::Doing(Step::Chunk)) => {
                file.chunked = Some(chunked.clone());
                step(&mut state, Step::Embed);
            }
            (Event::Embedded(Embedded { batch, vectors, model, .. }), Phase::Doing(Step::Embed))
                if file.vectors.len() == *batch as usize =>
            {
                file.vectors.push(*vectors);
                file.model = Some(model.clone());
                step(&mut state, Step::Embed);
            }
            (Event::EmbeddingSkipped(_), Phase::Doing(Step::Embed)) => {
                file.vectors.clear();
                file.model = None;
            }
            (Event::Published(_), Phase::Doing(Step::Embed)) => step(&mut state, Step::Index),
            (Event::Indexed(_), Phase::Doing(Step::Index)) => {
                state.phase = Phase::Ready;
                state.effect = None;
            }
            (Event::Failed(Failed { step, .. }), Phase::Doing(_)) => {
                state.phase = Phase::Failed(*step);
                state.effect = None;
                state.retry_at = None;
            }
            (Event::RetryRequested(_), Phase::Failed(failed)) => step(&mut state, failed),
            (Event::ReembedRequested(_), Phase::Ready) => {
                file.vectors.clear();
                file.model = None;
                step(&mut state, Step::Embed);
            }
            _ => return Err(illegal(&state)),
        }
        Ok(state)
    }

    fn pending(state: &State) -> Vec<Pending<Effect>> {
        let Some(id) = state.effect else { return vec![] };
        let effect = match (state.phase, &state.file) {
            (Phase::Deleted, _) => state.owner.map(|owner| Effect::RemoveBlobs { owner }),
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
    if uploaded.filename.is_empty() || uploaded.filename.len() > MAX_FILENAME_BYTES {
        return Err(invalid("bad_filename", format!("a file name has 1 to {MAX_FILENAME_BYTES} bytes")));
    }
    if !uploaded.metadata.is_object() || uploaded.metadata.to_string().len() > MAX_METADATA_BYTES {
        let text = format!("metadata is a JSON object of at most {MAX_METADATA_BYTES} bytes");
        return Err(invalid("bad_metadata", text));
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
                batch: u32::try_from(next).unwrap_or(u32::MAX),
                chunks: *chunks,
                model: file.model.clone(),
            })
        }
        Step::Index => Some(Effect::AwaitIndexed),
        Step::RemoveBlobs => Some(Effect::RemoveBlobs { owner: file.uploaded.owner }),
    }
}

fn record(state: &State, outcome: StepOutcome, at: Timestamp) -> Result<Vec<Event>, Rejection> {
    if let StepOutcome::Failed(failure) = outcome {
        return Ok(failed(state, failure, at));
    }
    let wrong = || conflict("wrong_step", "the outcome does not belong to the step that is due");
    match (state.phase, &state.file, outcome) {
        (Phase::Deleted, _, StepOutcome::BlobsRemoved) => Ok(vec![BlobsRemoved {}.into()]),
        (Phase::Doing(Step::Extract), _, StepOutcome::Extracted(extracted)) => Ok(vec![extracted.into()]),
        (Phase::Doing(Step::Chunk), _, StepOutcome::Chunked(chunked)) => Ok(vec![chunked.into()]),
        (Phase::Doing(Step::Embed), Some(file), StepOutcome::Embedded(embedded)) => embed(file, embedded),
        (Phase::Doing(Step::Embed), Some(file), StepOutcome::EmbeddingSkipped(skipped)) => {
            let published = published(file, vec![], None).ok_or_else(wrong)?;
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
    let total = file.chunked.as_ref().map_or(0, |chunked| chunked.batches.len());
    if file.vectors.len() + 1 < total {
        return Ok(vec![embedded.into()]);
    }
    let vectors = file.vectors.iter().copied().chain([embedded.vectors]).collect();
    let published = published(file, vectors, Some(embedded.model.clone())).ok_or_else(wrong)?;
    Ok(vec![embedded.into(), published.into()])
}

fn published(file: &File, vectors: Vec<crate::BlobRef>, model: Option<String>) -> Option<Published> {
    let (Some(extracted), Some(chunked)) = (&file.extracted, &file.chunked) else { return None };
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
    })
}

fn failed(state: &State, failure: Failure, at: Timestamp) -> Vec<Event> {
    let step = match state.phase {
        Phase::Doing(step) => step,
        _ => Step::RemoveBlobs,
    };
    // Blobs of a deleted document are removed however long it takes: nobody could ask for another try.
    let endless = step == Step::RemoveBlobs;
    if endless || (failure.retryable && state.failures + 1 < MAX_ATTEMPTS) {
        let retry_at = at.after(backoff(state.failures + 1));
        return vec![StepFailed { step, failure, retry_at }.into()];
    }
    vec![Failed { step, failure }.into()]
}
