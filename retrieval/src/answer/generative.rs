//! Answering by a language model, from the passages, with citations that are checked.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use lmao_events::{Answer, Citation, Failure};
use lmao_ports::{Hit, Llm, LlmError, TokenSink};
use unicode_segmentation::UnicodeSegmentation;

use super::{
    Answerer, Question, cite,
    markers::Markers,
    prompt::prompt,
    relevance::likeness,
    sentence::{Piece, pieces},
};
use crate::search::terms::{coverage, terms};

/// Tokens of an answer.
const MAX_TOKENS: u32 = 1024;

/// Has a language model write the answer.
#[derive(Debug)]
pub struct Generative {
    llm: Arc<dyn Llm>,
}

impl Generative {
    /// By this model.
    #[must_use]
    pub fn new(llm: Arc<dyn Llm>) -> Self {
        Self { llm }
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
        let prompt = prompt(&question);
        let passages = prompt.passages;
        let stream = Arc::new(Mutex::new((Markers::new(passages), sink)));
        let completion = self
            .llm
            .complete(prompt.messages, MAX_TOKENS, rewriting(Arc::clone(&stream)))
            .await
            .map_err(|error| failure(&error))?;
        let mut markers = Markers::new(passages);
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
        let citations = citations(&text, &markers, &question.hits);
        let mut notices = question.notices;
        if passages == 0 {
            notices.push("nothing relevant was found in your documents: the model answered on its own".to_owned());
        } else if citations.is_empty() {
            notices.push("the answer cites none of your documents: check it before you rely on it".to_owned());
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

fn citations(text: &str, markers: &Markers, hits: &[Hit]) -> Vec<Citation> {
    let cited = markers.cited().iter().enumerate();
    cited
        .filter_map(|(place, passage)| {
            let hit = hits.get(passage - 1)?;
            let claim = claim(text, markers.first_use(*passage)?);
            Some(cite(place + 1, hit, quote(claim, hit)))
        })
        .collect()
}

/// The sentence that the marker at byte `at` closes.
fn claim(text: &str, at: usize) -> &str {
    let before = text[..at].rsplit("\n\n").next().unwrap_or_default();
    let sentences = before.split_sentence_bounds().map(str::trim);
    sentences.filter(|part| part.split_whitespace().count() > 1).last().unwrap_or(before)
}

/// The piece of a passage that is most like the claim; the whole passage where it has no pieces.
fn quote(claim: &str, hit: &Hit) -> Range<usize> {
    let claim = terms(claim);
    let score = |piece: &Piece| {
        let found = terms(&hit.content[piece.range.clone()]);
        // A heading has the claim's words, and does not say what the claim says.
        let worth = if piece.heads { 0.5 } else { 1.0 };
        worth * (coverage(&claim, &found) + likeness(&claim, &found))
    };
    let section = hit.section.as_deref().unwrap_or_default();
    let scored = pieces(&hit.content, &hit.chunk_type, section).into_iter().map(|piece| (score(&piece), piece));
    // The first of equals: `max_by` would take the last.
    scored
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map_or(0..hit.content.len(), |(_, piece)| piece.range)
}

fn failure(error: &LlmError) -> Failure {
    match error {
        LlmError::Passing(_) => Failure::passing("llm_unreachable", error.to_string()),
        LlmError::Refused(_) => Failure::lasting("llm_refused", format!("{error}; check `llm` in the configuration")),
    }
}
