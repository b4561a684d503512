//! Searching one's documents.

mod explain;
mod filters;
mod given;

use lmao_events::Hash;
use lmao_ports::{
    ChatMessage, ChatRole, Explain, Hit, Intent, SearchIndex, SearchRequest, SearchResults, SearchType, Space,
};
use poem_openapi::{Enum, Object, OpenApi, param::Header, types::ToJSON};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use self::{
    explain::{HitExplain, QueryExplain},
    filters::Filters,
};
use super::Tag;
use crate::{body::JsonBody, context::User, error::ApiError, position::Reads, reply::Reply};

/// Characters of a query.
const MAX_QUERY: usize = 4096;
/// Results of one page.
const MAX_RESULTS: usize = 100;
/// Results of all pages together.
const MAX_DEPTH: usize = 1000;
/// Messages of a conversation, and bytes of all of them.
const MAX_MESSAGES: usize = 50;
const MAX_CONVERSATION: usize = 64 * 1024;

/// By which legs.
#[derive(Debug, Clone, Copy, Default, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
enum By {
    #[default]
    Hybrid,
    Semantic,
    Keyword,
    Code,
}

impl From<By> for SearchType {
    fn from(by: By) -> Self {
        match by {
            By::Hybrid => Self::Hybrid,
            By::Semantic => Self::Semantic,
            By::Keyword => Self::Keyword,
            By::Code => Self::Code,
        }
    }
}

/// Who said something.
#[derive(Debug, Clone, Copy, Enum, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
enum Speaker {
    User,
    Assistant,
}

/// Something that was said before.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with role and content")]
struct Said {
    role: Speaker,
    content: String,
}

impl From<Said> for ChatMessage {
    fn from(Said { role, content }: Said) -> Self {
        let role = match role {
            Speaker::User => ChatRole::User,
            Speaker::Assistant => ChatRole::Assistant,
        };
        Self { role, content }
    }
}

/// A search.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "SearchRequest")]
#[serde(deny_unknown_fields, expecting = "an object")]
struct SearchBody {
    query: String,
    #[oai(nullable)]
    filters: Option<Filters>,
    /// 1 to 100, 10 unless given.
    #[oai(nullable)]
    max_results: Option<usize>,
    /// `hybrid` unless given; `code` looks in passages of code only.
    #[serde(default)]
    #[oai(default)]
    search_type: By,
    /// Results to leave out before the first. With `max_results` at most 1000.
    #[oai(nullable)]
    offset: Option<usize>,
    /// The `next` of the page before, with all else as it was.
    #[oai(nullable)]
    cursor: Option<String>,
    /// 0 to 1: how much unlikeness counts beside relevance when results are chosen. By relevance alone unless given.
    #[oai(nullable)]
    diversity: Option<f32>,
    /// What was said before, oldest first: what the question's "it" and "that" mean.
    #[serde(default)]
    #[oai(default)]
    conversation: Vec<Said>,
    /// Say how the results came about.
    #[serde(default)]
    #[oai(default)]
    explain: bool,
}

/// What kind of question it was taken for.
#[derive(Debug, Clone, Copy, Enum, Serialize)]
#[oai(rename = "Intent", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
enum IntentBody {
    Lookup,
    HowTo,
    Code,
    Comparison,
    Summary,
    ChitChat,
    Document,
}

impl From<Intent> for IntentBody {
    fn from(intent: Intent) -> Self {
        match intent {
            Intent::Lookup => Self::Lookup,
            Intent::HowTo => Self::HowTo,
            Intent::Code => Self::Code,
            Intent::Comparison => Self::Comparison,
            Intent::Summary => Self::Summary,
            Intent::ChitChat => Self::ChitChat,
            Intent::Document => Self::Document,
        }
    }
}

/// What was found.
#[derive(Debug, Object, Serialize)]
struct SearchResponse {
    query: String,
    /// Best first.
    results: Vec<ResultBody>,
    /// Passages that any leg found, before cutting to `max_results`.
    total_results: usize,
    /// The `cursor` of the next page; `null` on the last.
    #[oai(nullable)]
    next: Option<String>,
    /// Seconds.
    processing_time: f64,
    /// What kind of question it was taken for.
    intent: IntentBody,
    /// What the reader should know: `the semantic leg is off: …`.
    notices: Vec<String>,
    /// What became of the question, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<QueryExplain>,
}

/// A passage.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "SearchResult")]
struct ResultBody {
    chunk_id: Uuid,
    content: String,
    /// In [0, 1]; comparable within one search only.
    score: f32,
    /// Whether it speaks of the question at all. Weak results are flagged, not left out.
    relevant: bool,
    metadata: ResultMetadata,
    /// How it came to its place, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<HitExplain>,
}

