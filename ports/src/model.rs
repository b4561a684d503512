//! Embedding models.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

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

/// A model that turns texts into vectors. Runs off the async threads; calls queue up, bounded by the callers.
#[async_trait]
pub trait Embedder: Debug + Send + Sync {
    /// What it is.
    fn manifest(&self) -> &ModelManifest;

    /// Vectors `[texts, dimensions]` of passages, in order. Sizes its own batches; a vector depends on its text alone. A text
    /// longer than the model reads is cut by it, so cut before. Every vector is finite and, if the manifest says so, of
    /// length 1.
    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError>;

    /// The vector of a query. Goes before waiting passages.
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

/// The semantic leg of search, which may come late or never.
#[async_trait]
pub trait Semantics: Debug + Send + Sync {
    /// Whether it is there now.
    fn state(&self) -> SemanticState;

    /// Waits while it is loading.
    async fn settled(&self) -> SemanticState;
}
