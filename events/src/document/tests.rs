mod spaces;

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    BlobsRemoved, Chunked, Command, Deleted, Document, DomainVectors, Effect, Embedded, EmbeddingSkipped, Event,
    Extracted, Failed, Indexed, MAX_BATCHES, MAX_METADATA_BYTES, MAX_NOTE_BYTES, MAX_WARNINGS, Phase, Published,
    ReembedRequested, RetryRequested, Step, StepFailed, StepOutcome, Uploaded, stream_of,
};
use crate::{
    BlobRef, ContentHash, Due, EffectId, EventSet, Failure,
    event::encode,
    testing::{
        World, effect, given, id, illegal,
        samples::{blob, chunked, embedded, extracted, lasting, passing, published, uploaded},
        time,
    },
};

const MODEL: &str = "bge-small-en-v1.5/int8";

fn step(effect: EffectId, outcome: StepOutcome) -> Command {
    Command::RecordStep { effect, outcome, at: time(100) }
}

/// A document before the first batch is embedded, in three commits.
fn cut() -> Vec<Vec<Event>> {
    vec![vec![uploaded().into()], vec![extracted().into()], vec![chunked().into()]]
}

fn half_embedded() -> Vec<Vec<Event>> {
    [cut(), vec![vec![embedded(0).into()]]].concat()
}

fn indexing() -> Vec<Vec<Event>> {
    [half_embedded(), vec![vec![embedded(1).into(), published().into()]]].concat()
}

fn ready() -> Vec<Vec<Event>> {
    [indexing(), vec![vec![Indexed {}.into()]]].concat()
}

fn failed(step: Step) -> Event {
    Failed { step, failure: lasting() }.into()
}

fn skipped() -> EmbeddingSkipped {
    EmbeddingSkipped { reason: "there is no model".to_owned() }
}

fn reembed(model: &str) -> Command {
    Command::Reembed { model: model.to_owned(), domain: None }
}

const fn delete() -> Command {
    Command::Delete { owner: id(1) }
}

#[test]
fn a_file_becomes_searchable_step_by_step() {
    let world = given::<Document>(vec![]).when(Command::Upload(uploaded())).then(vec![uploaded().into()]);
    assert_eq!(world.pending()[0].effect, Effect::Extract { file: uploaded() });
    let world = world.when(step(effect(1, 0), StepOutcome::Extracted(extracted()))).then(vec![extracted().into()]);
    assert_eq!(world.pending()[0].effect, Effect::Chunk { file: uploaded(), extracted: extracted() });
    let world = world.when(step(effect(2, 0), StepOutcome::Chunked(chunked()))).then(vec![chunked().into()]);
    let attempt = uploaded().attempt;
    let batch = |batch, chunks, model| Effect::Embed { owner: id(1), attempt, batch, chunks, model };
    assert_eq!(world.pending()[0].effect, batch(0, blob(3), None));
    let world = world.when(step(effect(3, 0), StepOutcome::Embedded(embedded(0)))).then(vec![embedded(0).into()]);
    assert_eq!(world.pending()[0].effect, batch(1, blob(4), Some(MODEL.to_owned())));
    let world = world
        .when(step(effect(4, 0), StepOutcome::Embedded(embedded(1))))
        .then(vec![embedded(1).into(), published().into()]);
    assert_eq!(world.pending()[0].effect, Effect::AwaitIndexed);
    let world = world.when(step(effect(5, 1), StepOutcome::Indexed)).then(vec![Indexed {}.into()]);
    assert_eq!(world.pending(), vec![]);
    assert_eq!(world.state.phase, Phase::Ready);
}

#[test]
fn without_a_model_it_is_published_without_vectors() {
    let plain = Published { vectors: vec![], model: None, ..published() };
    for history in [cut(), half_embedded()] {
        let world = given::<Document>(history);
        let debt = world.first_debt();
        let world = world
            .when(step(debt, StepOutcome::EmbeddingSkipped(skipped())))
            .then(vec![skipped().into(), plain.clone().into()]);
        assert_eq!(world.pending()[0].effect, Effect::AwaitIndexed);
    }
}

