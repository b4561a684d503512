//! Models: one that embeds everything, one that embeds code, one that reranks; each obtained on first use, loaded beside the
//! running server, and run off the async threads.
//!
//! [`Models`] is the `Semantics` port and the `Reranking` port. Each model lives in a `slot` with a thread of its own, and
//! one of them computes at a time. What is downloaded is in `sources`, how in `routes` and `hub`, where it is kept in
//! `cache`, a directory that the user names in `directory`; `embedder` and `reranker` run it. Knows nothing of configuration
//! files or progress bars.

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use lmao_ports::{Embedder, Reranker, RerankerState, Reranking, SemanticState, Semantics, Space};

use self::{
    embedder::Embedding,
    obtain::Setting,
    queue::Turn,
    reranker::Scoring,
    slot::{Slot, State},
    sources::Route,
};

mod cache;
mod directory;
mod embedder;
mod hub;
mod obtain;
mod queue;
mod reranker;
mod routes;
mod runtime;
mod slot;
mod sources;
mod tokens;

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The space of all passages.
    General,
    /// The space of code.
    Domain,
    /// Reading question and passage together.
    Reranker,
}

impl Role {
    /// For people, behind an article.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::General => "embedding model",
            Self::Domain => "domain model",
            Self::Reranker => "reranker",
        }
    }

    /// The key of the configuration.
    const fn key(self) -> &'static str {
        match self {
            Self::General => "models",
            Self::Domain => "domain_model",
            Self::Reranker => "reranker",
        }
    }

    const fn thread(self) -> &'static str {
        match self {
            Self::General => "lmao-models",
            Self::Domain => "lmao-domain",
            Self::Reranker => "lmao-reranker",
        }
    }

    /// What somebody whose machine reaches nothing can do.
    fn what_to_do(self) -> String {
        let gain = match self {
            Self::General => "semantic search",
            Self::Domain => "a model for code",
            Self::Reranker => "reranking",
        };
        format!(
            "To have {gain}, start again with access to the internet, or set `{}` to `dir:` and a directory that holds \
             model.onnx, tokenizer.json, manifest.json and the library of ONNX Runtime",
            self.key()
        )
    }
}

/// Where a model comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ModelSource {
    /// The one that is suggested for its role. The general one: from the cache, else the model hub, the package managers'
    /// clients, or the registries, whichever works first. The others: from the cache, else the model hub.
    #[default]
    Auto,
    /// Another one from the cache, else the model hub, by its name there or the name's last part: see [`hub_names`].
    Hub(String),
    /// A directory with `model.onnx`, `tokenizer.json`, `manifest.json` and, unless the cache has it or it can be obtained,
    /// the library of ONNX Runtime.
    Dir(PathBuf),
    /// None.
    Off,
}

/// How the models are obtained and run.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Where downloads are kept, for all data directories: see [`default_cache_dir`].
    pub cache_dir: PathBuf,
    /// The general model. Without one there is no domain model either: it works beside a general one.
    pub general: ModelSource,
    /// The domain model, for code.
    pub domain: ModelSource,
    /// The cross-encoder.
    pub reranker: ModelSource,
    /// Threads that a model computes on, one model at a time; 0 for half of the cores, at least 1.
    pub threads: usize,
}

impl ModelConfig {
    /// A general model and nothing else.
    #[must_use]
    pub const fn general(cache_dir: PathBuf, general: ModelSource) -> Self {
        Self { cache_dir, general, domain: ModelSource::Off, reranker: ModelSource::Off, threads: 0 }
    }
}

/// Somebody who wants to see how far obtaining a model is: a progress bar, or nobody (`()`).
pub trait Progress: Send + Sync {
    /// `done` bytes of `what` are here, of `total` if that is known. Called often, from one thread for each `what`.
    fn update(&self, what: &str, done: u64, total: Option<u64>);
}

impl Progress for () {
    fn update(&self, _what: &str, _done: u64, _total: Option<u64>) {}
}

/// Where downloads are kept unless configured: `LMAO_MODEL_CACHE`, else `lmao/models` in the user's cache directory
/// (`XDG_CACHE_HOME`, else `HOME/.cache`); `None` where none of these is set.
#[must_use]
pub fn default_cache_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("LMAO_MODEL_CACHE").or_else(|| {
        let caches = variable("XDG_CACHE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| variable("HOME").or_else(|| variable("LOCALAPPDATA")).map(|home| home.join(".cache")));
        caches.map(|path| path.join("lmao").join("models"))
    })
}

/// The names that [`ModelSource::Hub`] takes in this role: how to pool token vectors has to be known of an embedding model.
/// A reranker may also be any other `owner/name` of the hub that has `onnx/model.onnx` and `tokenizer.json`.
#[must_use]
pub fn hub_names(role: Role) -> Vec<&'static str> {
    sources::hub_names(role)
}

