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

/// Tokens of a completion where the model's own limit is not known.
pub const USUAL_CONTEXT: usize = 16_384;

/// Where pieces of a text go while it is written.
pub type TokenSink = Box<dyn FnMut(&str) + Send>;

/// An endpoint that completes conversations.
#[async_trait]
pub trait Llm: Debug + Send + Sync {
    /// The configured model's name.
    fn model(&self) -> &str;

    /// Tokens of a text as the model counts them, or [`estimated_tokens`] where its tokenizer is not known. Text of any
    /// length, in time proportional to it.
    fn count_tokens(&self, text: &str) -> usize {
        estimated_tokens(text)
    }

    /// Tokens that one completion may have, of what is read and what is written together; most models have more than what is
    /// taken where it is not known.
    fn context_tokens(&self) -> usize {
        USUAL_CONTEXT
    }

    /// Completes `messages` with at most `max_tokens`; every piece goes to `sink` as it comes.
    async fn complete(
        &self,
        messages: Vec<ChatMessage>,
        max_tokens: u32,
        sink: TokenSink,
    ) -> Result<Completion, LlmError>;
}

/// Tokens of a text for a model whose tokenizer is not known: an estimate on the high side, so that what is cut by it fits.
///
/// Three letters are a token, each digit and each mark is one, and of other scripts each byte: vocabularies for English fall
/// back to bytes there. Only rows of rare letters, such as keys in base 64, may have more.
#[must_use]
pub fn estimated_tokens(text: &str) -> usize {
    let (mut tokens, mut letters) = (0, 0_usize);
    let mut before = ' ';
    for c in text.chars() {
        if c.is_ascii_alphabetic() {
            letters += 1;
        } else {
            tokens += std::mem::take(&mut letters).div_ceil(3);
            // Space before a word or in a row is part of a token.
            tokens += match c {
                ' ' if before != '\n' => 0,
                c => c.len_utf8(),
            };
        }
        before = c;
    }
    tokens + letters.div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_knows_letters_digits_marks_and_bytes() {
        for (text, tokens) in
            [("", 0), ("the", 1), ("ownership rules", 5), ("1994", 4), ("f(x);", 5), ("Größe", 6), ("東京", 6)]
        {
            assert_eq!(estimated_tokens(text), tokens, "{text}");
        }
    }
}
