//! Searches that were made before: answered again as long as the index has not changed, and while it is away.
//!
//! A result is remembered under everything that it depends on: whose documents, the whole request, and the position that the
//! index had reached before it was searched. A commit that changes the index moves that position, and nothing older is found
//! any more. What names no position is only for the time when the index does not answer, and says so; what was deleted since
//! is left out, as the tables know it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use lmao_events::{Hash, Position};
use lmao_ports::{
    Cache, Explain, Hit, IndexError, ReadModel, Retriever, SearchError, SearchIndex, SearchRequest, SearchResults,
    Unavailable,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::CacheAside;

/// How long a result is found again. What changes without a commit, as a model or a setting, is seen after that.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long it is kept for a time without an index.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// Larger results are not remembered, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// A [`Retriever`] that remembers what was found.
#[derive(Debug)]
pub struct RememberedSearches {
    retriever: Arc<dyn Retriever>,
    index: Arc<dyn SearchIndex>,
    tables: Arc<dyn ReadModel>,
    aside: CacheAside,
    cache: Arc<dyn Cache>,
}

/// What is remembered.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    position: Position,
    results: SearchResults,
}

/// Why a search has no result to remember.
enum Passing {
    Failed(SearchError),
    /// Something was out of order: the next search may find more.
    Partial(Box<SearchResults>),
}

impl RememberedSearches {
    /// In front of `retriever`, which searches `index`. `tables` know which documents there are.
    #[must_use]
    pub fn new(
        retriever: Arc<dyn Retriever>,
        index: Arc<dyn SearchIndex>,
        tables: Arc<dyn ReadModel>,
        cache: Arc<dyn Cache>,
    ) -> Self {
        Self { retriever, index, tables, aside: CacheAside::new(Arc::clone(&cache)), cache }
    }

    async fn found(&self, request: SearchRequest, key: &str, position: Position) -> Result<Bytes, Passing> {
        let results = self.retriever.search(request).await.map_err(Passing::Failed)?;
        let is_partial = results.partial || !results.notices.is_empty();
        let remembered = Remembered { position, results };
        let bytes = serde_json::to_vec(&remembered).map(Bytes::from).unwrap_or_default();
        if bytes.is_empty() || bytes.len() > MAX_BYTES {
            return Err(Passing::Partial(Box::new(remembered.results)));
        }
        if let Err(error) = self.cache.put(key, bytes.clone(), KEPT).await {
            tracing::debug!(%error, "a search is not remembered");
        }
        if is_partial {
            return Err(Passing::Partial(Box::new(remembered.results)));
        }
        Ok(bytes)
    }

    /// What was found when the index last answered, or why it does not now.
    async fn before(&self, key: &str, owner: Uuid, away: Unavailable) -> Result<SearchResults, SearchError> {
        let known = self.cache.get(key).await.ok().flatten();
        let Some(Remembered { position, mut results }) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok())
        else {
            return Err(IndexError::Unavailable(away).into());
        };
        results.hits = self.present(owner, std::mem::take(&mut results.hits)).await.map_err(IndexError::Unavailable)?;
        results.notices.push(format!(
            "the search index is away: these results are from the cache, as of position {position}; what came since is missing"
        ));
        Ok(results)
    }

    /// Those of documents that are still there: what somebody deleted is not shown again. Asks for each document of a page
    /// once.
    async fn present(&self, owner: Uuid, hits: Vec<Hit>) -> Result<Vec<Hit>, Unavailable> {
        let mut known: HashMap<Uuid, bool> = HashMap::new();
        for hit in &hits {
            if let Entry::Vacant(unknown) = known.entry(hit.document_id) {
                unknown.insert(self.tables.document(owner, hit.document_id).await?.is_some());
            }
        }
        Ok(hits.into_iter().filter(|hit| known.get(&hit.document_id) == Some(&true)).collect())
    }
}

#[async_trait]
impl Retriever for RememberedSearches {
    async fn search(&self, request: SearchRequest) -> Result<SearchResults, SearchError> {
        let begun = Instant::now();
        // An explanation tells of the search that was made, not of an earlier one.
        let Some(key) = key(&request).filter(|_| request.explain == Explain::No) else {
            return self.retriever.search(request).await;
        };
        let owner = request.filter.owner;
        let position = match self.index.checkpoint().await {
            Ok(position) => position,
            Err(IndexError::Unavailable(away)) => return self.before(&key, owner, away).await,
            Err(_) => return self.retriever.search(request).await,
        };
        let computed = self.found(request, &key, position);
        let found = match self.aside.get_or_compute(&format!("{key}/{position}"), FRESH, computed).await {
            Ok(bytes) => serde_json::from_slice::<Remembered>(&bytes).map(|remembered| remembered.results),
            Err(Passing::Partial(results)) => return Ok(*results),
            Err(Passing::Failed(SearchError::Index(IndexError::Unavailable(away)))) => {
                return self.before(&key, owner, away).await;
            }
            Err(Passing::Failed(error)) => return Err(error),
        };
        let damaged = |error| Unavailable::new("cache", "it holds a search that cannot be read; it expires", error);
        let results = found.map_err(|error| IndexError::Unavailable(damaged(error)))?;
        Ok(SearchResults { took: begun.elapsed(), ..results })
    }
}

/// Everything that a result depends on beside the index: by this build, for this owner.
fn key(request: &SearchRequest) -> Option<String> {
    let text = serde_json::to_vec(request).ok()?;
    let owner = request.filter.owner.simple();
    Some(format!("search/{}/{owner}/{}", env!("CARGO_PKG_VERSION"), Hash::of(&text)))
}

#[cfg(test)]
#[path = "searches/tests.rs"]
mod tests;
