//! The description of the API is committed, so that a change to it is seen in a diff.

use std::{path::Path, sync::Arc};

use lmao_events::Timestamp;
use lmao_ports::{ChunkRecord, DocumentRow, DocumentStatus, LegHit, MessageRow, passage_id};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, send};

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
    world.tables.documents.lock().unwrap().push(DocumentRow {
        id,
        user_id: Uuid::from_u128(0xa),
        filename: "a.txt".to_owned(),
        file_type: "text".to_owned(),
        file_size: 1,
        content_hash: sha256.clone(),
        uploaded_at: Timestamp(0),
        processed_at: None,
        status: DocumentStatus::Ready,
        metadata: json!({}),
        chunks_count: Some(1),
    });
    world.tables.messages.lock().unwrap().push(MessageRow {
        id,
        session_id: session,
        role: "user".to_owned(),
        content: "hello".to_owned(),
        created_at: Timestamp(0),
        metadata: json!({}),
        tokens_used: None,
        model_used: None,
    });
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