#[test]
fn uploads_that_make_no_sense_are_refused() {
    let refused = |uploaded, reason| {
        given::<Document>(vec![]).when(Command::Upload(uploaded)).then_refused(reason);
    };
    let empty = BlobRef { size: 0, ..blob(1) };
    refused(Uploaded { content: empty, ..uploaded() }, "empty_file");
    refused(Uploaded { filename: String::new(), ..uploaded() }, "bad_filename");
    refused(Uploaded { filename: "a\nb".to_owned(), ..uploaded() }, "bad_filename");
    refused(Uploaded { filename: "x".repeat(501), ..uploaded() }, "bad_filename");
    refused(Uploaded { metadata: json!([]), ..uploaded() }, "bad_metadata");
    refused(Uploaded { metadata: json!({"a": "x".repeat(MAX_METADATA_BYTES)}), ..uploaded() }, "bad_metadata");
}

#[test]
fn the_same_content_is_one_document_until_it_is_deleted() {
    given::<Document>(ready()).when(Command::Upload(uploaded())).then_refused("duplicate");
    let world = given::<Document>(ready()).when(delete()).then(vec![Deleted {}.into()]);
    assert_eq!(world.pending()[0].effect, Effect::RemoveBlobs { owner: id(1), attempt: uploaded().attempt });
    let debt = world.first_debt();
    let world = world.when(Command::Upload(uploaded())).then_refused("document_being_deleted");
    let world = world.when(step(debt, StepOutcome::BlobsRemoved)).then(vec![BlobsRemoved {}.into()]);
    let foreign = Uploaded { owner: id(2), ..uploaded() };
    let world = world.when(Command::Upload(foreign)).then_refused("other_owner");
    world.when(Command::Upload(uploaded())).then(vec![uploaded().into()]);
}

#[test]
fn a_folder_is_kept_from_its_upload_until_its_blobs_are_removed() {
    let (first, second) = (uploaded().attempt, Some(id(32)));
    assert!(!given::<Document>(vec![]).state.keeps(None));
    let world = given::<Document>(ready());
    assert!(world.state.keeps(first) && !world.state.keeps(second) && !world.state.keeps(None));
    let world = world.when(delete()).then(vec![Deleted {}.into()]);
    assert!(world.state.keeps(first), "there is something to be removed");
    let debt = world.first_debt();
    let world = world.when(step(debt, StepOutcome::BlobsRemoved)).then(vec![BlobsRemoved {}.into()]);
    assert!(!world.state.keeps(first) && !world.state.keeps(None));
    let again = Uploaded { attempt: second, ..uploaded() };
    let world = world.when(Command::Upload(again.clone())).then(vec![again.into()]);
    assert!(world.state.keeps(second) && !world.state.keeps(first));
}

#[test]
fn an_upload_of_before_attempts_has_its_folder_too() {
    let world = given::<Document>(vec![vec![Uploaded { attempt: None, ..uploaded() }.into()]]);
    assert!(world.state.keeps(None));
    let world = world.when(delete()).then(vec![Deleted {}.into()]);
    assert_eq!(world.pending()[0].effect, Effect::RemoveBlobs { owner: id(1), attempt: None });
}

#[test]
fn the_stream_of_a_document_follows_from_owner_content_and_origin() {
    let from = |key, owner, content, origin| stream_of(&[key; 32], id(owner), &ContentHash([content; 32]), origin);
    let stream = |key, owner, content| from(key, owner, content, None);
    assert_eq!(stream(1, 1, 1), stream(1, 1, 1));
    assert_eq!(from(1, 1, 1, Some("a")), from(1, 1, 1, Some("a")));
    let others = [stream(1, 1, 1), stream(2, 1, 1), stream(1, 2, 1), stream(1, 1, 2)];
    let places =
        [from(1, 1, 1, Some("a")), from(1, 1, 1, Some("b")), from(1, 2, 1, Some("a")), from(1, 1, 2, Some("a"))];
    assert_eq!(others.iter().chain(&places).collect::<std::collections::BTreeSet<_>>().len(), 8);
}

