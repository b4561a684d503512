//! The search index on Elasticsearch: BM25 over the terms of our own analyzer and exact nearest neighbours, one index behind
//! an alias. A slim distribution is enough: no scripts, no analyzers of modules, no `_reindex`, no `_delete_by_query`.
//!
//! **One result contract with the embedded index.** Text becomes terms here, by the same analyzer, and the server gets them
//! ready-made (`whitespace`), with the same k1 and b and statistics over all shards (`dfs_query_then_fetch`). The
//! spec's fields are all there; `content` is also indexed by the `standard` analyzer for those who look at the index with
//! other tools.
//!
//! **A search** is one request, whatever number of legs it has (`_msearch`). A question with more words than there is room for
//! in all languages is asked in those that the person's passages have, which is one request more.
//!
//! **Vectors** are `flat`: every allowed one is compared, so that results are exact whatever the filter, and nothing has to be
//! built while documents come in. The price is a read of the vectors that the filter allows, the owner's at most, 3 KB each
//! at 768 dimensions. With 100,000 of them in three shards on two busy cores a query took 60 to 100 ms among all and 13 ms
//! among a tenth, and they were loaded at 2,200 a second; a graph (HNSW) loads at a tenth of that and misses one or two in
//! a hundred: it is for people who have far more passages. The exact bits of each vector are kept beside, for the digest: the server may
//! keep vectors in another form. A vector of zeros is near to nothing and is never found, unlike in the embedded index.
//!
//! **A commit** sends passages in bulks and looks at each item's outcome, lets searches see them, and writes the state
//! (checkpoint, model, counts) last. Searches see nothing before, since the index refreshes by command only. A crash leaves
//! the state behind the passages, never ahead: what comes again has the same ids, and replaces what is there, passages of a
//! longer earlier version included. More than 32 MB of staged changes are sent ahead of their commit; after a crash they may
//! be seen before it.
//!
//! **One writer.** The first change takes the index over: it counts the state's epoch up, and everything is written with the
//! epoch as version. A writer that was paused finds its passages refused (while the server remembers deletions, ten
//! minutes) and its state another than it left; it forgets what it staged and goes on from the checkpoint that it finds.
//!
//! **A rebuild** (`reset`) begins a new index beside the old one. The projector sees the new one at once; searches see the
//! old one until the new one reaches as far, and then the alias moves and the old one goes, in one step. Likewise where an older
//! version made the index, as soon as a projector changes something: searches go on in it meanwhile, and conditions on what it has no field for let nothing through.

mod client;
mod entries;
mod error;
mod layout;
mod options;
mod pages;
mod query;
mod state;
mod succession;
mod together;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use lmao_events::Position;
use lmao_ports::{
    Digest, IndexError, IndexedDocument, KeywordQuery, Leg, LegHit, ModelManifest, SearchFilter, SearchIndex, Space,
    Unavailable,
};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

pub use self::options::{ElasticOptions, OptionsError};
use self::{
    client::Client,
    error::{Error, STORE},
    state::State,
    together::Together,
    writer::{Writer, Written},
};
use crate::{
    Standing,
    passages::{content::ContentDigest, spaces::BySpace, terms::Tongue},
};

/// What an index is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Feeding it: changes are allowed, and what they lead to is seen, also in an index that is being rebuilt.
    Project,
    /// Searching: what is complete is seen, during a rebuild the old index. Changes are refused.
    Search,
}

/// [`SearchIndex`] on Elasticsearch, 8.13 or later.
#[derive(Debug, Clone)]
pub struct ElasticIndex {
    client: Arc<Client>,
    alias: String,
    feeder: Option<Feeder>,
    /// Every search looks at it, some more than once.
    state: Arc<Together<State>>,
}

/// What one that feeds has beside the rest.
#[derive(Debug, Clone)]
struct Feeder {
    writer: Arc<Mutex<Writer>>,
    /// The index that it writes.
    index: watch::Receiver<Written>,
}

impl ElasticIndex {
    /// Opens the index. It is made, or begun anew where an older version made it, by the first change of one that feeds it, and
    /// is empty until then: looking at it makes nothing. A server that is away is no error: it is looked at, and the index made, once
    /// it answers; calls fail until then, at once while nobody answers.
    ///
    /// # Errors
    /// [`IndexError::Unavailable`] when the server is too old, refuses the credentials, or a newer version
    /// of this program wrote the index. [`IndexError::Damaged`] when the index does not have the layout that this version
    /// makes: [`ElasticIndex::erase`] it and replay the log.
    pub async fn open(options: &ElasticOptions, role: Role) -> Result<Self, IndexError> {
        let client = Arc::new(Client::new(options)?);
        let alias = options.alias();
        let (found, feeder) = match role {
            Role::Search => (look(&client, &alias).await, None),
            Role::Project => {
                let mut writer = Writer::new(alias.clone(), options.replicas, Uuid::new_v4());
                let found = writer.locate(&client).await.map(drop);
                (found, Some(Feeder { index: writer.watch(), writer: Arc::new(Mutex::new(writer)) }))
            }
        };
        match found {
            Err(error) if error.is_silence() => {
                tracing::warn!(%error, "the search server is away; it is used as soon as it answers");
            }
            found => found?,
        }
        Ok(Self { client, alias, feeder, state: Arc::default() })
    }

