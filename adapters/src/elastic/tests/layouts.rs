//! Indexes that are not there, or that an older version made.

use base64::{Engine, engine::general_purpose::STANDARD};
use elasticsearch::http::Method;
use lmao_events::Timestamp;
use serde_json::{Value, json};

use super::*;

/// Looking makes no index: what is not there is empty, and is seen as soon as somebody makes it.
#[tokio::test]
async fn looking_makes_nothing() {
    let server = Server::new();
    let options = server.options();
    let searches = ElasticIndex::open(&options, Role::Search).await.unwrap();
    let all = SearchFilter::all_of(OWNER);
    let id = Uuid::from_u128(1);
    assert_eq!(searches.checkpoint().await.unwrap(), Position(0));
    assert_eq!((searches.count().await.unwrap(), searches.without_vectors().await.unwrap()), (0, 0));
    assert_eq!(searches.model(Space::General).await.unwrap(), None);
    let legs = [Leg::Keyword("quorvex".into()), Leg::Nearest(Space::General, suite::vector(1, suite::DIMENSIONS))];
    for answer in searches.legs(&legs, &all, 5).await {
        assert_eq!(answer.unwrap(), []);
    }
    assert_eq!(searches.chunks(&[(id, 0)]).await.unwrap(), []);
    assert_eq!(searches.vectors(Space::General, &[(id, 0)]).await.unwrap(), [None]);
    assert!(!searches.holds(id).await.unwrap());
    let empty = searches.digest().await.unwrap();
    assert_eq!(layout::list(&searches.client, &searches.alias).await.unwrap(), []);

    // Nor does one that feeds it, as long as it only looks.
    let index = open(&options).await;
    assert_eq!((index.checkpoint().await.unwrap(), index.count().await.unwrap()), (Position(0), 0));
    assert_eq!(index.model(Space::General).await.unwrap(), None);
    assert!(!index.holds(id).await.unwrap());
    assert_eq!(index.keyword(&"quorvex".into(), &all, 5).await.unwrap(), []);
    assert_eq!(index.digest().await.unwrap(), empty);
    assert_eq!(layout::list(&searches.client, &searches.alias).await.unwrap(), []);
    fill(&index, &[suite::document(1, OWNER, &["quorvex"])], 3).await;
    assert_eq!((searches.checkpoint().await.unwrap(), found(&searches, "quorvex").await), (Position(3), vec![(1, 0)]));
    server.clean().await;
}

/// What a version before two spaces left: a document of one passage, with a vector.
async fn older(client: &Client, name: &str, alias: &str, document: &IndexedDocument) {
    let mut body = layout::body(BySpace { general: Some(suite::DIMENSIONS), domain: None }, 0).unwrap();
    body["mappings"]["_meta"]["format"] = 1.into();
    let fields = body["mappings"]["properties"].as_object_mut().unwrap();
    let newer =
        ["section_paths", "title", "own_language", "parent_first", "parent_last", "vector_general", "vector_domain"];
    fields.retain(|name, _| !newer.contains(&&**name) && !name.starts_with("has_vector"));
    fields.insert("has_vector".to_owned(), json!({ "type": "boolean" }));
    fields.insert("vector".to_owned(), json!({ "type": "binary" }));
    body["aliases"] = json!({ alias: {}, layout::own(name): {} });
    let _: Value = client.call(Method::Put, &format!("/{name}"), &[], Some(&body)).await.unwrap();
    let (id, chunk) = (document.document_id, &document.chunks[0]);
    let vector = document.vectors.general[0].as_ref().unwrap();
    let bits: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    let metadata = json!({ "filename": document.filename, "file_type": "text", "page_number": 1, "created_at": 0 });
    let entries = [
        (
            "state".to_owned(),
            json!({ "state": {
            "epoch": 1, "writer": Uuid::nil(), "checkpoint": 9, "model": manifest(), "passages": 1, "vectors": 1,
        } }),
        ),
        (
            id.to_string(),
            json!({
                "kind": "document", "document_id": id, "owner": document.owner, "ordinal": -1, "passages": 1,
                "metadata": metadata, "uploaded_metadata": "{}", "created_at": 0, "created_micros": 7,
            }),
        ),
        (
            entries::passage_id(id, 0),
            json!({
                "kind": "passage", "document_id": id, "owner": document.owner, "ordinal": 0, "chunk_id": chunk.chunk_id,
                "content": chunk.content, "content_terms": chunk.content, "chunk_type": "prose", "text_start": 0,
                "text_end": 7, "metadata": metadata, "created_at": 0, "has_vector": true,
                "vector": STANDARD.encode(bits), "content_vector_general": vector,
            }),
        ),
    ];
    for (entry, source) in entries {
        let routing = if entry == "state" { entry.clone() } else { id.to_string() };
        let path = format!("/{name}/_doc/{entry}");
        let query = [("routing", &*routing), ("refresh", "true")];
        let _: Value = client.call(Method::Put, &path, &query, Some(&source)).await.unwrap();
    }
}

