//! The directory that servers live in, and the end of all of them.
//!
//! A small shell process, the reaper, is told of every process group and container before it matters. When its input
//! ends (this process stops it, is interrupted, or is killed at any line) it ends them all and removes the directory. So
//! there is one way to stop, and no death of this process leaves anything behind.

use std::{
    fs,
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

/// Reads `group SIGNAL ID`, `container NAME` and `leave`; at the end of its input it ends what it was told of. A group has
/// ten seconds to obey before it is killed.
const REAPER: &str = r#"
groups= containers=
while read -r word one two; do
    case $word in
        group) groups="$groups $one:$two" ;;
        container) containers="$containers $one" ;;
        leave) exit 0 ;;
    esac
done
for group in $groups; do kill -s "${group%%:*}" -- "-${group#*:}"; done
tries=0
for group in $groups; do
    while kill -s 0 -- "-${group#*:}" && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
    kill -s KILL -- "-${group#*:}"
done
[ -z "$containers" ] || docker rm --force --volumes $containers
rm -rf -- "$1"
"#;
/// How much of a log is shown, in bytes.
const TAIL: u64 = 4_000;

/// What asks a server to stop at once, in order.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Stop {
    /// PostgreSQL waits for its clients at the usual one.
    Interrupt,
    Terminate,
}

/// Something that was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Started {
    /// A process group, the signal that ends it, and when its leader was born (in the kernel's count).
    Group {
        id: u32,
        stop: Stop,
        born: Option<String>,
    },
    Container {
        name: String,
    },
}

impl Started {
    /// Whether it is still what was started: ids are used again.
    pub(super) fn stands(&self) -> bool {
        match self {
            Self::Group { id, born, .. } => born.is_none() || birth(*id) == *born,
            Self::Container { .. } => true,
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Group { id, stop: Stop::Interrupt, .. } => format!("group INT {id}\n"),
            Self::Group { id, stop: Stop::Terminate, .. } => format!("group TERM {id}\n"),
            Self::Container { name } => format!("container {name}\n"),
        }
    }
}

/// When a process was born: the 22nd field of `/proc/ID/stat`, counted behind its name, which may hold anything.
fn birth(id: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

/// The directory and what was started in it. Dropping it ends and removes everything.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    reaper: Mutex<Option<(Child, ChildStdin)>>,
    started: Mutex<Vec<Started>>,
    children: Mutex<Vec<Child>>,
}

impl Scratch {
    /// An empty directory that other users may pass through: some servers refuse to run as root.
    pub(super) fn new() -> Result<Self> {
        let parent = super::packages::temporary()?;
        // A process of the same number may have left one, in another container for example.
        for n in 0..100 {
            let path = parent.join(format!("lmao-servers-{}-{n}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Self::around(path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
            }
        }
        bail!("{} is full of directories that earlier runs left", parent.display())
    }

    /// A directory of before, with what was started in it.
    pub(super) fn again(path: PathBuf, started: &[Started]) -> Result<Self> {
        let scratch = Self::around(path)?;
        started.iter().filter(|started| started.stands()).try_for_each(|started| scratch.remember(started.clone()))?;
        Ok(scratch)
    }

    fn around(path: PathBuf) -> Result<Self> {
        let mut reaper = Command::new("sh")
            .args(["-c", REAPER, "reaper"])
            .arg(&path)
            .process_group(0) // out of reach of the terminal's interrupt
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("sh could not be started")?;
        let input = reaper.stdin.take().context("sh has no input")?;
        let reaper = Mutex::new(Some((reaper, input)));
        Ok(Self { path, reaper, started: Mutex::default(), children: Mutex::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends `started` with everything else.
    pub(super) fn remember(&self, started: Started) -> Result<()> {
        let mut reaper = lock(&self.reaper);
        let (_, input) = reaper.as_mut().ok_or_else(|| anyhow!("the scratch directory is gone"))?;
        input.write_all(started.line().as_bytes()).context("the process that stops servers is gone")?;
        lock(&self.started).push(started);
        Ok(())
    }

    /// Starts a server in a process group of its own; its output goes to `NAME.log`.
    pub(super) fn launch(&self, name: &str, command: &mut Command, stop: Stop) -> Result<Process<'_>> {
        let log = self.path.join(format!("{name}.log"));
        let output = fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let errors = output.try_clone().context("a file cannot be opened twice")?;
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("{command:?} could not be started"))?;
        let id = child.id();
        if let Err(error) = self.remember(Started::Group { id, stop, born: birth(id) }) {
            child.kill().ok();
            return Err(error);
        }
        lock(&self.children).push(child);
        Ok(Process { scratch: self, id, log })
    }

    /// What was started so far.
    pub(super) fn started(&self) -> Vec<Started> {
        lock(&self.started).clone()
    }

    /// Leaves everything running.
    pub(super) fn leave(self) -> Result<()> {
        if let Some((mut reaper, mut input)) = lock(&self.reaper).take() {
            input.write_all(b"leave\n").context("the process that stops servers is gone")?;
            drop(input);
            reaper.wait().context("the process that stops servers does not end")?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some((mut reaper, input)) = lock(&self.reaper).take() {
            drop(input);
            // A group lasts until its leader was waited for.
            lock(&self.children).iter_mut().for_each(|child| drop(child.wait()));
            reaper.wait().ok();
        }
    }
}

/// A server that was started here.
#[derive(Debug)]
pub(super) struct Process<'a> {
    scratch: &'a Scratch,
    id: u32,
    log: PathBuf,
}

impl Process<'_> {
    /// How it ended, if it has.
    pub(super) fn ended(&self) -> Result<Option<ExitStatus>> {
        let mut children = lock(&self.scratch.children);
        let child = children.iter_mut().find(|child| child.id() == self.id).context("it was never started")?;
        child.try_wait().context("its state is not known")
    }

    /// The last lines of its output.
    pub(super) fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|error| format!("({} cannot be read: {error})", self.log.display()))
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = vec![];
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A port that was free a moment ago. Whoever else takes it makes the server fail, with its log.
pub(super) fn free_port() -> Result<u16> {
    let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    free.map(|address| address.port()).context("there is no free port")
}

/// Nothing here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
