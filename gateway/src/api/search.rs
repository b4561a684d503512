//! Searching one's documents.

use lmao_ports::{Hit, SearchFilter, SearchRequest, SearchType};
use poem_openapi::{Enum, Object, OpenApi, param::Header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Tag;
use crate::{body::JsonBody, context::User, error::ApiError, position::Reads, reply::Reply};

/// Characters of a query.
const MAX_QUERY: usize = 4096;
/// Values of one filter.
const MAX_VALUES: usize = 1000;

/// By which legs.
#[derive(Debug, Clone, Copy, Default, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
enum By {
    #[default]
    Hybrid,
    Semantic,
    Keyword,
}

/// A search.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "SearchRequest")]
struct SearchBody {
    query: String,
    filters: Option<Filters>,
    /// 1 to 100, 10 unless given.
    max_results: Option<usize>,
    /// `hybrid` unless given.
    #[serde(default)]
    #[oai(default)]
    search_type: By,
}

/// Only passages of these; each filter may be one value or several.
#[derive(Debug, Default, Object, Deserialize)]
#[oai(default)]
#[serde(deny_unknown_fields, default)]
struct Filters {
    document_id: Option<Uuid>,
    document_ids: Vec<Uuid>,
    filename: Option<String>,
    filenames: Vec<String>,
    /// `pdf`, `html`, `markdown`, `text`, `code`, …
    file_type: Option<String>,
    file_types: Vec<String>,
    language: Option<String>,
    languages: Vec<String>,
    /// `prose`, `heading`, `list`, `table`, `code`.
    chunk_type: Option<String>,
    chunk_types: Vec<String>,
}

/// What was found.
#[derive(Debug, Object, Serialize)]
struct SearchResponse {
    query: String,
    /// Best first.
    results: Vec<ResultBody>,
    /// Passages that any leg found, before cutting to `max_results`.
    total_results: usize,
    /// Seconds.
    processing_time: f64,
    /// What the reader should know: `the semantic leg is off: …`.
    notices: Vec<String>,
}

/// A passage.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "SearchResult")]
struct ResultBody {
    chunk_id: Uuid,
    content: String,
    /// In [0, 1]; comparable within one search only.
    score: f32,
    metadata: ResultMetadata,
}

/// Where a passage stands.
#[derive(Debug, Object, Serialize)]
struct ResultMetadata {
    document_id: Uuid,
    filename: String,
    /// From 1, where the format has pages.
    page_number: Option<u32>,
    /// Headings, outermost first.
    section: Option<String>,
    chunk_type: String,
    /// Byte offset in the document's extracted text.
    start: u64,
    /// Byte offset behind it.
    end: u64,
}

impl From<Hit> for ResultBody {
    fn from(hit: Hit) -> Self {
        Self {
            chunk_id: hit.chunk_id,
            content: hit.content,
            score: hit.score,
            metadata: ResultMetadata {
                document_id: hit.document_id,
                filename: hit.filename,
                page_number: hit.page_number,
                section: hit.section,
                chunk_type: hit.chunk_type,
                start: hit.start,
                end: hit.end,
            },
        }
    }
}

super::routes! {
    /// `/api/v1/documents/search`
    Search
}

#[OpenApi(tag = "Tag::Documents")]
impl Search {
    /// Search
    #[oai(path = "/api/v1/documents/search", method = "post", operation_id = "search_documents")]
    async fn search(
        &self,
        user: User,
        /// See at least this state.
        #[oai(name = "LMAO-Position")]
        position: Header<Option<String>>,
        body: JsonBody<SearchBody>,
    ) -> Result<Reply<SearchResponse>, ApiError> {
        let app = self.app()?;
        let JsonBody(SearchBody { query, filters, max_results, search_type }) = body;
        let max_results = max_results.unwrap_or(10);
        check(&query, max_results)?;
        let search_type = match search_type {
            By::Hybrid => SearchType::Hybrid,
            By::Semantic => SearchType::Semantic,
            By::Keyword => SearchType::Keyword,
        };
        let filter = filter(user.0.id, filters.unwrap_or_default())?;
        let request = SearchRequest::new(query.clone(), filter, max_results, search_type);
        app.catch_up(position.0.as_deref(), Reads::Search).await?;
        let found = app.state.retriever.search(request).await?;
        Ok(Reply::ok(SearchResponse {
            query,
            results: found.hits.into_iter().map(Into::into).collect(),
            total_results: found.total,
            processing_time: found.took.as_secs_f64(),
            notices: found.notices,
        }))
    }
}

fn check(query: &str, max_results: usize) -> Result<(), ApiError> {
    let bad = |text: String, name: &str| Err(ApiError::unprocessable("bad_search", text).with("field", name));
    if query.trim().is_empty() {
        return bad("the query is empty".to_owned(), "query");
    }
    if query.chars().count() > MAX_QUERY {
        return bad(format!("a query has at most {MAX_QUERY} characters"), "query");
    }
    if !(1..=100).contains(&max_results) {
        return bad("max_results is a number from 1 to 100".to_owned(), "max_results");
    }
    Ok(())
}

fn filter(owner: Uuid, filters: Filters) -> Result<SearchFilter, ApiError> {
    fn all<T>(one: Option<T>, mut more: Vec<T>) -> Result<Vec<T>, ApiError> {
        more.extend(one);
        if more.len() > MAX_VALUES {
            let text = format!("a filter has at most {MAX_VALUES} values");
            return Err(ApiError::unprocessable("bad_search", text).with("field", "filters"));
        }
        Ok(more)
    }
    Ok(SearchFilter {
        document_ids: all(filters.document_id, filters.document_ids)?,
        filenames: all(filters.filename, filters.filenames)?,
        formats: all(filters.file_type, filters.file_types)?,
        languages: all(filters.language, filters.languages)?,
        chunk_types: all(filters.chunk_type, filters.chunk_types)?,
        ..SearchFilter::all_of(owner)
    })
}
