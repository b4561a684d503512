use std::sync::Arc;

use lmao_ports::{
    IndexError, ModelManifest, Retriever, SearchError, SearchFilter, SearchRequest, SearchResults, SearchType,
    SemanticState,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    Hybrid,
    fakes::{HashedWords, Leg, MemoryIndex, hit, leg_hit},
    fuse::{Ranking, distinct, fuse},
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
    assert!((found.hits[0].score - 1.0).abs() < 1e-6, "the first of both legs");
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
    let loading = Arc::new(Leg(SemanticState::Loading("downloading 40 %".to_owned())));
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
async fn a_model_that_fails_costs_the_vector_leg_and_a_broken_index_the_search() {
    let query = "crash the model with a borrow";
    let found = search(MemoryIndex::of(&PASSAGES), Leg::ready(), query, SearchType::Hybrid).await.unwrap();
    assert!(!found.hits.is_empty() && found.notices[0].contains("it crashed"));
    let index = MemoryIndex { broken: true, ..MemoryIndex::of(&PASSAGES) };
    let failed = search(index, Leg::ready(), "borrow", SearchType::Hybrid).await;
    assert!(matches!(failed, Err(SearchError::Index(IndexError::Damaged(_)))));
}

#[test]
fn a_literal_word_lifts_what_only_the_keyword_leg_found() {
    let legs = |weight: f32| {
        let near = (0..50).map(|n| leg_hit(&hit(1, n, "", "prose", &format!("near {n}")), 0.6)).collect();
        let named = vec![leg_hit(&hit(2, 0, "", "prose", "E0502"), 9.0)];
        let fused = fuse(vec![Ranking::vector(near, weight), Ranking::keyword(named, 1.0 - weight)]);
        fused.iter().position(|hit| hit.content == "E0502")
    };
    assert!(legs(0.5) <= Some(1));
    assert!(legs(0.85) > Some(10));
}

proptest! {
    #[test]
    fn fusing_keeps_every_passage_once_in_stable_order(
        near in prop::collection::hash_set(0_u32..30, 0..20),
        words in prop::collection::hash_set(0_u32..30, 0..20),
    ) {
        let leg = |of: &std::collections::HashSet<u32>| {
            of.iter().map(|n| leg_hit(&hit(1, *n, "", "prose", &format!("passage {}", n / 2)), 0.5)).collect::<Vec<_>>()
        };
        let fused = || fuse(vec![Ranking::vector(leg(&near), 0.85), Ranking::keyword(leg(&words), 0.15)]);
        let hits = fused();
        prop_assert_eq!(&hits, &fused());
        prop_assert_eq!(hits.len(), near.union(&words).count());
        prop_assert!(hits.iter().all(|hit| (0.0..=1.0).contains(&hit.score)));
        prop_assert!(hits.is_sorted_by(|a, b| (b.score, a.chunk_id) <= (a.score, b.chunk_id)));
        for hit in &hits {
            prop_assert_eq!(hit.similarity.is_some(), near.contains(&hit.ordinal));
        }
        let mut contents: Vec<String> = distinct(hits).into_iter().map(|hit| hit.content).collect();
        let all = contents.len();
        contents.sort();
        contents.dedup();
        prop_assert_eq!(contents.len(), all);
    }
}
