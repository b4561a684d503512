//! What is found: ranking, phrases, filters, neighbours.

use uuid::Uuid;

use super::{ALICE, BOB, DIMENSIONS, document, fill, found, places, sorted, vector};
use crate::{ChunkRecord, IndexedDocument, PageTurn, SearchFilter, SearchIndex, Space};

/// Every field of a passage, and its document's, is returned as it was put.
pub(super) async fn passages_come_back_whole(index: &dyn SearchIndex) {
    let mut one = document(1, ALICE, &["quorvex \0 \u{1F600} \"quoted\"\n", "plimbo"]);
    one.filename = "ä weird/name \".pdf".to_owned();
    one.chunks[0].section = Some("Outer > Inner".to_owned());
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

/// Each condition holds for every result, all together; k results are k allowed ones.
pub(super) async fn filters_are_exact(index: &dyn SearchIndex) {
    let formats = ["pdf", "code", "text"];
    let languages = [Some("rust"), Some("en"), None];
    let types = ["prose", "table"];
    let documents: Vec<IndexedDocument> = (0..30_usize)
        .map(|n| {
            let mut one = document(n as u128 + 1, ALICE, &["quorvex", "quorvex", "quorvex"]);
            one.format = formats[n % 3].to_owned();
            one.language = languages[n / 3 % 3].map(str::to_owned);
            one.filename = format!("File {}.md", n % 5);
            one.chunks.iter_mut().enumerate().for_each(|(m, chunk)| chunk.chunk_type = types[(n + m) % 2].to_owned());
            one
        })
        .collect();
    fill(index, &documents, 1).await;
    let all = SearchFilter::all_of(ALICE);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let filters = [
        all.clone(),
        SearchFilter { formats: texts(&["pdf"]), ..all.clone() },
        SearchFilter { formats: texts(&["pdf", "code", "none"]), ..all.clone() },
        SearchFilter { languages: texts(&["rust"]), ..all.clone() },
        SearchFilter { filenames: texts(&["File 3.md"]), ..all.clone() },
        SearchFilter { filenames: texts(&["file 3.md"]), ..all.clone() },
        SearchFilter { chunk_types: texts(&["table"]), ..all.clone() },
        SearchFilter { document_ids: vec![documents[4].document_id, Uuid::from_u128(4_000)], ..all.clone() },
        SearchFilter { document_ids: vec![Uuid::from_u128(4_000)], ..all.clone() },
        SearchFilter {
            formats: texts(&["pdf"]),
            chunk_types: texts(&["prose"]),
            languages: texts(&["en"]),
            ..all.clone()
        },
    ];
    for filter in filters {
        let among = |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|w| w == value);
        let expected: Vec<(u128, u32)> = documents
            .iter()
            .filter(|d| filter.document_ids.is_empty() || filter.document_ids.contains(&d.document_id))
            .filter(|d| among(&filter.formats, &d.format) && among(&filter.filenames, &d.filename))
            .filter(|d| among(&filter.languages, d.language.as_deref().unwrap_or("\0")))
            .flat_map(|d| d.chunks.iter().map(move |chunk| (d.document_id.as_u128(), chunk)))
            .filter(|(_, chunk)| among(&filter.chunk_types, &chunk.chunk_type))
            .map(|(id, chunk)| (id, chunk.ordinal))
            .collect();
        let hits = index.keyword(&"quorvex".into(), &filter, 1_000).await.expect("keyword");
        assert_eq!(sorted(places(&hits)), expected, "{filter:?}");
        let hits = index.nearest(Space::General, &vector(3, DIMENSIONS), &filter, 1_000).await.expect("nearest");
        assert_eq!(sorted(places(&hits)), expected, "{filter:?}");
        let some = expected.len().min(4);
        assert_eq!(index.keyword(&"quorvex".into(), &filter, 4).await.expect("keyword").len(), some);
        assert_eq!(
            index.nearest(Space::General, &vector(3, DIMENSIONS), &filter, 4).await.expect("nearest").len(),
            some
        );
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
