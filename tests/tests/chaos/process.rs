//! A process of the system and the one who watches over it, as an orchestrator would: it is started, killed, paused and asked
//! to end as told, and started again whenever it is gone.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    net::TcpStream,
    process::Child,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::Kind;

/// How often a process is asked whether it is there.
const LOOK: Duration = Duration::from_millis(50);
/// Before a process that ended by itself is started again.
const AGAIN: Duration = Duration::from_millis(500);
/// A process is there within this time, however often it has to be started.
const START_WITHIN: Duration = Duration::from_secs(90);
/// The same of those that take long.
const LONG_START_WITHIN: Duration = Duration::from_secs(300);
/// A process that is asked to end has ended within this time.
const END_WITHIN: Duration = Duration::from_secs(45);
/// How much of what a process printed is shown, in bytes.
const LAST_WORDS: usize = 2000;

/// What is done to a process.
#[derive(Debug, Clone, Copy)]
pub(super) enum Blow {
    /// `kill -9`; started again so much later.
    Kill(Duration),
    /// SIGSTOP, and SIGCONT so much later.
    Pause(Duration),
    /// SIGTERM; started again once it has ended.
    Restart,
}

/// What to start, and how to tell that it is there.
pub(super) struct Program {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The command, the same for each start.
    pub(super) command: Box<dyn Fn() -> Command + Send + Sync>,
    /// Answers 200 once it is there; an address without a scheme has to be connected to.
    pub(super) probe: String,
    /// Where what it prints goes.
    pub(super) output: PathBuf,
}

/// A process that is watched over. It ends, by SIGTERM, with [`Process::end`].
pub(super) struct Process {
    pub(super) name: String,
    pub(super) kind: Kind,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Blow>,
    watching: JoinHandle<()>,
}

/// What its watcher tells.
#[derive(Debug)]
struct Shared {
    is_up: watch::Sender<bool>,
    /// When it was disturbed, and until when.
    disturbed: Mutex<Vec<(Instant, Option<Instant>)>>,
    /// Starts that came to nothing, since something it needs was away.
    failed_starts: Mutex<u32>,
    /// What no process may do.
    breaches: Mutex<Vec<String>>,
}

impl Process {
    /// Starts it and whoever watches over it; does not wait.
    pub(super) fn start(program: Program) -> Self {
        let shared = Arc::new(Shared {
            is_up: watch::Sender::new(false),
            disturbed: Mutex::new(vec![(Instant::now(), None)]),
            failed_starts: Mutex::default(),
            breaches: Mutex::default(),
        });
        let (orders, taken) = mpsc::channel(1);
        let (name, kind) = (program.name.clone(), program.kind);
        let watching = tokio::spawn(watch_over(program, taken, Arc::clone(&shared)));
        Self { name, kind, shared, orders, watching }
    }

    /// Whether it runs undisturbed.
    pub(super) fn is_up(&self) -> bool {
        *self.shared.is_up.borrow()
    }

    /// Waits until it runs undisturbed.
    pub(super) async fn up(&self) {
        let mut is_up = self.shared.is_up.subscribe();
        let within = start_within(self.kind);
        let up = timeout(within, is_up.wait_for(|is_up| *is_up)).await;
        assert!(up.is_ok(), "{} is not there after {within:?}: {:?}", self.name, self.breaches());
    }

    /// When it was disturbed, also from now on.
    pub(super) fn history(&self) -> History {
        History(Arc::clone(&self.shared))
    }

    /// Does this to it, if it is up.
    pub(super) fn strike(&self, blow: Blow) -> bool {
        self.is_up() && self.orders.try_send(blow).is_ok()
    }

    /// Starts that came to nothing.
    pub(super) fn failed_starts(&self) -> u32 {
        *lock(&self.shared.failed_starts)
    }

    /// What it did that no process may do.
    pub(super) fn breaches(&self) -> Vec<String> {
        lock(&self.shared.breaches).clone()
    }

    /// Asks it to end, waits until it has, and returns what it did that no process may do.
    pub(super) async fn end(self) -> Vec<String> {
        drop(self.orders);
        self.watching.await.expect("whoever watches does not panic");
        lock(&self.shared.breaches).clone()
    }
}

/// When a process was disturbed.
pub(super) struct History(Arc<Shared>);

