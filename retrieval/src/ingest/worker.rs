//! Extraction, and parsing of programs, in a process of its own, since parsers may loop, crash or eat all memory on hostile
//! files. The child limits itself before it reads anything; the parent limits time and output, and says what happened.

use std::{
    ffi::OsString,
    io::{Read, Write},
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::Duration,
};

use bytes::Bytes;
use lmao_events::{BlobRef, Failure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    sync::Semaphore,
};

use super::{
    chunk::{self, Program, Syntax, Syntaxes},
    detect::Format,
    extract::{self, Extraction, Source},
    store::{internal, off_thread},
};

/// Children at once.
const CHILDREN: usize = 2;
/// Address space of a child.
const MEMORY_BYTES: u64 = 2 << 30;
/// CPU time of a child.
const CPU_SECONDS: u64 = 120;
/// Stack of the extracting thread; parsers of nested formats recurse.
const STACK_BYTES: usize = 64 << 20;
/// The variable by which a child knows its parent.
const PARENT: &str = "LMAO_EXTRACTION_PARENT";
/// How often a child looks whether it has a parent.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of a request at most: a path, a name and a hash, or the programs of a document.
const REQUEST_BYTES: u64 = 64 << 20;
/// Bytes of the child's complaints that are kept.
const STDERR_BYTES: u64 = 4096;

/// How to start the extraction child: this program with a hidden subcommand that calls [`worker_main`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// What a child may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    time: Duration,
    output: u64,
}

const LIMITS: Limits = Limits { time: Duration::from_secs(180), output: 256 << 20 };

/// What the child is to do.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Answered by the true format and what was extracted, or a failure.
    Extract(FileRequest),
    /// Answered by what parsing tells of each.
    Syntax(Vec<Program>),
}

/// A file to be extracted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileRequest {
    pub(super) path: PathBuf,
    pub(super) content: BlobRef,
    pub(super) filename: String,
    pub(super) format: Format,
}

/// The children, a bounded number of them.
#[derive(Debug)]
pub(super) struct Pool {
    worker: Worker,
    permits: Semaphore,
}

impl Pool {
    pub(super) fn new(worker: Worker) -> Self {
        Self { worker, permits: Semaphore::new(CHILDREN) }
    }

    /// Extracts in a child; waits while too many run. Dropping the future kills the child.
    pub(super) async fn extract(&self, request: FileRequest) -> Result<(Format, Extraction), Failure> {
        let output = self.ask(&Request::Extract(request)).await?;
        off_thread(move || {
            let answer: Result<(Format, Extraction), Failure> =
                rmp_serde::from_slice(&output).map_err(|error| unreadable(&error))?;
            let (format, extraction) = answer?;
            // The child may have been taken over by the file it read: nothing in its answer is believed unchecked.
            extraction.document.check().map_err(|error| crashed(&error.to_string()))?;
            Ok((format, extraction))
        })
        .await
    }

    /// Parses the programs of a document in a child, like [`extract`](Self::extract). What it tells is to be checked.
    pub(super) async fn syntaxes(&self, programs: Vec<Program>) -> Result<Syntaxes, Failure> {
        let starts: Vec<usize> = programs.iter().map(|program| program.start).collect();
        let output = self.ask(&Request::Syntax(programs)).await?;
        off_thread(move || {
            let answer: Vec<Option<Syntax>> = rmp_serde::from_slice(&output).map_err(|error| unreadable(&error))?;
            Ok(starts.into_iter().zip(answer).filter_map(|(start, syntax)| Some((start, syntax?))).collect())
        })
        .await
    }

    async fn ask(&self, request: &Request) -> Result<Vec<u8>, Failure> {
        let request = rmp_serde::to_vec(request).map_err(|error| internal(&error.to_string()))?;
        let _permit = self.permits.acquire().await.map_err(|error| internal(&error.to_string()))?;
        run(&self.worker, &request, LIMITS).await
    }
}

fn unreadable(error: &rmp_serde::decode::Error) -> Failure {
    crashed(&format!("it ended without a readable answer: {error}"))
}

fn crashed(what: &str) -> Failure {
    Failure::lasting(
        "extraction_crashed",
        format!(
            "Reading the file made the extraction process fail ({what}). The file is probably damaged or made to cause \
             harm; open it in its own program, save it anew and upload that."
        ),
    )
}