    /// How the server stands, as far as is known without asking it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.client.standing()
    }

    /// Removes every index of this prefix, what searches see included. Safe to repeat.
    ///
    /// # Errors
    /// [`IndexError::Unavailable`] when the server cannot be reached or refuses.
    pub async fn erase(options: &ElasticOptions) -> Result<(), IndexError> {
        let client = Client::new(options)?;
        for found in layout::list(&client, &options.alias()).await? {
            layout::remove(&client, &found.name).await?;
        }
        Ok(())
    }

    /// The name under which this one reads: the alias, or the index that it writes.
    async fn target(&self) -> Result<String, Error> {
        let Some(feeder) = &self.feeder else { return Ok(self.alias.clone()) };
        let known = feeder.index.borrow().clone();
        match known {
            Written::At(index) => Ok(index),
            Written::Unknown | Written::NotBegun => feeder.writer.lock().await.locate(&self.client).await,
        }
    }

    /// The state of what this one reads.
    async fn state(&self) -> Result<State, Error> {
        let read = async {
            let index = self.target().await?;
            let stored = self.or_empty(state::read(&self.client, &index).await)?;
            Ok(stored.map(|stored| stored.state).unwrap_or_default())
        };
        self.state.look(read).await
    }

    /// Nobody makes or replaces an index before its first change: one that is not there yet is an empty one.
    fn or_empty<T: Default>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        let is_expected = self.feeder.as_ref().is_none_or(|feeder| *feeder.index.borrow() == Written::NotBegun);
        match answer {
            Err(error) if is_expected && error.is_missing_index() => Ok(T::default()),
            answer => answer,
        }
    }

    /// The languages of a person's passages, English aside.
    async fn tongues(&self, owner: Uuid) -> Result<Vec<Tongue>, Error> {
        self.or_empty(query::tongues(&self.client, &self.target().await?, owner).await)
    }

    /// Asks legs that are ready, in one request.
    async fn ask(&self, legs: &[&query::Asked]) -> Result<Vec<Result<Vec<LegHit>, Error>>, Error> {
        query::legs(&self.client, &self.target().await?, legs).await
    }

    /// What came of a leg that was asked with others. One that may go through a moment later is asked once more, by itself.
    async fn settle(
        &self,
        leg: &Leg,
        asked: &query::Asked,
        answer: Result<Vec<LegHit>, Error>,
    ) -> Result<Vec<LegHit>, IndexError> {
        let answer = match answer {
            Err(error) if error.is_passing() => self.ask(&[asked]).await?.pop().unwrap_or(Err(error)),
            answer => answer,
        };
        if let Leg::Nearest(space, vector) = leg
            && answer.as_ref().is_err_and(|error| error.status() == Some(400))
        {
            let models = self.state().await?.models();
            let (is, wanted) = (vector.len(), models.of(*space).as_ref().map(|model| model.dimensions));
            if let Some(wanted) = wanted.filter(|wanted| *wanted != is) {
                let what = format!("a query vector of {is} dimensions; the index has {wanted}");
                return Err(IndexError::Invalid(what));
            }
        }
        Ok(self.or_empty(answer)?)
    }

    /// Lets the writer do something, and look around again where somebody else was faster.
    async fn change<T>(
        &self,
        work: impl AsyncFnOnce(&mut Writer, &Client) -> Result<T, Error>,
    ) -> Result<T, IndexError> {
        let Some(feeder) = &self.feeder else {
            let message = "it was opened for searching; only a projector changes it";
            return Err(Unavailable::plain(STORE, message).into());
        };
        let mut writer = feeder.writer.lock().await;
        let done = work(&mut writer, &self.client).await;
        if let Err(error) = &done {
            writer.notice(error);
        }
        Ok(done?)
    }

    async fn prepare(
        &self,
        document: IndexedDocument,
        dims: BySpace<Option<usize>>,
    ) -> Result<entries::Prepared, IndexError> {
        let prepared = tokio::task::spawn_blocking(move || entries::prepare(&document, dims)).await;
        prepared.unwrap_or_else(|stopped| {
            let message = "a document could not be prepared; restart the server if it happens again";
            Err(Unavailable::new(STORE, message, stopped).into())
        })
    }
}

/// What searches see is of a version that this one reads; nothing may be there yet.
async fn look(client: &Client, alias: &str) -> Result<(), Error> {
    for found in layout::list(client, alias).await?.into_iter().filter(|found| found.is_serving) {
        layout::dimensions(client, &found.name).await?;
    }
    Ok(())
}

#[async_trait]
impl SearchIndex for ElasticIndex {
    async fn checkpoint(&self) -> Result<Position, IndexError> {
        match &self.feeder {
            Some(_) => self.change(async |writer, client| writer.checkpoint(client).await).await,
            None => Ok(self.state().await?.checkpoint),
        }
    }

