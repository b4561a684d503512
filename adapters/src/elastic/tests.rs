mod eval;
mod layouts;

use std::sync::Mutex as Lock;

use lmao_ports::{Vectors, conformance::search as suite};

use super::*;

/// A server, and names on it that nobody else has. Removes them at the end.
struct Server {
    options: Lock<Vec<ElasticOptions>>,
}

impl Server {
    fn new() -> Self {
        Self { options: Lock::default() }
    }

    fn options(&self) -> ElasticOptions {
        let url = std::env::var("LMAO_TEST_ELASTICSEARCH")
            .expect("LMAO_TEST_ELASTICSEARCH is not set: run the tests with cargo xtask test");
        let prefix = format!("test-{}", Uuid::new_v4().simple());
        let options: ElasticOptions = format!("elasticsearch+{url}?prefix={prefix}&replicas=0").parse().unwrap();
        self.options.lock().unwrap().push(options.clone());
        options
    }

    async fn clean(&self) {
        let options = std::mem::take(&mut *self.options.lock().unwrap());
        for options in options {
            ElasticIndex::erase(&options).await.unwrap();
        }
    }
}

async fn open(options: &ElasticOptions) -> ElasticIndex {
    ElasticIndex::open(options, Role::Project).await.unwrap()
}

#[tokio::test]
async fn keeps_the_ports_promises() {
    let server = Server::new();
    let open_at = Lock::new(std::collections::HashMap::new());
    let remember = |index: ElasticIndex, options: ElasticOptions| {
        let index = Arc::new(index) as Arc<dyn SearchIndex>;
        open_at.lock().unwrap().insert(Arc::as_ptr(&index).cast::<()>() as usize, options);
        index
    };
    let new = async || {
        let options = server.options();
        remember(open(&options).await, options)
    };
    let reopen = async |index: Arc<dyn SearchIndex>| {
        let options = open_at.lock().unwrap()[&(Arc::as_ptr(&index).cast::<()>() as usize)].clone();
        drop(index);
        remember(open(&options).await, options)
    };
    suite::all(new, reopen).await;
    server.clean().await;
}

const OWNER: Uuid = Uuid::from_u128(0xA);

fn manifest() -> ModelManifest {
    suite::manifest("suite", suite::DIMENSIONS)
}

async fn fill(index: &dyn SearchIndex, documents: &[IndexedDocument], checkpoint: u64) {
    index.use_model(Space::General, &manifest()).await.unwrap();
    for document in documents {
        index.put(document.clone()).await.unwrap();
    }
    index.commit(Position(checkpoint)).await.unwrap();
}

async fn found(index: &dyn SearchIndex, query: &str) -> Vec<(u128, u32)> {
    let hits = index.keyword(&query.into(), &SearchFilter::all_of(OWNER), 1_000).await.unwrap();
    let mut places: Vec<_> = hits.iter().map(|hit| (hit.document_id.as_u128(), hit.chunk.ordinal)).collect();
    places.sort_unstable();
    places
}

