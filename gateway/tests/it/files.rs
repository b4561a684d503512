//! Files on their way in and out.

use std::sync::{Arc, atomic::Ordering};

use futures::TryStreamExt;
use lmao_events::{
    AnyEvent, StreamId, Version,
    document::{Event, Uploaded},
};
use lmao_gateway::Limits;
use lmao_ports::Folder;
use poem::test::{TestForm, TestFormField};
use serde_json::json;
use tokio::sync::Barrier;

use crate::{
    core::Mood,
    world::{Got, World, send},
};

const UPLOAD: &str = "/api/v1/documents/upload";

fn form(text: &str) -> TestForm {
    let file = TestFormField::text(text.to_owned()).name("file").filename("notes.md");
    TestForm::new().field(file).field(TestFormField::text(r#"{"team":"blue"}"#).name("metadata"))
}

async fn upload(world: &World, token: &str, text: &str, query: &str) -> Got {
    send(world.client().post(format!("{UPLOAD}{query}")).multipart(form(text)), token).await
}

#[tokio::test]
async fn a_file_is_kept_before_the_log_speaks_of_it_and_found_again() {
    let world = World::new().await;
    let (ann, bob) = (world.ann().await, world.bob().await);
    let first = upload(&world, &ann, "hello", "").await;
    assert_eq!((first.status.as_u16(), &first.body["status"]), (200, &json!("success")));
    assert_eq!((&first.body["chunks_processed"], &first.body["duplicate"]), (&json!(2), &json!(false)));
    let kept: Vec<_> =
        world.files.kept.lock().unwrap().iter().map(|((folder, _), bytes)| (*folder, bytes.clone())).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].0.document.to_string(), kept[0].1.as_slice()),
        (first.body["document_id"].as_str().unwrap().to_owned(), b"hello".as_slice())
    );

    let second = upload(&world, &ann, "hello", "").await;
    assert_eq!((second.status.as_u16(), &second.body["duplicate"]), (200, &json!(true)));
    assert_eq!(second.body["document_id"], first.body["document_id"]);
    assert_eq!(second.body["chunks_processed"], 2);
    let theirs = upload(&world, &bob, "hello", "").await;
    assert_ne!(theirs.body["document_id"], first.body["document_id"]);
    assert_eq!(theirs.body["duplicate"], false);

    let id = first.body["document_id"].as_str().unwrap();
    let path = format!("/api/v1/documents/{id}");
    assert_eq!(send(world.client().delete(&path), &bob).await.refusal(), (404, "document_not_found"));
    let gone = send(world.client().delete(&path), &ann).await;
    assert_eq!(gone.status, 204);
    assert!(!gone.header("lmao-position").is_empty());
    assert_eq!(send(world.client().delete(&path), &ann).await.refusal(), (404, "document_not_found"));
    assert_eq!(send(world.client().delete("/api/v1/documents/7"), &ann).await.refusal(), (404, "document_not_found"));
    let again = upload(&world, &ann, "hello", "").await;
    assert_eq!((&again.body["duplicate"], &again.body["document_id"]), (&json!(false), &first.body["document_id"]));
}

/// An upload that has kept its file, and not yet told the log, meets the whole life of another one of the same content.
#[tokio::test]
async fn a_file_outlives_the_deletion_of_its_twin() {
    let world = World::new().await;
    let ann = world.ann().await;
    let pause = Arc::new(Barrier::new(2));
    *world.files.pause.lock().unwrap() = Some(pause.clone());
    let twin = async {
        pause.wait().await;
        let twin = upload(&world, &ann, "hello", "").await;
        let path = format!("/api/v1/documents/{}", twin.body["document_id"].as_str().unwrap());
        assert_eq!(send(world.client().delete(&path), &ann).await.status, 204);
        pause.wait().await;
    };
    let (first, ()) = tokio::join!(upload(&world, &ann, "hello", ""), twin);
    assert_eq!((first.status.as_u16(), &first.body["duplicate"]), (200, &json!(false)));

    let stream: StreamId = format!("document/{}", first.body["document_id"].as_str().unwrap()).parse().unwrap();
    let commits: Vec<_> = world.state.journal.read(stream, Version(1)).try_collect().await.unwrap();
    let mut uploads =
        commits.iter().flat_map(|commit| commit.events.as_ref().unwrap()).filter_map(|event| match event {
            AnyEvent::Document(Event::Uploaded(uploaded)) => Some(uploaded),
            _ => None,
        });
    let Uploaded { owner, content, attempt, .. } = uploads.next_back().unwrap().clone();
    let folder = Folder { owner, document: stream.id, attempt };
    let kept = world.state.blobs.get(folder, &content).await.unwrap();
    assert_eq!(kept.as_deref(), Some(b"hello".as_slice()), "what the log names is there");
    assert_eq!(world.files.kept.lock().unwrap().len(), 1, "and nothing else");
}