fn too_slow(what: &str) -> Failure {
    Failure::lasting(
        "extraction_timeout",
        format!(
            "Reading the file took too long and was stopped ({what}). Split the file, or save it anew, and upload that."
        ),
    )
}

/// Runs a child on a request; its output.
async fn run(worker: &Worker, request: &[u8], limits: Limits) -> Result<Vec<u8>, Failure> {
    let child = Command::new(&worker.program)
        .args(&worker.args)
        .env(PARENT, std::process::id().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| {
        Failure::passing("extraction_unavailable", format!("The extraction process cannot be started now ({error})."))
    })?;
    match tokio::time::timeout(limits.time, converse(&mut child, request, limits)).await {
        Ok(result) => result,
        Err(_) => {
            kill(&mut child).await;
            Err(too_slow(&format!("limit: {} s", limits.time.as_secs())))
        }
    }
}

async fn kill(child: &mut Child) {
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "cannot kill an extraction process");
    }
}

async fn converse(child: &mut Child, request: &[u8], limits: Limits) -> Result<Vec<u8>, Failure> {
    let broken = |error: std::io::Error| crashed(&error.to_string());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(internal("the extraction process has no pipes"));
    };
    let send = async move {
        // A child that died before it read says why by its status.
        let _ = stdin.write_all(request).await;
        drop(stdin);
    };
    let mut output = vec![];
    let mut complaints = vec![];
    let listen = async {
        let mut errors = stderr.take(STDERR_BYTES);
        let _ = errors.read_to_end(&mut complaints).await;
        // The rest is thrown away, so that a talkative child is not held up.
        let _ = tokio::io::copy(&mut errors.into_inner(), &mut tokio::io::sink()).await;
    };
    let mut answer = stdout.take(limits.output + 1);
    let read = async {
        let read = answer.read_to_end(&mut output).await;
        // One that writes too much is stopped by a closed pipe.
        drop(answer);
        read
    };
    let ((), read, ()) = tokio::join!(send, read, listen);
    read.map_err(broken)?;
    if output.len() as u64 > limits.output {
        kill(child).await;
        return Err(crashed(&format!("it wrote more than {} MiB", limits.output >> 20)));
    }
    let status = child.wait().await.map_err(broken)?;
    if status.success() {
        return Ok(output);
    }
    let complaints = String::from_utf8_lossy(&complaints);
    Err(verdict(status, complaints.trim()))
}

/// What an unsuccessful end means.
fn verdict(status: std::process::ExitStatus, complaints: &str) -> Failure {
    if complaints.contains("memory allocation") {
        return crashed(&format!("it needed more than {} GiB of memory", MEMORY_BYTES >> 30));
    }
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return match rustix::process::Signal::from_named_raw(signal) {
            Some(rustix::process::Signal::XCPU) => too_slow(&format!("limit: {CPU_SECONDS} s of CPU time")),
            Some(rustix::process::Signal::SEGV) => crashed("a memory fault, as very deep nesting causes"),
            Some(rustix::process::Signal::KILL) => crashed("it was killed, probably because memory ran out"),
            _ => crashed(&format!("ended by signal {signal}")),
        };
    }
    crashed(&format!("{status}"))
}

/// The child's whole life: limits itself (address space 2 GiB, CPU 120 s, no core file), ends when its parent has, reads a request from standard
/// input, extracts or parses, and writes the answer to standard output. Call it first thing in `main`, before any other thread
/// exists.
#[must_use]
pub fn worker_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn std::error::Error>> {
    limit_self()?;
    end_with_parent();
    let mut request = vec![];
    std::io::stdin().lock().take(REQUEST_BYTES).read_to_end(&mut request)?;
    let request: Request = rmp_serde::from_slice(&request)?;
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let answer = Bytes::from(match request {
        Request::Extract(FileRequest { path, content, filename, format }) => {
            let extract = move || extract::extract(format, &filename, Source::Blob(path, content));
            let answer = thread.spawn(extract)?.join().unwrap_or_else(|panic| Err(crashed(said(&*panic))));
            rmp_serde::to_vec(&answer)?
        }
        Request::Syntax(programs) => {
            let parse = |program: &Program| chunk::parse(&program.text, &program.language);
            let parse = move || programs.iter().map(parse).collect::<Vec<_>>();
            let answer = thread.spawn(parse)?.join().map_err(|panic| said(&*panic).to_owned())?;
            rmp_serde::to_vec(&answer)?
        }
    });
    let mut out = std::io::stdout().lock();
    out.write_all(&answer)?;
    out.flush()?;
    Ok(())
}

