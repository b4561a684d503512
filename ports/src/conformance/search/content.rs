//! What is found: ranking, phrases, filters, neighbours.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{ALICE, BOB, DIMENSIONS, document, fill, found, places, sorted, vector};
use crate::{ChunkRecord, KeywordQuery, PageTurn, ParentChunk, SearchFilter, SearchIndex, Space};

/// Every field of a passage, and its document's, is returned as it was put.
pub(super) async fn passages_come_back_whole(index: &dyn SearchIndex) {
    let mut one = document(1, ALICE, &["quorvex \0 \u{1F600} \"quoted\"\n", "plimbo"]);
    one.filename = "ä weird/name \".pdf".to_owned();
    one.chunks[0].section = Some("Outer > Inner".to_owned());
    one.chunks[0].parent = Some(ParentChunk { chunk_id: Uuid::from_u128(77), first: 0, last: 7 });
    one.chunks[0].language = Some("rust".to_owned());
    one.chunks[0].page_turns = vec![PageTurn { at: 3, page: 2 }, PageTurn { at: 9, page: 4 }];
    one.chunks[1] =
        ChunkRecord { ordinal: 7, page_number: None, chunk_type: "code".to_owned(), ..one.chunks[1].clone() };
    fill(index, std::slice::from_ref(&one), 1).await;
    let all = SearchFilter::all_of(ALICE);
    let check = |hit: &crate::LegHit, chunk: &ChunkRecord| {
        assert_eq!((&*hit.chunk, hit.document_id, &hit.filename), (chunk, one.document_id, &one.filename));
    };
    let hits = index.keyword(&"quorvex".into(), &all, 5).await.expect("keyword");
    check(&hits[0], &one.chunks[0]);
    assert!(hits[0].score > 0.0);
    let own = one.vectors.general[1].as_ref().expect("a vector");
    let hits = index.nearest(Space::General, own, &all, 5).await.expect("nearest");
    check(&hits[0], &one.chunks[1]);
    assert!((hits[0].score - 1.0).abs() < 1e-5);
    let wanted = [(one.document_id, 7), (one.document_id, 1), (Uuid::from_u128(9), 0), (one.document_id, 0)];
    let hits = index.chunks(&wanted).await.expect("chunks");
    assert_eq!(hits.len(), 2, "those that exist");
    check(&hits[0], &one.chunks[1]);
    check(&hits[1], &one.chunks[0]);
}

/// No text is a syntax error, none is too long, and `k` may be anything.
pub(super) async fn any_text_is_a_query(index: &dyn SearchIndex) {
    fill(index, &[document(1, ALICE, &["quorvex plimbo zandrel"])], 1).await;
    let all = SearchFilter::all_of(ALICE);
    let long = "vostrik ".repeat(12_800);
    for query in [
        "",
        " ",
        "\0",
        "\"",
        "\"\"",
        "\"\"\"",
        "quorvex\"",
        "(",
        "a AND",
        "AND OR NOT",
        "title:",
        "*",
        "?",
        "~",
        "^2",
        "[a TO",
        "\\",
        "+-!{}[]^\"~*?:\\/",
        "\u{FFFF}\u{202E}",
        "日本語",
        &long,
    ] {
        index.keyword(&query.into(), &all, 10).await.unwrap_or_else(|error| panic!("{query:.40?}: {error}"));
    }
    for query in ["quorvex:", "(quorvex", "-quorvex", "\"quorvex", "QUORVEX!", &format!("quorvex {long}")] {
        assert_eq!(found(index, query, &all).await, [(1, 0)], "{query:.40?}");
    }
    assert_eq!(index.keyword(&"quorvex".into(), &all, 0).await.expect("k = 0").len(), 0);
    assert_eq!(index.nearest(Space::General, &vector(1, DIMENSIONS), &all, 0).await.expect("k = 0").len(), 0);
    assert_eq!(index.keyword(&"quorvex".into(), &all, 1_000_000).await.expect("large k").len(), 1);
    assert_eq!(index.nearest(Space::General, &vector(1, DIMENSIONS), &all, 1_000_000).await.expect("large k").len(), 1);
}

