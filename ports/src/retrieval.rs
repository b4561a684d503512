//! Searching, as the gateway and the agent ask for it.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{IndexError, PageTurn, SearchFilter};

/// Which legs a search uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchType {
    /// Both, fused by reciprocal ranks.
    #[default]
    Hybrid,
    /// Vectors only.
    Semantic,
    /// BM25 only.
    Keyword,
}

/// A search.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// What for; not empty.
    pub query: String,
    /// In which passages.
    pub filter: SearchFilter,
    /// Results wanted, 1 to 100.
    pub max_results: usize,
    /// By which legs.
    pub search_type: SearchType,
}

/// A passage that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The passage.
    pub chunk_id: Uuid,
    /// Its place in the document.
    pub ordinal: u32,
    /// Its text.
    pub content: String,
    /// The fused score, in [0, 1]; comparable within one search only.
    pub score: f32,
    /// Cosine similarity to the query, where the vector leg knows it.
    pub similarity: Option<f32>,
    /// Its document.
    pub document_id: Uuid,
    /// The document's file name.
    pub filename: String,
    /// 1-based page that it begins on.
    pub page_number: Option<u32>,
    /// Where it goes on on another page, in order.
    pub page_turns: Vec<PageTurn>,
    /// Headings.
    pub section: Option<String>,
    /// What it is.
    pub chunk_type: String,
    /// Byte range in the document's extracted text.
    pub start: u64,
    /// Byte offset behind it.
    pub end: u64,
}

impl Hit {
    /// The page that byte `offset` of its text stands on.
    #[must_use]
    pub fn page_at(&self, offset: usize) -> Option<u32> {
        let turn = self.page_turns.iter().take_while(|turn| turn.at as usize <= offset).last();
        turn.map(|turn| turn.page).or(self.page_number)
    }
}

/// What a search found.
#[derive(Debug, Clone, Default)]
pub struct SearchResults {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Passages that any leg found, before cutting to `max_results`.
    pub total: usize,
    /// What the reader should know: `the semantic leg is off: …`.
    pub notices: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Why a search found nothing at all.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The request makes no sense: what to change.
    #[error("{0}")]
    Invalid(String),
    /// A search by vectors alone, and there is no model: why.
    #[error("the semantic leg is off: {0}")]
    SemanticOff(String),
    /// The index did not answer.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The embedding model did not answer.
    #[error(transparent)]
    Embed(#[from] crate::EmbedError),
}

/// The retrieval pipeline.
#[async_trait]
pub trait Retriever: Debug + Send + Sync {
    /// Finds passages.
    async fn search(&self, request: SearchRequest) -> Result<SearchResults, SearchError>;
}
