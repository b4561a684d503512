//! Searching: from a question to the passages that may answer it.
//!
//! One stage is one file. [`query`] understands the question, [`rewrite`] lets a language model do it better; [`legs`] ask the
//! index, [`candidates`] joins what they found, [`fuse`] makes one ranking of it by [`neighbours`]; [`rerank`] reads the best of
//! them, [`diverse`] parts what is alike, [`relevance`] says what speaks of the question at all. [`report`] tells of all that.
//! Nothing here knows how the index works inside; it asks for the k best of each leg and ranks itself.

mod candidates;
mod diverse;
#[cfg(test)]
pub(crate) mod fakes;
mod fuse;
mod legs;
mod neighbours;
mod pass;
pub(crate) mod query;
pub(crate) mod relevance;
mod report;
mod rerank;
mod rewrite;
pub(crate) mod terms;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, sync::Arc, time::Instant};

use async_trait::async_trait;
use futures::future::try_join_all;
use lmao_ports::{
    Embedder, Explain, Hit, HitExplained, Intent, Reranker, RerankerState, Reranking, Retriever, SearchError,
    SearchIndex, SearchRequest, SearchResults, SearchType, Semantics, Space, Span,
};

use self::{
    candidates::Candidate,
    legs::{Others, Readiness, fallback, readiness},
    pass::{Pass, Plan, merge},
    query::{Query, Question},
    relevance::{Background, Judge},
    report::{Report, Told},
    rerank::{Extent, Outcome},
};

pub use self::{
    query::{MAX_DEPTH, MAX_QUERY_BYTES, MAX_RESULTS},
    rewrite::{LlmRewriter, Rewriter, Rewritten},
};

/// Types of passages that are searched for code.
const CODE_TYPES: [&str; 2] = ["code", "mixed"];

/// What a space counts that is not the first for a kind of question.
const SECOND: f32 = 0.8;

/// What the reader of an index without vectors should know.
const UNEMBEDDED: &str =
    "the documents have no vectors yet and were searched by keyword only; `lmao models reembed` adds them";

/// The same, where nothing but vectors was asked for.
const NOT_SEARCHED: &str =
    "the documents have no vectors yet, so that a semantic search finds none; `lmao models reembed` adds them";

/// The spaces of vectors that can be asked.
#[derive(Debug, Default)]
struct Spaces {
    models: Vec<(Space, Arc<dyn Embedder>)>,
    /// Whether there is a model and nothing was embedded by it yet.
    unembedded: bool,
}

/// Search by keyword and by vectors at once, fused by scores, and reranked where there is a model for it.
///
/// Where a leg by vectors is off, a hybrid search goes on without it and says so in its notices.
#[derive(Debug)]
pub struct Hybrid {
    index: Arc<dyn SearchIndex>,
    semantics: Arc<dyn Semantics>,
    reranking: Option<Arc<dyn Reranking>>,
    rewriter: Option<Arc<dyn Rewriter>>,
    background: Background,
}

impl Hybrid {
    /// Over an index, with the models that may or may not be there.
    #[must_use]
    pub fn new(index: Arc<dyn SearchIndex>, semantics: Arc<dyn Semantics>) -> Self {
        Self { index, semantics, reranking: None, rewriter: None, background: Background::default() }
    }

    /// With a cross-encoder that may or may not be there. It reads the best results of hybrid searches and of those for code;
    /// a search by one kind of leg alone stays what it says.
    #[must_use]
    pub fn reranking(mut self, reranking: Arc<dyn Reranking>) -> Self {
        self.reranking = Some(reranking);
        self
    }

    /// With somebody who may put questions better than they were asked. Each search waits for it.
    #[must_use]
    pub fn rewriter(mut self, rewriter: Arc<dyn Rewriter>) -> Self {
        self.rewriter = Some(rewriter);
        self
    }

