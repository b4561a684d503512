//! Filters: whatever they leave, it is exactly what they let through, in every leg.

use uuid::Uuid;

use super::{ALICE, BOB, DIMENSIONS, document, fill, manifest, places, sorted, vector};
use crate::{ChunkRecord, IndexedDocument, SearchFilter, SearchIndex, Space};
use lmao_events::{Position, Timestamp};

const SECTIONS: [Option<&str>; 5] = [Some("A > B"), Some("A"), Some("AB > C"), None, Some("A > B > C")];

/// Documents that differ in everything that can be asked for.
fn documents() -> Vec<IndexedDocument> {
    let (formats, types) = (["pdf", "code", "text"], ["prose", "table"]);
    let languages = [Some("rust"), Some("en"), None];
    let some = |n: usize, every: usize, name: &str| n.is_multiple_of(every).then(|| name.to_owned());
    let one = |n: usize| {
        let mut one = document(n as u128 + 1, ALICE, &["quorvex", "quorvex", "quorvex"]);
        one.format = formats[n % 3].to_owned();
        one.language = languages[n / 3 % 3].map(str::to_owned);
        one.filename = format!("File {}.md", n % 5);
        one.tags = some(n, 2, "red").into_iter().chain(some(n, 5, "blue sky")).collect();
        one.authors = some(n, 7, "Ada, Countess").into_iter().chain(some(n, 3, "Bob")).collect();
        one.created_at = Timestamp(1_700_000_000_000_000 + n as i64 * 300);
        for (m, chunk) in one.chunks.iter_mut().enumerate() {
            chunk.chunk_type = types[(n + m) % 2].to_owned();
            chunk.section = SECTIONS[(n + m) % SECTIONS.len()].map(str::to_owned);
            chunk.page_number = (!n.is_multiple_of(4)).then(|| u32::try_from(n + m).expect("few"));
            chunk.language = if m == 1 { some(n, 4, "de") } else { None };
        }
        one.vectors.domain = vec![Some(vector(n as u64, 8)), None, Some(vector(n as u64 + 99, 8))];
        one
    };
    (0..30).map(one).collect()
}

fn allows(filter: &SearchFilter, document: &IndexedDocument, chunk: &ChunkRecord) -> bool {
    let among = |wanted: &[String], value: Option<&String>| {
        wanted.is_empty() || value.is_some_and(|value| wanted.contains(value))
    };
    let any = |wanted: &[String], values: &[String]| wanted.is_empty() || values.iter().any(|v| wanted.contains(v));
    (filter.document_ids.is_empty() || filter.document_ids.contains(&document.document_id))
        && among(&filter.formats, Some(&document.format))
        && among(&filter.filenames, Some(&document.filename))
        && among(&filter.languages, chunk.language.as_ref().or(document.language.as_ref()))
        && among(&filter.chunk_types, Some(&chunk.chunk_type))
        && any(&filter.tags, &document.tags)
        && any(&filter.authors, &document.authors)
        && filter.pages.is_none_or(|(from, to)| chunk.page_number.is_some_and(|page| from <= page && page <= to))
        && filter.created_from.is_none_or(|from| document.created_at >= from)
        && filter.created_before.is_none_or(|before| document.created_at < before)
        && filter.allows_section(chunk.section.as_deref())
}

