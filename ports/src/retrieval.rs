//! Searching, as the gateway and the agent ask for it.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use lmao_events::derive_id;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ChatMessage, IndexError, LegHit, PageTurn, ParentChunk, SearchFilter};

/// Which legs a search uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchType {
    /// All that the question calls for, fused.
    #[default]
    Hybrid,
    /// Vectors only.
    Semantic,
    /// BM25 only.
    Keyword,
    /// All, in passages of code only.
    Code,
}

/// What kind of question it is: decides which legs are asked and what each is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// A fact, a name, a definition.
    #[default]
    Lookup,
    /// How something is done.
    HowTo,
    /// Code that does something, or a name in code.
    Code,
    /// How two things differ.
    Comparison,
    /// What something says altogether.
    Summary,
    /// Greetings and thanks: nothing to look for.
    ChitChat,
    /// About a document by name.
    Document,
}

/// A search.
#[derive(Debug, Clone, Serialize)]
pub struct SearchRequest {
    /// What for; not empty.
    pub query: String,
    /// In which passages.
    pub filter: SearchFilter,
    /// Results wanted, 1 to 100.
    pub max_results: usize,
    /// By which legs.
    pub search_type: SearchType,
    /// Results to leave out before the first: paging. With `max_results` at most 1000.
    pub offset: usize,
    /// How much unlikeness counts beside relevance when results are chosen (MMR, Carbonell & Goldstein, SIGIR 1998): in
    /// [0, 1]; `None` ranks by relevance alone.
    pub diversity: Option<f32>,
    /// What was said before, oldest first: what the question's pronouns and ellipses mean. Empty for a question that stands
    /// alone.
    pub conversation: Vec<ChatMessage>,
    /// Whether the results are explained.
    pub explain: Explain,
    /// What may take part: everything, unless somebody measures what a part adds.
    pub stages: Stages,
    /// Of a further page: [`SearchResults::reranked`] of the first one. As many are read again, so that this page continues
    /// that one. `None` reads what time allows.
    pub reranked: Option<usize>,
}

impl SearchRequest {
    /// The best `max_results` passages for a question that stands alone.
    #[must_use]
    pub const fn new(query: String, filter: SearchFilter, max_results: usize, search_type: SearchType) -> Self {
        Self {
            query,
            filter,
            max_results,
            search_type,
            offset: 0,
            diversity: None,
            conversation: vec![],
            explain: Explain::No,
            stages: Stages::ALL,
            reranked: None,
        }
    }
}

/// Which legs and stages may take part in a search. One that is switched off is left out without a notice; one that is on
/// takes part if it is there and `search_type` and the question call for it. For evaluation: no client sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// The keyword leg.
    pub keyword: bool,
    /// The leg of the general model.
    pub general: bool,
    /// The leg of the domain model.
    pub domain: bool,
    /// More words for the question, by feedback, acronyms and the like.
    pub expansion: bool,
    /// The cross-encoder.
    pub reranking: bool,
}

impl Stages {
    /// All of them.
    pub const ALL: Self = Self { keyword: true, general: true, domain: true, expansion: true, reranking: true };
}

impl Default for Stages {
    fn default() -> Self {
        Self::ALL
    }
}

/// Whether results say how they came about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Explain {
    /// Only results.
    #[default]
    No,
    /// Each result with its rank and score in each leg and stage, and what became of the question.
    Yes,
}

/// How a passage came to its place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HitExplained {
    /// In each leg and stage that ranked it, in order: `keyword`, `general`, `domain`, `part 1` and so on (of a question that was
    /// parted), `fused`, `reranked`, `diverse`.
    pub stages: Vec<StageRank>,
}

/// A passage's place in one ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRank {
    /// Which ranking.
    pub stage: String,
    /// From 1.
    pub rank: usize,
    /// By the ranking's own measure.
    pub score: f32,
}

/// What became of a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueryExplained {
    /// What was searched for: the question made to stand alone.
    pub rewritten: String,
    /// What was added to it, with its weight.
    pub expansions: Vec<(String, f32)>,
    /// The questions that it was parted into; empty where it is one.
    pub sub_queries: Vec<String>,
    /// The legs that were asked, with what each counted, in [0, 1].
    pub legs: Vec<(String, f32)>,
    /// What each stage cost, in order: `understood`, `embedded`, `legs`, `expanded`, `vectors`, `fused`, `reranked`, `diverse`,
    /// `judged`, as far as they took part.
    pub stages: Vec<StageCost>,
    /// What did not take part, and why: a model that is not there, a leg that failed.
    pub left_out: Vec<String>,
}

