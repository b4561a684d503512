//! Asking an index: both legs, passages by place, counts, and everything in order.

use std::collections::HashMap;

use elasticsearch::http::Method;
use lmao_ports::{Digest, IndexError, LegHit, SearchFilter};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    client::Client,
    entries::{Entry, PassageEntry, passage_id},
    error::Error,
    layout::VECTORS,
};
use crate::passages::{
    SECTION_WEIGHT,
    asked::{self, Asked},
    content::{self, ContentDigest, Digested},
};

/// Results that the server gives for one query at most (`index.max_result_window`).
const MOST_RESULTS: usize = 10_000;
/// Values of one condition that the server takes at most (`index.max_terms_count`).
const MOST_VALUES: usize = 65_536;
/// Entries with their vectors that are read at once.
const PAGE: usize = 500;
/// Documents or passages that are asked for at once.
const BATCH: usize = 1_000;
/// All shards, or an error: never silently the answer of some.
const ALL_SHARDS: (&str, &str) = ("allow_partial_search_results", "false");
/// How long the server keeps a view of the index between two pages.
const KEEP: &str = "2m";

#[derive(Deserialize)]
#[serde(bound = "S: DeserializeOwned")]
struct Found<S> {
    hits: Hits<S>,
    #[serde(default)]
    pit_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(bound = "S: DeserializeOwned")]
struct Hits<S> {
    #[serde(default = "Vec::new")]
    hits: Vec<Hit<S>>,
}

#[derive(Deserialize)]
#[serde(bound = "S: DeserializeOwned")]
struct Hit<S> {
    #[serde(rename = "_source")]
    source: S,
    #[serde(rename = "_score", default)]
    score: Option<f32>,
    #[serde(default)]
    sort: Vec<Value>,
}

async fn search<T: DeserializeOwned>(client: &Client, index: &str, body: &Value) -> Result<T, Error> {
    client.call(Method::Post, &format!("/{index}/_search"), &[ALL_SHARDS], Some(body)).await
}

/// The `k` best passages by BM25, at most 10,000.
pub(super) async fn keyword(
    client: &Client,
    index: &str,
    text: &str,
    filter: &SearchFilter,
    k: usize,
) -> Result<Vec<LegHit>, Error> {
    let wanted = alternatives(&asked::parse(text));
    if k == 0 || wanted.is_empty() {
        return Ok(Vec::new());
    }
    let body = json!({
        "query": { "bool": { "should": wanted, "minimum_should_match": 1, "filter": conditions(filter)? } },
        "size": k.min(MOST_RESULTS),
        "track_total_hits": false,
        "_source": { "excludes": ["vector"] },
    });
    // Statistics of all shards together, as if there were one.
    let query = [ALL_SHARDS, ("search_type", "dfs_query_then_fetch")];
    let found = client.call(Method::Post, &format!("/{index}/_search"), &query, Some(&body)).await?;
    Ok(ranked(found, |score| score))
}

/// Words and phrases, each in the content and, more lightly, in the headings.
fn alternatives(asked: &Asked) -> Vec<Value> {
    let mut alternatives = Vec::new();
    for (field, boost) in [("content_terms", 1.0), ("section_terms", SECTION_WEIGHT)] {
        if !asked.words.is_empty() {
            let query = asked.words.join(" ");
            alternatives.push(json!({ "match": { field: { "query": query, "boost": boost } } }));
        }
        for phrase in &asked.phrases {
            let query = phrase.iter().map(|(_, term)| &**term).collect::<Vec<_>>().join(" ");
            alternatives.push(json!({ "match_phrase": { field: { "query": query, "boost": boost } } }));
        }
    }
    alternatives
}

/// One condition for each part of the filter, the owner first.
fn conditions(filter: &SearchFilter) -> Result<Vec<Value>, Error> {
    let mut conditions = vec![json!({ "term": { "owner": filter.owner } })];
    if filter.document_ids.len() > MOST_VALUES {
        return Err(IndexError::Invalid(format!("a search in more than {MOST_VALUES} documents by name")).into());
    }
    if !filter.document_ids.is_empty() {
        conditions.push(json!({ "terms": { "document_id": filter.document_ids } }));
    }
    for (field, values) in [
        ("metadata.filename", &filter.filenames),
        ("metadata.file_type", &filter.formats),
        ("metadata.language", &filter.languages),
        ("chunk_type", &filter.chunk_types),
    ] {
        if !values.is_empty() {
            conditions.push(json!({ "terms": { field: values } }));
        }
    }
    Ok(conditions)
}