fn filters(documents: &[IndexedDocument]) -> Vec<SearchFilter> {
    let all = SearchFilter::all_of(ALICE);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let id = |n: u128| Uuid::from_u128(n);
    let time = |n: usize| Some(documents[n].created_at);
    vec![
        all.clone(),
        SearchFilter { formats: texts(&["pdf"]), ..all.clone() },
        SearchFilter { formats: texts(&["pdf", "code", "none"]), ..all.clone() },
        SearchFilter { languages: texts(&["rust"]), ..all.clone() },
        SearchFilter { languages: texts(&["de"]), ..all.clone() },
        SearchFilter { languages: texts(&["de", "en"]), ..all.clone() },
        SearchFilter { filenames: texts(&["File 3.md"]), ..all.clone() },
        SearchFilter { filenames: texts(&["file 3.md"]), ..all.clone() },
        SearchFilter { chunk_types: texts(&["table"]), ..all.clone() },
        SearchFilter { document_ids: vec![documents[4].document_id, id(4_000)], ..all.clone() },
        SearchFilter { document_ids: vec![id(4_000)], ..all.clone() },
        SearchFilter { tags: texts(&["red"]), ..all.clone() },
        SearchFilter { tags: texts(&["blue sky", "green"]), ..all.clone() },
        SearchFilter { tags: texts(&["blue"]), ..all.clone() },
        SearchFilter { authors: texts(&["Ada, Countess"]), ..all.clone() },
        SearchFilter { authors: texts(&["Ada, Countess", "Bob"]), tags: texts(&["red"]), ..all.clone() },
        SearchFilter { pages: Some((3, 7)), ..all.clone() },
        SearchFilter { pages: Some((0, u32::MAX)), ..all.clone() },
        SearchFilter { pages: Some((7, 3)), ..all.clone() },
        SearchFilter { created_from: time(4), ..all.clone() },
        SearchFilter { created_before: time(4), ..all.clone() },
        SearchFilter { created_from: time(4), created_before: time(9), ..all.clone() },
        SearchFilter { sections: texts(&["A"]), ..all.clone() },
        SearchFilter { sections: texts(&["A > B"]), ..all.clone() },
        SearchFilter { sections: texts(&["AB", "A > B > C"]), ..all.clone() },
        SearchFilter { sections: texts(&["B", "A > "]), ..all.clone() },
        SearchFilter {
            formats: texts(&["pdf"]),
            chunk_types: texts(&["prose"]),
            languages: texts(&["en"]),
            pages: Some((1, 20)),
            sections: texts(&["A"]),
            ..all
        },
    ]
}

/// Each condition holds for every result, all together, in all legs; k results are k allowed ones.
pub(super) async fn filters_are_exact(index: &dyn SearchIndex) {
    let documents = documents();
    let (general, domain) = (vector(3, DIMENSIONS), vector(3, 8));
    index.use_model(Space::Domain, &manifest("code", 8)).await.expect("use_model");
    // Somebody else's, so that the owner is a condition, too; and twice, so that there are dead ones.
    fill(index, &[document(900, BOB, &["quorvex", "quorvex"])], 1).await;
    for checkpoint in 2..4 {
        fill(index, &documents, checkpoint).await;
    }
    for filter in filters(&documents) {
        let let_through = |has_domain: bool| -> Vec<(u128, u32)> {
            let passages =
                documents.iter().flat_map(|document| document.chunks.iter().map(move |chunk| (document, chunk)));
            passages
                .filter(|(document, chunk)| allows(&filter, document, chunk))
                .filter(|(_, chunk)| !has_domain || chunk.ordinal != 1)
                .map(|(document, chunk)| (document.document_id.as_u128(), chunk.ordinal))
                .collect()
        };
        let (expected, in_domain) = (let_through(false), let_through(true));
        for k in [1_000, 4] {
            let hits = [
                (index.keyword(&"quorvex".into(), &filter, k).await.expect("keyword"), &expected),
                (index.nearest(Space::General, &general, &filter, k).await.expect("nearest"), &expected),
                (index.nearest(Space::Domain, &domain, &filter, k).await.expect("nearest"), &in_domain),
            ];
            for (leg, (hits, expected)) in hits.iter().enumerate() {
                let found = sorted(places(hits));
                assert_eq!(found.len(), expected.len().min(k), "leg {leg}: {filter:?}");
                assert!(
                    found.iter().all(|place| expected.contains(place)),
                    "leg {leg}: {filter:?} lets {found:?} through"
                );
            }
        }
    }
    // What is gone is in no filter's way.
    for document in &documents[1..] {
        index.delete(document.document_id).await.expect("delete");
    }
    index.commit(Position(9)).await.expect("commit");
    for filter in filters(&documents) {
        let expected = documents[0].chunks.iter().filter(|chunk| allows(&filter, &documents[0], chunk)).count();
        assert_eq!(index.keyword(&"quorvex".into(), &filter, 99).await.expect("keyword").len(), expected, "{filter:?}");
    }
}
