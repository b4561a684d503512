//! The contracts between the core and the world: one trait per port, small and object-safe.
//!
//! Nothing here names a driver. Each port has one conformance suite (feature `conformance`): plain async functions that
//! every adapter runs against the real thing. What a trait's documentation promises, the suite checks.

mod blobs;
mod cache;
mod clock;
mod commands;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod health;
mod ingestion;
mod live;
mod llm;
mod log;
mod metrics;
mod model;
mod placement;
mod projection;
mod rate;
mod read_model;
mod retrieval;
mod search;
mod snapshots;
mod tools;
pub mod trace;
mod vault;

pub use blobs::{Blobs, Folder, PendingBlob};
pub use cache::{Cache, EmbeddingCache, EmbeddingKey};
pub use clock::{Clock, Entropy};
pub use commands::{CommandError, CommandMeta, Commands, Receipt};
pub use error::Unavailable;
pub use health::{Component, Health, HealthState};
pub use ingestion::{Ingestion, STORAGE_UNAVAILABLE};
pub use live::{Frame, Live};
pub use llm::{ChatMessage, ChatRole, Completion, Llm, LlmError, TokenSink, USUAL_CONTEXT, estimated_tokens};
pub use log::{AppendError, EventLog, Filter, ReadError, Recorded};
pub use metrics::Metrics;
pub use model::{
    EmbedError, Embedder, MAX_RERANKED, ModelManifest, Pooling, Reranker, RerankerState, Reranking, SemanticState,
    Semantics, TokenSpan,
};
pub use placement::{BUCKETS, Lease, Membership, NodeId, NodeInfo, Responder, Role, RouteError, Router, Serving};
pub use projection::{
    Committed, Digest, Journal, Missed, ParkedStream, Progress, Projection, ProjectionError, Unparked, Unreadable,
};
pub use rate::{Admission, Quota, RateLimiter};
pub use read_model::{
    DocumentRow, DocumentStatus, MessageRow, Page, PageRequest, ReadModel, SessionRow, ToolExecutionRow, UserRow,
};
pub use retrieval::{
    Explain, Hit, HitExplained, Intent, QueryExplained, Retriever, SearchError, SearchRequest, SearchResults,
    SearchType, StageCost, StageRank, Stages, passage_id, section_id,
};
pub use search::{
    ChunkRecord, IndexError, IndexedDocument, KeywordQuery, Leg, LegHit, PageTurn, ParentChunk, SearchFilter,
    SearchIndex, Space, Vectors,
};
pub use snapshots::Snapshots;
pub use tools::{EndpointError, RemoteCall, ToolCatalog, ToolEndpoint, ToolSpec};
pub use trace::Span;
pub use vault::{Secret, Vault, VaultError};
