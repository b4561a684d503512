//! Embedding models.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Space;

/// What a model is, as data: stored with every index that holds its vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// Id with quantization: `bge-small-en-v1.5-int8`. Two models that give different vectors have different ids.
    pub id: String,
    /// Length of a vector.
    pub dimensions: usize,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether vectors have length 1.
    pub normalize: bool,
    /// Tokens that the model reads at most, its special tokens included.
    pub max_tokens: usize,
    /// What is put before a query.
    pub query_prefix: String,
    /// What is put before a passage.
    pub passage_prefix: String,
}

/// How token vectors become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The vector of the first token.
    Cls,
    /// The mean of all tokens' vectors.
    Mean,
}

/// A token's byte range in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSpan {
    /// Byte offset of its beginning.
    pub start: usize,
    /// Byte offset behind it.
    pub end: usize,
}

/// Why there are no vectors.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The model failed on this input or altogether.
    #[error("the embedding model {model} failed: {message}")]
    Model {
        /// Its id.
        model: String,
        /// What it said.
        message: String,
    },
}

/// Passages that a [`Reranker`] takes in one call.
pub const MAX_RERANKED: usize = 100;

/// A model that turns texts into vectors. Runs off the async threads; calls queue up, bounded by the callers.
#[async_trait]
pub trait Embedder: Debug + Send + Sync {
    /// What it is.
    fn manifest(&self) -> &ModelManifest;

    /// Vectors `[texts, dimensions]` of passages, in order; what the manifest puts before them is added. Sizes its own batches; a vector depends on its text alone. A text
    /// longer than the model reads is cut by it, so cut before. Every vector is finite and, if the manifest says so, of
    /// length 1: one text that the model gives no such vector for fails the call, and the others are good each on its own.
    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError>;

    /// The vector of a query; what the manifest puts before it is added. Goes before waiting passages.
    async fn query(&self, text: &str) -> Result<Vec<f32>, EmbedError>;

    /// The tokens of a text, special tokens excluded, without any limit of length.
    fn tokens(&self, text: &str) -> Vec<TokenSpan>;
}

/// Whether texts can be embedded now.
#[derive(Debug, Clone)]
pub enum SemanticState {
    /// The model is being obtained or loaded: what is happening, for people.
    Loading(String),
    /// It is there.
    Ready(Arc<dyn Embedder>),
    /// There is none: why, and what to do.
    Off(String),
}

/// The models of the semantic legs of search, one for each space of vectors, which may come late or never.
#[async_trait]
pub trait Semantics: Debug + Send + Sync {
    /// Whether the model of this space is there now.
    fn state(&self, space: Space) -> SemanticState;

    /// Waits while it is loading.
    async fn settled(&self, space: Space) -> SemanticState;
}

/// A cross-encoder: reads question and passage together and says how well the one answers the other. Runs off the async
/// threads; calls queue up, bounded by the callers.
#[async_trait]
pub trait Reranker: Debug + Send + Sync {
    /// Its id with quantization.
    fn id(&self) -> &str;

    /// How well each passage answers the question, in order: in [0, 1] by the logistic function of the model's output. A
    /// score depends on its pair alone; what is longer than the model reads is cut by it. At most [`MAX_RERANKED`] passages.
    async fn score(&self, query: &str, passages: Vec<String>) -> Result<Vec<f32>, EmbedError>;
}

/// Whether results can be reranked now.
#[derive(Debug, Clone)]
pub enum RerankerState {
    /// The model is being obtained or loaded: what is happening, for people.
    Loading(String),
    /// It is there.
    Ready(Arc<dyn Reranker>),
    /// There is none: why, and what to do.
    Off(String),
}

/// The reranking stage of search, which may come late or never.
pub trait Reranking: Debug + Send + Sync {
    /// Whether it is there now.
    fn state(&self) -> RerankerState;
}