/// The words of a panic.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    said.unwrap_or("the parser gave up")
}

#[cfg(unix)]
fn limit_self() -> Result<(), rustix::io::Errno> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let to = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::As, to(MEMORY_BYTES))?;
    // The softer limit sends SIGXCPU, which tells the parent what happened; the harder one kills.
    setrlimit(Resource::Cpu, Rlimit { current: Some(CPU_SECONDS), maximum: Some(CPU_SECONDS + 5) })?;
    setrlimit(Resource::Core, to(0))
}

/// Nobody reads the answer once the parent has died: the work would only keep its successor waiting.
#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "there is no async runtime in this process whose threads it could block")]
fn end_with_parent() {
    // Told, not asked for: it may have died already.
    let Some(parent) = std::env::var(PARENT).ok().and_then(|id| id.parse::<i32>().ok()) else { return };
    std::thread::spawn(move || {
        while rustix::process::getppid().is_some_and(|id| id.as_raw_nonzero().get() == parent) {
            std::thread::sleep(LOOK);
        }
        std::process::exit(1);
    });
}

#[cfg(not(unix))]
fn end_with_parent() {}

#[cfg(not(unix))]
fn limit_self() -> Result<(), std::io::Error> {
    // Time and output stay limited by the parent.
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    async fn shell(script: &str) -> Result<Vec<u8>, Failure> {
        let worker = Worker { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()] };
        run(&worker, b"request", Limits { time: Duration::from_secs(20), output: 1 << 20 }).await
    }

    #[tokio::test]
    async fn a_child_s_end_is_understood() {
        assert_eq!(shell("cat").await.unwrap(), b"request");
        let cases = [
            ("kill -SEGV $$", "extraction_crashed", "nesting"),
            ("kill -KILL $$", "extraction_crashed", "memory ran out"),
            ("kill -XCPU $$", "extraction_timeout", "CPU"),
            ("echo 'memory allocation of 99 bytes failed' >&2; kill -ABRT $$", "extraction_crashed", "2 GiB"),
            ("exit 3", "extraction_crashed", "exit status: 3"),
            ("yes", "extraction_crashed", "1 MiB"),
            ("head -c 1000000 /dev/zero >&2; kill -USR1 $$", "extraction_crashed", "signal 10"),
        ];
        for (script, reason, part) in cases {
            let failure = shell(script).await.unwrap_err();
            assert_eq!((failure.reason.as_str(), failure.retryable), (reason, false), "{script}: {}", failure.message);
            assert!(failure.message.contains(part), "{script}: {}", failure.message);
        }
    }

    #[tokio::test]
    async fn a_child_that_hangs_is_stopped() {
        let worker = Worker { program: "/bin/sh".into(), args: vec!["-c".into(), "exec sleep 1000".into()] };
        let limits = Limits { time: Duration::from_millis(200), output: 10 };
        assert_eq!(run(&worker, b"", limits).await.unwrap_err().reason, "extraction_timeout");
    }

    #[tokio::test]
    async fn a_child_that_cannot_start_may_be_tried_again() {
        let worker = Worker { program: "/nonexistent/program".into(), args: vec![] };
        assert!(run(&worker, b"", LIMITS).await.unwrap_err().retryable);
    }

    #[tokio::test]
    async fn an_answer_that_lies_is_refused() {
        let worker = Worker { program: "/bin/sh".into(), args: vec!["-c".into(), "echo nonsense".into()] };
        let content = BlobRef { sha256: lmao_events::ContentHash([0; 32]), size: 0 };
        let request = FileRequest { path: "/dev/null".into(), content, filename: "x".into(), format: Format::Pdf };
        let pool = Pool::new(worker);
        assert_eq!(pool.extract(request).await.unwrap_err().reason, "extraction_crashed");
        let program = Program { start: 0, language: "rust".into(), text: "fn a() {}".into() };
        assert_eq!(pool.syntaxes(vec![program]).await.unwrap_err().reason, "extraction_crashed");
    }
}
