//! The ranking against tantivy's own, and filtered results against all results that pass the filter.

use std::ops::Range;

use lmao_events::{Position, Timestamp};
use lmao_ports::{IndexedDocument, KeywordQuery, SearchFilter, SearchIndex, Vectors, conformance::search as suite};
use proptest::prelude::*;
use tantivy::{
    Term,
    collector::TopDocs,
    query::{BooleanQuery, BoostQuery, Occur, PhraseQuery, Query, TermQuery},
    schema::IndexRecordOption,
};
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    super::{Match, query::clauses},
    *,
};
use crate::{
    index::EmbeddedIndex,
    passages::{SECTION_WEIGHT, asked},
};

const OWNER: Uuid = Uuid::from_u128(0xA);
const OTHER: Uuid = Uuid::from_u128(0xB);
const PASSAGES: usize = 20;
/// More passages than two windows hold, so that what is sure not to win is left out.
const DOCUMENTS: usize = 520;

/// The n-th of a sequence without visible order.
fn random(n: usize) -> usize {
    let mixed = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    usize::try_from(mixed >> 8).expect("64 bits")
}

/// One of forty words, the first ones often.
fn word(n: usize) -> String {
    let rank = 40_usize.pow(u32::try_from(random(n) % 4).unwrap() + 1).isqrt() * (random(n + 9) % 100) / 100;
    let letters = |n: usize| char::from(b"bdfgklmnprst"[n % 12]);
    format!("{}o{}x", letters(rank % 40), letters(rank % 40 / 12))
}

fn text(n: usize) -> String {
    (0..3 + random(n) % 12).map(|m| word(n * 31 + m)).collect::<Vec<_>>().join(" ")
}

fn format(n: usize) -> &'static str {
    ["pdf", "code", "text"][random(n) % 3]
}

fn is_rare(n: usize) -> bool {
    random(n).is_multiple_of(12)
}

/// A document whose every field is filtered by somewhere; `version` changes its texts.
fn document(n: usize, version: usize) -> IndexedDocument {
    let texts: Vec<String> = (0..PASSAGES).map(|m| text((version * DOCUMENTS + n) * PASSAGES + m)).collect();
    let owner = if n.is_multiple_of(9) { OTHER } else { OWNER };
    let mut one = suite::document(n as u128 + 1, owner, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    one.vectors = Vectors::default();
    one.format = format(n).to_owned();
    one.filename = format!("{} {}.md", word(n), n % 50);
    one.tags = if is_rare(n) { vec!["rare".to_owned()] } else { vec![] };
    one.created_at = Timestamp(n as i64);
    for (m, chunk) in one.chunks.iter_mut().enumerate() {
        let r = random(n * PASSAGES + m + 5);
        chunk.chunk_type = if r.is_multiple_of(2) { "prose" } else { "table" }.to_owned();
        chunk.section = Some(format!("{} > {}", word(r), word(r / 7)));
        chunk.page_number = (!r.is_multiple_of(5)).then_some(u32::try_from(r % 500).unwrap());
    }
    one
}

/// An index of several segments, some of whose documents were replaced or deleted.
async fn index() -> (TempDir, EmbeddedIndex) {
    let dir = tempfile::tempdir().unwrap();
    let index = EmbeddedIndex::open(dir.path()).await.unwrap();
    for (commit, new) in [0..390, 390..470, 470..DOCUMENTS].into_iter().enumerate() {
        for n in (0..new.start).filter(|n| random(n + commit).is_multiple_of(8)) {
            index.put(document(n, commit)).await.unwrap();
        }
        index.delete(Uuid::from_u128(new.start as u128 / 2 + 3)).await.unwrap();
        for n in new {
            index.put(document(n, 0)).await.unwrap();
        }
        index.commit(Position(commit as u64 + 1)).await.unwrap();
    }
    (dir, index)
}

async fn found(index: &EmbeddedIndex, query: &str, filter: &SearchFilter, k: usize) -> Vec<(Uuid, u32, u32)> {
    let hits = index.keyword(&query.into(), filter, k).await.unwrap();
    hits.into_iter().map(|hit| (hit.document_id, hit.chunk.ordinal, hit.score.to_bits())).collect()
}

fn query() -> impl Strategy<Value = String> {
    let words = |n: Range<usize>| prop::collection::vec(0_usize..500, n);
    (words(1..8), words(0..3)).prop_map(|(words, phrase)| {
        let of = |numbers: Vec<usize>| numbers.into_iter().map(word).collect::<Vec<_>>().join(" ");
        format!("{} \"{}\"", of(words), of(phrase))
    })
}

fn filter() -> impl Strategy<Value = SearchFilter> {
    let texts = |n: usize| vec![word(n)];
    let one = |change: fn(&mut SearchFilter, usize, Vec<String>)| {
        (0_usize..500).prop_map(move |n| {
            let mut filter = SearchFilter::all_of(OWNER);
            change(&mut filter, n, texts(n));
            filter
        })
    };
    let mixed =
        (0_u32..500, 0_u32..500, 0_usize..500, any::<bool>()).prop_map(|(from, pages, n, narrow)| SearchFilter {
            pages: Some((from, from + pages)),
            sections: if narrow { vec![word(n), word(n + 1)] } else { vec![] },
            chunk_types: vec!["table".to_owned()],
            ..SearchFilter::all_of(OWNER)
        });
    prop_oneof![
        one(|_, _, _| ()),
        one(|filter, _, _| filter.owner = OTHER),
        one(|filter, _, texts| filter.sections = texts),
        one(|filter, n, _| filter.pages = Some((u32::try_from(n).unwrap(), u32::try_from(n).unwrap()))),
        one(|filter, n, _| filter.pages = Some((u32::try_from(n).unwrap(), u32::MAX))),
        one(|filter, n, _| filter.chunk_types = vec![["table", "prose", "none"][n % 3].to_owned()]),
        one(|filter, n, _| filter.formats = vec![["pdf", "code", "text"][n % 3].to_owned()]),
        one(|filter, _, _| filter.tags = vec!["rare".to_owned()]),
        one(|filter, n, _| filter.created_before = Some(Timestamp(n as i64))),
        one(|filter, n, _| filter.document_ids = vec![Uuid::from_u128(n as u128 + 1), Uuid::from_u128(7_000)]),
        mixed,
    ]
}

/// Whether a passage passes.
fn passes(filter: &SearchFilter, id: Uuid, chunk: &lmao_ports::ChunkRecord) -> bool {
    let n = usize::try_from(id.as_u128()).unwrap() - 1;
    let among = |wanted: &[String], is: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == is);
    (filter.document_ids.is_empty() || filter.document_ids.contains(&id))
        && among(&filter.formats, format(n))
        && among(&filter.chunk_types, &chunk.chunk_type)
        && (filter.tags.is_empty() || is_rare(n))
        && filter.created_before.is_none_or(|before| Timestamp(n as i64) < before)
        && filter.pages.is_none_or(|(from, to)| chunk.page_number.is_some_and(|page| from <= page && page <= to))
        && filter.allows_section(chunk.section.as_deref())
}