#[tokio::test]
async fn a_retried_upload_is_no_duplicate() {
    let world = World::new().await;
    let ann = world.ann().await;
    let client = world.client();
    let send = async |text: &str| {
        let request = client.post(UPLOAD).header("idempotency-key", "k").multipart(form(text));
        Got::from(request.header("authorization", format!("Bearer {ann}")).send().await).await
    };
    let first = send("hello").await;
    world.core.forget_commands();
    let second = send("hello").await;
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert_eq!(send("other").await.refusal(), (422, "idempotency_key_reused"));
}

#[tokio::test]
async fn a_file_that_cannot_be_taken_in_stays_and_can_be_tried_again() {
    let world = World::new().await;
    let ann = world.ann().await;
    *world.core.mood.lock().unwrap() = Mood::Failing;
    let got = upload(&world, &ann, "hello", "").await;
    assert_eq!(got.refusal(), (422, "out_of_order"));
    let details = &got.body["error"]["details"];
    let id = details["document_id"].as_str().unwrap().to_owned();
    assert_eq!((&details["status"], &details["duplicate"]), (&json!("failed"), &json!(false)));
    assert_eq!(upload(&world, &ann, "hello", "").await.body["error"]["details"]["duplicate"], true);

    let retry = format!("/api/v1/documents/{id}/retry");
    assert_eq!(send(world.client().post(&retry), &ann).await.refusal(), (422, "out_of_order"));
    *world.core.mood.lock().unwrap() = Mood::Well;
    let got = send(world.client().post(&retry), &ann).await;
    assert_eq!((got.status.as_u16(), &got.body["status"]), (200, &json!("success")));
    assert_eq!(send(world.client().post(&retry), &ann).await.refusal(), (409, "document_not_failed"));
}

#[tokio::test]
async fn a_wait_has_an_end() {
    let world = World::new().await;
    let ann = world.ann().await;
    *world.core.mood.lock().unwrap() = Mood::Silent;
    for query in ["?wait=0", ""] {
        let got = upload(&world, &ann, &format!("hello{query}"), query).await;
        assert_eq!((got.status.as_u16(), &got.body["status"]), (202, &json!("processing")));
        assert!(!got.header("lmao-position").is_empty());
        let end = world.state.journal.tail().await.unwrap();
        assert_eq!(world.tables.waited_for.load(Ordering::SeqCst), end.0, "the tables show it when it is answered");
    }
    assert_eq!(upload(&world, &ann, "x", "?wait=61").await.refusal(), (400, "bad_parameter"));
}

#[tokio::test]
async fn bad_files_are_refused_and_leave_nothing() {
    let world = World::with(Limits { upload_bytes: 1000, ..Limits::default() }).await;
    let ann = world.ann().await;
    assert_eq!(upload(&world, &ann, "", "").await.refusal(), (422, "empty_file"));
    assert_eq!(upload(&world, &ann, &"x".repeat(1001), "").await.refusal(), (413, "file_too_large"));
    let client = world.client();
    let request = client.post(UPLOAD).body_json(&json!({}));
    assert_eq!(send(request, &ann).await.refusal(), (415, "unsupported_media_type"));
    let long = TestFormField::text("x").name("file").filename("n".repeat(501));
    let request = client.post(UPLOAD).multipart(TestForm::new().field(long));
    assert_eq!(send(request, &ann).await.refusal(), (422, "bad_filename"));
    assert!(world.files.kept.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_request_has_an_answer_though_what_it_needs_has_none() {
    let world = World::new().await;
    let (client, ann) = (world.client(), world.ann().await);
    world.core.is_stuck.store(true, Ordering::SeqCst);
    let said = client.post("/api/v1/chat/message").header("idempotency-key", "k").body_json(&json!({ "message": "x" }));
    let (said, uploaded) = futures::join!(send(said, &ann), upload(&world, &ann, "Cranes dance.", ""));
    assert_eq!((said.refusal(), uploaded.refusal()), ((503, "outcome_unknown"), (503, "outcome_unknown")));
    assert!(!said.header("retry-after").is_empty());
}
