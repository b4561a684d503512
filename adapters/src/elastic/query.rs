//! Asking an index: its legs, passages by place, and counts.

use std::collections::{BTreeSet, HashMap};

use elasticsearch::http::Method;
use lmao_ports::{IndexError, Leg, LegHit, SearchFilter, Space, Unavailable};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    client::Client,
    entries::{KeptVector, PassageEntry, passage_id},
    error::{Error, Refusal, STORE},
    layout,
    state::Counts,
};
use crate::passages::{SECTION_WEIGHT, asked, content::unit, spaces::BySpace, terms::Tongue};

/// Results that the server gives for one query at most (`index.max_result_window`).
const MOST_RESULTS: usize = 10_000;
/// Values of one condition that the server takes at most (`index.max_terms_count`).
const MOST_VALUES: usize = 65_536;
/// Languages of one person's passages, natural and of programming, that are looked at; the most frequent ones.
const MOST_LANGUAGES: usize = 1_000;
/// Documents or passages that are asked for at once.
const BATCH: usize = 1_000;
/// All shards, or an error: never silently the answer of some.
pub(super) const ALL_SHARDS: (&str, &str) = ("allow_partial_search_results", "false");
#[derive(Deserialize)]
#[serde(bound = "S: DeserializeOwned")]
pub(super) struct Found<S> {
    pub hits: Hits<S>,
    #[serde(default)]
    pub pit_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(bound = "S: DeserializeOwned")]
pub(super) struct Hits<S> {
    #[serde(default = "Vec::new")]
    pub hits: Vec<Hit<S>>,
}

#[derive(Deserialize)]
#[serde(bound = "S: DeserializeOwned")]
pub(super) struct Hit<S> {
    #[serde(rename = "_source")]
    pub source: S,
    #[serde(rename = "_score", default)]
    score: Option<f32>,
    #[serde(default)]
    pub sort: Vec<Value>,
}

async fn search<T: DeserializeOwned>(client: &Client, index: &str, body: &Value) -> Result<T, Error> {
    client.call(Method::Post, &format!("/{index}/_search"), &[ALL_SHARDS], Some(body)).await
}

/// Fields that hits do without.
const NOT_SHOWN: [&str; 3] = ["vector", "vector_general", "vector_domain"];

/// A leg, ready to be asked.
#[derive(Debug)]
pub(super) struct Asked {
    body: Value,
    /// Whether scores are those of vectors.
    is_near: bool,
    /// Whether some language had no room for all words.
    is_cut: bool,
}

impl Asked {
    pub(super) const fn is_cut(&self) -> bool {
        self.is_cut
    }
}

/// The body of a leg's search for its `k` best passages, at most 10,000, its words in English and these languages; `None` if
/// nothing can be found.
pub(super) fn prepare(
    leg: &Leg,
    filter: &SearchFilter,
    k: usize,
    tongues: &[Tongue],
) -> Result<Option<Asked>, IndexError> {
    let k = k.min(MOST_RESULTS);
    let mut is_cut = false;
    let mut body = match leg {
        Leg::Keyword(query) => {
            let asked = asked::parse(query, tongues.iter().copied());
            is_cut = asked.is_cut;
            let wanted = alternatives(&asked);
            if wanted.is_empty() {
                return Ok(None);
            }
            let conditions = conditions(filter)?;
            json!({ "query": { "bool": { "should": wanted, "minimum_should_match": 1, "filter": conditions } } })
        }
        Leg::Nearest(space, vector) => {
            let Some(unit) = unit(vector) else {
                let what = "a query vector with a value that is not a finite number".to_owned();
                return Err(IndexError::Invalid(what));
            };
            // Nothing is near to no direction.
            if unit.iter().all(|value| *value == 0.0) {
                return Ok(None);
            }
            let (field, conditions) = (layout::vectors(*space), conditions(filter)?);
            // Every allowed one is compared.
            json!({ "knn": {
                "field": field, "query_vector": unit, "k": k.max(1), "num_candidates": k.max(1), "filter": conditions,
            } })
        }
    };
    body["size"] = k.into();
    body["track_total_hits"] = false.into();
    body["_source"] = json!({ "excludes": NOT_SHOWN });
    Ok((k > 0).then_some(Asked { body, is_near: matches!(leg, Leg::Nearest(..)), is_cut }))
}

/// The languages, English aside, of a person's passages.
pub(super) async fn tongues(client: &Client, index: &str, owner: Uuid) -> Result<Vec<Tongue>, Error> {
    let body = json!({
        "size": 0,
        "track_total_hits": false,
        "query": { "bool": { "filter": [{ "term": { "owner": owner } }, { "term": { "kind": "passage" } }] } },
        "aggs": { "languages": { "terms": { "field": "metadata.language", "size": MOST_LANGUAGES } } },
    });
    let answer: Value = search(client, index, &body).await?;
    let found = answer["aggregations"]["languages"]["buckets"].as_array();
    let tongues = found.into_iter().flatten().map(|bucket| Tongue::of(bucket["key"].as_str()));
    Ok(tongues.filter(|tongue| *tongue != Tongue::English).collect::<BTreeSet<_>>().into_iter().collect())
}

