//! What every process that writes a data directory opens: stores, model, retrieval, projections. Nothing here runs yet.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use lmao_actors::{Feeder, Keyring, OpenedLog, Projector, SearchProjection, archive::Archived};
use lmao_adapters::{
    cache::RememberedSearches,
    clock::{OsEntropy, SystemClock},
    data_dir::DataDir,
    llm::OpenAi,
    models::{self, ModelConfig, Models, Progress},
    nats::Nats,
    sqlite::{self, Access, SqliteEmbeddingCache, SqliteReadModel},
    tools::HttpTool,
};
use lmao_ports::{
    Blobs, Cache, Clock, EmbeddingCache, Entropy, EventLog, Ingestion, Live, Llm, Projection, RateLimiter, ReadModel,
    Retriever, SearchIndex, Semantics, Snapshots, Vault,
};
use lmao_retrieval::{
    answer::{Answerer, Extractive, Generative},
    ingest::{Ingest, Rejected, Worker},
    search::{Hybrid, LlmRewriter},
};
use lmao_tools::{Remote, Tool};

use super::{servers::Server, stores::Opening};
use crate::{
    config::{self, Config, Roles},
    exit::{Code, Stop},
};

/// Bytes of vectors that are remembered: some 300,000 passages of 384 dimensions.
const EMBEDDING_CACHE_BYTES: u64 = 512 * 1024 * 1024;
/// The hidden command that extracts text in a process of its own.
pub(crate) const WORKER: &str = "extract-worker";

/// An opened data directory, and everything that works on it.
pub(crate) struct Parts {
    /// The truth.
    pub log: Arc<dyn EventLog>,
    /// What can be computed again.
    pub snapshots: Arc<dyn Snapshots>,
    /// Secrets.
    pub vault: Arc<dyn Vault>,
    /// Data keys.
    pub keyring: Keyring,
    /// The log, opened.
    pub journal: OpenedLog,
    /// The tables.
    pub read_model: Arc<dyn ReadModel>,
    /// The index of passages.
    pub index: Arc<dyn SearchIndex>,
    /// The projection into it.
    pub search: Arc<dyn Projection>,
    /// Files and large payloads.
    pub blobs: Arc<dyn Blobs>,
    /// What may be forgotten.
    pub cache: Arc<dyn Cache>,
    /// How often clients asked.
    pub limiter: Arc<dyn RateLimiter>,
    /// How often they may.
    pub rates: config::Rates,
    /// Whose web pages may call.
    pub cors_origins: lmao_gateway::Origins,
    /// Hints to watchers.
    pub live: Arc<dyn Live>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// The models: loaded when they are first waited for.
    pub models: Arc<Models>,
    /// What was not worth keeping of what they made.
    pub rejected: Arc<Rejected>,
    /// Ingestion.
    pub steps: Arc<dyn Ingestion>,
    /// Searching.
    pub retriever: Arc<dyn Retriever>,
    /// Answering.
    pub answerer: Arc<dyn Answerer>,
    /// The language model, if one is configured.
    pub llm: Option<Arc<OpenAi>>,
    /// The tools of the configuration.
    pub tools: Vec<Arc<dyn Tool>>,
    /// What this node does.
    pub roles: Roles,
    /// The server that holds the log, where it is shared with other nodes.
    pub nats: Option<Nats>,
    /// Who feeds the tables, and the index.
    pub feeders: [Feeder; 2],
    /// The servers that the stores are on.
    pub servers: Vec<Server>,
    /// The files that are written through a write-ahead log.
    logged: Vec<PathBuf>,
    /// The folder. The last field: its lock is given back when everything else is closed.
    pub data: DataDir,
}

/// What to do with a search index that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DamagedIndex {
    /// Refuse, and say how to rebuild it.
    Refuse,
    /// Remove it: it is about to be rebuilt.
    Erase,
}