#[test]
fn a_passing_failure_is_tried_three_times_and_then_shown() {
    let again = |seconds| {
        let retry_at = time(100).after(Duration::from_secs(seconds));
        vec![StepFailed { step: Step::Extract, failure: passing(), retry_at }.into()]
    };
    let fails = || StepOutcome::Failed(passing());
    let world = given::<Document>(vec![vec![uploaded().into()]]).when(step(effect(1, 0), fails())).then(again(1));
    assert_eq!(world.pending()[0].due, Due::At(time(101)));
    let world = world
        .when(step(effect(2, 0), fails()))
        .then(again(2))
        .when(step(effect(3, 0), fails()))
        .then(vec![Failed { step: Step::Extract, failure: passing() }.into()]);
    assert_eq!(world.pending(), vec![]);
}

#[test]
fn a_failed_document_can_be_tried_again_or_deleted() {
    let history = || vec![vec![uploaded().into()], vec![failed(Step::Extract)]];
    let retry = |owner| Command::Retry { owner: id(owner) };
    let world = given::<Document>(history()).when(retry(1)).then(vec![RetryRequested {}.into()]);
    assert_eq!(world.pending()[0].effect, Effect::Extract { file: uploaded() });
    world.when(retry(1)).then_nothing();
    given::<Document>(history()).when(retry(2)).then_refused("document_not_found");
    given::<Document>(history()).when(delete()).then(vec![Deleted {}.into()]);
    given::<Document>(ready()).when(retry(1)).then_refused("document_not_failed");
}

#[test]
fn only_its_owner_deletes_a_document() {
    let stranger = || Command::Delete { owner: id(2) };
    given::<Document>(ready()).when(stranger()).then_refused("document_not_found");
    given::<Document>(vec![]).when(delete()).then_refused("document_not_found");
    let world = given::<Document>(ready()).when(delete()).then(vec![Deleted {}.into()]);
    world.when(delete()).then_refused("document_not_found");
}

#[test]
fn deletion_stops_what_is_being_done() {
    let world = given::<Document>(half_embedded()).when(delete()).then(vec![Deleted {}.into()]);
    let world = world.when(step(effect(4, 0), StepOutcome::Embedded(embedded(1)))).then_nothing();
    assert_eq!(world.pending()[0].effect, Effect::RemoveBlobs { owner: id(1), attempt: uploaded().attempt });
}

#[test]
fn the_blobs_of_a_deleted_document_are_removed_however_long_it_takes() {
    let mut world = given::<Document>([ready(), vec![vec![Deleted {}.into()]]].concat());
    for _ in 0..10 {
        let debt = world.first_debt();
        world.send(step(debt, StepOutcome::Failed(lasting()))).expect("recorded");
        assert_eq!(world.pending()[0].effect, Effect::RemoveBlobs { owner: id(1), attempt: uploaded().attempt });
    }
    assert_eq!(world.pending()[0].due, Due::At(time(160)), "at most once a minute");
}

#[test]
fn a_file_without_text_fails_instead_of_waiting_for_nothing() {
    let nothing = Chunked { batches: vec![], chunks: 0 };
    let history = vec![vec![uploaded().into()], vec![extracted().into()]];
    let world = given::<Document>(history).when(step(effect(2, 0), StepOutcome::Chunked(nothing))).world;
    let Some([Event::Failed(failed)]) = world.history.last().map(Vec::as_slice) else { panic!("{:?}", world.history) };
    assert_eq!(failed.failure.reason, "no_text");
}

#[test]
fn a_file_with_too_many_passages_fails_with_its_reason() {
    let flood = Chunked { batches: vec![blob(3); MAX_BATCHES + 1], chunks: 100_001 };
    let history = vec![vec![uploaded().into()], vec![extracted().into()]];
    let world = given::<Document>(history).when(step(effect(2, 0), StepOutcome::Chunked(flood))).world;
    let Some([Event::Failed(failed)]) = world.history.last().map(Vec::as_slice) else { panic!("{:?}", world.history) };
    assert_eq!(failed.failure.reason, "document_too_large");
}