/// Asks several legs in one request: each one's hits, best first, or why there are none.
pub(super) async fn legs(
    client: &Client,
    index: &str,
    legs: &[&Asked],
) -> Result<Vec<Result<Vec<LegHit>, Error>>, Error> {
    #[derive(Deserialize)]
    struct Answers {
        responses: Vec<Answer>,
    }
    #[derive(Deserialize)]
    struct Answer {
        status: u16,
        #[serde(default)]
        error: Value,
        #[serde(flatten)]
        found: Value,
    }
    let mut body = String::new();
    for leg in legs {
        let mut header = json!({ "index": index, "allow_partial_search_results": false });
        if !leg.is_near {
            // Statistics of all shards together, as if there were one.
            header["search_type"] = "dfs_query_then_fetch".into();
        }
        body += &format!("{header}\n{}\n", leg.body);
    }
    let answers: Answers = client.call_bytes(Method::Post, "/_msearch", &[], Some(body.into())).await?;
    let read = |(leg, answer): (&&Asked, Answer)| {
        if !answer.error.is_null() {
            return Err(Error::Refused(Refusal::from_error(answer.status, &answer.error)));
        }
        let found = Found::deserialize(answer.found).map_err(|source| client.unreadable(source))?;
        // The server's score of a vector is (1 + cosine) / 2.
        Ok(ranked(found, |score| if leg.is_near { (2.0 * score - 1.0).clamp(-1.0, 1.0) } else { score }))
    };
    if answers.responses.len() != legs.len() {
        let what = format!("{} searches have {} answers", legs.len(), answers.responses.len());
        return Err(IndexError::from(Unavailable::plain(STORE, what)).into());
    }
    Ok(legs.iter().zip(answers.responses).map(read).collect())
}

/// What becomes of legs whose request failed as a whole: those that were in it fare alike.
pub(super) fn all_failed(
    prepared: &[Result<Option<Asked>, IndexError>],
    error: Error,
) -> Vec<Result<Vec<LegHit>, IndexError>> {
    let mut error = Some(error);
    let settle = |leg: &Result<Option<Asked>, IndexError>| match leg {
        Err(invalid) => Err(IndexError::Invalid(invalid.to_string())),
        Ok(None) => Ok(vec![]),
        Ok(Some(_)) => {
            let again = error.as_ref().map(Error::again);
            Err(std::mem::replace(&mut error, again)
                .map_or_else(|| Unavailable::plain(STORE, "the request failed").into(), IndexError::from))
        }
    };
    prepared.iter().map(settle).collect()
}

/// Words and phrases, each in the content and, more lightly, in the headings.
fn alternatives(asked: &asked::Asked) -> Vec<Value> {
    let plain: Vec<&str> = asked.words.iter().filter(|(_, weight)| *weight == 1.0).map(|(term, _)| &**term).collect();
    let mut alternatives = Vec::new();
    for (field, boost) in [("content_terms", 1.0), ("section_terms", SECTION_WEIGHT)] {
        let matching = |query: &str, boost: f32| json!({ "match": { field: { "query": query, "boost": boost } } });
        if !plain.is_empty() {
            alternatives.push(matching(&plain.join(" "), boost));
        }
        let weighted = asked.words.iter().filter(|(_, weight)| *weight != 1.0);
        alternatives.extend(weighted.map(|(term, weight)| matching(term, boost * weight)));
        for phrase in &asked.phrases {
            let query = phrase.iter().map(|(_, term)| &**term).collect::<Vec<_>>().join(" ");
            alternatives.push(json!({ "match_phrase": { field: { "query": query, "boost": boost } } }));
        }
    }
    alternatives
}

/// One condition for each part of the filter, the owner first.
fn conditions(filter: &SearchFilter) -> Result<Vec<Value>, IndexError> {
    let mut conditions = vec![json!({ "term": { "owner": filter.owner } })];
    let ids: Vec<String> = filter.document_ids.iter().map(Uuid::to_string).collect();
    for (field, values) in [
        ("document_id", &ids),
        ("metadata.filename", &filter.filenames),
        ("metadata.file_type", &filter.formats),
        ("metadata.language", &filter.languages),
        ("chunk_type", &filter.chunk_types),
        ("metadata.tags", &filter.tags),
        ("metadata.authors", &filter.authors),
        ("section_paths", &filter.sections),
    ] {
        if values.len() > MOST_VALUES {
            let is = values.len();
            return Err(IndexError::Invalid(format!("a filter with {is} values; {MOST_VALUES} are possible")));
        }
        if !values.is_empty() {
            conditions.push(json!({ "terms": { field: values } }));
        }
    }
    if let Some((from, to)) = filter.pages {
        // The field is one of 32 bits with a sign.
        let most = |page: u32| page.min(i32::MAX.cast_unsigned());
        conditions.push(json!({ "range": { "metadata.page_number": { "gte": most(from), "lte": most(to) } } }));
    }
    let mut created = json!({});
    for (bound, time) in [("gte", filter.created_from), ("lt", filter.created_before)] {
        if let Some(time) = time {
            created[bound] = time.0.into();
        }
    }
    if created != json!({}) {
        conditions.push(json!({ "range": { "created_micros": created } }));
    }
    Ok(conditions)
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
    let got = get::<PassageEntry>(client, index, wanted, ("_source_excludes", &NOT_SHOWN.join(","))).await?;
    Ok(got.into_iter().flatten().map(|passage| passage.into_hit(0.0)).collect())
}

