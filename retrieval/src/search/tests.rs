use std::sync::Arc;

use async_trait::async_trait;
use lmao_ports::{
    ChatMessage, ChatRole, EmbedError, Embedder, Explain, Hit, IndexError, Intent, ModelManifest, Reranker,
    RerankerState, Reranking, Retriever, SearchError, SearchFilter, SearchRequest, SearchResults, SearchType,
    SemanticState, Stages, TokenSpan,
};
use uuid::Uuid;

use super::{
    Hybrid,
    fakes::{HashedWords, Leg, MemoryIndex, hit},
};

const PASSAGES: [&str; 4] = [
    "A reference borrows a value and must not outlive it.",
    "The borrow checker compares scopes to see that borrows are valid.",
    "Cargo builds packages and downloads their dependencies.",
    "A reference borrows a value and must not outlive it.",
];

fn request(query: &str, search_type: SearchType) -> SearchRequest {
    SearchRequest::new(query.to_owned(), SearchFilter::all_of(Uuid::nil()), 10, search_type)
}

async fn search(
    index: MemoryIndex,
    leg: Arc<Leg>,
    query: &str,
    search_type: SearchType,
) -> Result<SearchResults, SearchError> {
    Hybrid::new(Arc::new(index), leg).search(request(query, search_type)).await
}

#[tokio::test]
async fn both_legs_are_fused_and_repeated_passages_left_out() {
    let found =
        search(MemoryIndex::of(&PASSAGES), Leg::ready(), "what does the borrow checker compare", SearchType::Hybrid);
    let found = found.await.unwrap();
    assert_eq!(found.hits[0].content, PASSAGES[1]);
    assert!(found.hits[0].score > 0.5 && found.hits[0].score <= 1.0, "the first of both legs");
    assert!(found.hits[0].similarity.is_some());
    assert_eq!(found.hits.iter().filter(|hit| hit.content == PASSAGES[0]).count(), 1);
    assert_eq!(found.total, found.hits.len());
    assert!(found.notices.is_empty());
}

#[tokio::test]
async fn max_results_cuts_and_total_does_not() {
    let hybrid = Hybrid::new(Arc::new(MemoryIndex::of(&PASSAGES)), Leg::ready());
    let found = hybrid.search(SearchRequest { max_results: 1, ..request("borrow", SearchType::Hybrid) }).await.unwrap();
    assert_eq!((found.hits.len(), found.total > 1), (1, true));
}

#[tokio::test]
async fn without_a_model_hybrid_goes_on_by_keyword_and_says_why() {
    let loading = Leg::both(SemanticState::Loading("downloading 40 %".to_owned()));
    for (leg, why) in [(Leg::off(), "no model could be had"), (loading, "downloading 40 %")] {
        let index = || MemoryIndex::of(&PASSAGES);
        let found = search(index(), Arc::clone(&leg), "borrow", SearchType::Hybrid).await.unwrap();
        assert!(!found.hits.is_empty() && found.hits.iter().all(|hit| hit.similarity.is_none()));
        assert!(found.notices[0].contains(why) && found.notices[0].contains("keyword only"), "{:?}", found.notices);
        let refused = search(index(), Arc::clone(&leg), "borrow", SearchType::Semantic).await;
        assert!(matches!(refused, Err(SearchError::SemanticOff(reason)) if reason == why));
        assert!(search(index(), leg, "borrow", SearchType::Keyword).await.unwrap().notices.is_empty());
    }
}

#[tokio::test]
async fn vectors_of_another_model_are_not_compared() {
    let other = ModelManifest { id: "other".to_owned(), ..HashedWords::default().0 };
    let index = || MemoryIndex { model: Some(other.clone()), ..MemoryIndex::of(&PASSAGES) };
    let found = search(index(), Leg::ready(), "borrow", SearchType::Hybrid).await.unwrap();
    assert!(found.notices[0].contains("vectors of other") && found.notices[0].contains("reembed"));
    assert!(!found.hits.is_empty());
    let refused = search(index(), Leg::ready(), "borrow", SearchType::Semantic).await;
    assert!(matches!(refused, Err(SearchError::Index(IndexError::OtherModel { .. }))));
}

