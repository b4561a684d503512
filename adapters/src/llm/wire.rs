//! The shapes of the chat completions protocol, as far as they are used.

use lmao_events::TokenUsage;
use lmao_ports::{ChatMessage, ChatRole};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// How many tokens may be written. The field's name differs between endpoints and models.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Limit {
    MaxTokens(u32),
    MaxCompletionTokens(u32),
}

#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(flatten)]
    limit: Limit,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> Request<'a> {
    pub(super) fn new(model: &'a str, messages: &'a [ChatMessage], limit: Limit) -> Self {
        let message = |message: &'a ChatMessage| Message {
            role: match message.role {
                ChatRole::System => "system",
                ChatRole::User => "user",
                ChatRole::Assistant => "assistant",
            },
            content: &message.content,
        };
        let messages = messages.iter().map(message).collect();
        Self { model, messages, limit, stream: true, stream_options: Some(StreamOptions { include_usage: true }) }
    }

    /// Leaves out or renames what the endpoint's refusal names; whether anything changed. Each can happen once.
    pub(super) fn adapt(&mut self, refusal: &str) -> bool {
        if let Limit::MaxTokens(tokens) = self.limit
            && refusal.contains("max_completion_tokens")
        {
            self.limit = Limit::MaxCompletionTokens(tokens);
            return true;
        }
        refusal.contains("stream_options") && self.stream_options.take().is_some()
    }
}

/// One event of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    pub(super) model: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) choices: Vec<Choice>,
    pub(super) usage: Option<Usage>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) delta: Piece,
    pub(super) finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Piece {
    pub(super) content: Option<String>,
}

/// An answer that is not streamed.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) model: Option<String>,
    pub(super) choices: Vec<WholeChoice>,
    pub(super) usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WholeChoice {
    pub(super) message: Piece,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Usage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
}

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        Self { prompt: usage.prompt_tokens, completion: usage.completion_tokens }
    }
}

/// `null` where a list or an object belongs: some endpoints do that.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The message in an error's body: `{"error": {"message": …}}` and what others make of it.
pub(super) fn error_message(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let error = [value.get("error"), value.get("detail"), value.get("message")].into_iter().flatten().next()?;
    message_of(error)
}

/// The message in an error object, or the error itself if it is a text.
pub(super) fn message_of(error: &Value) -> Option<String> {
    let text = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
    text.map(str::to_owned).or_else(|| (!error.is_null()).then(|| error.to_string()))
}