/// What a stage cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    /// Which.
    pub stage: String,
    /// Wall time.
    pub seconds: f64,
    /// Passages that came out of it.
    pub passages: usize,
}

/// A passage that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The passage.
    pub chunk_id: Uuid,
    /// Its place in the document.
    pub ordinal: u32,
    /// Its text.
    pub content: String,
    /// The fused score, in [0, 1]; comparable within one search only.
    pub score: f32,
    /// Cosine similarity to the query in the general space, where it is known.
    pub similarity: Option<f32>,
    /// Whether it speaks of the question at all, by a calibrated judgement; results that do not are flagged, not dropped.
    pub relevant: bool,
    /// Its document.
    pub document_id: Uuid,
    /// The document's file name.
    pub filename: String,
    /// The document's title, where it has one.
    #[serde(default)]
    pub title: Option<String>,
    /// 1-based page that it begins on.
    pub page_number: Option<u32>,
    /// Where it goes on on another page, in order.
    pub page_turns: Vec<PageTurn>,
    /// Headings.
    pub section: Option<String>,
    /// What it is.
    pub chunk_type: String,
    /// Its language, or the document's.
    pub language: Option<String>,
    /// The section that it is a part of.
    pub parent: Option<ParentChunk>,
    /// Byte range in the document's extracted text.
    pub start: u64,
    /// Byte offset behind it.
    pub end: u64,
    /// How it came to its place, where that was asked for.
    pub explained: Option<HitExplained>,
}

/// A passage as it was found, by the score it was found with: nothing is known of how similar it is, and nobody has judged that it
/// does not speak of the question.
impl From<LegHit> for Hit {
    fn from(found: LegHit) -> Self {
        let chunk = Arc::unwrap_or_clone(found.chunk);
        Self {
            chunk_id: chunk.chunk_id,
            ordinal: chunk.ordinal,
            content: chunk.content,
            score: found.score,
            similarity: None,
            relevant: true,
            document_id: found.document_id,
            filename: found.filename,
            title: found.title,
            page_number: chunk.page_number,
            page_turns: chunk.page_turns,
            section: chunk.section,
            chunk_type: chunk.chunk_type,
            language: chunk.language,
            parent: chunk.parent,
            start: chunk.start,
            end: chunk.end,
            explained: None,
        }
    }
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SearchResults {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Different passages that the legs found, before cutting to `max_results`. They look at least one deeper than the page, if
    /// it ends before the 1000th: it is the last one if this is no more than `offset + max_results`. A later page may know of
    /// more.
    pub total: usize,
    /// What kind of question it was taken for.
    pub intent: Intent,
    /// What became of the question, where that was asked for.
    pub explained: Option<QueryExplained>,
    /// What the reader should know: `the semantic leg is off: …`.
    pub notices: Vec<String>,
    /// Whether something did not take part that may do so the next time, as a model that is still loading: such results are
    /// not to be given again in place of a search. The reader need not know of all that.
    #[serde(default)]
    pub partial: bool,
    /// Passages that the reranker read, or that it was told to read by the request.
    #[serde(default)]
    pub reranked: usize,
    /// How long it took.
    pub took: Duration,
}

/// The id of a document's passage at this place: it follows from the file's SHA-256 (hexadecimal), so that what is taken in
/// again keeps its passages' ids.
#[must_use]
pub fn passage_id(document: Uuid, sha256: &str, ordinal: u32) -> Uuid {
    derive_id(document, &format!("chunk {} {ordinal}", prefix(sha256)))
}

/// The id of the section that consists of the passages from `first` to `last`.
#[must_use]
pub fn section_id(document: Uuid, sha256: &str, first: u32, last: u32) -> Uuid {
    derive_id(document, &format!("section {} {first} {last}", prefix(sha256)))
}

fn prefix(sha256: &str) -> &str {
    sha256.get(..16).unwrap_or(sha256)
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