    async fn computed_from(&self, log: Uuid) -> Result<Uuid, IndexError> {
        match &self.feeder {
            Some(_) => self.change(async |writer, client| writer.computed_from(client, log).await).await,
            None => Ok(self.state().await?.log.unwrap_or(log)),
        }
    }

    async fn model(&self, space: Space) -> Result<Option<ModelManifest>, IndexError> {
        Ok(self.state().await?.model_in_use(space).cloned())
    }

    async fn use_model(&self, space: Space, manifest: &ModelManifest) -> Result<(), IndexError> {
        self.change(async |writer, client| writer.use_model(client, space, manifest).await).await
    }

    async fn put(&self, document: IndexedDocument) -> Result<(), IndexError> {
        let dims = self.change(async |writer, _| Ok(writer.dims())).await?;
        let document_id = document.document_id;
        let prepared = self.prepare(document, dims).await?;
        self.change(async |writer, client| writer.put(client, document_id, prepared).await).await
    }

    async fn delete(&self, document_id: Uuid) -> Result<(), IndexError> {
        self.change(async |writer, client| writer.delete(client, document_id).await).await
    }

    async fn commit(&self, checkpoint: Position) -> Result<(), IndexError> {
        self.change(async |writer, client| writer.commit(client, checkpoint).await).await
    }

    /// Nothing to do: every commit writes its checkpoint down.
    async fn save(&self) -> Result<(), IndexError> {
        Ok(())
    }

    async fn reset(&self) -> Result<(), IndexError> {
        self.change(async |writer, client| writer.reset(client).await).await
    }

    async fn keyword(&self, query: &KeywordQuery, filter: &SearchFilter, k: usize) -> Result<Vec<LegHit>, IndexError> {
        let legs = [Leg::Keyword(query.clone())];
        self.legs(&legs, filter, k).await.pop().unwrap_or_else(|| Ok(vec![]))
    }

    async fn nearest(
        &self,
        space: Space,
        vector: &[f32],
        filter: &SearchFilter,
        k: usize,
    ) -> Result<Vec<LegHit>, IndexError> {
        let legs = [Leg::Nearest(space, vector.to_vec())];
        self.legs(&legs, filter, k).await.pop().unwrap_or_else(|| Ok(vec![]))
    }

    async fn legs(&self, legs: &[Leg], filter: &SearchFilter, k: usize) -> Vec<Result<Vec<LegHit>, IndexError>> {
        let all: Vec<Tongue> = Tongue::others().collect();
        let prepare = |tongues: &[Tongue]| legs.iter().map(|leg| query::prepare(leg, filter, k, tongues)).collect();
        let mut prepared: Vec<_> = prepare(&all);
        // So long a question is asked in the languages that the person's passages have.
        if prepared.iter().flatten().flatten().any(query::Asked::is_cut) {
            match self.tongues(filter.owner).await {
                Ok(own) => prepared = prepare(&own),
                Err(error) => return query::all_failed(&prepared, error),
            }
        }
        let asked: Vec<&query::Asked> = prepared.iter().flatten().flatten().collect();
        let answers = if asked.is_empty() { Ok(vec![]) } else { self.ask(&asked).await };
        let mut answers = match answers {
            Ok(answers) => answers.into_iter(),
            Err(error) => return query::all_failed(&prepared, error),
        };
        let mut settled = Vec::with_capacity(legs.len());
        for (leg, prepared) in legs.iter().zip(&prepared) {
            settled.push(match prepared {
                Err(error) => Err(IndexError::Invalid(error.to_string())),
                Ok(None) => Ok(vec![]),
                Ok(Some(asked)) => {
                    let answer = answers.next().unwrap_or_else(|| Ok(vec![]));
                    self.settle(leg, asked, answer).await
                }
            });
        }
        settled
    }

    async fn vectors(&self, space: Space, wanted: &[(Uuid, u32)]) -> Result<Vec<Option<Vec<f32>>>, IndexError> {
        let mut vectors = self.or_empty(query::vectors(&self.client, &self.target().await?, space, wanted).await)?;
        vectors.resize(wanted.len(), None);
        Ok(vectors)
    }

    async fn chunks(&self, wanted: &[(Uuid, u32)]) -> Result<Vec<LegHit>, IndexError> {
        Ok(self.or_empty(query::chunks(&self.client, &self.target().await?, wanted).await)?)
    }

    async fn holds(&self, document_id: Uuid) -> Result<bool, IndexError> {
        Ok(self.or_empty(query::holds(&self.client, &self.target().await?, document_id).await)?)
    }

    async fn count(&self) -> Result<u64, IndexError> {
        Ok(self.state().await?.passages)
    }

    async fn without_vectors(&self) -> Result<u64, IndexError> {
        Ok(self.state().await?.without_vectors())
    }

    async fn digest(&self) -> Result<Digest, IndexError> {
        let state = self.state().await?;
        let models = BySpace::each(|space| state.model_in_use(space).map(|model| &*model.id));
        let digest = pages::digest(&self.client, &self.target().await?, models).await.map(Some);
        Ok(self.or_empty(digest)?.unwrap_or_else(|| ContentDigest::new(models).finish()))
    }
}

#[cfg(test)]
mod tests;