#[tokio::test]
async fn an_index_without_vectors_says_so_when_it_has_passages() {
    let index = |passages: &[&str]| MemoryIndex { model: None, ..MemoryIndex::of(passages) };
    let found = search(index(&PASSAGES), Leg::ready(), "borrow", SearchType::Hybrid).await.unwrap();
    assert!(found.notices[0].contains("no vectors yet"));
    let found = search(index(&[]), Leg::ready(), "borrow", SearchType::Hybrid).await.unwrap();
    assert!(found.hits.is_empty() && found.notices.is_empty());
}

#[tokio::test]
async fn a_semantic_search_of_an_index_without_vectors_finds_nothing_and_says_why() {
    let index = MemoryIndex { model: None, ..MemoryIndex::of(&PASSAGES) };
    // That there is no code model has nothing to do with it.
    let leg = Leg::with_domain(SemanticState::Off("no code model is configured".to_owned()));
    let found = search(index, leg, "borrow", SearchType::Semantic).await.unwrap();
    assert_eq!((found.hits.len(), found.notices.len()), (0, 1), "{:?}", found.notices);
    assert!(found.notices[0].contains("no vectors yet") && found.notices[0].contains("reembed"));
    let refused = search(MemoryIndex::of(&PASSAGES), Leg::off(), "borrow", SearchType::Semantic).await;
    assert!(matches!(refused, Err(SearchError::SemanticOff(reason)) if reason == "no model could be had"));
}

/// Embeds questions, and cannot embed passages.
#[derive(Debug)]
struct NoBackground(HashedWords);

#[async_trait]
impl Embedder for NoBackground {
    fn manifest(&self) -> &ModelManifest {
        self.0.manifest()
    }
    async fn passages(&self, _: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        Err(EmbedError::Model { model: self.0.0.id.clone(), message: "it is busy".to_owned() })
    }
    async fn query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        self.0.query(text).await
    }
    fn tokens(&self, text: &str) -> Vec<TokenSpan> {
        self.0.tokens(text)
    }
}

#[tokio::test]
async fn what_may_be_there_the_next_time_makes_results_partial_without_a_word() {
    let index = || MemoryIndex::of(&PASSAGES);
    let off = || SemanticState::Off("no code model is configured".to_owned());
    let found = async |index, leg, state| {
        let hybrid = Hybrid::new(Arc::new(index), leg).reranking(Arc::new(Stage(state)));
        let found = hybrid.search(request("borrow", SearchType::Hybrid)).await.unwrap();
        assert!(!found.hits.is_empty() && found.notices.is_empty(), "{:?}", found.notices);
        found.partial
    };
    let no_reranker = || RerankerState::Off("no folder is configured".to_owned());
    assert!(!found(index(), Leg::with_domain(off()), no_reranker()).await, "what is off stays so");
    let loading = || "downloading 40 %".to_owned();
    assert!(found(index(), Leg::with_domain(SemanticState::Loading(loading())), no_reranker()).await);
    assert!(found(index(), Leg::with_domain(off()), RerankerState::Loading(loading())).await);
    let unread = MemoryIndex { vectors_fail: true, ..index() };
    assert!(found(unread, Leg::with_domain(off()), no_reranker()).await);
    let general = SemanticState::Ready(Arc::new(NoBackground(HashedWords::default())));
    assert!(found(index(), Arc::new(Leg { general, domain: off() }), no_reranker()).await);
}

#[tokio::test]
async fn a_model_that_fails_costs_the_vector_leg_and_a_broken_index_the_search() {
    let query = "crash the model with a borrow";
    let found = search(MemoryIndex::of(&PASSAGES), Leg::ready(), query, SearchType::Hybrid).await.unwrap();
    assert!(!found.hits.is_empty() && found.notices[0].contains("it crashed"));
    let index = MemoryIndex { broken: true, ..MemoryIndex::of(&PASSAGES) };
    let failed = search(index, Leg::ready(), "borrow", SearchType::Hybrid).await;
    assert!(matches!(failed, Err(SearchError::Index(IndexError::Damaged(_)))));
}

/// A corpus of many passages, some of them repeated.
fn many(count: u32) -> MemoryIndex {
    let words = ["lift", "drag", "wing", "flow", "heat", "layer", "shock", "nose", "cone", "plate"];
    let word = |n: u32| words[n as usize % words.len()];
    let content = |n: u32| format!("study: {} {} of {} number {}", word(n), word(n / 3), word(n / 7), n % 230);
    MemoryIndex { hits: (0..count).map(|n| hit(1, n, "", "prose", &content(n))).collect(), ..MemoryIndex::of(&[]) }
}