#[test]
fn what_a_file_says_of_itself_is_cut_to_a_size_that_can_be_stored() {
    let wordy = Extracted {
        title: Some("é".repeat(1_000_000)),
        language: Some("x".repeat(1_000_000)),
        warnings: vec!["x".repeat(10_000); 10_000],
        ..extracted()
    };
    let world =
        given::<Document>(vec![vec![uploaded().into()]]).when(step(effect(1, 0), StepOutcome::Extracted(wordy))).world;
    let kept = world.state.file.expect("a file").extracted.expect("extracted");
    assert!(kept.title.is_some_and(|title| title.len() <= MAX_NOTE_BYTES && title.ends_with("é …")));
    assert_eq!(kept.warnings.len(), MAX_WARNINGS);
    assert!(kept.warnings.iter().all(|warning| warning.len() <= MAX_NOTE_BYTES));
}

/// MessagePack is larger than JSON where there are many small numbers with a fraction.
#[test]
fn the_largest_document_fits_its_records() {
    let numbers = Value::from(vec![json!(0.5); MAX_METADATA_BYTES / 4 - 4]);
    let largest = Uploaded { metadata: json!({"n": numbers}), ..uploaded() };
    let cut = Chunked { batches: vec![blob(255); MAX_BATCHES], chunks: 100_000 };
    let mut world = given::<Document>(vec![vec![largest.into()], vec![extracted().into()], vec![cut.into()]]);
    let batch = |batch| Embedded { batch, vectors: blob(255), ..embedded(0) };
    world.state.file.as_mut().expect("a file").vectors = vec![blob(255); MAX_BATCHES - 1];
    world.state.file.as_mut().expect("a file").model = Some(MODEL.to_owned());
    let last = u32::try_from(MAX_BATCHES - 1).expect("few");
    let events = world.send(step(effect(3, 0), StepOutcome::Embedded(batch(last)))).expect("recorded");
    assert!(matches!(events.as_slice(), [Event::Embedded(_), Event::Published(_)]));
}

#[test]
fn vectors_of_two_models_are_never_mixed() {
    let other = Embedded { model: "other".to_owned(), ..embedded(1) };
    let again = || vec![ReembedRequested {}.into()];
    let world = given::<Document>(half_embedded()).when(step(effect(4, 0), StepOutcome::Embedded(other))).then(again());
    let Effect::Embed { batch, model, .. } = &world.pending()[0].effect else { panic!("{:?}", world.pending()) };
    assert_eq!((*batch, model), (0, &None), "it begins anew");
}

#[test]
fn new_vectors_are_made_when_another_model_is_in_use() {
    let again = || vec![ReembedRequested {}.into()];
    let failed_while = |history: Vec<Vec<Event>>, step| [history, vec![vec![failed(step)]]].concat();
    given::<Document>(ready()).when(reembed(MODEL)).then_nothing();
    given::<Document>(ready()).when(reembed("other")).then(again());
    given::<Document>(indexing()).when(reembed(MODEL)).then_nothing();
    given::<Document>(indexing()).when(reembed("other")).then(again());
    given::<Document>(half_embedded()).when(reembed(MODEL)).then_nothing();
    given::<Document>(half_embedded()).when(reembed("other")).then(again());
    given::<Document>(failed_while(half_embedded(), Step::Embed)).when(reembed(MODEL)).then(again());
    given::<Document>(failed_while(indexing(), Step::Index)).when(reembed("other")).then(again());
    given::<Document>(cut()).when(reembed("other")).then_nothing();
    given::<Document>(vec![]).when(reembed("other")).then_nothing();
}

#[test]
fn a_retry_embeds_from_the_first_batch() {
    let history = [half_embedded(), vec![vec![failed(Step::Embed)]]].concat();
    let world = given::<Document>(history).when(Command::Retry { owner: id(1) }).then(vec![RetryRequested {}.into()]);
    let Effect::Embed { batch, model, .. } = &world.pending()[0].effect else { panic!("{:?}", world.pending()) };
    assert_eq!((*batch, model), (0, &None));
}

