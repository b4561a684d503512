//! What every [`SearchIndex`] promises.
//!
//! Texts are made of invented words, so that each passage's matches are known whatever analyzer an adapter has; vectors are
//! deterministic noise, so that brute force can say what is nearest.

mod content;
mod filters;
mod spaces;

use std::sync::Arc;

use lmao_events::{Position, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::{
    ChunkRecord, IndexError, IndexedDocument, LegHit, ModelManifest, ParentChunk, Pooling, SearchFilter, SearchIndex,
    Space, Vectors,
};

/// Dimensions of the suite's vectors.
pub const DIMENSIONS: usize = 24;
const ALICE: Uuid = Uuid::from_u128(0xA);
const BOB: Uuid = Uuid::from_u128(0xB);

/// The whole suite. `new` opens an empty index; `reopen` closes one and opens it again.
pub async fn all(
    new: impl AsyncFn() -> Arc<dyn SearchIndex>,
    reopen: impl AsyncFn(Arc<dyn SearchIndex>) -> Arc<dyn SearchIndex>,
) {
    an_empty_index_answers(&*new().await).await;
    changes_are_visible_at_commit(&*new().await).await;
    putting_again_replaces(&*new().await).await;
    deleting_removes(&*new().await).await;
    content::passages_come_back_whole(&*new().await).await;
    content::any_text_is_a_query(&*new().await).await;
    content::keywords_rank_and_phrases_match(&*new().await).await;
    content::added_words_count_by_their_weights(&*new().await).await;
    content::words_are_stemmed_in_their_language(&*new().await).await;
    content::titles_and_names_are_found(&*new().await).await;
    filters::filters_are_exact(&*new().await).await;
    content::owners_see_nothing_of_each_other(&*new().await).await;
    content::nearest_is_what_brute_force_finds(&*new().await).await;
    spaces::spaces_stand_apart(&*new().await).await;
    spaces::legs_answer_as_one_by_one(&*new().await).await;
    it_belongs_to_one_log_until_it_is_reset(new().await, &reopen).await;
    another_model_is_refused(&*new().await).await;
    what_makes_no_sense_is_refused(&*new().await).await;
    commits_survive_reopening(new().await, &reopen).await;
    the_digest_follows_the_content(new().await, new().await, &reopen).await;
    reset_forgets_everything(new().await, &reopen).await;
}

/// A manifest of the suite's model.
#[must_use]
pub fn manifest(id: &str, dimensions: usize) -> ModelManifest {
    ModelManifest {
        id: id.to_owned(),
        dimensions,
        pooling: Pooling::Mean,
        normalize: true,
        max_tokens: 512,
        query_prefix: String::new(),
        passage_prefix: String::new(),
    }
}

/// A vector of length 1 that follows from `seed` alone.
#[must_use]
pub fn vector(seed: u64, dimensions: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    let raw: Vec<f32> = (0..dimensions).map(|_| (0..4).map(|_| next()).sum()).collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.iter().map(|x| x / length).collect()
}

/// A document of one passage per text, with vectors that follow from its id.
#[must_use]
pub fn document(id: u128, owner: Uuid, texts: &[&str]) -> IndexedDocument {
    let document_id = Uuid::from_u128(id);
    let mut start = 0;
    let chunks = (0_u32..).zip(texts).map(|(ordinal, text)| {
        let end = start + text.len() as u64;
        let chunk = ChunkRecord {
            chunk_id: Uuid::from_u128(id << 32 | u128::from(ordinal)),
            ordinal,
            content: (*text).to_owned(),
            chunk_type: "prose".to_owned(),
            page_number: Some(ordinal + 1),
            section: None,
            start,
            end,
            page_turns: vec![],
            language: None,
            parent: None,
        };
        start = end;
        chunk
    });
    let seed = |ordinal: u64| u64::from_le_bytes(std::array::from_fn(|n| id.to_le_bytes()[n])) * 1_000 + ordinal;
    IndexedDocument {
        document_id,
        owner,
        filename: format!("{id}.txt"),
        format: "text".to_owned(),
        language: None,
        metadata: json!({ "n": id.to_string() }),
        title: None,
        authors: vec![],
        tags: vec![],
        created_at: Timestamp(7),
        chunks: chunks.collect(),
        vectors: Vectors::general((0..texts.len() as u64).map(|ordinal| vector(seed(ordinal), DIMENSIONS)).collect()),
    }
}

/// Declares the suite's model, puts documents and commits them.
async fn fill(index: &dyn SearchIndex, documents: &[IndexedDocument], checkpoint: u64) {
    index.use_model(Space::General, &manifest("suite", DIMENSIONS)).await.expect("use_model");
    for document in documents {
        index.put(document.clone()).await.expect("put");
    }
    index.commit(Position(checkpoint)).await.expect("commit");
}

/// Documents and ordinals of what a keyword search finds, best first.
async fn found(index: &dyn SearchIndex, query: &str, filter: &SearchFilter) -> Vec<(u128, u32)> {
    places(&index.keyword(&query.into(), filter, 50).await.expect("keyword"))
}

fn places(hits: &[LegHit]) -> Vec<(u128, u32)> {
    hits.iter().map(|hit| (hit.document_id.as_u128(), hit.chunk.ordinal)).collect()
}

fn sorted(mut places: Vec<(u128, u32)>) -> Vec<(u128, u32)> {
    places.sort_unstable();
    places
}

/// The first log to come has it, whatever else is written meanwhile.
pub async fn it_belongs_to_one_log_until_it_is_reset(
    index: Arc<dyn SearchIndex>,
    reopen: &impl AsyncFn(Arc<dyn SearchIndex>) -> Arc<dyn SearchIndex>,
) {
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for log in [one, two, one] {
        assert_eq!(index.computed_from(log).await.expect("computed_from"), one);
    }
    fill(&*index, &[document(1, ALICE, &["quorvex"])], 5).await;
    let index = reopen(index).await;
    assert_eq!(index.computed_from(two).await.expect("computed_from"), one);
    // Vectors of other dimensions may need another index.
    index.delete(Uuid::from_u128(1)).await.expect("delete");
    index.commit(Position(6)).await.expect("commit");
    index.use_model(Space::General, &manifest("other", DIMENSIONS / 2)).await.expect("use_model");
    index.commit(Position(7)).await.expect("commit");
    index.save().await.expect("save");
    let index = reopen(index).await;
    assert_eq!(index.computed_from(two).await.expect("computed_from"), one);
    index.reset().await.expect("reset");
    assert_eq!(index.computed_from(two).await.expect("computed_from"), two);
    index.commit(Position(8)).await.expect("commit");
    assert_eq!(index.computed_from(one).await.expect("computed_from"), two);
}

/// Nothing is found where nothing is, and that is no error.
pub async fn an_empty_index_answers(index: &dyn SearchIndex) {
    let all = SearchFilter::all_of(ALICE);
    assert_eq!(index.checkpoint().await.expect("checkpoint"), Position(0));
    assert_eq!(index.model(Space::General).await.expect("model"), None);
    assert_eq!(index.count().await.expect("len"), 0);
    assert_eq!(found(index, "quorvex", &all).await, []);
    assert_eq!(index.nearest(Space::General, &vector(1, DIMENSIONS), &all, 5).await.expect("nearest"), []);
    assert_eq!(index.chunks(&[(Uuid::from_u128(1), 0)]).await.expect("chunks"), []);
    index.delete(Uuid::from_u128(1)).await.expect("deleting nothing");
    index.commit(Position(3)).await.expect("committing nothing");
    assert_eq!(index.checkpoint().await.expect("checkpoint"), Position(3));
}

/// Before the commit nothing of a change is seen, after it all.
pub async fn changes_are_visible_at_commit(index: &dyn SearchIndex) {
    let all = SearchFilter::all_of(ALICE);
    fill(index, &[], 1).await;
    let one = document(1, ALICE, &["quorvex plimbo", "zandrel"]);
    index.put(one.clone()).await.expect("put");
    assert!(!index.holds(one.document_id).await.expect("holds"));
    assert_eq!(index.count().await.expect("len"), 0);
    assert_eq!(found(index, "quorvex", &all).await, []);
    assert_eq!(index.nearest(Space::General, &vector(1, DIMENSIONS), &all, 5).await.expect("nearest"), []);
    assert_eq!(index.checkpoint().await.expect("checkpoint"), Position(1));
    index.commit(Position(2)).await.expect("commit");
    assert!(index.holds(one.document_id).await.expect("holds"));
    assert_eq!(index.count().await.expect("len"), 2);
    assert_eq!(index.checkpoint().await.expect("checkpoint"), Position(2));
    assert_eq!(found(index, "quorvex", &all).await, [(1, 0)]);
    assert_eq!(index.nearest(Space::General, &vector(1, DIMENSIONS), &all, 5).await.expect("nearest").len(), 2);
    assert_eq!(index.model(Space::General).await.expect("model").map(|model| model.id), Some("suite".to_owned()));
    index.delete(one.document_id).await.expect("delete");
    assert_eq!(found(index, "quorvex", &all).await, [(1, 0)]);
    index.commit(Position(3)).await.expect("commit");
    assert!(!index.holds(one.document_id).await.expect("holds"));
    assert_eq!(found(index, "quorvex", &all).await, []);
}

/// The same id again replaces the document, within a commit and across commits; the same commit twice changes nothing.
pub async fn putting_again_replaces(index: &dyn SearchIndex) {
    let all = SearchFilter::all_of(ALICE);
    let old = document(1, ALICE, &["quorvex", "plimbo", "zandrel"]);
    let new = document(1, ALICE, &["zandrel vostrik"]);
    fill(index, std::slice::from_ref(&old), 1).await;
    for checkpoint in 2..4 {
        fill(index, std::slice::from_ref(&new), checkpoint).await;
        assert_eq!(index.count().await.expect("len"), 1);
        assert_eq!(found(index, "quorvex plimbo zandrel", &all).await, [(1, 0)]);
        assert_eq!(
            places(&index.nearest(Space::General, &vector(1, DIMENSIONS), &all, 9).await.expect("nearest")),
            [(1, 0)]
        );
    }
    fill(index, &[old.clone(), new.clone(), old, new], 4).await;
    assert_eq!(index.count().await.expect("len"), 1);
    assert_eq!(found(index, "quorvex plimbo zandrel", &all).await, [(1, 0)]);
}

/// A deleted document is in neither leg; what is put after the deletion, even in the same commit, is there.
pub async fn deleting_removes(index: &dyn SearchIndex) {
    let all = SearchFilter::all_of(ALICE);
    let (one, two) = (document(1, ALICE, &["quorvex one"]), document(2, ALICE, &["quorvex two"]));
    fill(index, &[one.clone(), two.clone()], 1).await;
    index.delete(one.document_id).await.expect("delete");
    index.delete(one.document_id).await.expect("deleting twice");
    index.commit(Position(2)).await.expect("commit");
    assert_eq!(found(index, "quorvex", &all).await, [(2, 0)]);
    assert_eq!(
        places(&index.nearest(Space::General, &vector(1, DIMENSIONS), &all, 9).await.expect("nearest")),
        [(2, 0)]
    );
    assert_eq!(index.chunks(&[(one.document_id, 0)]).await.expect("chunks"), []);
    index.put(one.clone()).await.expect("put");
    index.delete(one.document_id).await.expect("delete");
    index.delete(two.document_id).await.expect("delete");
    index.put(two).await.expect("put");
    index.commit(Position(3)).await.expect("commit");
    assert_eq!(found(index, "quorvex", &all).await, [(2, 0)]);
    assert_eq!(index.count().await.expect("len"), 1);
}

/// Vectors of two models never stand side by side; without any, another model may come.
pub async fn another_model_is_refused(index: &dyn SearchIndex) {
    let (suite, other) = (manifest("suite", DIMENSIONS), manifest("other", 8));
    let one = document(1, ALICE, &["quorvex"]);
    fill(index, std::slice::from_ref(&one), 1).await;
    match index.use_model(Space::General, &other).await {
        Err(IndexError::OtherModel { stored, wanted }) => assert_eq!((&*stored, &*wanted), ("suite", "other")),
        other => panic!("a second model was not refused: {other:?}"),
    }
    index.use_model(Space::General, &suite).await.expect("the same model again");
    let bare = IndexedDocument { vectors: Vectors::default(), ..one.clone() };
    fill(index, &[bare], 2).await;
    assert_eq!(index.model(Space::General).await.expect("model"), None, "without vectors there is no model");
    assert_eq!(index.without_vectors().await.expect("without"), 1);
    assert_eq!(found(index, "quorvex", &SearchFilter::all_of(ALICE)).await, [(1, 0)]);
    index.use_model(Space::General, &other).await.expect("another model, once no vectors are held");
    let mut again = one;
    again.vectors = Vectors::general(vec![vector(1, 8)]);
    index.put(again).await.expect("put");
    index.commit(Position(3)).await.expect("commit");
    assert_eq!(index.model(Space::General).await.expect("model").map(|model| model.id), Some("other".to_owned()));
    assert_eq!(index.without_vectors().await.expect("without"), 0);
    let hits = index.nearest(Space::General, &vector(1, 8), &SearchFilter::all_of(ALICE), 5).await.expect("nearest");
    assert_eq!(places(&hits), [(1, 0)]);
    assert!((hits[0].score - 1.0).abs() < 1e-5);
}

/// Vectors that do not fit are refused, and nothing of the document is kept.
pub async fn what_makes_no_sense_is_refused(index: &dyn SearchIndex) {
    let one = document(1, ALICE, &["quorvex", "plimbo"]);
    let refused = async |document: &IndexedDocument, why: &str| match index.put(document.clone()).await {
        Err(IndexError::Invalid(_)) => {}
        other => panic!("{why}: {other:?}"),
    };
    refused(&one, "vectors without a model").await;
    index.use_model(Space::General, &manifest("suite", DIMENSIONS)).await.expect("use_model");
    let with = |vectors| IndexedDocument { vectors: Vectors::general(vectors), ..one.clone() };
    refused(&with(vec![vector(1, DIMENSIONS)]), "one vector for two passages").await;
    refused(&with(vec![vector(1, DIMENSIONS), vector(2, 5)]), "a short vector").await;
    refused(&with(vec![vector(1, DIMENSIONS), vec![f32::NAN; DIMENSIONS]]), "a vector of NaN").await;
    index.commit(Position(1)).await.expect("commit");
    assert_eq!(index.count().await.expect("len"), 0);
    fill(index, &[one], 2).await;
    let all = SearchFilter::all_of(ALICE);
    assert!(matches!(index.nearest(Space::General, &vector(1, 5), &all, 3).await, Err(IndexError::Invalid(_))));
    assert!(matches!(
        index.nearest(Space::General, &[f32::INFINITY; DIMENSIONS], &all, 3).await,
        Err(IndexError::Invalid(_))
    ));
}

/// What was committed is there after a restart, with its checkpoint and model; what was not, is not.
pub async fn commits_survive_reopening(
    index: Arc<dyn SearchIndex>,
    reopen: &impl AsyncFn(Arc<dyn SearchIndex>) -> Arc<dyn SearchIndex>,
) {
    let all = SearchFilter::all_of(ALICE);
    fill(&*index, &[document(1, ALICE, &["quorvex", "plimbo"]), document(2, BOB, &["quorvex"])], 11).await;
    let digest = index.digest().await.expect("digest");
    index.put(document(3, ALICE, &["quorvex"])).await.expect("put");
    index.delete(Uuid::from_u128(1)).await.expect("delete");
    index.save().await.expect("save");
    let index = reopen(index).await;
    assert_eq!(index.checkpoint().await.expect("checkpoint"), Position(11));
    assert_eq!(index.model(Space::General).await.expect("model"), Some(manifest("suite", DIMENSIONS)));
    assert_eq!(index.digest().await.expect("digest"), digest);
    assert_eq!(found(&*index, "quorvex", &all).await, [(1, 0)]);
    assert_eq!(index.nearest(Space::General, &vector(1, DIMENSIONS), &all, 9).await.expect("nearest").len(), 2);
    fill(&*index, &[document(4, ALICE, &["zandrel"])], 12).await;
    let index = reopen(index).await;
    assert_eq!(index.checkpoint().await.expect("checkpoint"), Position(12));
    assert_eq!(sorted(found(&*index, "quorvex zandrel", &all).await), [(1, 0), (4, 0)]);
    assert_eq!(index.count().await.expect("len"), 4);
    index.commit(Position(13)).await.expect("commit");
    index.save().await.expect("save");
    let index = reopen(index).await;
    assert_eq!(index.checkpoint().await.expect("checkpoint"), Position(13));
}

/// Equal contents have equal digests, whatever the way to them; any difference shows.
pub async fn the_digest_follows_the_content(
    one: Arc<dyn SearchIndex>,
    two: Arc<dyn SearchIndex>,
    reopen: &impl AsyncFn(Arc<dyn SearchIndex>) -> Arc<dyn SearchIndex>,
) {
    let documents: Vec<_> = (1..20).map(|id| document(id, ALICE, &["quorvex", "plimbo"])).collect();
    fill(&*one, &documents, 5).await;
    for (n, document) in documents.iter().rev().enumerate() {
        let mut early = document.clone();
        early.chunks[0].content = "vostrik".to_owned();
        fill(&*two, &[early], n as u64 * 2 + 1).await;
        fill(&*two, std::slice::from_ref(document), n as u64 * 2 + 2).await;
    }
    fill(&*two, &[document(99, ALICE, &["gone"])], 80).await;
    two.delete(Uuid::from_u128(99)).await.expect("delete");
    two.commit(Position(81)).await.expect("commit");
    let digest = one.digest().await.expect("digest");
    assert_eq!(two.digest().await.expect("digest"), digest);
    let two = reopen(two).await;
    two.use_model(Space::Domain, &manifest("code", DIMENSIONS)).await.expect("use_model");
    assert_eq!(two.digest().await.expect("digest"), digest);
    let differences: [fn(&mut IndexedDocument); 16] = [
        |d| d.owner = BOB,
        |d| d.filename.push('x'),
        |d| d.language = Some("en".to_owned()),
        |d| d.metadata = json!({}),
        |d| d.created_at = Timestamp(8),
        |d| d.chunks[1].content.push('x'),
        |d| d.chunks[1].section = Some("x".to_owned()),
        |d| d.vectors.general[1] = Some(vector(1, DIMENSIONS)),
        |d| d.vectors.general[1] = None,
        |d| d.vectors.domain = vec![None, Some(vector(1, DIMENSIONS))],
        |d| d.vectors.domain = std::mem::take(&mut d.vectors.general),
        |d| d.title = Some("x".to_owned()),
        |d| d.authors = vec!["x".to_owned()],
        |d| d.tags = vec!["x".to_owned()],
        |d| d.chunks[1].language = Some("en".to_owned()),
        |d| d.chunks[0].parent = Some(ParentChunk { chunk_id: Uuid::nil(), first: 0, last: 1 }),
    ];
    for (n, change) in differences.iter().enumerate() {
        let mut changed = documents[3].clone();
        change(&mut changed);
        fill(&*two, &[changed], 90).await;
        assert_ne!(two.digest().await.expect("digest"), digest, "difference {n} does not show");
        fill(&*two, &documents[3..4], 91).await;
        assert_eq!(two.digest().await.expect("digest"), digest, "difference {n} does not go away");
    }
}

/// After a reset it is as new, staged changes included, and can be filled again to the same digest.
pub async fn reset_forgets_everything(
    index: Arc<dyn SearchIndex>,
    reopen: &impl AsyncFn(Arc<dyn SearchIndex>) -> Arc<dyn SearchIndex>,
) {
    let all = SearchFilter::all_of(ALICE);
    let empty = index.digest().await.expect("digest");
    let documents: Vec<_> = (1..10).map(|id| document(id, ALICE, &["quorvex", "plimbo"])).collect();
    fill(&*index, &documents, 5).await;
    let digest = index.digest().await.expect("digest");
    index.put(document(50, ALICE, &["staged"])).await.expect("put");
    index.reset().await.expect("reset");
    assert_eq!(index.digest().await.expect("digest"), empty);
    assert_eq!(index.checkpoint().await.expect("checkpoint"), Position(0));
    assert_eq!(index.model(Space::General).await.expect("model"), None);
    assert_eq!(found(&*index, "quorvex staged", &all).await, []);
    let index = reopen(index).await;
    assert_eq!(index.digest().await.expect("digest"), empty);
    index.reset().await.expect("reset twice");
    fill(&*index, &documents, 5).await;
    assert_eq!(index.digest().await.expect("digest"), digest);
    assert_eq!(found(&*index, "staged", &all).await, []);
    assert_eq!(found(&*index, "quorvex", &all).await.len(), 9);
}
