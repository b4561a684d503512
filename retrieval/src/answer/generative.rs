//! Answering by a language model, from the passages, with citations that are checked.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lmao_events::{Answer, Failure};
use lmao_ports::{Intent, Llm, LlmError, SearchIndex, TokenSink};

use super::{
    Answerer, Question,
    context::{Budget, Excerpt, assemble, in_order, missing},
    grounds::Grounds,
    markers::{Judged, Markers},
    prompt::{ANSWER_TOKENS, Shares, prompt},
    reading::Reading,
};

/// Has a language model write the answer.
#[derive(Debug)]
pub struct Generative {
    llm: Arc<dyn Llm>,
    reading: Reading,
}

impl Generative {
    /// By this model.
    #[must_use]
    pub fn new(llm: Arc<dyn Llm>) -> Self {
        Self { llm, reading: Reading::default() }
    }

    /// With the index that the passages come from: sections are read whole, and documents summarized by their parts.
    #[must_use]
    pub fn reading(mut self, index: Arc<dyn SearchIndex>) -> Self {
        self.reading = Reading::of(index);
        self
    }

    /// What the model reads, numbered from 1.
    async fn context(&self, question: &Question, budget: &Budget<'_>) -> Vec<Excerpt> {
        match question.intent {
            Intent::ChitChat => return vec![],
            Intent::Summary => {
                let parts = self.reading.beginnings(question).await;
                if !parts.is_empty() {
                    return in_order(&parts, budget);
                }
            }
            _ => {}
        }
        let siblings = self.reading.passages(&missing(&question.hits)).await;
        assemble(&question.hits, &siblings, question.sides().as_ref(), budget)
    }
}

#[async_trait]
impl Answerer for Generative {
    fn name(&self) -> &str {
        self.llm.model()
    }

    fn needs_history(&self) -> bool {
        true
    }

    async fn answer(&self, question: Question, sink: TokenSink) -> Result<Answer, Failure> {
        let question = question.checked();
        let count = |text: &str| self.llm.count_tokens(text);
        let shares = Shares::of(self.llm.context_tokens(), &question.query, &count);
        let excerpts = self.context(&question, &Budget { tokens: shares.passages, count: &count }).await;
        let messages = prompt(&question, &excerpts, shares, &count);
        let grounds = Arc::new(Grounds::new(excerpts, &question.query));
        let markers = || Markers::new(grounds.len(), Arc::clone(&grounds) as _);
        let stream = Arc::new(Mutex::new((markers(), sink)));
        let completion = self
            .llm
            .complete(messages, ANSWER_TOKENS, rewriting(Arc::clone(&stream)))
            .await
            .map_err(|error| failure(&error))?;
        let mut markers = markers();
        let mut text = markers.push(&completion.text);
        text.push_str(&markers.finish());
        if text.trim().is_empty() {
            return Err(Failure::passing("llm_empty", "the language model sent an empty answer; try again"));
        }
        {
            let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            let (markers, sink) = &mut *stream;
            let rest = markers.finish();
            if !rest.is_empty() {
                sink(&rest);
            }
        }
        let citations = grounds.citations(&text, &markers);
        let mut notices = question.notices;
        if grounds.len() > 0 {
            notices.extend(notices_of(markers.judged(), citations.is_empty()));
        } else if question.intent != Intent::ChitChat {
            notices.push("nothing relevant was found in your documents: the model answered on its own".to_owned());
        }
        Ok(Answer {
            text,
            grounded: !citations.is_empty(),
            citations,
            model: completion.model,
            usage: completion.usage,
            notices,
        })
    }
}

/// What the reader should know of the citations.
fn notices_of(judged: Judged, none: bool) -> Vec<String> {
    let mut notices = vec![];
    if judged.dropped > 0 {
        let n = judged.dropped;
        notices.push(format!(
            "citations left out: {n}; the passages do not say what the answer quotes there: check it before you rely on it"
        ));
    }
    if judged.moved > 0 {
        notices.push(format!("citations moved to the passage that holds the quoted words: {}", judged.moved));
    }
    if none {
        notices.push("the answer cites none of your documents: check it before you rely on it".to_owned());
    }
    notices
}

/// A sink that shows pieces with their markers rewritten.
fn rewriting(stream: Arc<Mutex<(Markers, TokenSink)>>) -> TokenSink {
    Box::new(move |piece| {
        let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
        let (markers, sink) = &mut *stream;
        let shown = markers.push(piece);
        if !shown.is_empty() {
            sink(&shown);
        }
    })
}

fn failure(error: &LlmError) -> Failure {
    match error {
        LlmError::Passing(_) => Failure::passing("llm_unreachable", error.to_string()),
        LlmError::Refused(_) => Failure::lasting("llm_refused", format!("{error}; check `llm` in the configuration")),
    }
}