fn ids(hits: &[Hit]) -> Vec<Uuid> {
    hits.iter().map(|hit| hit.chunk_id).collect()
}

#[tokio::test]
async fn pages_follow_each_other_whatever_their_size() {
    for (search_type, diversity) in [
        (SearchType::Hybrid, None),
        (SearchType::Hybrid, Some(0.4)),
        (SearchType::Keyword, None),
        (SearchType::Semantic, None),
    ] {
        let hybrid = Hybrid::new(Arc::new(many(250)), Leg::ready());
        let page = |offset, max_results| {
            let asked = request("study of lift of a wing in shock flow", search_type);
            hybrid.search(SearchRequest { offset, max_results, diversity, ..asked })
        };
        let mut all = Vec::new();
        for (offset, size) in [(0, 7), (7, 40), (47, 100), (147, 13), (160, 100), (260, 100)] {
            let found = page(offset, size).await.unwrap();
            assert!(found.total >= offset + found.hits.len() || found.hits.is_empty());
            assert!(found.hits.len() == size || offset + size > 200, "{offset} {size} {}", found.hits.len());
            all.extend(found.hits);
        }
        let found = ids(&all);
        assert_eq!(
            found.iter().collect::<std::collections::BTreeSet<_>>().len(),
            found.len(),
            "no passage comes twice"
        );
        let contents: std::collections::BTreeSet<_> = all.iter().map(|hit| &hit.content).collect();
        assert_eq!(contents.len(), all.len(), "no text comes twice");
        assert_eq!(found[..100], ids(&page(0, 100).await.unwrap().hits));
        assert_eq!(found[30..90], ids(&page(30, 60).await.unwrap().hits));
        if diversity.is_none() {
            assert!(all.is_sorted_by(|a, b| a.score >= b.score), "{search_type:?}");
        }
    }
}

#[tokio::test]
async fn full_pages_lead_to_the_last_passage() {
    let contents: Vec<String> = (0..250).map(|n| format!("study of lift number {n}")).collect();
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    let hybrid = Hybrid::new(Arc::new(MemoryIndex::of(&contents)), Leg::ready());
    for search_type in [SearchType::Hybrid, SearchType::Keyword] {
        let mut all = std::collections::BTreeSet::new();
        for offset in [0, 100, 200] {
            let page = SearchRequest { offset, max_results: 100, ..request("study of lift", search_type) };
            let found = hybrid.search(page).await.unwrap();
            assert_eq!(found.total > offset + 100, offset < 200, "{} at {offset}", found.total);
            all.extend(ids(&found.hits));
        }
        assert_eq!(all.len(), 250);
    }
}

/// A cross-encoder that likes short passages, and fails or hangs from a call on.
#[derive(Debug)]
struct Brief {
    calls: std::sync::atomic::AtomicUsize,
    good: usize,
    then: Option<&'static str>,
}

#[async_trait]
impl Reranker for Brief {
    fn id(&self) -> &str {
        "brief"
    }
    async fn score(&self, _: &str, passages: Vec<String>) -> Result<Vec<f32>, EmbedError> {
        if self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= self.good {
            let Some(why) = self.then else { return std::future::pending().await };
            return Err(EmbedError::Model { model: "brief".to_owned(), message: why.to_owned() });
        }
        Ok(passages.iter().map(|passage| 1.0 / (1 + passage.len()) as f32).collect())
    }
}

#[derive(Debug)]
struct Stage(RerankerState);

impl Reranking for Stage {
    fn state(&self) -> RerankerState {
        self.0.clone()
    }
}

async fn reranked(good: usize, then: Option<&'static str>) -> SearchResults {
    reranked_page(good, then, None, 0).await
}

async fn reranked_page(
    good: usize,
    then: Option<&'static str>,
    reranked: Option<usize>,
    offset: usize,
) -> SearchResults {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let stage = Stage(RerankerState::Ready(Arc::new(Brief { calls, good, then })));
    let hybrid = Hybrid::new(Arc::new(many(60)), Leg::ready()).reranking(Arc::new(stage));
    let asked = request("study of lift", SearchType::Hybrid);
    let asked = SearchRequest { max_results: 60, explain: Explain::Yes, offset, reranked, ..asked };
    hybrid.search(asked).await.unwrap()
}

fn rank(hit: &Hit, stage: &str) -> Option<usize> {
    hit.explained.as_ref()?.stages.iter().find(|place| place.stage == stage).map(|place| place.rank)
}

