//! The stores, opened as the configuration names them: in the data directory, or on the servers of the distributed system.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use lmao_adapters::{
    blobs::{FileBlobs, S3Blobs, S3Options},
    cache::{LocalFallback, MemoryCache},
    data_dir::DataDir,
    elastic::{self, ElasticIndex, ElasticOptions},
    index::EmbeddedIndex,
    live::BroadcastLive,
    nats::{Nats, NatsBlobs, NatsLive, NatsLog, NatsSnapshots, NatsVault},
    postgres::PostgresReadModel,
    redis::RedisCache,
    sqlite::{Access, MasterKey, SqliteLog, SqliteReadModel, SqliteSnapshots, SqliteVault},
};
use lmao_events::ContentHash;
use lmao_ports::{Blobs, Cache, EventLog, IndexError, Live, RateLimiter, ReadModel, SearchIndex, Snapshots, Vault};
use tokio::sync::OnceCell;

use super::{DamagedIndex, servers::Server};
use crate::{
    config::{self, Config, Durable, Tables, Url},
    exit::{Code, Stop},
};

/// Bytes of the cache in memory.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Opens stores, and remembers what has to be closed.
pub(crate) struct Opening<'a> {
    config: &'a Config,
    data: &'a DataDir,
    access: Access,
    nats: HashMap<String, Nats>,
    master: OnceCell<MasterKey>,
    /// The files that are written through a write-ahead log.
    pub(crate) logged: Vec<PathBuf>,
    /// The servers that stores were opened on.
    pub(crate) servers: Vec<Server>,
}

impl<'a> Opening<'a> {
    pub(crate) fn new(config: &'a Config, data: &'a DataDir, access: Access) -> Self {
        Self { config, data, access, nats: HashMap::new(), master: OnceCell::new(), logged: vec![], servers: vec![] }
    }

    pub(crate) async fn log(&mut self) -> anyhow::Result<Arc<dyn EventLog>> {
        Ok(match &self.config.log {
            Durable::Nats(url) => Arc::new(NatsLog::open(&self.nats(url).await?).await?),
            local => Arc::new(SqliteLog::open(&self.file(local, DataDir::log_db), self.access).await?),
        })
    }

    pub(crate) async fn snapshots(&mut self) -> anyhow::Result<Arc<dyn Snapshots>> {
        Ok(match &self.config.snapshots {
            Durable::Nats(url) => Arc::new(NatsSnapshots::open(&self.nats(url).await?).await?),
            local => Arc::new(SqliteSnapshots::open(&self.file(local, DataDir::snapshots_db)).await?),
        })
    }

    pub(crate) async fn vault(&mut self) -> anyhow::Result<Arc<dyn Vault>> {
        let master = self.master_key().await?.clone();
        Ok(match &self.config.vault {
            Durable::Nats(url) => Arc::new(NatsVault::open(&self.nats(url).await?, &master).await?),
            Durable::Sqlite(path) => Arc::new(SqliteVault::open(self.readable(path)?, &master).await?),
            Durable::InDataDir => {
                let path = self.data.vault_db();
                Arc::new(SqliteVault::open(self.readable(&path)?, &master).await?)
            }
        })
    }

