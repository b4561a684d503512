//! Searching: from a question to the passages that may answer it.
//!
//! One stage is one file: [`query`] understands the question, [`legs`] ask the index, [`fuse`] makes one ranking of two.
//! Nothing here knows how the index works inside; it asks for the k best of each leg and fuses ranks itself.

#[cfg(test)]
pub(crate) mod fakes;
mod fuse;
mod legs;
pub(crate) mod query;
pub(crate) mod terms;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use lmao_ports::{Retriever, SearchError, SearchIndex, SearchRequest, SearchResults, SearchType, Semantics, Span};

use self::{
    fuse::Ranking,
    legs::{Vectors, keyword, nearest},
    query::Query,
};

pub use self::query::{MAX_QUERY_BYTES, MAX_RESULTS};

/// Passages fetched from each leg, or as many as are wanted if that is more.
const FETCH: usize = 50;

/// Search by keyword and by vector at once, fused by reciprocal ranks.
///
/// Where the vector leg is off, a hybrid search goes on by keyword alone and says so in its notices.
#[derive(Debug)]
pub struct Hybrid {
    index: Arc<dyn SearchIndex>,
    semantics: Arc<dyn Semantics>,
}

impl Hybrid {
    /// Over an index, with the model that may or may not be there.
    #[must_use]
    pub fn new(index: Arc<dyn SearchIndex>, semantics: Arc<dyn Semantics>) -> Self {
        Self { index, semantics }
    }

    async fn rankings(
        &self,
        query: &Query,
        request: &SearchRequest,
        notices: &mut Vec<String>,
    ) -> Result<Vec<Ranking>, SearchError> {
        let (filter, k) = (&request.filter, FETCH.max(request.max_results));
        let index = self.index.as_ref();
        let vectors = nearest(index, self.semantics.as_ref(), &query.text, filter, k);
        match request.search_type {
            SearchType::Keyword => Ok(vec![Ranking::keyword(keyword(index, &query.text, filter, k).await?, 1.0)]),
            SearchType::Semantic => match vectors.await {
                Vectors::Found(found) => Ok(vec![Ranking::vector(found, 1.0)]),
                Vectors::Absent(notice) => {
                    notices.push(notice);
                    Ok(vec![])
                }
                Vectors::Off(error) => Err(error),
            },
            SearchType::Hybrid | SearchType::Code => {
                let (words, vectors) = tokio::join!(keyword(index, &query.text, filter, k), vectors);
                let words = words?;
                Ok(match vectors {
                    Vectors::Found(found) => {
                        let weight = query.vector_weight();
                        vec![Ranking::vector(found, weight), Ranking::keyword(words, 1.0 - weight)]
                    }
                    Vectors::Absent(notice) => {
                        if !words.is_empty() {
                            notices.push(notice);
                        }
                        vec![Ranking::keyword(words, 1.0)]
                    }
                    Vectors::Off(error) => {
                        notices.push(legs::fallback(&error));
                        vec![Ranking::keyword(words, 1.0)]
                    }
                })
            }
        }
    }
}

#[async_trait]
impl Retriever for Hybrid {
    async fn search(&self, request: SearchRequest) -> Result<SearchResults, SearchError> {
        let began = Instant::now();
        let query = Query::of(&request)?;
        let mut notices: Vec<String> = query.notice.iter().cloned().collect();
        let span = Span::here(|| "search".into());
        let rankings = span.run(self.rankings(&query, &request, &mut notices)).await;
        if let Err(error) = &rankings {
            span.fail(error.to_string());
        }
        let rankings = rankings?;
        let mut hits = fuse::distinct(fuse::fuse(rankings));
        let total = hits.len();
        hits.truncate(request.max_results);
        let took = began.elapsed();
        span.set("lmao.hits", i64::try_from(hits.len()).unwrap_or(i64::MAX));
        tracing::debug!(total, hits = hits.len(), ?took, "searched");
        Ok(SearchResults { hits, total, notices, took, ..SearchResults::default() })
    }
}
