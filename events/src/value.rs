//! Values that events of several streams share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where a numbered claim of an answer comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Citation {
    /// The number that the answer's text uses: `[1]` is 1.
    pub n: u32,
    /// The document.
    pub document_id: Uuid,
    /// The passage.
    pub chunk_id: Uuid,
    /// The document's file name.
    pub filename: String,
    /// 1-based page, where the format has pages.
    pub page_number: Option<u32>,
    /// Headings from the outermost to the innermost, joined by ` > `.
    pub section: Option<String>,
    /// The words relied on, as they stand in the document's text.
    pub quote: String,
    /// Byte offset of the quote in the document's extracted text.
    pub start: u64,
    /// Byte offset behind the quote.
    pub end: u64,
    /// The passage's retrieval score; comparable within one answer only.
    pub score: f32,
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The text, Markdown, with `[n]` where it relies on citation n.
    pub text: String,
    /// The citations, by their number.
    pub citations: Vec<Citation>,
    /// Who wrote it: `extractive`, or the language model's name.
    pub model: String,
    /// What it cost, when a language model wrote it.
    pub usage: Option<TokenUsage>,
    /// Whether anything relevant was found.
    pub grounded: bool,
    /// What the reader should know: a leg that was off, a model that was unreachable.
    pub notices: Vec<String>,
}

/// Tokens that a language model read and wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenUsage {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens of the completion.
    pub completion: u32,
}

/// Why something ended without success, in a form that can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// A stable string that clients may branch on: `encrypted_pdf`, `llm_unreachable`.
    pub reason: String,
    /// What happened, and what to do.
    pub message: String,
    /// Whether the same attempt may succeed later.
    pub retryable: bool,
}

/// Bytes of a failure's message: an endpoint's error page is no reason for a large record.
pub const MAX_FAILURE_BYTES: usize = 2048;

impl Failure {
    /// A failure that may pass. Messages are cut at [`MAX_FAILURE_BYTES`].
    #[must_use]
    pub fn passing(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: cut(message.into(), MAX_FAILURE_BYTES), retryable: true }
    }

    /// A failure that will stay. Messages are cut at [`MAX_FAILURE_BYTES`].
    #[must_use]
    pub fn lasting(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: cut(message.into(), MAX_FAILURE_BYTES), retryable: false }
    }
}

/// The text, cut to at most `bytes` with a mark that it was.
pub(crate) fn cut(mut text: String, bytes: usize) -> String {
    const MARK: &str = " …";
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes - MARK.len()));
        text.push_str(MARK);
    }
    text
}
