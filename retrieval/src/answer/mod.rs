//! Answering: from passages to a text whose every claim names its source.
//!
//! Two ways: [`Extractive`] quotes the best sentences and claims nothing else; [`Generative`] has a language model write,
//! and keeps of its citations those that stand. Neither searches: the passages come with the question, and at most the
//! documents that they are of are read on. Passages are other people's words and are handled as data, never as instructions.

mod context;
mod extractive;
mod generative;
mod grounds;
mod markers;
mod names;
mod prompt;
mod quotation;
mod readable;
mod reading;
mod relevance;
mod render;
mod select;
mod sentence;
mod sides;
mod summary;
mod talk;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, ops::Range};

use async_trait::async_trait;
use lmao_events::{Answer, Citation, Failure};
use lmao_ports::{ChatMessage, Hit, Intent, TokenSink};

use self::sides::Sides;

pub use extractive::Extractive;
pub use generative::Generative;
pub use talk::{leans_on_conversation, small_talk};

/// A question with what was found for it.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// What was asked.
    pub query: String,
    /// The same as the search made it stand alone; `None` where it does so itself.
    pub standalone: Option<String>,
    /// The conversation before it, oldest first; empty where [`Answerer::needs_history`] is false.
    pub history: Vec<ChatMessage>,
    /// Passages, best first, of documents that the person may read.
    pub hits: Vec<Hit>,
    /// What kind of question the search took it for.
    pub intent: Intent,
    /// What the reader should know of the search; passed on in the answer.
    pub notices: Vec<String>,
}

impl Question {
    /// Without passages that are not the bytes of the document that they say they are: a quote of one would point elsewhere.
    fn checked(mut self) -> Self {
        let before = self.hits.len();
        self.hits.retain(|hit| hit.start.checked_add(hit.content.len() as u64) == Some(hit.end));
        let wrong = before - self.hits.len();
        if wrong > 0 {
            tracing::warn!(wrong, "passages are not where they say");
            self.notices.push(format!(
                "passages left out: {wrong}; they are not where the index says: rebuild it with `lmao projections rebuild search`"
            ));
        }
        self
    }

    /// What passages are compared with: the question with what it leans on.
    fn sought(&self) -> &str {
        self.standalone.as_ref().unwrap_or(&self.query)
    }

    /// What it compares.
    fn sides(&self) -> Option<Sides> {
        Sides::of(self.sought()).filter(|_| self.intent == Intent::Comparison)
    }
}

/// Somebody who answers.
#[async_trait]
pub trait Answerer: Debug + Send + Sync {
    /// Who: `extractive`, or the language model's name.
    fn name(&self) -> &str;

    /// Whether the conversation before the question makes a difference.
    fn needs_history(&self) -> bool;

    /// Answers from the passages. Every piece of the text goes to `sink` as it is ready; together they are the text.
    ///
    /// Cancel-safe: dropped, it leaves nothing behind.
    ///
    /// # Errors
    /// `llm_unreachable` or `llm_empty` (passing) and `llm_refused` (lasting), where a language model answers.
    async fn answer(&self, question: Question, sink: TokenSink) -> Result<Answer, Failure>;
}

/// The citation of a byte range of a passage's content.
fn cite(n: usize, hit: &Hit, range: Range<usize>) -> Citation {
    Citation {
        n: u32::try_from(n).unwrap_or(u32::MAX),
        document_id: hit.document_id,
        chunk_id: hit.chunk_id,
        filename: hit.filename.clone(),
        page_number: hit.page_at(range.start),
        section: hit.section.clone(),
        quote: hit.content[range.clone()].to_owned(),
        start: hit.start + range.start as u64,
        end: hit.start + range.end as u64,
        score: hit.score,
    }
}