    /// The vault's file: who only reads makes none.
    fn readable<'p>(&self, path: &'p Path) -> Result<&'p Path, Stop> {
        if self.access == Access::ReadOnly && !path.is_file() {
            let text = format!("there is no vault at {}", path.display());
            return Err(Stop::new(Code::Failed, text).hint("restore it from a backup: nothing can be read without it"));
        }
        Ok(path)
    }

    pub(crate) async fn read_model(&mut self) -> anyhow::Result<Arc<dyn ReadModel>> {
        let path = match &self.config.read_model {
            Tables::Postgres(url) => {
                let tables = Arc::new(PostgresReadModel::open(url.reveal()).await?);
                self.servers.push(Server::Postgres(Arc::clone(&tables)));
                return Ok(tables);
            }
            Tables::Sqlite(path) => path.clone(),
            Tables::InDataDir => self.data.read_db(),
        };
        self.logged.push(path.clone());
        Ok(Arc::new(SqliteReadModel::open(&path).await?))
    }

    /// The index as its projection feeds it, and as those see it who search: while it is rebuilt, the one before.
    pub(crate) async fn index(&mut self, damaged: DamagedIndex) -> anyhow::Result<[Arc<dyn SearchIndex>; 2]> {
        let config::Search::Elasticsearch(url) = &self.config.search else {
            let index = embedded(&self.data.search_dir(), damaged).await?;
            return Ok([Arc::clone(&index), index]);
        };
        let options = elasticsearch(url)?;
        let fed = match (ElasticIndex::open(&options, elastic::Role::Project).await, damaged) {
            (Err(IndexError::Damaged(_)), DamagedIndex::Erase) => {
                ElasticIndex::erase(&options).await?;
                ElasticIndex::open(&options, elastic::Role::Project).await?
            }
            (opened, _) => opened?,
        };
        let searched = ElasticIndex::open(&options, elastic::Role::Search).await?;
        self.servers.push(Server::Elasticsearch(searched.clone()));
        Ok([Arc::new(fed), Arc::new(searched)])
    }

    /// Those of the log with this id.
    pub(crate) async fn blobs(&mut self, log: uuid::Uuid) -> anyhow::Result<Arc<dyn Blobs>> {
        let own = self.data.blobs_dir();
        let path = match &self.config.blobs {
            config::Blobs::Nats(url) => {
                let copies = self.copies(&own);
                return Ok(Arc::new(NatsBlobs::open(&self.nats(url).await?, log, &copies).await?));
            }
            config::Blobs::S3(url) => {
                let options: S3Options = url
                    .reveal()
                    .parse()
                    .map_err(|error| Stop::new(Code::Usage, "blobs: the address makes no sense").because(error))?;
                // The credentials of every S3 client, beside our own settings.
                let options = options.with_variables(
                    std::env::vars_os()
                        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
                );
                let bucket = S3Blobs::open(&options, log, &self.copies(&own)).await?;
                self.servers.push(Server::S3(bucket.clone()));
                return Ok(Arc::new(bucket));
            }
            config::Blobs::At(path) => path,
            config::Blobs::InDataDir => &own,
        };
        Ok(Arc::new(match self.access {
            Access::ReadWrite => FileBlobs::open(path, log).await?,
            Access::ReadOnly => FileBlobs::open_to_read(path).await?,
        }))
    }

    /// The folder for copies of this process alone: another that runs on this directory keeps its own.
    fn copies(&self, own: &Path) -> PathBuf {
        match self.access {
            Access::ReadWrite => own.to_owned(),
            Access::ReadOnly => std::env::temp_dir().join(format!("lmao-{}", std::process::id())),
        }
    }

    pub(crate) async fn live(&mut self) -> anyhow::Result<Arc<dyn Live>> {
        Ok(match &self.config.live {
            config::Live::Nats(url) => Arc::new(NatsLive::new(&self.nats(url).await?)),
            config::Live::Memory => Arc::new(BroadcastLive::new()),
        })
    }

    /// What may be forgotten, and how often clients asked.
    pub(crate) async fn cache(&mut self) -> anyhow::Result<(Arc<dyn Cache>, Arc<dyn RateLimiter>)> {
        Ok(match &self.config.cache {
            // Away, it is missed and not needed: this node's own memory goes on with it.
            config::Cache::Redis(url) => {
                let shared = Arc::new(RedisCache::open(url.reveal()).await?);
                self.servers.push(Server::Redis(Arc::clone(&shared)));
                let cache = Arc::new(LocalFallback::new(shared, MemoryCache::new(CACHE_BYTES)));
                (Arc::clone(&cache) as _, cache)
            }
            config::Cache::Memory => {
                let cache = Arc::new(MemoryCache::new(CACHE_BYTES));
                (Arc::clone(&cache) as _, cache)
            }
        })
    }

    /// The connection to a server: one, however many stores are there.
    pub(crate) async fn nats(&mut self, url: &Url) -> anyhow::Result<Nats> {
        if let Some(nats) = self.nats.get(url.reveal()) {
            return Ok(nats.clone());
        }
        let nats = Nats::connect(url.reveal()).await?;
        self.nats.insert(url.reveal().to_owned(), nats.clone());
        self.servers.push(Server::Nats(nats.clone()));
        Ok(nats)
    }

    /// The key that wraps every secret: configured, else the data directory's own, made when there is none.
    async fn master_key(&self) -> anyhow::Result<&MasterKey> {
        self.master
            .get_or_try_init(|| async {
                if let Some(key) = &self.config.master_key {
                    let key: ContentHash = key.reveal().trim().parse().map_err(|_| {
                        Stop::new(Code::Usage, "master_key is no key of 64 hexadecimal digits").hint(MAKE_A_KEY)
                    })?;
                    return Ok(MasterKey::new(key.0));
                }
                let path = self.data.master_key();
                if self.config.is_distributed() {
                    let text = "the vault is shared with other nodes, and master_key is not set";
                    return Err(Stop::new(Code::Usage, text).hint(MAKE_A_KEY).into());
                }
                if self.access == Access::ReadOnly && !path.is_file() {
                    let text = format!("there is no master key at {}", path.display());
                    return Err(Stop::new(Code::Failed, text)
                        .hint("restore it from a backup: nothing can be read without it")
                        .into());
                }
                Ok(MasterKey::load_or_create(&path).await?)
            })
            .await
    }

    /// The file of a store that is on this machine.
    fn file(&mut self, store: &Durable, own: fn(&DataDir) -> PathBuf) -> PathBuf {
        let path = match store {
            Durable::Sqlite(path) => path.clone(),
            Durable::InDataDir | Durable::Nats(_) => own(self.data),
        };
        self.logged.push(path.clone());
        path
    }
}

/// What an address says of an Elasticsearch server.
///
/// # Errors
/// [`Code::Usage`] when it makes no sense.
pub(crate) fn elasticsearch(url: &Url) -> Result<ElasticOptions, Stop> {
    url.reveal().parse().map_err(|error| Stop::new(Code::Usage, "search: the address makes no sense").because(error))
}

const MAKE_A_KEY: &str = "set LMAO_MASTER_KEY to the same 64 hexadecimal digits on every node; `openssl rand -hex 32` makes \
                          some. Without it nothing can be read: keep a copy";

async fn embedded(dir: &Path, damaged: DamagedIndex) -> anyhow::Result<Arc<dyn SearchIndex>> {
    match (EmbeddedIndex::open(dir).await, damaged) {
        (Ok(index), _) => Ok(Arc::new(index)),
        (Err(IndexError::Damaged(_)), DamagedIndex::Erase) => {
            EmbeddedIndex::erase(dir).await?;
            Ok(Arc::new(EmbeddedIndex::open(dir).await?))
        }
        (Err(error), _) => Err(error.into()),
    }
}