/// Equal contents have equal digests, and equal questions equal answers, in this index and the embedded one.
#[tokio::test]
async fn it_answers_as_the_embedded_index_does() {
    let server = Server::new();
    let index = open(&server.options()).await;
    let dir = tempfile::tempdir().unwrap();
    let embedded = crate::index::EmbeddedIndex::open(dir.path()).await.unwrap();
    let mut documents: Vec<_> = (1..30)
        .map(|id| {
            let first = format!(
                "quorvex {} parse_http_request said krelm",
                "vostrik ".repeat(usize::try_from(id).unwrap() % 7)
            );
            suite::document(id, OWNER, &[&first, "plimbo zandrel the HTTPRequest", "Straße 東京"])
        })
        .collect();
    for (n, document) in documents.iter_mut().enumerate() {
        document.chunks[1].section = (n % 3 == 0).then(|| "Borrow > Checker krelm".to_owned());
        document.metadata = serde_json::json!({ "weight": 0.1, "big": u64::MAX, "tags": ["a", 1], "z": null, "a": n });
        document.created_at = lmao_events::Timestamp(1_700_000_000_123_456 + i64::try_from(n).unwrap());
    }
    // Halves, odd lengths and the smallest numbers: all bits have to come back.
    documents[3].vectors.general[0] = Some(vec![0.0; suite::DIMENSIONS]);
    documents[4].vectors.general[1] = Some((0..suite::DIMENSIONS).map(|n| (n as f32 + 1.0) / 3.0).collect());
    documents[5].vectors.general[2].as_mut().unwrap()[0] = f32::MIN_POSITIVE / 8.0;
    documents[6].vectors = Vectors::default();
    documents[7].chunks.clear();
    documents[7].vectors = Vectors::default();
    for index in [&index as &dyn SearchIndex, &embedded] {
        fill(index, &documents, 7).await;
    }
    assert_eq!(index.digest().await.unwrap(), embedded.digest().await.unwrap());
    assert_eq!(index.count().await.unwrap(), embedded.count().await.unwrap());
    assert_eq!(index.without_vectors().await.unwrap(), embedded.without_vectors().await.unwrap());
    for query in [
        "quorvex",
        "vostrik",
        "parse_http_request",
        "http request",
        "\"http request said\"",
        "\"parse_http_request said krelm\"",
        "what is the borrow checker",
        "\"borrow checker\"",
        "strasse",
        "東京",
        "\"東京\"",
        "nothing of this",
    ] {
        assert_eq!(found(&index, query).await, found(&embedded, query).await, "{query}");
    }
    let all = SearchFilter::all_of(OWNER);
    let wanted: Vec<_> = documents.iter().map(|document| (document.document_id, 1)).collect();
    assert_eq!(index.chunks(&wanted).await.unwrap(), embedded.chunks(&wanted).await.unwrap());
    for seed in 0..5 {
        let query = suite::vector(seed * 31 + 5, suite::DIMENSIONS);
        let (ours, theirs) = (
            index.nearest(Space::General, &query, &all, 20).await.unwrap(),
            embedded.nearest(Space::General, &query, &all, 20).await.unwrap(),
        );
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a.score - b.score).abs() < 1e-5, "{} is not {}", a.score, b.score);
        }
    }
    server.clean().await;
}

/// While an index is rebuilt searches see the old one; from the old one's checkpoint on, the new one, and the old one is gone.
#[tokio::test]
async fn searches_go_on_during_a_rebuild() {
    let server = Server::new();
    let options = server.options();
    let index = open(&options).await;
    let searches = ElasticIndex::open(&options, Role::Search).await.unwrap();
    let documents: Vec<_> = (1..4).map(|id| suite::document(id, OWNER, &["quorvex", "plimbo"])).collect();
    fill(&index, &documents, 9).await;
    let digest = searches.digest().await.unwrap();
    let error = searches.put(documents[0].clone()).await.unwrap_err();
    assert!(error.to_string().contains("opened for searching"), "{error}");

    index.reset().await.unwrap();
    let old = (
        searches.checkpoint().await.unwrap(),
        searches.count().await.unwrap(),
        found(&searches, "quorvex").await.len(),
    );
    assert_eq!(old, (Position(9), 6, 3));
    assert_eq!((index.checkpoint().await.unwrap(), index.count().await.unwrap()), (Position(0), 0));
    // Broken off, and begun once more: what was half built goes.
    fill(&index, &documents[..1], 3).await;
    assert_eq!(index.count().await.unwrap(), 2);
    index.reset().await.unwrap();
    assert_eq!((index.checkpoint().await.unwrap(), searches.count().await.unwrap()), (Position(0), 6));
    fill(&index, &documents[..2], 8).await;
    assert_eq!(searches.digest().await.unwrap(), digest, "searches saw half of it");

    // Another process goes on with it, and finishes.
    drop(index);
    let index = open(&options).await;
    assert_eq!(index.checkpoint().await.unwrap(), Position(8));
    fill(&index, &documents[2..], 9).await;
    assert_eq!((searches.digest().await.unwrap(), index.digest().await.unwrap()), (digest, digest));
    let found = layout::list(&index.client, &index.alias).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].is_serving && found[0].name.ends_with("-000003"), "{found:?}");

    // An end without changes counts, too.
    index.reset().await.unwrap();
    fill(&index, &documents, 8).await;
    index.commit(Position(9)).await.unwrap();
    assert_eq!(layout::list(&index.client, &index.alias).await.unwrap().len(), 1);
    assert_eq!((searches.checkpoint().await.unwrap(), searches.digest().await.unwrap()), (Position(9), digest));
    server.clean().await;
}