    async fn run(&self, request: &SearchRequest) -> Result<SearchResults, SearchError> {
        let mut report = Report::new(request.explain);
        let query = self.understand(request, &mut report).await?;
        let plan = self.plan(&query, request, &mut report).await?;
        let passes = self.passes(&plan, &query, request, &mut report).await?;
        let judge =
            |(question, pass): (&Question, &Pass)| Judge::new(question, pass.rarity.clone(), pass.directions.clone());
        let judges: Vec<Judge> = query.questions().zip(&passes).map(judge).collect();
        let mut passes = passes.into_iter();
        let (ranked, tail) = passes.next().map(|whole| (whole.ranked, whole.tail)).unwrap_or_default();
        let mut ranked = merge(ranked, passes.map(|part| part.ranked).collect());
        self.rerank(&query, request, &mut ranked, &mut report).await;
        if let Some(diversity) = request.diversity.filter(|diversity| *diversity > 0.0) {
            diverse::diversify(&mut ranked, diversity);
            report.stage("diverse", ranked.len());
        }
        // What lies behind the whole question's best may be among those of its parts.
        let known: HashSet<_> = ranked.iter().map(|candidate| candidate.text).collect();
        ranked.extend(tail.into_iter().filter(|candidate| !known.contains(&candidate.text)));
        let total = ranked.len();
        let page = ranked.into_iter().skip(request.offset).take(request.max_results);
        let hits: Vec<Hit> = page.map(|candidate| hit(candidate, &judges, request.explain)).collect();
        report.stage("judged", hits.len());
        Ok(SearchResults { hits, total, intent: query.intent, ..report.finish() })
    }

    async fn understand(&self, request: &SearchRequest, report: &mut Report) -> Result<Query, SearchError> {
        let mut query = Query::of(request)?;
        if query.intent != Intent::ChitChat
            && let Some(rewriter) = &self.rewriter
            && let Some(rewritten) = rewriter.rewrite(&query.whole.text, &request.conversation).await
        {
            query = rewrite::improved(query, &rewritten, &request.conversation);
        }
        if !request.stages.expansion {
            query.parts.clear();
            query.expansions.clear();
        }
        report.notices.extend(query.notice.clone());
        report.explained.rewritten.clone_from(&query.whole.text);
        report.explained.sub_queries = query.parts.iter().map(|part| part.text.clone()).collect();
        report.stage("understood", 0);
        Ok(query)
    }

    /// Which legs are asked, and what they count.
    async fn plan(&self, query: &Query, request: &SearchRequest, report: &mut Report) -> Result<Plan, SearchError> {
        let (stages, by) = (request.stages, request.search_type);
        let code = by == SearchType::Code || query.intent == Intent::Code;
        let mut filter = request.filter.clone();
        if by == SearchType::Code && filter.chunk_types.is_empty() {
            filter.chunk_types = CODE_TYPES.map(str::to_owned).to_vec();
        }
        let keyword = stages.keyword && by != SearchType::Semantic;
        let Spaces { models, unembedded } = self.spaces(query, request, report).await?;
        Ok(Plan {
            keyword: keyword.into(),
            models,
            unembedded,
            background: self.background.clone(),
            counts: if code { code_first } else { general_first },
            expansion: (stages.expansion && keyword).into(),
            vectors: request.diversity.is_some().into(),
            filter,
            // One more tells whether there is another page.
            wanted: request.offset + request.max_results + 1,
        })
    }

    /// The spaces that can be asked, with their models. What is left out is told.
    async fn spaces(&self, query: &Query, request: &SearchRequest, report: &mut Report) -> Result<Spaces, SearchError> {
        let by = request.search_type;
        if by == SearchType::Keyword {
            return Ok(Spaces::default());
        }
        if by == SearchType::Hybrid && query.intent == Intent::ChitChat {
            report.left_out("small talk is searched by keyword only".to_owned(), Told::Asked);
            return Ok(Spaces::default());
        }
        let (mut models, mut off, mut empty) = (Vec::new(), Vec::new(), false);
        for space in Space::ALL {
            let takes_part = match space {
                Space::General => request.stages.general,
                Space::Domain => request.stages.domain,
            };
            match readiness(self.index.as_ref(), self.semantics.as_ref(), space).await {
                _ if !takes_part => {}
                Readiness::Ready(embedder) => models.push((space, embedder)),
                Readiness::Empty => empty |= space == Space::General,
                Readiness::Loading(why) => {
                    report.partial = true;
                    off.push((space, SearchError::SemanticOff(why)));
                }
                Readiness::Off(error) => off.push((space, error)),
            }
        }
        if by == SearchType::Semantic && models.is_empty() {
            // Without a vector in the general space there is nothing that the other one's model could have found.
            return if empty || off.is_empty() {
                Ok(Spaces { models, unembedded: empty })
            } else {
                Err(off.remove(0).1)
            };
        }
        for (space, error) in &off {
            // That there is no code model is how most people run it.
            let usual =
                *space == Space::Domain && matches!(error, SearchError::SemanticOff(_)) && by != SearchType::Code;
            let told = if usual { Told::Asked } else { Told::Always };
            report.left_out(fallback(*space, error, Others::of(models.len())), told);
        }
        Ok(Spaces { unembedded: empty && models.is_empty(), models })
    }

