//! One model that may come late or never: a thread that obtains it, loads it and then runs it.
//!
//! The thread is over when [`Slot::end`] is, or when the slot is dropped: ONNX Runtime must not be at work while the process
//! ends and takes its statics away.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    ModelSource, Progress, Role,
    obtain::{self, Setting},
    queue::{Queue, Turn},
};

/// Obtaining and loading may take this long altogether.
const LOAD_LIMIT: Duration = Duration::from_secs(45 * 60);

/// Whether a model is there.
#[derive(Debug, Clone)]
pub(super) enum State<H> {
    /// It is being obtained or loaded: what is happening, for people.
    Loading(String),
    /// It is there.
    Ready(H),
    /// There is none: why, and what to do.
    Off(String),
}

impl<H> State<H> {
    pub(super) const fn is_loading(&self) -> bool {
        matches!(self, Self::Loading(_))
    }
}

/// A model at work, on its own thread.
pub(super) trait Work: Send {
    /// Works until its queue is closed.
    fn run(&mut self);
}

/// What a slot can hold: how files become a model at work, and the way to it.
pub(super) trait Kind: 'static {
    /// The way to it from other threads.
    type Handle: Clone + Send + Sync + 'static;
    /// What it is given to do.
    type Job: Send + 'static;

    /// Loads it and tries it. Blocks. `Err` is the reason for people.
    fn start(
        files: obtain::Files,
        runs: Runs,
        queue: Arc<Queue<Self::Job>>,
    ) -> Result<(Self::Handle, Box<dyn Work>), String>;
}

/// How a model is run.
pub(super) struct Runs {
    pub(super) environment: ort::environment::Environment,
    pub(super) threads: usize,
    pub(super) turn: Arc<Turn>,
}

pub(super) struct Slot<K: Kind> {
    pub(super) state: watch::Receiver<State<K::Handle>>,
    pub(super) queue: Arc<Queue<K::Job>>,
    stop: CancellationToken,
    /// What the thread is to do, until it is begun.
    task: Mutex<Option<Task<K>>>,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
}

/// What it takes to get the model.
struct Task<K: Kind> {
    setting: Setting,
    turn: Arc<Turn>,
    outcome: Outcome<K::Handle>,
    report: Report,
}

impl<K: Kind> Slot<K> {
    /// A model that is obtained and loaded when it is first waited for, or by [`Slot::begin`].
    pub(super) fn new(setting: Setting, turn: Arc<Turn>, progress: Arc<dyn Progress>) -> Self {
        let name = setting.role.name();
        let first = match setting.source {
            ModelSource::Off => State::Off(off(setting.role)),
            _ => State::Loading(format!("the {name} is not loaded yet")),
        };
        let is_wanted = first.is_loading();
        let (sender, state) = watch::channel(first);
        let told = sender.clone();
        let say = move |what: &str| {
            told.send_if_modified(|state| {
                let goes_on = state.is_loading();
                if goes_on {
                    *state = State::Loading(what.to_owned());
                }
                goes_on
            });
        };
        let report = Report { say: Box::new(say), progress };
        let task = is_wanted.then(|| Task { turn, outcome: Outcome { sender, name }, setting, report });
        Self {
            state,
            queue: Arc::default(),
            stop: CancellationToken::new(),
            task: Mutex::new(task),
            thread: Mutex::default(),
        }
    }

    /// Begins to obtain and load the model, unless that has begun; returns at once.
    ///
    /// Never fails: what goes wrong is the reason of [`State::Off`].
    pub(super) fn begin(&self) {
        // Held until the thread is known: who ends it meanwhile waits for it.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let (queue, stop) = (Arc::clone(&self.queue), self.stop.clone());
        task.report.say(&format!("the {} is being loaded", task.outcome.name));
        let name = task.setting.role.thread().to_owned();
        match thread::Builder::new().name(name).spawn(move || task.run(queue, &stop)) {
            Ok(begun) => *thread = Some(begun),
            // The closure is gone, and with it the outcome: it has said that loading ended.
            Err(error) => tracing::error!(%error, "no thread to load a model on"),
        }
    }

    pub(super) fn state(&self) -> State<K::Handle> {
        self.state.borrow().clone()
    }

    /// Begins, and waits until it is settled.
    pub(super) async fn settled(&self) -> State<K::Handle> {
        self.begin();
        let mut state = self.state.clone();
        // An error means that the loader is gone, which leaves its last word standing.
        let _ = state.wait_for(|state| !state.is_loading()).await;
        self.state()
    }

