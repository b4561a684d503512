//! Answering by quoting: the best sentences of the passages, each with its source. No language model, and it says so.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use lmao_events::{Answer, Citation, Failure};
use lmao_ports::{Hit, Intent, SearchIndex, SemanticState, Semantics, Space, TokenSink};
use uuid::Uuid;

use super::{
    Answerer, Question, names,
    reading::Reading,
    relevance::{Nearness, Vectors},
    render::render,
    select::{Candidate, Selection},
    summary::summary,
    talk::small_answer,
};

/// What is said when no passage speaks of the question.
const NOTHING: &str = "Nothing relevant to this question was found in your documents";

/// Picks and joins the best sentences of the passages. Where a model is ready it compares their meaning with the question's
/// as well as their words.
#[derive(Debug)]
pub struct Extractive {
    semantics: Arc<dyn Semantics>,
    vectors: Vectors,
    reading: Reading,
}

impl Extractive {
    /// With the model that may or may not be there.
    #[must_use]
    pub fn new(semantics: Arc<dyn Semantics>) -> Self {
        Self { semantics, vectors: Vectors::default(), reading: Reading::default() }
    }

    /// With the index that the passages come from: documents are summarized by their parts.
    #[must_use]
    pub fn reading(mut self, index: Arc<dyn SearchIndex>) -> Self {
        self.reading = Reading::of(index);
        self
    }

    /// How near `texts` are to the question; `None` without a model, and where it fails: words alone will do.
    async fn nearness(&self, query: &str, texts: Vec<String>) -> Option<Nearness> {
        let SemanticState::Ready(embedder) = self.semantics.state(Space::General) else { return None };
        if texts.is_empty() {
            return None;
        }
        match Nearness::of(query, texts, embedder.as_ref(), &self.vectors).await {
            Ok(nearness) => Some(nearness),
            Err(error) => {
                tracing::warn!(%error, "quotes are chosen by their words alone");
                None
            }
        }
    }

    /// The text in the pieces in which it is shown, with its citations.
    async fn compose(&self, question: &Question) -> (Vec<String>, Vec<Citation>) {
        if question.intent == Intent::Summary {
            let parts = self.reading.beginnings(question).await;
            if let Some(summary) = summary(&parts) {
                return summary;
            }
        }
        let selection = Selection::new(question.sought(), &question.hits, question.sides());
        let nearness = self.nearness(question.sought(), selection.to_compare()).await;
        let chosen = selection.pick(nearness.as_ref());
        if chosen.is_empty() {
            return (vec![format!("{NOTHING}.")], vec![]);
        }
        let names = names::names(&question.query);
        let unsaid = self.unsaid(names.clone(), &question.hits, &chosen).await;
        let listed = unsaid.iter().map(|name| format!("“{name}”")).collect::<Vec<_>>().join(" or ");
        if !names.is_empty() && unsaid.len() == names.len() {
            return (vec![format!("{NOTHING}: what comes nearest to it does not mention {listed}.")], vec![]);
        }
        let (mut parts, citations) = render(&question.hits, &chosen);
        if !unsaid.is_empty() {
            parts.insert(0, format!("No passage that was found mentions {listed}. "));
        }
        (parts, citations)
    }

    /// Those of the names that neither the passages found nor the beginnings of the documents quoted have: a manual may say
    /// on its first page alone what it is about.
    async fn unsaid<'q>(&self, names: Vec<&'q str>, hits: &[Hit], chosen: &[Candidate]) -> Vec<&'q str> {
        let unsaid = names::unsaid(names, hits);
        if unsaid.is_empty() {
            return unsaid;
        }
        let quoted: BTreeSet<Uuid> = chosen.iter().map(|candidate| hits[candidate.hit].document_id).collect();
        let first: Vec<(Uuid, u32)> = quoted.into_iter().map(|document| (document, 0)).collect();
        names::unsaid(unsaid, &self.reading.passages(&first).await)
    }
}

#[async_trait]
impl Answerer for Extractive {
    fn name(&self) -> &str {
        "extractive"
    }

    fn needs_history(&self) -> bool {
        false
    }

    async fn answer(&self, question: Question, mut sink: TokenSink) -> Result<Answer, Failure> {
        let question = question.checked();
        let (parts, citations) = if question.intent == Intent::ChitChat {
            (vec![small_answer(&question.query).to_owned()], vec![])
        } else {
            self.compose(&question).await
        };
        for part in &parts {
            sink(part);
        }
        Ok(Answer {
            text: parts.concat(),
            grounded: !citations.is_empty(),
            citations,
            model: self.name().to_owned(),
            usage: None,
            notices: question.notices,
        })
    }
}