    /// A pass for the whole question and for each of its parts.
    async fn passes(
        &self,
        plan: &Plan,
        query: &Query,
        request: &SearchRequest,
        report: &mut Report,
    ) -> Result<Vec<Pass>, SearchError> {
        let asked = query.questions().enumerate().map(|(n, question)| {
            let expansions = if n == 0 { query.expansions.clone() } else { vec![] };
            plan.pass(self.index.as_ref(), question, expansions)
        });
        let mut passes = try_join_all(asked).await?;
        let found = passes.iter().any(|pass| !pass.ranked.is_empty());
        if plan.unembedded && request.search_type == SearchType::Semantic {
            report.left_out(NOT_SEARCHED.to_owned(), Told::Always);
        } else if plan.unembedded && found {
            report.left_out(UNEMBEDDED.to_owned(), Told::Always);
        }
        for pass in &mut passes {
            report.partial |= pass.partial;
            let others = Others::of(pass.directions.len());
            for (space, error) in pass.failed.drain(..) {
                if request.search_type == SearchType::Semantic && others == Others::Silent {
                    return Err(error);
                }
                let notice = fallback(space, &error, others);
                if !report.notices.contains(&notice) {
                    report.left_out(notice, Told::Always);
                }
            }
        }
        if let Some(whole) = passes.first_mut() {
            report.explained.legs.append(&mut whole.legs);
            report.explained.expansions.append(&mut whole.expansions);
            report.stages(std::mem::take(&mut whole.costs));
        }
        Ok(passes)
    }

    async fn rerank(&self, query: &Query, request: &SearchRequest, ranked: &mut [Candidate], report: &mut Report) {
        let wanted = matches!(request.search_type, SearchType::Hybrid | SearchType::Code)
            && request.stages.reranking
            && query.intent != Intent::ChitChat;
        let extent = request.reranked.map_or(Extent::Timed, Extent::Again);
        report.reranked = request.reranked.unwrap_or_default();
        if !wanted || ranked.is_empty() || extent == Extent::Again(0) {
            return;
        }
        let reranker: Arc<dyn Reranker> = match self.reranking.as_ref().map(|reranking| reranking.state()) {
            Some(RerankerState::Ready(reranker)) => reranker,
            Some(RerankerState::Loading(why)) => {
                report.partial = true;
                return report.left_out(format!("reranking is off: {why}"), Told::Asked);
            }
            Some(RerankerState::Off(why)) => {
                return report.left_out(format!("reranking is off: {why}"), Told::Asked);
            }
            None => return report.left_out("reranking is off: no model is configured".to_owned(), Told::Asked),
        };
        let read = match rerank::rerank(&query.whole.text, ranked, &reranker, extent).await {
            Outcome::Read(read) => read,
            Outcome::CutOff(read, why) => {
                report.left_out(why, Told::Always);
                read
            }
        };
        report.reranked = request.reranked.unwrap_or(read);
        report.stage("reranked", read);
    }
}

fn general_first(space: Space) -> f32 {
    if space == Space::General { 1.0 } else { SECOND }
}

fn code_first(space: Space) -> f32 {
    if space == Space::Domain { 1.0 } else { SECOND }
}

fn hit(candidate: Candidate, judges: &[Judge], explain: Explain) -> Hit {
    let relevant = judges.iter().any(|judge| judge.accepts(&candidate));
    let similarity = judges.first().and_then(|judge| judge.similarity(&candidate));
    let explained = (explain == Explain::Yes).then_some(HitExplained { stages: candidate.stages });
    Hit { score: candidate.score, similarity, relevant, explained, ..Hit::from(candidate.hit) }
}

#[async_trait]
impl Retriever for Hybrid {
    async fn search(&self, request: SearchRequest) -> Result<SearchResults, SearchError> {
        let began = Instant::now();
        let span = Span::here(|| "search".into());
        let found = span.run(self.run(&request)).await;
        if let Err(error) = &found {
            span.fail(error.to_string());
        }
        let found = SearchResults { took: began.elapsed(), ..found? };
        span.set("lmao.hits", i64::try_from(found.hits.len()).unwrap_or(i64::MAX));
        tracing::debug!(total = found.total, hits = found.hits.len(), took = ?found.took, "searched");
        Ok(found)
    }
}