/// Whatever a filter leaves and however many are asked for, it is the best of all results that pass it, in their order and
/// with their scores.
#[test]
fn filtered_results_are_those_of_all_that_pass() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_dir, index) = runtime.block_on(index());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..Default::default()
    });
    let everything = |query: &str, owner| {
        let all = SearchFilter::all_of(owner);
        runtime.block_on(index.keyword(&query.into(), &all, usize::MAX)).unwrap()
    };
    let case = (query(), filter(), prop_oneof![Just(1_usize), 2_usize..60, Just(100_000)]);
    let result = runner.run(&case, |(query, filter, k)| {
        let all = everything(&query, filter.owner).into_iter();
        let passing = all.filter(|hit| passes(&filter, hit.document_id, &hit.chunk));
        let wanted: Vec<_> =
            passing.map(|hit| (hit.document_id, hit.chunk.ordinal, hit.score.to_bits())).take(k).collect();
        prop_assert_eq!(runtime.block_on(found(&index, &query, &filter, k)), wanted);
        Ok(())
    });
    result.unwrap();
}

/// What tantivy's own query finds, with its scores, all of it.
fn by_tantivy(index: &EmbeddedIndex, query: &KeywordQuery) -> Vec<(u32, f32)> {
    let (view, text) = (index.engine.view().unwrap(), &index.engine.text);
    let asked = asked::parse(query, []);
    let mut alternatives: Vec<(Occur, Box<dyn Query>)> = vec![];
    for (field, weight) in [(text.fields.content, 1.0), (text.fields.headings, SECTION_WEIGHT)] {
        for (word, own) in &asked.words {
            let term = TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs);
            alternatives.push((Occur::Should, Box::new(BoostQuery::new(Box::new(term), weight * own))));
        }
        for phrase in &asked.phrases {
            let terms = phrase.iter().map(|(at, word)| (*at, Term::from_field_text(field, word))).collect();
            let phrase = PhraseQuery::new_with_offset(terms);
            alternatives.push((Occur::Should, Box::new(BoostQuery::new(Box::new(phrase), weight))));
        }
    }
    let best = TopDocs::with_limit(DOCUMENTS * PASSAGES * 2).order_by_score();
    let found = view.text.index.search(&BooleanQuery::new(alternatives), &best).unwrap();
    let places = view.text.places(&view.catalog).unwrap();
    let passage = |(score, address): (f32, tantivy::DocAddress)| {
        Some((places[address.segment_ord as usize].passage(address.doc_id)?, score))
    };
    found.into_iter().filter_map(passage).collect()
}

