//! The description of the API is committed, so that a change to it is seen in a diff.

use std::{path::Path, sync::Arc};

use lmao_ports::{ChunkRecord, LegHit, passage_id};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    ports::{document, message},
    world::{World, send},
};

#[test]
fn the_committed_description_is_the_one_served() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/openapi.json");
    let current = lmao_gateway::openapi_json();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        committed == current,
        "schemas/openapi.json is not up to date: run this test with UPDATE=1 and read the diff"
    );
}

#[test]
fn every_route_but_the_open_ones_names_the_token() {
    let spec: Value = serde_json::from_str(&lmao_gateway::openapi_json()).unwrap();
    for (path, operations) in spec["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let open = path.starts_with("/health") || path == "/auth/login";
            assert_eq!(operation.get("security").is_none(), open, "{method} {path}");
        }
    }
}

/// The client compares each answer with its description; here it gets those that are full of `null`.
#[tokio::test]
async fn what_is_not_known_is_described_as_null() {
    let world = World::new().await;
    let (ann, admin) = (world.ann().await, world.admin().await);
    let (id, session, sha256) = (Uuid::from_u128(7), Uuid::from_u128(8), "00".repeat(32));
    world.tables.documents.lock().unwrap().push(document(id, &sha256));
    world.tables.messages.lock().unwrap().push(message(session));
    let chunk = ChunkRecord {
        chunk_id: passage_id(id, &sha256, 0),
        ordinal: 0,
        content: "a".to_owned(),
        chunk_type: "prose".to_owned(),
        page_number: None,
        section: None,
        start: 0,
        end: 1,
        page_turns: vec![],
        language: None,
        parent: None,
    };
    let hit = LegHit {
        chunk: Arc::new(chunk.clone()),
        document_id: id,
        filename: "a.txt".to_owned(),
        title: None,
        score: 1.0,
    };
    world.index.passages.lock().unwrap().push(hit);
    let documents = "/api/v1/documents";
    for (path, token, null) in [
        (documents.to_owned(), &ann, "/next"),
        (documents.to_owned(), &ann, "/documents/0/title"),
        (format!("{documents}/{id}"), &ann, "/processed_at"),
        (format!("{documents}/{id}/chunks"), &ann, "/chunks/0/section"),
        (format!("{documents}/{id}/chunks/{}", chunk.chunk_id), &ann, "/parent_chunk_id"),
        (format!("/api/v1/sessions/{session}/messages"), &ann, "/messages/0/tokens_used"),
        ("/admin/projections?digest=true".to_owned(), &admin, ""),
        ("/admin/parked".to_owned(), &admin, ""),
        ("/api/v1/tools".to_owned(), &ann, ""),
    ] {
        let got = send(world.client().get(&path), token).await;
        let there = got.body.pointer(null);
        assert!(
            got.status == 200 && there.is_some_and(|there| null.is_empty() || *there == Value::Null),
            "{path}: {got:?}"
        );
    }
}