impl History {
    /// Whether it was at any time since then.
    pub(super) fn was_disturbed(&self, since: Instant) -> bool {
        lock(&self.0.disturbed).iter().any(|(_, until)| until.is_none_or(|until| until >= since))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

impl Shared {
    fn up(&self) {
        if let Some((_, until @ None)) = lock(&self.disturbed).last_mut() {
            *until = Some(Instant::now());
        }
        self.is_up.send_replace(true);
    }

    fn down(&self) {
        self.is_up.send_replace(false);
        lock(&self.disturbed).push((Instant::now(), None));
    }

    fn breach(&self, text: String) {
        lock(&self.breaches).push(text);
    }
}

async fn watch_over(program: Program, mut orders: mpsc::Receiver<Blow>, shared: Arc<Shared>) {
    loop {
        let mut child = program.begin(&shared).await;
        shared.up();
        loop {
            let blow = tokio::select! {
                blow = orders.recv() => blow,
                ended = child.process.wait() => {
                    shared.down();
                    shared.breach(format!("{} ended by itself: {ended:?}\n{}", program.name, program.last_words()));
                    break;
                }
            };
            shared.down();
            match blow {
                Some(Blow::Kill(down)) => {
                    child.kill().await;
                    sleep(down).await;
                    break;
                }
                Some(Blow::Pause(pause)) => {
                    child.signal(Signal::STOP);
                    sleep(pause).await;
                    child.signal(Signal::CONT);
                    if program.kind == Kind::Nats {
                        // Until it has what the others have the next one may not be disturbed.
                        program.there(&mut child).await;
                    }
                    shared.up();
                }
                Some(Blow::Restart) | None => {
                    program.terminate(&mut child, &shared).await;
                    if blow.is_none() {
                        return;
                    }
                    break;
                }
            }
        }
    }
}

/// How long a start may take.
fn start_within(kind: Kind) -> Duration {
    if kind == Kind::Elasticsearch { LONG_START_WITHIN } else { START_WITHIN }
}

/// A process, with those that it starts itself where it does: then all of them are one group.
struct Running {
    process: Child,
    group: Option<Pid>,
}

impl Running {
    fn signal(&self, signal: Signal) {
        match self.group {
            Some(group) => kill_process_group(group, signal).expect("its own group can be signalled"),
            None => {
                let id =
                    self.process.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it was not waited for");
                kill_process(id, signal).expect("its own child can be signalled");
            }
        }
    }

    async fn kill(&mut self) {
        self.end_group();
        self.process.kill().await.expect("its own child can be killed");
    }

    /// Those that it has started go with it.
    fn end_group(&mut self) {
        if let Some(group) = self.group.take() {
            // Gone already, if it ended in order.
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end_group();
    }
}

impl Program {
    /// A process that is there, however often it has to be started: what it needs may be away.
    async fn begin(&self, shared: &Shared) -> Running {
        let begun = Instant::now();
        loop {
            let output =
                OpenOptions::new().create(true).append(true).open(&self.output).expect("its output has a file");
            let mut command = tokio::process::Command::from((self.command)());
            command.stdin(Stdio::null()).stdout(output.try_clone().expect("files can be shared")).stderr(output);
            let is_group = matches!(self.kind, Kind::Postgres | Kind::Elasticsearch);
            if is_group {
                command.process_group(0);
            }
            let process = command.kill_on_drop(true).spawn().expect("it can be started");
            let group = process.id().filter(|_| is_group).and_then(|id| Pid::from_raw(id.cast_signed()));
            let mut child = Running { process, group };
            if self.there(&mut child).await {
                return child;
            }
            *lock(&shared.failed_starts) += 1;
            if begun.elapsed() > start_within(self.kind) {
                shared.breach(format!("{} cannot be started:\n{}", self.name, self.last_words()));
            }
            sleep(AGAIN).await;
        }
    }

    /// Waits until it is there; `false` when it ends before, or is killed since it takes too long.
    async fn there(&self, child: &mut Running) -> bool {
        let (begun, http) = (Instant::now(), crate::support::http());
        loop {
            if answers(&http, &self.probe).await {
                return true;
            }
            if child.process.try_wait().expect("children can be waited for").is_some() {
                return false;
            }
            if begun.elapsed() > start_within(self.kind) {
                child.kill().await;
                return false;
            }
            sleep(LOOK).await;
        }
    }

    async fn terminate(&self, child: &mut Running, shared: &Shared) {
        // Postgres waits for its clients at the usual one.
        child.signal(if self.kind == Kind::Postgres { Signal::INT } else { Signal::TERM });
        match timeout(END_WITHIN, child.process.wait()).await {
            // NATS says 1 when it was asked to end, Java 143.
            Ok(Ok(status)) if status.success() || matches!(self.kind, Kind::Nats | Kind::Elasticsearch) => {}
            Ok(ended) => shared.breach(format!("{} ended badly: {ended:?}\n{}", self.name, self.last_words())),
            Err(_) => {
                shared.breach(format!("{} does not end when it is asked to:\n{}", self.name, self.last_words()));
                child.kill().await;
            }
        }
    }

    fn last_words(&self) -> String {
        last_words(&self.output)
    }
}

fn last_words(output: &Path) -> String {
    let text = std::fs::read(output).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LAST_WORDS)..]).into_owned()
}

async fn answers(http: &reqwest::Client, probe: &str) -> bool {
    let asked = async {
        if !probe.starts_with("http") {
            return TcpStream::connect(probe).await.is_ok();
        }
        let asked = http.get(probe).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    };
    timeout(Duration::from_secs(2), asked).await.unwrap_or(false)
}
