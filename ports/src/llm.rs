//! Language models.

use std::fmt::Debug;

use async_trait::async_trait;
use lmao_events::TokenUsage;
use serde::Serialize;

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ChatRole {
    /// The instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// A message of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// Who says it.
    pub role: ChatRole,
    /// What.
    pub content: String,
}

/// What a model wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The whole text.
    pub text: String,
    /// The model's name, as the endpoint gave it.
    pub model: String,
    /// What it cost, if the endpoint said so.
    pub usage: Option<TokenUsage>,
}

/// Why a model wrote nothing.
#[derive(Debug, thiserror::Error)]
pub enum LlmError {
    /// The endpoint cannot be reached, is overloaded, or broke off: later it may work.
    #[error("the language model cannot be reached: {0}")]
    Passing(String),
    /// It refuses this request: the key, the model's name, the prompt.
    #[error("the language model refused the request: {0}")]
    Refused(String),
}

/// Where pieces of a text go while it is written.
pub type TokenSink = Box<dyn FnMut(&str) + Send>;

/// An endpoint that completes conversations.
#[async_trait]
pub trait Llm: Debug + Send + Sync {
    /// The configured model's name.
    fn model(&self) -> &str;

    /// Completes `messages` with at most `max_tokens`; every piece goes to `sink` as it comes.
    async fn complete(
        &self,
        messages: Vec<ChatMessage>,
        max_tokens: u32,
        sink: TokenSink,
    ) -> Result<Completion, LlmError>;
}