/// More and rarer matches come first, at most `k`; a phrase is found where its words stand in order.
pub(super) async fn keywords_rank_and_phrases_match(index: &dyn SearchIndex) {
    let texts = [
        "plimbo zandrel vostrik krelm",
        "zandrel plimbo vostrik krelm",
        "quorvex vostrik krelm plimbo",
        "vostrik krelm fendril garn",
    ];
    let documents: Vec<_> = (1..).zip(texts).map(|(id, text)| document(id, ALICE, &[text])).collect();
    fill(index, &documents, 1).await;
    let all = SearchFilter::all_of(ALICE);
    assert_eq!(found(index, "quorvex plimbo", &all).await.first(), Some(&(3, 0)), "both words, one of them rare");
    assert_eq!(sorted(found(index, "plimbo", &all).await), [(1, 0), (2, 0), (3, 0)], "any of the words");
    assert_eq!(index.keyword(&"vostrik".into(), &all, 2).await.expect("keyword").len(), 2);
    let scores: Vec<f32> =
        index.keyword(&"quorvex vostrik".into(), &all, 9).await.expect("keyword").iter().map(|h| h.score).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "best first");
    assert_eq!(found(index, "\"plimbo zandrel\"", &all).await, [(1, 0)]);
    assert_eq!(found(index, "\"zandrel plimbo vostrik\"", &all).await, [(2, 0)]);
    assert_eq!(found(index, "\"plimbo krelm\"", &all).await, []);
    assert_eq!(found(index, "garn \"plimbo zandrel\"", &all).await.len(), 2, "words and phrases are alternatives");
}

/// Words that were added count by their weights; phrases stay whole beside them.
pub(super) async fn added_words_count_by_their_weights(index: &dyn SearchIndex) {
    let texts = ["quorvex fendril", "plimbo fendril", "zandrel fendril", "vostrik fendril"];
    let documents: Vec<_> = (1..).zip(texts).map(|(id, text)| document(id, ALICE, &[text])).collect();
    fill(index, &documents, 1).await;
    let all = SearchFilter::all_of(ALICE);
    let ask = async |text: &str, boosted: &[(&str, f32)]| {
        let boosted = boosted.iter().map(|(word, weight)| ((*word).to_owned(), *weight)).collect();
        let hits = index.keyword(&KeywordQuery { text: text.to_owned(), boosted }, &all, 9).await.expect("keyword");
        hits.iter().map(|hit| (hit.document_id.as_u128(), hit.score)).collect::<Vec<_>>()
    };
    let ids = |hits: &[(u128, f32)]| hits.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    let hits = ask("quorvex", &[("plimbo", 0.5), ("zandrel", 0.25), ("vostrik", 0.0)]).await;
    assert_eq!(ids(&hits), [1, 2, 3], "by weight, and nothing by none");
    assert!((hits[1].1 / hits[0].1 - 0.5).abs() < 1e-3, "half as much: {hits:?}");
    assert_eq!(ids(&ask("quorvex", &[("plimbo", 3.0)]).await), [2, 1]);
    assert_eq!(ids(&ask("", &[("plimbo", 0.5)]).await), [2]);
    assert_eq!(ids(&ask("\"fendril quorvex\"", &[("zandrel", 0.5)]).await), [3]);
    ask("quorvex", &[("", 1.0), ("\" ( AND", 0.5), ("plimbo", f32::NAN), ("zandrel", -1.0)]).await;
}

/// Words are stemmed in their passage's language, its document's where it has none, and found by other forms of them.
pub(super) async fn words_are_stemmed_in_their_language(index: &dyn SearchIndex) {
    let mut documents = [
        document(1, ALICE, &["die alten Häuser am Fluss", "the running of many houses"]),
        document(2, ALICE, &["les chevaux nationaux", "fast"]),
        document(3, BOB, &["Häuser"]),
    ];
    documents[0].language = Some("de-AT".to_owned());
    documents[0].chunks[1].language = Some("en".to_owned());
    documents[1].language = Some("fr".to_owned());
    documents[1].chunks[1].language = Some("en".to_owned());
    documents[2].language = Some("de".to_owned());
    fill(index, &documents, 1).await;
    let all = SearchFilter::all_of(ALICE);
    for (query, expected) in [
        ("Haus", &[(1, 0)][..]),
        ("Häusern", &[(1, 0)]),
        ("house runs", &[(1, 1)]),
        ("national", &[(2, 0)]),
        ("\"alte Häuser\"", &[(1, 0)]),
        ("\"Häuser alte\"", &[]),
        ("\"many house\"", &[(1, 1)]),
        ("fastest", &[]),
    ] {
        assert_eq!(found(index, query, &all).await, expected, "{query}");
    }
    // However long the question is that holds it.
    let others: String = (b'a'..=b'z')
        .flat_map(|a| [b'o', b'u'].map(|b| [b'v', a, b, b'k'].map(char::from)))
        .fold(String::new(), |all, word| all + &word.iter().collect::<String>() + " ");
    assert_eq!(found(index, &format!("{others} Häusern"), &all).await, [(1, 0)]);
    assert_eq!(found(index, &format!("{others} \"alte Häuser\""), &all).await, [(1, 0)]);
    let hits = index.keyword(&"Haus".into(), &all, 1).await.expect("keyword");
    assert_eq!(hits[0].chunk.language.as_deref(), Some("de-AT"), "the document's");
    let hits = index.keyword(&"house".into(), &all, 1).await.expect("keyword");
    assert_eq!(hits[0].chunk.language.as_deref(), Some("en"), "its own");
}