#[tokio::test]
async fn the_best_are_read_by_the_cross_encoder() {
    let found = reranked(99, None).await;
    let (read, rest) = found.hits.split_at(50);
    assert!(read.is_sorted_by_key(|hit| hit.content.len()));
    assert!(read.iter().enumerate().all(|(n, hit)| rank(hit, "reranked") == Some(n + 1)));
    assert!(rest.iter().all(|hit| rank(hit, "reranked").is_none()));
    assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score));
    assert!(found.notices.is_empty(), "{:?}", found.notices);
}

#[tokio::test]
async fn a_cross_encoder_that_fails_or_is_slow_leaves_the_rest_as_it_was() {
    for (then, why) in [(Some("out of memory"), "out of memory"), (None, "were up")] {
        let found = reranked(2, then).await;
        assert!(found.notices.iter().any(|notice| notice.contains(why) && notice.contains("first 20")));
        assert!(found.hits[20..].is_sorted_by_key(|hit| rank(hit, "fused")));
        assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score));
    }
    let found = reranked(0, Some("broken")).await;
    assert!(found.hits.is_sorted_by_key(|hit| rank(hit, "fused")));
    assert!(found.notices[0].contains("no result was reranked"));
}

#[tokio::test]
async fn a_further_page_reads_what_the_first_one_did() {
    let first = reranked(2, Some("busy")).await;
    assert_eq!(first.reranked, 20);
    // The model has the time for all of them now, and yet the order is that of the first page.
    let second = reranked_page(99, None, Some(first.reranked), 15).await;
    assert_eq!((ids(&second.hits), second.reranked), (ids(&first.hits[15..]), 20));
    assert!(second.notices.is_empty(), "{:?}", second.notices);
    let cut = reranked_page(1, Some("busy"), Some(20), 15).await;
    assert!(cut.notices[0].contains("may repeat or miss") && cut.reranked == 20, "{:?}", cut.notices);
    let unread = reranked_page(99, None, Some(0), 15).await;
    assert!(unread.hits.is_sorted_by_key(|hit| rank(hit, "fused")), "the model came after the first page");
}

#[tokio::test]
async fn what_is_off_is_told_to_who_asks() {
    let off = Stage(RerankerState::Off("no folder is configured".to_owned()));
    let hybrid = Hybrid::new(Arc::new(MemoryIndex::of(&PASSAGES)), Leg::ready()).reranking(Arc::new(off));
    let asked = request("borrow", SearchType::Hybrid);
    let found = hybrid.search(SearchRequest { explain: Explain::Yes, ..asked.clone() }).await.unwrap();
    assert!(found.notices.iter().any(|notice| notice.contains("no folder is configured")));
    assert!(found.explained.unwrap().left_out[0].contains("reranking is off"));
    assert!(hybrid.search(asked).await.unwrap().notices.is_empty());
}

#[tokio::test]
async fn an_explanation_has_every_leg_and_stage() {
    let hybrid = Hybrid::new(Arc::new(MemoryIndex::of(&PASSAGES)), Leg::ready());
    let asked = request("what does the borrow checker compare", SearchType::Hybrid);
    let asked = SearchRequest { explain: Explain::Yes, diversity: Some(0.3), ..asked };
    let found = hybrid.search(asked.clone()).await.unwrap();
    let stages: Vec<&str> =
        found.hits[0].explained.as_ref().unwrap().stages.iter().map(|at| at.stage.as_str()).collect();
    assert_eq!(stages, ["keyword", "general", "fused", "diverse"]);
    let query = found.explained.unwrap();
    assert_eq!(query.rewritten, "what does the borrow checker compare");
    let legs: Vec<&str> = query.legs.iter().map(|(leg, _)| leg.as_str()).collect();
    assert_eq!(legs, ["keyword", "general"]);
    assert!((query.legs.iter().map(|(_, weight)| weight).sum::<f32>() - 1.0).abs() < 1e-6);
    let stages: Vec<&str> = query.stages.iter().map(|cost| cost.stage.as_str()).collect();
    assert_eq!(stages, ["understood", "embedded", "legs", "vectors", "fused", "diverse", "judged"]);
    let plain = hybrid.search(SearchRequest { explain: Explain::No, ..asked }).await.unwrap();
    assert!(plain.explained.is_none() && plain.hits.iter().all(|hit| hit.explained.is_none()));
}