/// Where a passage stands.
#[derive(Debug, Object, Serialize)]
struct ResultMetadata {
    document_id: Uuid,
    filename: String,
    /// Its place among the document's passages, from 0.
    ordinal: u32,
    /// From 1, where the format has pages.
    #[oai(nullable)]
    page_number: Option<u32>,
    /// Headings, outermost first.
    #[oai(nullable)]
    section: Option<String>,
    chunk_type: String,
    /// Its language, or the document's.
    #[oai(nullable)]
    language: Option<String>,
    /// The section that it is a part of: `GET /api/v1/documents/{id}/chunks/{chunk_id}` gives all of it.
    #[oai(nullable)]
    parent_chunk_id: Option<Uuid>,
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
            relevant: hit.relevant,
            explain: hit.explained.map(|explained| HitExplain::new(explained, hit.similarity)),
            metadata: ResultMetadata {
                document_id: hit.document_id,
                filename: hit.filename,
                ordinal: hit.ordinal,
                page_number: hit.page_number,
                section: hit.section,
                chunk_type: hit.chunk_type,
                language: hit.language,
                parent_chunk_id: hit.parent.map(|parent| parent.chunk_id),
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
        let body = body.0;
        let page = Page::of(&body)?;
        let request = body.request(user.0.id, &page)?;
        app.catch_up(position.0.as_deref(), Reads::Search).await?;
        let (query, explain) = (request.query.clone(), request.explain);
        let mut notices = filters::notices(&request.filter);
        let found = app.state.retriever.search(request).await?;
        let next = page.next(&found);
        notices.extend(found.notices);
        let explained = match (explain, found.explained) {
            (Explain::Yes, Some(explained)) => Some(QueryExplain::new(explained, models(&*app.state.index).await?)),
            _ => None,
        };
        Ok(Reply::ok(SearchResponse {
            query,
            results: found.hits.into_iter().map(Into::into).collect(),
            total_results: found.total,
            next,
            processing_time: found.took.as_secs_f64(),
            intent: found.intent.into(),
            notices,
            explain: explained,
        }))
    }
}

impl SearchBody {
    /// The search that is asked for, of one's own documents.
    fn request(self, owner: Uuid, page: &Page) -> Result<SearchRequest, ApiError> {
        if self.query.trim().is_empty() {
            return Err(bad("query", "the query is empty"));
        }
        if self.query.chars().count() > MAX_QUERY {
            return Err(bad("query", format!("a query has at most {MAX_QUERY} characters")));
        }
        if self.diversity.is_some_and(|diversity| !(0.0..=1.0).contains(&diversity)) {
            return Err(bad("diversity", "diversity is a number from 0 to 1"));
        }
        let said: usize = self.conversation.iter().map(|said| said.content.len()).sum();
        if self.conversation.len() > MAX_MESSAGES || said > MAX_CONVERSATION {
            let text = format!(
                "a conversation has at most {MAX_MESSAGES} messages and {MAX_CONVERSATION} bytes; send the last ones"
            );
            return Err(bad("conversation", text));
        }
        let filter = self.filters.unwrap_or_default().of(owner)?;
        Ok(SearchRequest {
            offset: page.offset,
            diversity: self.diversity,
            conversation: self.conversation.into_iter().map(Into::into).collect(),
            explain: if self.explain { Explain::Yes } else { Explain::No },
            reranked: page.reranked,
            ..SearchRequest::new(self.query, filter, page.wanted, self.search_type.into())
        })
    }

    /// What the pages of one search have in common.
    fn identity(&self) -> String {
        let mut same = self.to_json().unwrap_or_default();
        if let Value::Object(fields) = &mut same {
            fields.retain(|name, _| !["cursor", "offset", "max_results", "explain"].contains(&name.as_str()));
        }
        Hash::of(same.to_string().as_bytes()).to_string().chars().take(16).collect()
    }
}

/// Which part of the results is wanted.
#[derive(Debug)]
struct Page {
    offset: usize,
    wanted: usize,
    /// Behind a cursor: how many passages were reranked for the first page.
    reranked: Option<usize>,
    /// Of the search: a cursor of another one is refused.
    identity: String,
}

impl Page {
    fn of(body: &SearchBody) -> Result<Self, ApiError> {
        let wanted = body.max_results.unwrap_or(10);
        if !(1..=MAX_RESULTS).contains(&wanted) {
            return Err(bad("max_results", format!("max_results is a number from 1 to {MAX_RESULTS}")));
        }
        let identity = body.identity();
        let (offset, reranked) = match (&body.cursor, body.offset) {
            (Some(_), Some(_)) => return Err(bad("cursor", "a page begins at a cursor or at an offset, not at both")),
            (Some(cursor), None) => {
                let (offset, reranked) = continued(cursor, &identity)?;
                (offset, Some(reranked))
            }
            (None, offset) => (offset.unwrap_or(0), None),
        };
        if offset.saturating_add(wanted) > MAX_DEPTH && body.cursor.is_none() {
            let text = format!("offset and max_results are at most {MAX_DEPTH} together; search for less");
            return Err(bad("offset", text));
        }
        // The last page that a cursor leads to may be a short one.
        Ok(Self { offset, wanted: wanted.min(MAX_DEPTH.saturating_sub(offset)).max(1), reranked, identity })
    }

    /// The cursor of the page behind this one. The search looks deeper than the page: it knows of more if there are.
    fn next(&self, found: &SearchResults) -> Option<String> {
        let end = self.offset + self.wanted;
        let reranked = self.reranked.unwrap_or(found.reranked);
        (found.total > end && end < MAX_DEPTH).then(|| format!("{end:x}-{reranked:x}-{}", self.identity))
    }
}

/// The offset and the number of reranked passages that a cursor of this search names.
fn continued(cursor: &str, identity: &str) -> Result<(usize, usize), ApiError> {
    let read = || {
        let (offset, rest) = cursor.split_once('-')?;
        let (reranked, of) = rest.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok().filter(|number| *number < MAX_DEPTH);
        Some((number(offset)?, number(reranked)?)).filter(|_| of == identity)
    };
    read().ok_or_else(|| bad("cursor", "cursor is the `next` of the page before, sent with all else as it was"))
}

/// The models whose vectors the index holds, by space.
async fn models(index: &dyn SearchIndex) -> Result<Vec<(Space, Option<String>)>, ApiError> {
    let mut models = Vec::with_capacity(Space::ALL.len());
    for space in Space::ALL {
        models.push((space, index.model(space).await?.map(|model| model.id)));
    }
    Ok(models)
}

/// A search that makes no sense, for this field.
fn bad(field: &str, text: impl Into<String>) -> ApiError {
    ApiError::unprocessable("bad_search", text).with("field", field)
}