impl Parts {
    /// Opens everything in the locked directory.
    ///
    /// # Errors
    /// When a store cannot be opened; nothing is half-written then.
    pub(crate) async fn open(
        config: &Config,
        data: DataDir,
        damaged: DamagedIndex,
        progress: Arc<dyn Progress>,
    ) -> anyhow::Result<Self> {
        let models = Models::new(model_config(config, data.path()), progress);
        let semantics: Arc<dyn Semantics> = Arc::clone(&models) as _;
        let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
        let mut opening = Opening::new(config, &data, Access::ReadWrite);
        let vault = opening.vault().await?;
        let log = opening.log().await?;
        let snapshots = opening.snapshots().await?;
        let read_model = opening.read_model().await?;
        let blobs = opening.blobs(log.id()).await?;
        let [fed, index] = opening.index(damaged).await?;
        let shared = |is_shared| if is_shared { Feeder::Somewhere } else { Feeder::Here };
        let feeders = [
            shared(matches!(config.read_model, config::Tables::Postgres(_)) && config.is_distributed()),
            shared(matches!(config.search, config::Search::Elasticsearch(_)) && config.is_distributed()),
        ];
        let ((cache, limiter), live) = (opening.cache().await?, opening.live().await?);
        let nats = match &config.log {
            config::Durable::Nats(url) => Some(opening.nats(url).await?),
            _ => None,
        };
        let (mut logged, servers) = (opening.logged, opening.servers);
        let embeddings = SqliteEmbeddingCache::open(&data.cache_db(), EMBEDDING_CACHE_BYTES).await?;
        logged.push(data.cache_db());

        let keyring = Keyring::new(Arc::clone(&vault), Arc::clone(&entropy));
        let journal = OpenedLog::new(Arc::clone(&log), keyring.clone());
        let ingest = ingest(&blobs, &semantics, Arc::new(embeddings))?;
        let rejected = ingest.rejected();
        let steps: Arc<dyn Ingestion> = Arc::new(ingest);
        let search = SearchProjection::open(
            fed,
            Arc::clone(&steps),
            Arc::clone(&semantics),
            journal.clone(),
            Arc::clone(&snapshots),
            feeders[1],
        )
        .await?;
        let endpoint = language_model(&config.llm)?;
        let llm = endpoint.clone().map(|endpoint| endpoint as Arc<dyn Llm>);
        let retriever: Arc<dyn Retriever> = Arc::new(RememberedSearches::new(
            retriever(&index, &models, llm.as_ref().filter(|_| config.llm.rewrite_questions)),
            Arc::clone(&index),
            Arc::clone(&read_model),
            Arc::clone(&cache),
        ));
        let answerer = answerer(llm.as_ref(), &semantics, &index);
        let tools = tools(&config.tools)?;
        Ok(Self {
            log,
            snapshots,
            vault,
            keyring,
            journal,
            read_model,
            index,
            search: Arc::new(search),
            blobs,
            cache,
            limiter,
            rates: config.rates,
            cors_origins: config.cors_origins.clone(),
            live,
            clock: Arc::new(SystemClock),
            entropy,
            models,
            rejected,
            steps,
            retriever,
            answerer,
            llm: endpoint,
            tools,
            roles: config.roles.clone(),
            feeders,
            nats,
            servers,
            logged,
            data,
        })
    }

    /// What an archive is taken into: the stores of the truth alone, so that nothing is made there meanwhile.
    ///
    /// # Errors
    /// When a store cannot be opened.
    pub(crate) async fn archived(config: &Config, data: &DataDir) -> anyhow::Result<Archived> {
        let mut opening = Opening::new(config, data, Access::ReadWrite);
        let (vault, log) = (opening.vault().await?, opening.log().await?);
        let blobs = opening.blobs(log.id()).await?;
        Ok(Archived { log, vault, blobs })
    }

