use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use lmao_events::{AnyEvent, Category, StreamId, document, user};
use lmao_ports::{
    Hit, Projection as _, SearchFilter, SearchType,
    conformance::{
        fixtures::{History, blob},
        search as suite,
    },
};
use serde_json::json;

use super::*;
use crate::{cache::MemoryCache, index::EmbeddedIndex, sqlite::SqliteReadModel};

const ANN: Uuid = Uuid::from_u128(0xA);
const BOB: Uuid = Uuid::from_u128(0xB);

/// Searches by words alone, and counts how often.
#[derive(Debug)]
struct Words {
    index: Arc<dyn SearchIndex>,
    searches: AtomicU32,
}

#[async_trait]
impl Retriever for Words {
    async fn search(&self, request: SearchRequest) -> Result<SearchResults, SearchError> {
        self.searches.fetch_add(1, Ordering::SeqCst);
        let hits = self.index.keyword(&request.query.as_str().into(), &request.filter, request.max_results).await?;
        let hit = |found: lmao_ports::LegHit| Hit { score: 0.25, similarity: Some(0.1), ..Hit::from(found) };
        let hits: Vec<Hit> = hits.into_iter().map(hit).collect();
        let notices = if request.query == "half" { vec!["a leg is off".to_owned()] } else { vec![] };
        let partial = request.query == "loading";
        Ok(SearchResults { total: hits.len(), hits, notices, partial, ..SearchResults::default() })
    }
}

struct Bench {
    index: Arc<dyn SearchIndex>,
    tables: Arc<SqliteReadModel>,
    history: History,
    words: Arc<Words>,
    searches: RememberedSearches,
}

impl Bench {
    async fn at(dir: &Path) -> Self {
        let index: Arc<dyn SearchIndex> = Arc::new(EmbeddedIndex::open(dir).await.unwrap());
        let words = Arc::new(Words { index: Arc::clone(&index), searches: AtomicU32::new(0) });
        let tables = Arc::new(SqliteReadModel::open(&dir.join("tables.db")).await.unwrap());
        let cache = Arc::new(MemoryCache::new(1 << 20));
        let searches =
            RememberedSearches::new(Arc::clone(&words) as _, Arc::clone(&index), Arc::clone(&tables) as _, cache);
        Self { index, tables, history: History::default(), words, searches }
    }

    /// The tables come to know of this.
    async fn happened(&mut self, stream: StreamId, event: impl Into<AnyEvent>) {
        self.history.commit(stream, [event.into()]);
        self.tables.apply(&self.history.commits[self.history.commits.len() - 1..]).await.unwrap();
    }

    async fn uploaded(&mut self, id: u128, owner: Uuid) {
        let (filename, content, metadata) = (format!("{id}.txt"), blob(u8::try_from(id).unwrap()), json!({}));
        let uploaded = document::Event::from(document::Uploaded { owner, filename, content, metadata, attempt: None });
        self.happened(StreamId::new(Category::Document, Uuid::from_u128(id)), AnyEvent::Document(uploaded)).await;
    }

    async fn add(&self, id: u128, owner: Uuid, checkpoint: u64) {
        self.index.put(suite::document(id, owner, &["quorvex plimbo"])).await.unwrap();
        self.index.commit(Position(checkpoint)).await.unwrap();
    }

    /// Documents found, and searches that were made since the start.
    async fn found(&self, request: SearchRequest) -> (Vec<Hit>, u32) {
        let results = self.searches.search(request).await.unwrap();
        (results.hits, self.words.searches.load(Ordering::SeqCst))
    }
}

fn request(owner: Uuid) -> SearchRequest {
    SearchRequest::new("quorvex".to_owned(), SearchFilter::all_of(owner), 10, SearchType::Hybrid)
}