/// Whether [`ModelSource::Hub`] of this name makes sense in this role.
#[must_use]
pub fn is_hub_name(role: Role, name: &str) -> bool {
    sources::hub_model(role, name).is_some()
}

/// The models, each of which may come late or never.
pub struct Models {
    general: Slot<Embedding>,
    domain: Slot<Embedding>,
    reranker: Slot<Scoring>,
    wanted: [(Role, bool); 3],
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models")
            .field("general", &self.general.state())
            .field("domain", &self.domain.state())
            .field("reranker", &self.reranker.state())
            .finish()
    }
}

impl Models {
    /// Models that are obtained and loaded when they are first waited for, or by [`Models::begin`].
    #[must_use]
    pub fn new(config: ModelConfig, progress: Arc<dyn Progress>) -> Arc<Self> {
        Self::by(config, progress, sources::public_routes())
    }

    #[expect(clippy::needless_pass_by_value, reason = "each caller makes them for this")]
    fn by(config: ModelConfig, progress: Arc<dyn Progress>, routes: Vec<Route>) -> Arc<Self> {
        let ModelConfig { cache_dir, general, domain, reranker, threads } = config;
        let domain = if general == ModelSource::Off { ModelSource::Off } else { domain };
        let turn = Arc::<Turn>::default();
        let wanted = [(Role::General, &general), (Role::Domain, &domain), (Role::Reranker, &reranker)];
        let wanted = wanted.map(|(role, source)| (role, *source != ModelSource::Off));
        let setting = |role, source| {
            let (cache_dir, routes) = (cache_dir.clone(), routes.clone());
            Setting { role, source, cache_dir, routes, threads }
        };
        Arc::new(Self {
            general: Slot::new(setting(Role::General, general), Arc::clone(&turn), Arc::clone(&progress)),
            domain: Slot::new(setting(Role::Domain, domain), Arc::clone(&turn), Arc::clone(&progress)),
            reranker: Slot::new(setting(Role::Reranker, reranker), turn, progress),
            wanted,
        })
    }

    /// Begins to obtain and load what is configured, unless that has begun; returns at once.
    ///
    /// Never fails: what goes wrong is the reason of [`SemanticState::Off`].
    pub fn begin(&self) {
        self.general.begin();
        self.domain.begin();
        self.reranker.begin();
    }

    /// Whether a model of this role is configured, be it to be had or not.
    #[must_use]
    pub fn is_wanted(&self, role: Role) -> bool {
        self.wanted.contains(&(role, true))
    }

    /// Waits until every model that is configured is there, or is known not to be.
    pub async fn all_settled(&self) {
        tokio::join!(self.general.settled(), self.domain.settled(), self.reranker.settled());
    }

    /// The state of the reranker, waiting while it is loading.
    pub async fn reranker_settled(&self) -> RerankerState {
        self.reranker.settled().await.into()
    }

    /// Ends what is being obtained, loaded or computed, and waits for it: for one text or the loading of one file of each
    /// model at most. Who still asks for a vector or a score gets an error.
    pub async fn end(&self) {
        tokio::join!(self.general.end(), self.domain.end(), self.reranker.end());
    }

    const fn of(&self, space: Space) -> &Slot<Embedding> {
        match space {
            Space::General => &self.general,
            Space::Domain => &self.domain,
        }
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        // All are told before any is waited for.
        let threads = [self.general.stopped(), self.domain.stopped(), self.reranker.stopped()];
        for thread in threads.into_iter().flatten() {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Semantics for Models {
    fn state(&self, space: Space) -> SemanticState {
        self.of(space).state().into()
    }

    async fn settled(&self, space: Space) -> SemanticState {
        self.of(space).settled().await.into()
    }
}

impl Reranking for Models {
    fn state(&self) -> RerankerState {
        self.reranker.state().into()
    }
}

impl From<State<Arc<dyn Embedder>>> for SemanticState {
    fn from(state: State<Arc<dyn Embedder>>) -> Self {
        match state {
            State::Loading(what) => Self::Loading(what),
            State::Ready(embedder) => Self::Ready(embedder),
            State::Off(reason) => Self::Off(reason),
        }
    }
}

impl From<State<Arc<dyn Reranker>>> for RerankerState {
    fn from(state: State<Arc<dyn Reranker>>) -> Self {
        match state {
            State::Loading(what) => Self::Loading(what),
            State::Ready(reranker) => Self::Ready(reranker),
            State::Off(reason) => Self::Off(reason),
        }
    }
}

#[cfg(test)]
mod tests;