/// The `k` nearest passages, at most 10,000: every allowed one is compared.
pub(super) async fn nearest(
    client: &Client,
    index: &str,
    vector: &[f32],
    filter: &SearchFilter,
    k: usize,
) -> Result<Vec<LegHit>, Error> {
    let k = k.min(MOST_RESULTS);
    if k == 0 {
        return Ok(Vec::new());
    }
    let body = json!({
        "knn": {
            "field": VECTORS, "query_vector": vector, "k": k, "num_candidates": k, "filter": conditions(filter)?,
        },
        "size": k,
        "track_total_hits": false,
        "_source": { "excludes": ["vector"] },
    });
    let found: Found<PassageEntry> = search(client, index, &body).await?;
    // The server's score is (1 + cosine) / 2.
    Ok(ranked(found, |score| (2.0 * score - 1.0).clamp(-1.0, 1.0)))
}

/// Best first; equal ones by document and ordinal, where the server has the order of its segments.
fn ranked(found: Found<PassageEntry>, score: impl Fn(f32) -> f32) -> Vec<LegHit> {
    let hits = found.hits.hits.into_iter();
    let mut hits: Vec<_> = hits.map(|hit| hit.source.into_hit(score(hit.score.unwrap_or_default()))).collect();
    let place = |hit: &LegHit| (hit.document_id, hit.chunk.ordinal);
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| place(a).cmp(&place(b))));
    hits
}

/// Passages by document and ordinal, those that searches see.
pub(super) async fn chunks(client: &Client, index: &str, wanted: &[(Uuid, u32)]) -> Result<Vec<LegHit>, Error> {
    #[derive(Deserialize)]
    struct Got {
        docs: Vec<Document>,
    }
    #[derive(Deserialize)]
    struct Document {
        #[serde(default, rename = "_source")]
        source: Option<PassageEntry>,
        #[serde(default)]
        error: Value,
    }
    let mut hits = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(BATCH) {
        let docs = wanted
            .iter()
            .map(|(document, ordinal)| json!({ "_id": passage_id(*document, *ordinal), "routing": document }));
        let body = json!({ "docs": docs.collect::<Vec<_>>() });
        let query = [("realtime", "false"), ("_source_excludes", "vector")];
        let got: Got = client.call(Method::Post, &format!("/{index}/_mget"), &query, Some(&body)).await?;
        for document in got.docs {
            if !document.error.is_null() {
                return Err(Error::Refused(super::error::Refusal::from_error(503, &document.error)));
            }
            hits.extend(document.source.map(|passage| passage.into_hit(0.0)));
        }
    }
    Ok(hits)
}

/// Whether searches see a document.
pub(super) async fn holds(client: &Client, index: &str, document: Uuid) -> Result<bool, Error> {
    let body = json!({ "docs": [{ "_id": document, "routing": document, "_source": false }] });
    let query = [("realtime", "false")];
    let answer: Value = client.call(Method::Post, &format!("/{index}/_mget"), &query, Some(&body)).await?;
    let document = &answer["docs"][0];
    if document["error"].is_object() {
        return Err(Error::Refused(super::error::Refusal::from_error(503, &document["error"])));
    }
    Ok(document["found"].as_bool().unwrap_or(false))
}

/// Passages that searches see, and those of them with a vector.
pub(super) async fn counts(client: &Client, index: &str) -> Result<(u64, u64), Error> {
    let body = json!({
        "size": 0,
        "track_total_hits": true,
        "query": { "term": { "kind": "passage" } },
        "aggs": { "vectors": { "filter": { "term": { "has_vector": true } } } },
    });
    let answer: Value = search(client, index, &body).await?;
    let passages = answer["hits"]["total"]["value"].as_u64();
    let vectors = answer["aggregations"]["vectors"]["doc_count"].as_u64();
    passages.zip(vectors).ok_or_else(|| IndexError::Damaged(format!("{index} cannot be counted")).into())
}

/// Passages with a vector, those of certain documents left out.
pub(super) async fn vectors_beside(client: &Client, index: &str, documents: &[Uuid]) -> Result<u64, Error> {
    let body = json!({
        "size": 0,
        "track_total_hits": true,
        "query": { "bool": {
            "filter": { "term": { "has_vector": true } },
            "must_not": documents.chunks(MOST_VALUES).map(|ids| json!({ "terms": { "document_id": ids } })).collect::<Vec<_>>(),
        } },
    });
    let answer: Value = search(client, index, &body).await?;
    let count = answer["hits"]["total"]["value"].as_u64();
    count.ok_or_else(|| IndexError::Damaged(format!("{index} cannot be counted")).into())
}