/// The same passages as by tantivy's own queries, with the same scores but for rounding.
#[tokio::test]
async fn ranks_as_tantivy_does() {
    let (_dir, index) = index().await;
    let view = index.engine.view().unwrap();
    assert!(view.text.index.segment_readers().len() > 1, "one segment proves little");
    for n in 0..40 {
        let phrase = if n % 3 == 0 { format!("\"{} {}\"", word(n), word(n + 1)) } else { String::new() };
        let text = format!("{} {} {} {phrase}", word(n * 3), word(n * 5 + 1), word(n * 7 + 2));
        let query = KeywordQuery { text, boosted: vec![(word(n + 70), 0.4)] };
        let mut wanted = by_tantivy(&index, &query);
        wanted.sort_by_key(|(passage, _)| *passage);
        let clauses = clauses(&query, [].into_iter(), &view.text.index, index.engine.text.fields).unwrap();
        let ranked = |k: usize| {
            let mut best = Best::new(k);
            let everything = view.catalog.allowed(&SearchFilter::all_of(OWNER)).unwrap();
            let mut passages = everything.passages().clone();
            let others = view.catalog.allowed(&SearchFilter::all_of(OTHER)).unwrap();
            passages.add(0..DOCUMENTS * PASSAGES * 2, |range| others.passages().at(range.start));
            let segments = view.text.index.segment_readers().iter().enumerate();
            for (segment, places) in segments.zip(view.text.places(&view.catalog).unwrap()) {
                best.search(&clauses, segment, places, &passages).unwrap();
            }
            best.into_matches()
        };
        let whole = ranked(usize::MAX);
        for k in [1, 10, 300] {
            assert_eq!(ranked(k), whole[..k.min(whole.len())], "{query:?}");
        }
        let mut found: Vec<(u32, f32)> = whole.iter().map(|Match { passage, score }| (*passage, *score)).collect();
        found.sort_by_key(|(passage, _)| *passage);
        assert_eq!(found.len(), wanted.len(), "{query:?}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found.0, wanted.0);
            assert!((found.1 - wanted.1).abs() <= 1e-4 * wanted.1, "{found:?} is not {wanted:?}");
        }
    }
}

/// While documents are replaced, a filter lets through what belongs to it and nothing else, all of one commit.
#[tokio::test]
async fn filters_hold_beside_commits() {
    let dir = tempfile::tempdir().unwrap();
    let index = EmbeddedIndex::open(dir.path()).await.unwrap();
    let put = async |version: u32| {
        for id in 1..30 {
            let mut one = suite::document(id, OWNER, &["quorvex plimbo", "quorvex", "zandrel quorvex"]);
            one.vectors = Vectors::default();
            one.chunks.iter_mut().for_each(|chunk| chunk.page_number = Some(version + chunk.ordinal % 2 * 1_000));
            index.put(one).await.unwrap();
        }
        index.commit(Position(u64::from(version))).await.unwrap();
    };
    put(1).await;
    let reader = index.clone();
    let queries = tokio::spawn(async move {
        let mut seen = 0;
        for n in 0..400_u32 {
            let version = 1 + n % 12;
            let filter = SearchFilter { pages: Some((version, version)), ..SearchFilter::all_of(OWNER) };
            let hits = reader.keyword(&"quorvex plimbo".into(), &filter, 1_000).await.unwrap();
            assert!(hits.is_empty() || hits.len() == 2 * 29, "{} hits of half a commit", hits.len());
            assert!(hits.iter().all(|hit| hit.chunk.page_number == Some(version)));
            seen += usize::from(!hits.is_empty());
        }
        seen
    });
    for version in 2..12 {
        put(version).await;
    }
    assert!(queries.await.unwrap() > 0, "no commit was seen");
    let left = SearchFilter { pages: Some((1, 10)), ..SearchFilter::all_of(OWNER) };
    assert_eq!(index.keyword(&"quorvex".into(), &left, 9).await.unwrap(), []);
}