    /// Ends what is being obtained, loaded or computed, and waits for it: for one text or the loading of one file at most.
    pub(super) async fn end(&self) {
        if let Some(thread) = self.stopped() {
            // A panic of it was told by its outcome.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
    }

    /// Tells the thread to end.
    pub(super) fn stopped(&self) -> Option<JoinHandle<()>> {
        self.stop.cancel();
        self.queue.close();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // Never begun: it never will be.
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.take()
    }
}

impl<K: Kind> Drop for Slot<K> {
    fn drop(&mut self) {
        if let Some(thread) = self.stopped() {
            let _ = thread.join();
        }
    }
}

impl<K: Kind> Task<K> {
    fn run(self, queue: Arc<Queue<K::Job>>, stop: &CancellationToken) {
        let Self { setting, turn, outcome, report } = self;
        let loaded = run_load(&setting, &report, stop).and_then(|(files, environment)| {
            let folder = files.folder.display().to_string();
            report.say(&format!("loading the model {}", files.manifest.id));
            let runs = Runs { environment, threads: threads(setting.threads), turn };
            K::start(files, runs, queue).map_err(|error| format!("the model in {folder} cannot be used: {error}"))
        });
        match loaded {
            Ok((handle, mut work)) => {
                outcome.sender.send_replace(State::Ready(handle));
                tracing::info!(role = setting.role.name(), "a model is in use");
                drop(outcome);
                work.run();
            }
            Err(reason) => {
                tracing::warn!(reason, "there is no {}", setting.role.name());
                outcome.sender.send_replace(State::Off(reason));
            }
        }
    }
}

/// Where it is said how loading ended; a loader that panics is an outcome too.
struct Outcome<H> {
    sender: watch::Sender<State<H>>,
    name: &'static str,
}

impl<H> Drop for Outcome<H> {
    fn drop(&mut self) {
        self.sender.send_if_modified(|state| {
            let unfinished = state.is_loading();
            if unfinished {
                *state = State::Off(format!("loading the {} broke off; see the log", self.name));
            }
            unfinished
        });
    }
}

/// Where the loader says how far it is.
pub(super) struct Report {
    say: Box<dyn Fn(&str) + Send + Sync>,
    progress: Arc<dyn Progress>,
}

impl Report {
    #[cfg(test)]
    pub(super) fn to(progress: Arc<dyn Progress>) -> Self {
        Self { say: Box::new(|_| {}), progress }
    }

    /// Says what is going on.
    pub(super) fn say(&self, what: &str) {
        (self.say)(what);
    }

    /// Says how many bytes of something are here.
    pub(super) fn update(&self, what: &str, done: u64, total: Option<u64>) {
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let of = total.map(|total| format!(" of {}", megabytes(total))).unwrap_or_default();
        self.say(&format!("obtaining {what}: {}{of} MB", megabytes(done)));
        self.progress.update(what, done, total);
    }
}

/// Obtains on this thread, which may block; `Err` is the reason for people.
fn run_load(
    setting: &Setting,
    report: &Report,
    stop: &CancellationToken,
) -> Result<(obtain::Files, ort::environment::Environment), String> {
    let name = setting.role.name();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the {name} cannot be loaded: {error}"))?;
    let loaded = runtime.block_on(async {
        tokio::select! {
            outcome = tokio::time::timeout(LOAD_LIMIT, obtain::files(setting, report)) => match outcome {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("the {name} was not there after {LOAD_LIMIT:?}. {}", setting.role.what_to_do())),
            },
            () = stop.cancelled() => Err("the server is ending".to_owned()),
        }
    });
    // A name that is still being looked up is waited for by nobody.
    runtime.shutdown_background();
    loaded
}

fn off(role: Role) -> String {
    format!("it is turned off in the configuration (`{} = \"off\"`)", role.key())
}

fn threads(configured: usize) -> usize {
    match configured {
        0 => (thread::available_parallelism().map_or(1, usize::from) / 2).max(1),
        n => n,
    }
}

#[cfg(test)]
impl<K: Kind> Slot<K> {
    /// Whether its thread was begun and not taken.
    pub(super) fn has_thread(&self) -> bool {
        self.thread.lock().unwrap().is_some()
    }
}