#[test]
fn outcomes_of_other_steps_and_debts_are_not_taken() {
    given::<Document>(cut()).when(step(effect(1, 0), StepOutcome::Extracted(extracted()))).then_nothing();
    given::<Document>(cut()).when(step(effect(3, 0), StepOutcome::Indexed)).then_refused("wrong_step");
    given::<Document>(cut()).when(step(effect(3, 0), StepOutcome::Embedded(embedded(1)))).then_refused("wrong_step");
}

#[test]
fn histories_that_are_no_documents_are_refused() {
    let words = |event: &str, state: &str, version| {
        format!("{event} cannot follow a document that is {state} in a document history (version {version}, event 0)")
    };
    illegal::<Document>(vec![], extracted(), &words("Extracted", "Absent", 1));
    illegal::<Document>(vec![], Deleted {}, &words("Deleted", "Absent", 1));
    illegal::<Document>(ready(), uploaded(), &words("Uploaded", "Ready", 7));
    illegal::<Document>(cut(), extracted(), &words("Extracted", "Doing(Embed)", 4));
    illegal::<Document>(cut(), embedded(1), &words("Embedded", "Doing(Embed)", 4));
    illegal::<Document>(half_embedded(), published(), &words("Published", "Doing(Embed)", 5));
    illegal::<Document>(cut(), failed(Step::Chunk), &words("Failed", "Doing(Embed)", 4));
    let wrong = StepFailed { step: Step::Chunk, failure: passing(), retry_at: time(9) };
    illegal::<Document>(cut(), wrong, &words("StepFailed", "Doing(Embed)", 4));
    let other = Embedded { model: "other".to_owned(), ..embedded(1) };
    illegal::<Document>(half_embedded(), other, &words("Embedded", "Doing(Embed)", 5));
    let deleted = || [ready(), vec![vec![Deleted {}.into()]]].concat();
    illegal::<Document>(deleted(), uploaded(), &words("Uploaded", "Deleted", 8));
    let gone = [deleted(), vec![vec![BlobsRemoved {}.into()]]].concat();
    illegal::<Document>(gone, Uploaded { owner: id(2), ..uploaded() }, &words("Uploaded", "Absent", 9));
}

/// The event as `version` stored it, which had no field of these.
fn stored_without(event: &Event, version: u16, fields: &[&str]) -> Event {
    let stored = event.encode();
    let mut data: Value = rmp_serde::from_slice(&stored.data).expect("an event");
    for field in fields {
        assert!(data.as_object_mut().expect("its fields").remove(*field).is_some(), "{field}");
    }
    Event::decode(&encode(&stored.name, version, &data)).expect("an older version")
}

#[test]
fn events_of_before_attempts_are_read_as_such() {
    let before = Uploaded { attempt: None, ..uploaded() };
    assert_eq!(stored_without(&uploaded().into(), 1, &["attempt"]), before.into());
}

#[test]
fn events_of_before_the_domain_model_are_read_as_such() {
    let said = ["authors", "written", "tags"];
    let silent = Extracted { authors: vec![], written: None, tags: vec![], ..extracted() };
    assert_eq!(stored_without(&extracted().into(), 1, &said), silent.into());
    let plain = Embedded { domain: None, ..embedded(0) };
    assert_eq!(stored_without(&embedded(0).into(), 1, &["domain"]), plain.into());
    let news = ["title", "authors", "tags", "domain_vectors", "domain_model"];
    let before = Published { title: None, authors: vec![], tags: vec![], ..published() };
    assert_eq!(stored_without(&published().into(), 2, &news), before.clone().into());
    let first = Published { attempt: None, ..before };
    assert_eq!(stored_without(&published().into(), 1, &[&news[..], &["attempt"]].concat()), first.into());
}

/// A step of a story: what may come, whether it makes sense or not.
#[derive(Debug, Clone, Copy)]
enum Play {
    Upload(u128),
    Succeed { model: u8 },
    Skip,
    Fail { retryable: bool },
    Stray(u8),
    Stale(u64),
    Retry(u128),
    Reembed(u8),
    Delete(u128),
}