#[tokio::test]
async fn a_stage_that_is_switched_off_takes_no_part() {
    let hybrid = Hybrid::new(Arc::new(MemoryIndex::of(&PASSAGES)), Leg::ready());
    let asked = SearchRequest { explain: Explain::Yes, ..request("borrow checker", SearchType::Hybrid) };
    let legs = async |stages| {
        let found = hybrid.search(SearchRequest { stages, ..asked.clone() }).await.unwrap();
        found.explained.unwrap().legs.into_iter().map(|(leg, weight)| format!("{leg} {weight}")).collect::<Vec<_>>()
    };
    assert_eq!(legs(Stages { keyword: false, ..Stages::ALL }).await, ["general 1"]);
    assert_eq!(legs(Stages { general: false, ..Stages::ALL }).await, ["keyword 1"]);
    assert_eq!(legs(Stages { keyword: false, general: false, ..Stages::ALL }).await, [""; 0]);
}

#[tokio::test]
async fn a_question_is_understood_by_the_conversation() {
    let hybrid = Hybrid::new(Arc::new(MemoryIndex::of(&PASSAGES)), Leg::ready());
    let said = ChatMessage { role: ChatRole::User, content: "What is the borrow checker?".to_owned() };
    let asked = SearchRequest { conversation: vec![said], ..request("And what does it compare?", SearchType::Hybrid) };
    let found = hybrid.search(SearchRequest { explain: Explain::Yes, ..asked }).await.unwrap();
    assert_eq!(found.hits[0].content, PASSAGES[1]);
    assert_eq!(found.explained.unwrap().rewritten, "And what does it compare? (borrow checker)");
}

#[tokio::test]
async fn both_sides_of_a_comparison_are_searched_for() {
    let index = || MemoryIndex::of(&[PASSAGES[0], PASSAGES[1], PASSAGES[2], "Penguins breed on ice."]);
    let asked = request("difference between cargo packages and penguins", SearchType::Hybrid);
    let hybrid = Hybrid::new(Arc::new(index()), Leg::ready());
    let found = hybrid.search(SearchRequest { explain: Explain::Yes, ..asked }).await.unwrap();
    assert_eq!(found.intent, Intent::Comparison);
    assert_eq!(found.explained.unwrap().sub_queries, ["cargo packages", "penguins"]);
    let mut first: Vec<&str> = found.hits[..2].iter().map(|hit| hit.content.as_str()).collect();
    first.sort_unstable();
    assert_eq!(first, [PASSAGES[2], "Penguins breed on ice."]);
    assert!(rank(&found.hits[0], "part 1").is_some() && rank(&found.hits[0], "fused") == Some(1));
}

#[tokio::test]
async fn acronyms_are_looked_up_in_what_was_found() {
    let index = MemoryIndex::of(&[
        "We diversify by maximal marginal relevance (MMR).",
        "Marginal costs are costs.",
        "On maximal marginal relevance and its lambda.",
    ]);
    let asked = SearchRequest { explain: Explain::Yes, ..request("lambda of MMR", SearchType::Keyword) };
    let found = Hybrid::new(Arc::new(index), Leg::ready()).search(asked).await.unwrap();
    assert_eq!(found.explained.unwrap().expansions, [("maximal marginal relevance".to_owned(), 0.5)]);
    assert_eq!(found.hits.len(), 3, "the second has words of the long form only");
}

#[tokio::test]
async fn results_that_speak_of_something_else_are_flagged_and_kept() {
    let found =
        search(MemoryIndex::of(&PASSAGES), Leg::off(), "borrow checker scopes", SearchType::Hybrid).await.unwrap();
    let flags: Vec<bool> = found.hits.iter().map(|hit| hit.relevant).collect();
    assert_eq!(flags, [true, false]);
    let found =
        search(MemoryIndex::of(&PASSAGES), Leg::ready(), "borrow checker scopes", SearchType::Hybrid).await.unwrap();
    let flagged = |content| found.hits.iter().find(|hit| hit.content == content).map(|hit| hit.relevant);
    assert_eq!((flagged(PASSAGES[1]), flagged(PASSAGES[2])), (Some(true), Some(false)), "by their margins");
}

#[tokio::test]
async fn a_name_that_stands_there_is_relevant() {
    let names = "E0502 and then a long text about something else, of kilns, dough, treaties, penguins and their ice";
    let found = search(MemoryIndex::of(&[names]), Leg::ready(), "E0502", SearchType::Hybrid).await.unwrap();
    assert!(found.hits[0].relevant);
}