/// The vectors of passages in a space, in the order asked for.
pub(super) async fn vectors(
    client: &Client,
    index: &str,
    space: Space,
    wanted: &[(Uuid, u32)],
) -> Result<Vec<Option<Vec<f32>>>, Error> {
    let got = get::<KeptVector>(client, index, wanted, ("_source_includes", KeptVector::field(space))).await?;
    got.into_iter().map(|kept| Ok(kept.map(|kept| kept.row()).transpose()?.flatten())).collect()
}

/// Entries of passages that searches see, in the order asked for; `fields` says which of their fields.
async fn get<T: DeserializeOwned>(
    client: &Client,
    index: &str,
    wanted: &[(Uuid, u32)],
    fields: (&str, &str),
) -> Result<Vec<Option<T>>, Error> {
    #[derive(Deserialize)]
    #[serde(bound = "T: DeserializeOwned")]
    struct Got<T> {
        docs: Vec<Document<T>>,
    }
    #[derive(Deserialize)]
    #[serde(bound = "T: DeserializeOwned")]
    struct Document<T> {
        #[serde(default = "Option::default", rename = "_source")]
        source: Option<T>,
        #[serde(default)]
        error: Value,
    }
    let mut entries = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(BATCH) {
        let docs = wanted
            .iter()
            .map(|(document, ordinal)| json!({ "_id": passage_id(*document, *ordinal), "routing": document }));
        let body = json!({ "docs": docs.collect::<Vec<_>>() });
        let query = [("realtime", "false"), fields];
        let got: Got<T> = client.call(Method::Post, &format!("/{index}/_mget"), &query, Some(&body)).await?;
        for document in got.docs {
            if !document.error.is_null() {
                return Err(Error::Refused(Refusal::from_error(503, &document.error)));
            }
            entries.push(document.source);
        }
    }
    Ok(entries)
}

/// Whether searches see a document.
pub(super) async fn holds(client: &Client, index: &str, document: Uuid) -> Result<bool, Error> {
    let body = json!({ "docs": [{ "_id": document, "routing": document, "_source": false }] });
    let query = [("realtime", "false")];
    let answer: Value = client.call(Method::Post, &format!("/{index}/_mget"), &query, Some(&body)).await?;
    let document = &answer["docs"][0];
    if document["error"].is_object() {
        return Err(Error::Refused(Refusal::from_error(503, &document["error"])));
    }
    Ok(document["found"].as_bool().unwrap_or(false))
}

/// The field that says whether a passage has a vector in a space.
const fn has_vector(space: Space) -> &'static str {
    match space {
        Space::General => "has_vector_general",
        Space::Domain => "has_vector_domain",
    }
}

/// Passages that searches see, and those of them with vectors.
pub(super) async fn counts(client: &Client, index: &str) -> Result<Counts, Error> {
    let having = |space| json!({ "term": { has_vector(space): true } });
    let body = json!({
        "size": 0,
        "track_total_hits": true,
        "query": { "term": { "kind": "passage" } },
        "aggs": {
            "general": { "filter": having(Space::General) },
            "domain": { "filter": having(Space::Domain) },
            "bare": { "filter": { "bool": { "must_not": Space::ALL.map(having) } } },
        },
    });
    let answer: Value = search(client, index, &body).await?;
    let uncounted = || IndexError::Damaged(format!("{index} cannot be counted"));
    let count = |name: &str| answer["aggregations"][name]["doc_count"].as_u64().ok_or_else(uncounted);
    Ok(Counts {
        passages: answer["hits"]["total"]["value"].as_u64().ok_or_else(uncounted)?,
        vectors: BySpace::try_each(|space| count(space.name()))?,
        bare: count("bare")?,
    })
}

/// Passages with a vector in a space, those of certain documents left out.
pub(super) async fn vectors_beside(
    client: &Client,
    index: &str,
    space: Space,
    documents: &[Uuid],
) -> Result<u64, Error> {
    let body = json!({
        "size": 0,
        "track_total_hits": true,
        "query": { "bool": {
            "filter": { "term": { has_vector(space): true } },
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