fn plays() -> impl Strategy<Value = Vec<Play>> {
    let play = prop_oneof![
        2 => (1..3_u128).prop_map(Play::Upload),
        12 => prop_oneof![9 => Just(0_u8), 1 => Just(1_u8)].prop_map(|model| Play::Succeed { model }),
        1 => Just(Play::Skip),
        3 => any::<bool>().prop_map(|retryable| Play::Fail { retryable }),
        1 => (0..6_u8).prop_map(Play::Stray),
        1 => (0..20_u64).prop_map(Play::Stale),
        2 => (1..3_u128).prop_map(Play::Retry),
        1 => (0..2_u8).prop_map(Play::Reembed),
        1 => (1..3_u128).prop_map(Play::Delete),
    ];
    proptest::collection::vec(play, 0..40)
}

fn model(n: u8) -> String {
    format!("model {n}")
}

fn success(effect: &Effect, n: u8) -> StepOutcome {
    match effect {
        Effect::Extract { .. } => StepOutcome::Extracted(extracted()),
        Effect::Chunk { .. } => StepOutcome::Chunked(Chunked { batches: vec![blob(1), blob(2), blob(3)], chunks: 130 }),
        Effect::Embed { batch, .. } => StepOutcome::Embedded(Embedded {
            batch: *batch,
            vectors: blob(n),
            model: model(n),
            cached: 0,
            domain: None,
        }),
        Effect::AwaitIndexed => StepOutcome::Indexed,
        Effect::RemoveBlobs { .. } => StepOutcome::BlobsRemoved,
    }
}

fn stray(kind: u8) -> StepOutcome {
    match kind {
        0 => StepOutcome::Extracted(extracted()),
        1 => StepOutcome::Chunked(Chunked { batches: vec![], chunks: 0 }),
        2 => StepOutcome::Embedded(embedded(2)),
        3 => StepOutcome::Indexed,
        4 => StepOutcome::EmbeddingSkipped(skipped()),
        _ => StepOutcome::BlobsRemoved,
    }
}

fn outcome_of(effect: &Effect, event: &Event) -> bool {
    let ended = matches!(event, Event::StepFailed(_) | Event::Failed(_) | Event::Deleted(_));
    ended
        || match effect {
            Effect::Extract { .. } => matches!(event, Event::Extracted(_)),
            Effect::Chunk { .. } => matches!(event, Event::Chunked(_)),
            Effect::Embed { .. } => {
                matches!(event, Event::Embedded(_) | Event::EmbeddingSkipped(_) | Event::ReembedRequested(_))
            }
            Effect::AwaitIndexed => matches!(event, Event::Indexed(_) | Event::ReembedRequested(_)),
            Effect::RemoveBlobs { .. } => matches!(event, Event::BlobsRemoved(_)),
        }
}

proptest! {
    #[test]
    fn any_document_keeps_its_promises(plays in plays()) {
        let mut world = World::<Document>::new(outcome_of);
        world.send(Command::Upload(uploaded())).expect("uploaded");
        for play in plays {
            let due = world.pending().pop();
            let debt = due.as_ref().map_or(effect(99, 0), |due| due.id);
            let _ = world.send(match play {
                Play::Upload(owner) => Command::Upload(Uploaded { owner: id(owner), ..uploaded() }),
                Play::Succeed { model } => match &due {
                    Some(due) => step(debt, success(&due.effect, model)),
                    None => continue,
                },
                Play::Skip => step(debt, StepOutcome::EmbeddingSkipped(skipped())),
                Play::Fail { retryable } => step(debt, StepOutcome::Failed(Failure { retryable, ..passing() })),
                Play::Stray(kind) => step(debt, stray(kind)),
                Play::Stale(version) => step(effect(version, 7), StepOutcome::Indexed),
                Play::Retry(owner) => Command::Retry { owner: id(owner) },
                Play::Reembed(n) => Command::Reembed { model: model(n), domain: None },
                Play::Delete(owner) => Command::Delete { owner: id(owner) },
            });
            let rests = matches!(world.state.phase, Phase::Absent | Phase::Ready | Phase::Failed(_));
            prop_assert_eq!(world.pending().is_empty(), rests, "it goes on until it is ready, failed or gone");
        }
        world.check();
    }
}