/// A writer that dies between its passages and its state: what comes again leaves nothing over.
#[tokio::test]
async fn what_a_dead_writer_left_is_replaced() {
    let server = Server::new();
    let options = server.options();
    let index = open(&options).await;
    fill(&index, &[suite::document(1, OWNER, &["quorvex"])], 4).await;
    let digest = index.digest().await.unwrap();
    let writer = index.feeder.as_ref().unwrap().writer.clone();
    writer.lock().await.room = 0;
    // Sent ahead, seen by nobody; then replaced by less within the same commit that never comes.
    index.put(suite::document(1, OWNER, &["zandrel", "zandrel", "zandrel"])).await.unwrap();
    index.put(suite::document(2, OWNER, &["zandrel", "zandrel"])).await.unwrap();
    assert_eq!((found(&index, "zandrel").await, index.digest().await.unwrap()), (vec![], digest));
    index.put(suite::document(2, OWNER, &["zandrel"])).await.unwrap();
    drop(index);
    let index = open(&options).await;
    assert_eq!(index.checkpoint().await.unwrap(), Position(4));
    fill(&index, &[suite::document(1, OWNER, &["quorvex", "plimbo"]), suite::document(2, OWNER, &["plimbo"])], 6).await;
    assert_eq!(found(&index, "zandrel").await, []);
    assert_eq!(found(&index, "quorvex plimbo").await, [(1, 0), (1, 1), (2, 0)]);
    assert_eq!((index.count().await.unwrap(), index.checkpoint().await.unwrap()), (3, Position(6)));
    // The same within one writer's life.
    index.feeder.as_ref().unwrap().writer.lock().await.room = 0;
    index.put(suite::document(3, OWNER, &["zandrel", "zandrel"])).await.unwrap();
    index.put(suite::document(3, OWNER, &["quorvex"])).await.unwrap();
    index.put(suite::document(4, OWNER, &["zandrel"])).await.unwrap();
    index.delete(Uuid::from_u128(4)).await.unwrap();
    index.commit(Position(7)).await.unwrap();
    assert_eq!((found(&index, "zandrel").await, index.count().await.unwrap()), (vec![], 4));
    assert!(!index.holds(Uuid::from_u128(4)).await.unwrap());
    server.clean().await;
}

/// Two processes feed one index: the later one wins, the other learns it, and nothing that it sends late counts.
#[tokio::test]
async fn a_second_writer_takes_over() {
    let server = Server::new();
    let options = server.options();
    let (one, two) = (open(&options).await, open(&options).await);
    fill(&one, &[suite::document(1, OWNER, &["quorvex", "plimbo"])], 4).await;
    assert_eq!(two.checkpoint().await.unwrap(), Position(4), "one that stands by sees how far the other is");
    one.put(suite::document(1, OWNER, &["zandrel"])).await.unwrap();
    two.use_model(Space::General, &manifest()).await.unwrap();
    fill(&two, &[suite::document(1, OWNER, &["vostrik"])], 6).await;
    let error = one.commit(Position(5)).await.unwrap_err();
    assert!(error.to_string().contains("another process feeds the index"), "{error}");
    assert_eq!(found(&one, "quorvex plimbo zandrel vostrik").await, [(1, 0)]);
    assert_eq!(found(&one, "vostrik").await, [(1, 0)]);
    assert_eq!(one.checkpoint().await.unwrap(), Position(6));
    // It goes on from there, and now the other one has to look again.
    fill(&one, &[suite::document(2, OWNER, &["krelm"])], 7).await;
    two.put(suite::document(3, OWNER, &["zandrel"])).await.unwrap();
    two.commit(Position(7)).await.unwrap_err();
    assert_eq!(two.checkpoint().await.unwrap(), Position(7));
    // Passages on their way from before are refused, one by one.
    let late =
        entries::prepare(&suite::document(2, OWNER, &["zandrel"]), BySpace::each(|_| Some(suite::DIMENSIONS))).unwrap();
    let own = layout::own(&one.target().await.unwrap());
    let ops: Vec<_> = late.ops(Uuid::from_u128(2)).collect();
    assert!(matches!(one.client.bulk(&own, 1, &ops).await, Err(Error::Fenced)));
    assert!(matches!(one.client.bulk("test-nothing-own", 1, &ops).await, Err(error) if error.is_missing_index()));
    one.delete(Uuid::from_u128(9)).await.unwrap();
    one.commit(Position(8)).await.unwrap();
    assert_eq!((found(&one, "zandrel").await, found(&one, "krelm").await), (vec![], vec![(2, 0)]));
    // A reset elsewhere is noticed, too.
    two.reset().await.unwrap();
    one.put(suite::document(5, OWNER, &["zandrel"])).await.unwrap();
    one.commit(Position(9)).await.unwrap_err();
    assert_eq!((one.checkpoint().await.unwrap(), one.count().await.unwrap()), (Position(0), 0));
    server.clean().await;
}