/// A model that takes each question for one about packages, and for little of that.
#[derive(Debug, Default)]
struct Guessing(HashedWords);

#[async_trait]
impl Embedder for Guessing {
    fn manifest(&self) -> &ModelManifest {
        self.0.manifest()
    }
    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.0.passages(texts).await
    }
    async fn query(&self, _: &str) -> Result<Vec<f32>, EmbedError> {
        self.0.query("cargo builds kiln dough oven yeast glaze clay rye bran crust quarry velvet zephyr").await
    }
    fn tokens(&self, text: &str) -> Vec<TokenSpan> {
        self.0.tokens(text)
    }
}

#[tokio::test]
async fn words_are_believed_where_meaning_guesses() {
    let leg = Leg::both(SemanticState::Ready(Arc::new(Guessing::default())));
    let asked = SearchRequest { explain: Explain::Yes, ..request("borrows outlive a reference", SearchType::Hybrid) };
    let found = Hybrid::new(Arc::new(MemoryIndex::of(&PASSAGES)), leg).search(asked).await.unwrap();
    assert_eq!(found.hits[0].content, PASSAGES[0]);
    let nearest = found.hits.iter().find(|hit| rank(hit, "general") == Some(1));
    assert_eq!(nearest.map(|hit| hit.content.as_str()), Some(PASSAGES[2]));
    let (leg, weight) = &found.explained.unwrap().legs[0];
    assert!(leg == "keyword" && *weight > 0.5, "{leg} {weight}");
}

#[tokio::test]
async fn pages_of_a_parted_question_hold_nothing_twice() {
    let hybrid = Hybrid::new(Arc::new(many(250)), Leg::ready());
    let asked = request("difference between study of lift and study of heat", SearchType::Hybrid);
    let mut found = Vec::new();
    for offset in [0, 100, 200] {
        let page = SearchRequest { offset, max_results: 100, ..asked.clone() };
        found.extend(ids(&hybrid.search(page).await.unwrap().hits));
    }
    let different: std::collections::BTreeSet<_> = found.iter().collect();
    assert!(different.len() == found.len() && found.len() > 150);
}

#[tokio::test]
async fn code_is_found_in_its_own_space() {
    let code = |n, content| hit(9, n, "", "code", content);
    let hits = vec![
        code(0, "fn borrow(checker: &Checker)"),
        code(1, "fn build(package: Package)"),
        hit(8, 0, "", "prose", "A library is a place to borrow books from."),
    ];
    let model = Some(HashedWords::default().0);
    let index = || MemoryIndex { hits: hits.clone(), domain: model.clone(), ..MemoryIndex::of(&[]) };
    let asked = SearchRequest { explain: Explain::Yes, ..request("borrow checker in rust", SearchType::Hybrid) };
    let hybrid = Hybrid::new(Arc::new(index()), Leg::ready());
    let found = hybrid.search(asked.clone()).await.unwrap();
    assert_eq!(found.intent, Intent::Code);
    assert_eq!(found.hits[0].content, "fn borrow(checker: &Checker)");
    assert_eq!((found.hits[0].similarity, rank(&found.hits[0], "domain")), (None, Some(1)));
    // That the other space has a best passage, too, means nothing.
    let prose = hybrid.search(request("a place to borrow books", SearchType::Hybrid)).await.unwrap();
    assert_eq!(prose.hits[0].chunk_type, "prose");
    let only = hybrid.search(SearchRequest { search_type: SearchType::Code, ..asked.clone() }).await.unwrap();
    assert!(only.hits.len() == 2 && only.hits.iter().all(|hit| hit.chunk_type == "code"));
    // Without a model of its own code is searched by the general one.
    let hybrid = Hybrid::new(Arc::new(MemoryIndex { domain: None, ..index() }), Leg::ready());
    let found = hybrid.search(asked).await.unwrap();
    assert!(found.hits.iter().all(|hit| hit.similarity.is_some()));
}

#[tokio::test]
async fn small_talk_is_not_embedded() {
    let hybrid = Hybrid::new(Arc::new(MemoryIndex::of(&PASSAGES)), Leg::ready());
    let found = hybrid.search(request("Hello!", SearchType::Hybrid)).await.unwrap();
    assert_eq!((found.intent, found.hits.len(), found.notices.len()), (Intent::ChitChat, 0, 0));
}