/// The ordinals that searches see of each of these documents.
pub(super) async fn ordinals(
    client: &Client,
    index: &str,
    documents: &[Uuid],
) -> Result<HashMap<Uuid, Vec<u32>>, Error> {
    let mut ordinals: HashMap<Uuid, Vec<u32>> = HashMap::new();
    for documents in documents.chunks(BATCH) {
        let mut after: Option<Vec<Value>> = None;
        loop {
            let mut body = json!({
                "query": { "bool": { "filter": [
                    { "terms": { "document_id": documents } },
                    { "term": { "kind": "passage" } },
                ] } },
                "size": MOST_RESULTS,
                "track_total_hits": false,
                "_source": ["kind"],
                "sort": [{ "document_id": "asc" }, { "ordinal": "asc" }],
            });
            if let Some(after) = &after {
                body["search_after"] = json!(after);
            }
            let found: Found<Value> = search(client, index, &body).await?;
            for hit in &found.hits.hits {
                if let Ok((document, ordinal)) = <(Uuid, u32)>::deserialize(json!(hit.sort)) {
                    ordinals.entry(document).or_default().push(ordinal);
                }
            }
            match found.hits.hits.into_iter().next_back() {
                Some(last) => after = Some(last.sort),
                None => break,
            }
        }
    }
    Ok(ordinals)
}

/// All documents, each followed by its passages, in the order of ids and ordinals: one view of the index, page by page.
pub(super) struct Pages<'a> {
    client: &'a Client,
    view: String,
    after: Option<Vec<Value>>,
}

impl<'a> Pages<'a> {
    /// Of what searches see now. To be closed.
    pub(super) async fn open(client: &'a Client, index: &str) -> Result<Self, Error> {
        let answer: Value = client.call(Method::Post, &format!("/{index}/_pit"), &[("keep_alive", KEEP)], None).await?;
        let view = answer["id"].as_str().unwrap_or_default().to_owned();
        Ok(Self { client, view, after: None })
    }

    /// The next ones; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<Entry>, Error> {
        let mut body = json!({
            "query": { "exists": { "field": "document_id" } },
            "size": PAGE,
            "track_total_hits": false,
            "pit": { "id": self.view, "keep_alive": KEEP },
            "sort": [{ "document_id": "asc" }, { "ordinal": "asc" }],
        });
        if let Some(after) = &self.after {
            body["search_after"] = json!(after);
        }
        let found: Found<Entry> = self.client.call(Method::Post, "/_search", &[ALL_SHARDS], Some(&body)).await?;
        if let Some(view) = found.pit_id {
            self.view = view;
        }
        if let Some(last) = found.hits.hits.last() {
            self.after = Some(last.sort.clone());
        }
        Ok(found.hits.hits.into_iter().map(|hit| hit.source).collect())
    }

    /// Lets the server forget the view; it does so by itself after two minutes.
    pub(super) async fn close(self) {
        let body = json!({ "id": self.view });
        if let Err(error) = self.client.call::<Value>(Method::Delete, "/_pit", &[], Some(&body)).await {
            tracing::debug!(%error, "a view of the search index was left to expire");
        }
    }
}

/// The digest of everything that searches see; `model` is whose vectors they are.
pub(super) async fn digest(client: &Client, index: &str, model: Option<&str>) -> Result<Digest, Error> {
    let mut pages = Pages::open(client, index).await?;
    let digest = digest_of(&mut pages, model).await;
    pages.close().await;
    digest
}

async fn digest_of(pages: &mut Pages<'_>, model: Option<&str>) -> Result<Digest, Error> {
    let mut digest = ContentDigest::new(model);
    // Of the document in hand: passages still to come, and the vectors of those that came.
    let (mut missing, mut floats, mut is_first) = (0, Vec::new(), true);
    let torn = || Error::from(IndexError::Damaged("a document does not have all of its passages".to_owned()));
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        for entry in page {
            match entry {
                Entry::Document(entry) => {
                    if missing > 0 {
                        return Err(torn());
                    }
                    if !std::mem::take(&mut is_first) {
                        digest.vectors(&std::mem::take(&mut floats));
                    }
                    missing = entry.passages;
                    digest.document(Digested {
                        document_id: entry.document_id,
                        owner: entry.owner,
                        filename: &entry.metadata.filename,
                        format: &entry.metadata.file_type,
                        language: entry.metadata.language.as_deref(),
                        head: &content::record(&entry.head())?,
                        passages: entry.passages,
                    });
                }
                Entry::Passage(entry) => {
                    missing = missing.checked_sub(1).ok_or_else(torn)?;
                    floats.extend(entry.floats()?);
                    digest.passage(&content::record(&entry.into_chunk().0)?);
                }
            }
        }
    }
    if missing > 0 {
        return Err(torn());
    }
    if !is_first {
        digest.vectors(&floats);
    }
    Ok(digest.finish())
}