#[tokio::test]
async fn a_search_is_made_once_until_the_index_changes() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::at(dir.path()).await;
    bench.index.use_model(lmao_ports::Space::General, &suite::manifest("suite", suite::DIMENSIONS)).await.unwrap();
    bench.add(1, ANN, 1).await;
    let (first, searches) = bench.found(request(ANN)).await;
    assert_eq!((first.len(), searches), (1, 1));
    assert_eq!(bench.found(request(ANN)).await, (first, 1), "the very same, from the cache");

    bench.add(2, ANN, 2).await;
    let (second, searches) = bench.found(request(ANN)).await;
    assert_eq!((second.len(), searches), (2, 2), "a commit is seen at once");
    bench.index.delete(second[0].document_id).await.unwrap();
    bench.index.commit(Position(3)).await.unwrap();
    assert_eq!(bench.found(request(ANN)).await.0.len(), 1, "what was deleted is not found");
}

#[tokio::test]
async fn nobody_is_shown_what_was_found_for_another_person_or_another_question() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::at(dir.path()).await;
    bench.index.use_model(lmao_ports::Space::General, &suite::manifest("suite", suite::DIMENSIONS)).await.unwrap();
    bench.add(1, ANN, 1).await;
    assert_eq!(bench.found(request(ANN)).await.0.len(), 1);
    assert_eq!(bench.found(request(BOB)).await, (vec![], 2));
    let narrower = SearchFilter { filenames: vec!["other".to_owned()], ..SearchFilter::all_of(ANN) };
    assert_eq!(bench.found(SearchRequest { filter: narrower, ..request(ANN) }).await, (vec![], 3));
    let further = SearchRequest { offset: 1, ..request(ANN) };
    assert_eq!(bench.found(further).await.1, 4);
}

#[tokio::test]
async fn what_was_found_in_part_or_is_to_be_explained_is_searched_again() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::at(dir.path()).await;
    let half = || SearchRequest { query: "half".to_owned(), ..request(ANN) };
    assert_eq!(bench.searches.search(half()).await.unwrap().notices, ["a leg is off"]);
    assert_eq!(bench.found(half()).await.1, 2);
    let loading = || SearchRequest { query: "loading".to_owned(), ..request(ANN) };
    assert!(bench.searches.search(loading()).await.unwrap().notices.is_empty());
    assert_eq!(bench.found(loading()).await.1, 4, "partial without a word");
    let explained = || SearchRequest { explain: Explain::Yes, ..request(ANN) };
    assert_eq!((bench.found(explained()).await.1, bench.found(explained()).await.1), (5, 6));
}

#[tokio::test]
async fn without_the_index_there_is_what_was_found_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path()).await;
    bench.index.use_model(lmao_ports::Space::General, &suite::manifest("suite", suite::DIMENSIONS)).await.unwrap();
    let (username, email) = ("ann".to_owned(), "ann@example.org".to_owned());
    let ann = user::Event::from(user::Registered { id: ANN, username, email, role: user::Role::User });
    bench.happened(StreamId::new(Category::User, ANN), AnyEvent::User(ann)).await;
    for id in [1, 2] {
        bench.uploaded(id, ANN).await;
        bench.add(id, ANN, 5 + u64::try_from(id).unwrap()).await;
    }
    let before = async |bench: &Bench, request: &SearchRequest| {
        let away = Unavailable::plain("index", "away");
        bench.searches.before(&key(request).unwrap(), request.filter.owner, away).await
    };
    assert!(matches!(before(&bench, &request(ANN)).await, Err(SearchError::Index(IndexError::Unavailable(_)))));
    let found = bench.found(request(ANN)).await.0;
    let results = before(&bench, &request(ANN)).await.unwrap();
    assert_eq!((results.hits.len(), &results.hits), (2, &found));
    assert!(results.notices[0].contains("from the cache, as of position 7"), "{:?}", results.notices);
    assert!(before(&bench, &request(BOB)).await.is_err());

    let deleted = found[0].document_id;
    let event = document::Event::from(document::Deleted {});
    bench.happened(StreamId::new(Category::Document, deleted), AnyEvent::Document(event)).await;
    let results = before(&bench, &request(ANN)).await.unwrap();
    assert_eq!(results.hits, found[1..], "what was deleted meanwhile is not shown");
}
