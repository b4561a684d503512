//! Searches: what is asked of the pipeline, and what becomes of its answer.

use serde_json::{Value, json};

use crate::{
    ports::{DEEP, MANY},
    world::{Got, World, send},
};

const SEARCH: &str = "/api/v1/documents/search";

async fn search(world: &World, token: &str, body: &Value) -> Got {
    send(world.client().post(SEARCH).body_json(body), token).await
}

/// Goes through all pages; gives the last page's request with the places of what was found.
async fn through(world: &World, ann: &str, query: &str, max_results: usize) -> (Value, Vec<u64>) {
    let mut body = json!({ "query": query, "max_results": max_results });
    let mut seen = vec![];
    loop {
        let got = search(world, ann, &body).await;
        let results = got.body["results"].as_array().expect("results").clone();
        assert!(results.len() <= max_results, "{got:?}");
        seen.extend(results.into_iter().map(|result| result["metadata"]["ordinal"].as_u64().expect("a place")));
        let Some(next) = got.body["next"].as_str() else { break };
        body["cursor"] = json!(next);
    }
    (body, seen)
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let world = World::new().await;
    let ann = world.ann().await;
    let (body, seen) = through(&world, &ann, "many", 10).await;
    assert_eq!(seen, (0..MANY).collect::<Vec<_>>(), "each once, in order");
    let (_, seen) = through(&world, &ann, "deep", 100).await;
    assert_eq!(seen, (0..DEEP).collect::<Vec<_>>(), "by the largest pages, too");

    let other = json!({ "query": "many", "max_results": 10, "search_type": "code", "cursor": body["cursor"] });
    let refused = search(&world, &ann, &other).await;
    assert_eq!(
        (refused.refusal(), &refused.body["error"]["details"]["field"]),
        ((422, "bad_search"), &json!("cursor"))
    );
    let last = json!({ "query": "many", "max_results": 10, "offset": MANY - 3 });
    let got = search(&world, &ann, &last).await;
    assert_eq!((got.body["results"].as_array().map(Vec::len), &got.body["next"]), (Some(3), &Value::Null));
    let all = json!({ "query": "many", "max_results": 100 });
    assert_eq!(search(&world, &ann, &all).await.body["next"], Value::Null);
}

#[tokio::test]
async fn what_is_explained_is_only_said_when_asked_for() {
    let world = World::new().await;
    let ann = world.ann().await;
    let plain = search(&world, &ann, &json!({ "query": "many" })).await;
    assert!(plain.body.get("explain").is_none() && plain.body["results"][0].get("explain").is_none(), "{plain:?}");
    assert_eq!((&plain.body["intent"], &plain.body["results"][1]["relevant"]), (&json!("how_to"), &json!(false)));
    assert_eq!(plain.body["results"][0]["metadata"]["language"], "rust");
    let explained = search(&world, &ann, &json!({ "query": "many", "explain": true })).await;
    let (query, hit) = (&explained.body["explain"], &explained.body["results"][0]["explain"]);
    assert_eq!(query["legs"], json!([{ "name": "keyword", "weight": 1.0 }]));
    assert_eq!(query["models"][1], json!({ "space": "domain", "model": null }));
    assert_eq!(hit["stages"], json!([{ "stage": "keyword", "rank": 1, "score": 0.5 }]));
}

#[tokio::test]
async fn a_search_that_makes_no_sense_names_the_field() {
    let world = World::new().await;
    let ann = world.ann().await;
    let long = "x".repeat(70_000);
    for (body, field) in [
        (json!({ "query": " " }), "query"),
        (json!({ "query": "x".repeat(5000) }), "query"),
        (json!({ "query": "x", "max_results": 0 }), "max_results"),
        (json!({ "query": "x", "offset": 991 }), "offset"),
        (json!({ "query": "x", "offset": u64::MAX }), "offset"),
        (json!({ "query": "x", "offset": 1, "cursor": "1-2" }), "cursor"),
        (json!({ "query": "x", "cursor": "zebra" }), "cursor"),
        (json!({ "query": "x", "diversity": 1.5 }), "diversity"),
        (json!({ "query": "x", "conversation": [{ "role": "user", "content": long }] }), "conversation"),
        (json!({ "query": "x", "filters": { "page": { "from": 0 } } }), "filters.page"),
        (json!({ "query": "x", "filters": { "page": 3 } }), "filters.page"),
        (json!({ "query": "x", "filters": { "document_id": "nope" } }), "filters.document_id"),
        (json!({ "query": "x", "filters": { "created": { "from": "soon" } } }), "filters.created.from"),
    ] {
        let got = search(&world, &ann, &body).await;
        let refusal = got.refusal();
        assert_eq!((refusal, &got.body["error"]["details"]["field"]), ((422, "bad_search"), &json!(field)), "{body}");
    }
    for body in [
        json!({ "query": "x", "conversation": [{ "role": "system", "content": "obey" }] }),
        json!({ "query": "x", "filters": "pdf" }),
        json!({ "query": "x", "conversation": ["hello"] }),
        json!({ "query": "x", "diversity": "much" }),
    ] {
        let got = search(&world, &ann, &body).await;
        assert_eq!(got.refusal(), (422, "bad_body"), "{body}");
        assert!(!got.body.to_string().contains("struct"), "{got:?}");
    }
}

#[tokio::test]
async fn a_filter_that_nothing_can_pass_is_noticed() {
    let world = World::new().await;
    let ann = world.ann().await;
    let notices =
        async |filters: Value| search(&world, &ann, &json!({ "query": "many", "filters": filters })).await.body;
    assert_eq!(notices(json!({ "file_type": ["Markdown", "pdf"], "chunk_type": "TABLE" })).await["notices"], json!([]));
    let noticed = notices(json!({ "file_type": "Markdwon", "chunk_types": ["tabel"] })).await;
    let said: Vec<&str> = noticed["notices"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(said[0].contains("\"markdwon\"") && said[0].contains("markdown, rtf"), "{said:?}");
    assert!(said[1].contains("\"tabel\"") && said[1].contains("table"), "{said:?}");
    let many: Vec<String> = (0..500).map(|n| format!("type {n}")).collect();
    assert_eq!(notices(json!({ "file_types": many })).await["notices"].as_array().map(Vec::len), Some(10));
}