    /// Closes everything; afterwards each store is one file, and a copy of it is whole. Nobody else has any of it any more.
    pub(crate) async fn close(self) {
        self.models.end().await;
        let (logged, _locked) = self.into_files();
        for path in logged {
            if let Err(error) = sqlite::merge_wal(&path).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "a store was not closed completely");
            }
        }
    }

    /// Drops the rest.
    fn into_files(self) -> (Vec<PathBuf>, DataDir) {
        (self.logged, self.data)
    }

    /// The projectors, the tables' first: each feeds one projection.
    pub(crate) fn projectors(&self) -> [(Arc<dyn Projection>, Projector); 2] {
        let tables: Arc<dyn Projection> = Arc::clone(&self.read_model) as _;
        let search = Arc::clone(&self.search);
        [
            (Arc::clone(&tables), Projector::new(tables, self.journal.clone(), SqliteReadModel::wants)),
            (Arc::clone(&search), Projector::new(search, self.journal.clone(), SearchProjection::wants)),
        ]
    }
}

/// The language model, if one is configured.
pub(super) fn language_model(llm: &config::Llm) -> Result<Option<Arc<OpenAi>>, Stop> {
    let Some((base_url, model)) = llm.endpoint() else { return Ok(None) };
    let key = llm.api_key.as_ref().map(|key| key.reveal().to_owned());
    let endpoint = OpenAi::new(base_url, model, key).and_then(|endpoint| match &llm.tokenizer {
        Some(path) => endpoint.tokenizer(path),
        None => Ok(endpoint),
    });
    let endpoint = endpoint
        .map_err(|error| Stop::new(Code::Usage, "the language model's endpoint makes no sense").because(error))?;
    Ok(Some(match llm.context_tokens {
        Some(tokens) => Arc::new(endpoint.context_tokens(tokens.get())),
        None => Arc::new(endpoint),
    }))
}

/// Who answers: the language model, if there is one.
fn answerer(
    llm: Option<&Arc<dyn Llm>>,
    semantics: &Arc<dyn Semantics>,
    index: &Arc<dyn SearchIndex>,
) -> Arc<dyn Answerer> {
    match llm {
        Some(llm) => Arc::new(Generative::new(Arc::clone(llm)).reading(Arc::clone(index))),
        None => Arc::new(Extractive::new(Arc::clone(semantics)).reading(Arc::clone(index))),
    }
}

/// The tools that run elsewhere.
fn tools(tools: &config::Tools) -> Result<Vec<Arc<dyn Tool>>, Stop> {
    let tool = |tool: &config::HttpTool| {
        let unusable = |error| Stop::new(Code::Usage, format!("the tool {} cannot be used", tool.name)).because(error);
        let endpoint = HttpTool::new(tool.url.reveal()).map_err(unusable)?;
        Ok(Arc::new(Remote::new(tool.spec(), Arc::new(endpoint))) as Arc<dyn Tool>)
    };
    tools.iter().map(tool).collect()
}

/// The steps of ingestion.
pub(super) fn ingest(
    blobs: &Arc<dyn Blobs>,
    semantics: &Arc<dyn Semantics>,
    embeddings: Arc<dyn EmbeddingCache>,
) -> anyhow::Result<Ingest> {
    let worker = Worker {
        program: std::env::current_exe().context("the program's own file cannot be found")?,
        args: vec![WORKER.into()],
    };
    Ok(Ingest::new(Arc::clone(blobs), Arc::clone(semantics), embeddings, worker))
}

/// The search. `rewriter` is the language model that may reword questions.
pub(super) fn retriever(
    index: &Arc<dyn SearchIndex>,
    models: &Arc<Models>,
    rewriter: Option<&Arc<dyn Llm>>,
) -> Arc<dyn Retriever> {
    let hybrid = Hybrid::new(Arc::clone(index), Arc::clone(models) as _).reranking(Arc::clone(models) as _);
    Arc::new(match rewriter {
        Some(llm) => hybrid.rewriter(Arc::new(LlmRewriter::new(Arc::clone(llm)))),
        None => hybrid,
    })
}

/// How the models are obtained: kept for all data directories where the user has a cache, else in this one.
pub(super) fn model_config(config: &Config, data: &Path) -> ModelConfig {
    ModelConfig {
        cache_dir: models::default_cache_dir().unwrap_or_else(|| data.join("models")),
        general: config.models.source(),
        domain: config.domain_model.source(),
        reranker: config.reranker.source(),
        threads: 0,
    }
}