/// A document is found by its title and its file's name, in all its passages, and what is found says both.
pub(super) async fn titles_and_names_are_found(index: &dyn SearchIndex) {
    let mut one = document(1, ALICE, &["quorvex", "plimbo"]);
    one.title = Some("Concerning Fendril".to_owned());
    one.filename = "papers/garn-2024.pdf".to_owned();
    let two = document(2, ALICE, &["quorvex"]);
    fill(index, &[one.clone(), two.clone()], 1).await;
    let all = SearchFilter::all_of(ALICE);
    for query in ["fendril", "garn", "\"concerning fendril\""] {
        assert_eq!(sorted(found(index, query, &all).await), [(1, 0), (1, 1)], "{query}");
    }
    assert_eq!(found(index, "quorvex fendril", &all).await[0], (1, 0));
    assert_eq!(found(index, "papers", &all).await, [], "folders are no names");
    let near = two.vectors.general[0].clone().expect("a vector");
    let hits = [
        index.keyword(&"quorvex".into(), &all, 9).await.expect("keyword"),
        index.nearest(Space::General, &near, &all, 9).await.expect("nearest"),
        index.chunks(&[(one.document_id, 1), (two.document_id, 0)]).await.expect("chunks"),
    ];
    for hits in hits {
        let told: BTreeSet<_> =
            hits.iter().map(|hit| (hit.document_id, hit.title.as_deref(), &*hit.filename)).collect();
        let expected =
            [&one, &two].map(|document| (document.document_id, document.title.as_deref(), &*document.filename));
        assert_eq!(told, BTreeSet::from(expected));
    }
}

/// Nothing of another person is found, by whatever filter.
pub(super) async fn owners_see_nothing_of_each_other(index: &dyn SearchIndex) {
    let (hers, his) = (document(1, ALICE, &["quorvex hers"]), document(2, BOB, &["quorvex his"]));
    fill(index, &[hers.clone(), his.clone()], 1).await;
    for (owner, own, other) in [(ALICE, &hers, &his), (BOB, &his, &hers)] {
        let all = SearchFilter::all_of(owner);
        let theirs = SearchFilter { document_ids: vec![other.document_id], ..all.clone() };
        let by_name = SearchFilter { filenames: vec![other.filename.clone()], ..all.clone() };
        let own_place = (own.document_id.as_u128(), 0);
        assert_eq!(found(index, "quorvex", &all).await, [own_place]);
        let exact = other.vectors.general[0].as_ref().expect("a vector");
        assert_eq!(places(&index.nearest(Space::General, exact, &all, 9).await.expect("nearest")), [own_place]);
        for filter in [theirs, by_name] {
            assert_eq!(found(index, "quorvex", &filter).await, []);
            assert_eq!(index.nearest(Space::General, exact, &filter, 9).await.expect("nearest"), []);
        }
    }
    let stranger = SearchFilter::all_of(Uuid::from_u128(0xC));
    assert_eq!(found(index, "quorvex", &stranger).await, []);
    assert_eq!(index.nearest(Space::General, &vector(1, DIMENSIONS), &stranger, 9).await.expect("nearest"), []);
}

/// The vector leg is exact: the same passages and scores as comparing with every vector.
pub(super) async fn nearest_is_what_brute_force_finds(index: &dyn SearchIndex) {
    let documents: Vec<_> =
        (1..120).map(|id| document(id, if id % 3 == 0 { BOB } else { ALICE }, &["a", "b", "c"])).collect();
    fill(index, &documents, 1).await;
    for seed in 0..20 {
        let query = vector(seed * 7_919 + 13, DIMENSIONS);
        let similarity = |v: &[f32]| v.iter().zip(&query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let mut expected: Vec<f64> = documents
            .iter()
            .filter(|d| d.owner == ALICE)
            .flat_map(|d| d.vectors.general.iter().flatten())
            .map(|v| similarity(v))
            .collect();
        expected.sort_by(|a, b| b.total_cmp(a));
        let hits = index.nearest(Space::General, &query, &SearchFilter::all_of(ALICE), 10).await.expect("nearest");
        assert_eq!(hits.len(), 10);
        for (hit, expected) in hits.iter().zip(expected) {
            assert!((f64::from(hit.score) - expected).abs() < 1e-5, "{} is not {expected}", hit.score);
        }
    }
}