/// An index of an older format is searched until one of ours has caught up with it.
#[tokio::test]
async fn an_older_index_serves_until_it_is_rebuilt() {
    let server = Server::new();
    let options = server.options();
    let document = suite::document(1, OWNER, &["quorvex"]);
    let searches = ElasticIndex::open(&options, Role::Search).await.unwrap();
    let empty = searches.digest().await.unwrap();
    let first = layout::next_name(&searches.alias, None);
    older(&searches.client, &first, &searches.alias, &document).await;
    let searches = ElasticIndex::open(&options, Role::Search).await.unwrap();
    let all = SearchFilter::all_of(OWNER);
    let vector = document.vectors.general[0].clone().unwrap();
    let as_before = async || {
        assert_eq!((searches.checkpoint().await.unwrap(), searches.count().await.unwrap()), (Position(9), 1));
        assert_eq!(searches.model(Space::General).await.unwrap(), Some(manifest()));
        assert_eq!(searches.without_vectors().await.unwrap(), 0);
        assert_eq!(found(&searches, "quorvex").await, [(1, 0)]);
        let near = searches.nearest(Space::General, &vector, &all, 5).await.unwrap();
        assert_eq!(*near[0].chunk, document.chunks[0]);
        assert_eq!(searches.nearest(Space::Domain, &vector, &all, 5).await.unwrap(), []);
        let place = [(document.document_id, 0)];
        assert_eq!(searches.vectors(Space::General, &place).await.unwrap(), [Some(vector.clone())]);
        assert_eq!(searches.vectors(Space::Domain, &place).await.unwrap(), [None]);
        // It cannot know of sections, and says that nothing is in one.
        let section = SearchFilter { sections: vec!["A".to_owned()], ..all.clone() };
        assert_eq!(searches.keyword(&"quorvex".into(), &section, 5).await.unwrap(), []);
        let early = SearchFilter { created_before: Some(Timestamp(0)), ..all.clone() };
        assert_eq!(searches.keyword(&"quorvex".into(), &early, 5).await.unwrap(), []);
    };
    as_before().await;
    let [index, idle] = [open(&options).await, open(&options).await];
    // Whoever only opens it and looks, on whatever node, leaves it to those that feed it.
    let untouched = state::read(&searches.client, &first).await.unwrap();
    assert_eq!(untouched.as_ref().unwrap().state.epoch, 1);
    for index in [&index, &idle] {
        assert_eq!((index.checkpoint().await.unwrap(), index.count().await.unwrap()), (Position(0), 0));
        assert_eq!(found(index, "quorvex").await, []);
        assert_eq!(index.model(Space::General).await.unwrap(), None);
        assert!(!index.holds(document.document_id).await.unwrap());
        assert_eq!(index.digest().await.unwrap(), empty);
    }
    assert_eq!(state::read(&searches.client, &first).await.unwrap(), untouched);
    assert_eq!(layout::list(&searches.client, &searches.alias).await.unwrap().len(), 1);
    as_before().await;
    fill(&index, std::slice::from_ref(&document), 8).await;
    as_before().await;
    assert_eq!((idle.checkpoint().await.unwrap(), idle.count().await.unwrap()), (Position(8), 1));
    // Another one goes on with what was begun.
    drop(index);
    let index = open(&options).await;
    assert_eq!(index.checkpoint().await.unwrap(), Position(8));
    index.commit(Position(9)).await.unwrap();
    let left = layout::list(&index.client, &index.alias).await.unwrap();
    assert!(left.len() == 1 && left[0].is_serving && left[0].name.ends_with("-000002"), "{left:?}");
    assert_eq!(searches.digest().await.unwrap(), index.digest().await.unwrap());
    assert_eq!(found(&searches, "quorvex").await, [(1, 0)]);
    server.clean().await;
}

/// An index is taken from its writers even while they write: each of several succeeds.
#[tokio::test]
async fn an_index_is_retired_while_others_write() {
    let server = Server::new();
    let index = open(&server.options()).await;
    fill(&index, &[], 1).await;
    let name = layout::list(&index.client, &index.alias).await.unwrap().remove(0).name;
    let before = state::read(&index.client, &name).await.unwrap().unwrap().state.epoch;
    // Fewer than attempts: whoever fails was outrun by one that did not.
    let writers = (1..6).map(|id| succession::retire(&index.client, &name, Uuid::from_u128(id)));
    for retired in futures::future::join_all(writers).await {
        retired.unwrap();
    }
    assert_eq!(state::read(&index.client, &name).await.unwrap().unwrap().state.epoch, before + 5);
    server.clean().await;
}