/// What the server made of the request is what is committed.
#[tokio::test]
async fn the_servers_mapping_is_the_golden_one() {
    let server = Server::new();
    let index = open(&server.options()).await;
    index.use_model(Space::General, &suite::manifest("general", 768)).await.unwrap();
    let name = index.target().await.unwrap();
    let held: serde_json::Value =
        index.client.call(elasticsearch::http::Method::Get, &format!("/{name}"), &[], None).await.unwrap();
    let mut golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../schemas/elasticsearch/chunks.json")).unwrap();
    let mut mapping = held[&name]["mappings"].clone();
    // The domain's model is not known yet.
    golden["mappings"]["properties"]["content_vector_domain"].as_object_mut().unwrap().remove("dims");
    // The server does not repeat what an object is.
    golden["mappings"]["properties"]["metadata"].as_object_mut().unwrap().remove("type");
    for mapping in [&mut golden["mappings"], &mut mapping] {
        mapping.as_object_mut().unwrap().retain(|name, _| name != "dynamic");
    }
    assert_eq!(mapping, golden["mappings"]);
    assert_eq!(held[&name]["mappings"]["dynamic"], "strict");
    let settings = &held[&name]["settings"]["index"];
    assert_eq!((&settings["number_of_shards"], &settings["number_of_replicas"]), (&"3".into(), &"0".into()));
    assert_eq!(settings["similarity"]["default"]["k1"], "1.2");
    server.clean().await;
}

/// A server that is away, or cannot write, is told apart from a mistake, and what was staged is written later.
#[tokio::test]
async fn what_cannot_be_done_now_is_done_later() {
    let server = Server::new();
    let index = open(&server.options()).await;
    fill(&index, &[suite::document(1, OWNER, &["quorvex"])], 1).await;
    let name = index.target().await.unwrap();
    let block = async |value: serde_json::Value| {
        let body = serde_json::json!({ "index.blocks.read_only_allow_delete": value });
        let path = format!("/{name}/_settings");
        let _: serde_json::Value =
            index.client.call(elasticsearch::http::Method::Put, &path, &[], Some(&body)).await.unwrap();
    };
    // What the server does by itself when a disk is nearly full.
    block(true.into()).await;
    index.put(suite::document(2, OWNER, &["plimbo"])).await.unwrap();
    let error = index.commit(Position(2)).await.unwrap_err();
    assert!(matches!(error, IndexError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!((found(&index, "quorvex").await.len(), index.checkpoint().await.unwrap()), (1, Position(1)));
    block(serde_json::Value::Null).await;
    // Whoever is told of the failure begins anew at the checkpoint.
    index.put(suite::document(2, OWNER, &["plimbo"])).await.unwrap();
    index.commit(Position(2)).await.unwrap();
    assert_eq!((found(&index, "plimbo").await.len(), index.checkpoint().await.unwrap()), (1, Position(2)));

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away: ElasticOptions = format!("elasticsearch+http://me:s3cret@{free}").parse().unwrap();
    for role in [Role::Search, Role::Project] {
        // It may come later.
        let index = ElasticIndex::open(&away, role).await.unwrap();
        assert!(matches!(index.standing(), Standing::Down { .. }), "it was tried often enough");
        let error = index.checkpoint().await.unwrap_err();
        assert!(error.to_string().contains("cannot be reached"), "{error}");
        assert!(!format!("{error:?} {index:?}").contains("s3cret"), "{error:?}");
    }
    server.clean().await;
}

/// Commits that change nothing move the checkpoint, for other nodes, too: they wait for it.
#[tokio::test]
async fn empty_commits_move_the_checkpoint_for_everybody() {
    let server = Server::new();
    let options = server.options();
    let index = open(&options).await;
    fill(&index, &[suite::document(1, OWNER, &["quorvex"])], 4).await;
    let elsewhere = open(&options).await;
    for checkpoint in 5..20 {
        index.commit(Position(checkpoint)).await.unwrap();
        assert_eq!(index.checkpoint().await.unwrap(), Position(checkpoint));
        assert_eq!(elsewhere.checkpoint().await.unwrap(), Position(checkpoint));
    }
    assert_eq!(elsewhere.count().await.unwrap(), 1);
    server.clean().await;
}
