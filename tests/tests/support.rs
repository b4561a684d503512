//! The running system as its users have it: the `lmao` binary on a data directory of its own, and a client of its HTTP
//! API. It knows the command line and `docs/API.md`, and nothing of what is behind them.

use std::{
    env, fs,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Once,
    time::{Duration, Instant},
};

use reqwest::{Method, RequestBuilder, multipart};
use serde_json::{Value, json};
use tokio::time::sleep;

/// No start and no end takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);
/// Longer than the longest that the server lets a request wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// The `lmao` binary: `LMAO_BIN`, or the one that was built beside this test.
fn binary() -> PathBuf {
    let built = || {
        let test = env::current_exe().expect("this test has a file");
        test.ancestors().nth(2).expect("it lies in TARGET/PROFILE/deps").join("lmao")
    };
    let path = env::var_os("LMAO_BIN").map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "there is no binary at {}: run `cargo xtask test`, which builds it, or `cargo build`, or set LMAO_BIN",
        path.display()
    );
    path
}

/// Tests ask more often than people do; those of the limits set them anew.
const UNLIMITED: [(&str, &str); 3] =
    [("LMAO_RATES__REQUESTS", "0"), ("LMAO_RATES__DOCUMENTS", "0"), ("LMAO_RATES__ALL", "0")];

/// `lmao` with these arguments, and nothing of this process's own settings: without a model unless `LMAO_MODELS` is set
/// anew, since what a test asks is seldom how well it embeds.
pub(crate) fn lmao(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let ours = env::vars_os().map(|(name, _)| name);
    let ours = ours.filter(|name| ["LMAO_", "OTEL_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)));
    ours.for_each(|name| _ = command.env_remove(name));
    command.env("LMAO_MODELS", "off").envs(UNLIMITED).args(arguments).stdin(Stdio::null());
    command
}

/// What `lmao --json` prints with these arguments on a data directory that no server uses, opened with these `models`.
#[track_caller]
pub(crate) fn lmao_json(data: &Path, arguments: &[&str], models: &str) -> Value {
    lmao_json_with(data, arguments, &[("LMAO_MODELS", models)])
}

/// As [`lmao_json`], with these variables set.
#[track_caller]
pub(crate) fn lmao_json_with(data: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Value {
    let mut command = lmao(arguments);
    command.envs(variables.iter().copied()).arg("--json").arg("--data").arg(data);
    let output = command.output().expect("lmao can be started");
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "lmao {arguments:?} ends with {}:\n{said}{complaint}", output.status);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("lmao {arguments:?} prints no JSON: {error}\n{said}"))
}

/// A server on a data directory, killed when dropped. What it prints is appended to `DIR.out` beside the directory.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    data: PathBuf,
    /// Its address, without a slash at the end; empty until it listens.
    pub(crate) url: String,
}

impl Server {
    /// Starts one without a model and waits until it is ready.
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    /// Starts one in this environment and waits until it is ready.
    pub(crate) async fn start_with(data: &Path, environment: &[(&str, &str)]) -> Self {
        let mut server = Self::spawn(data, environment);
        server.ready().await;
        server
    }

    /// Starts one and does not wait.
    pub(crate) fn spawn(data: &Path, environment: &[(&str, &str)]) -> Self {
        let printed = OpenOptions::new().create(true).append(true).open(printed(data)).expect("its output has a file");
        let process = lmao(&["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .envs(environment.iter().copied())
            .stdout(printed.try_clone().expect("files can be shared"))
            .stderr(printed)
            .spawn()
            .expect("lmao can be started");
        Self { process, data: data.to_owned(), url: String::new() }
    }

    /// Waits until it answers that it is ready.
    pub(crate) async fn ready(&mut self) {
        let http = http();
        let begun = Instant::now();
        loop {
            if let Some(address) = self.address() {
                let asked = http.get(format!("{address}/health/ready")).send().await;
                if asked.is_ok_and(|answer| answer.status().is_success()) {
                    self.url = address;
                    return;
                }
            }
            let ended = self.process.try_wait().expect("children can be waited for");
            assert!(ended.is_none(), "the server ended with {ended:?}:\n{}", self.last_words());
            assert!(begun.elapsed() < PATIENCE, "the server is not ready after a minute:\n{}", self.last_words());
            sleep(PAUSE).await;
        }
    }

    /// Where it listens, by the lock file; one of an earlier process is not believed.
    fn address(&self) -> Option<String> {
        let lock: Value = serde_json::from_slice(&fs::read(self.data.join("lock")).ok()?).ok()?;
        let address = lock["address"].as_str().filter(|_| lock["pid"] == self.process.id())?;
        Some(address.trim_end_matches('/').to_owned())
    }

    fn last_words(&self) -> String {
        let text = fs::read(printed(&self.data)).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned()
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// A client that is logged in as `admin`.
    pub(crate) async fn admin(&self) -> Client {
        let password = fs::read_to_string(self.data.join("admin-password")).expect("the first start kept a password");
        Client::login(&self.url, "admin", password.trim()).await
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill9(mut self) {
        self.process.kill().expect("its own child can be killed");
        self.process.wait().expect("a killed child ends");
    }

    /// Waits until it has printed this.
    pub(crate) async fn says(&self, text: &str) {
        let begun = Instant::now();
        while !self.last_words().contains(text) {
            assert!(begun.elapsed() < PATIENCE, "the server does not say {text:?}:\n{}", self.last_words());
            sleep(PAUSE).await;
        }
    }

    /// Asks it to end.
    pub(crate) fn signal(&self) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("its own child can be signalled");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn sigterm(mut self) -> ExitStatus {
        self.signal();
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("children can be waited for") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not end:\n{}", self.last_words());
            sleep(PAUSE).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing left to do.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// The file that has what servers on this data directory print.
fn printed(data: &Path) -> PathBuf {
    data.with_extension("out")
}

pub(crate) fn http() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    // Even plain HTTP wants one.
    PROVIDER.call_once(|| _ = rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build().expect("a client can be made")
}

/// What the server answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The header `LMAO-Position`.
    pub(crate) position: Option<String>,
    /// The JSON body; null when there is none, a string when it is no JSON.
    pub(crate) body: Value,
}

impl Reply {
    /// `error.details.reason`; empty when this is no error.
    pub(crate) fn reason(&self) -> &str {
        self.body["error"]["details"]["reason"].as_str().unwrap_or_default()
    }

    /// Whether it says yes.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A user of a server. Clones share its connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Client {
    /// With this token; an empty one is not sent.
    pub(crate) fn new(url: &str, token: &str) -> Self {
        Self { http: http(), url: url.to_owned(), token: token.to_owned() }
    }

    /// Logged in.
    pub(crate) async fn login(url: &str, username: &str, password: &str) -> Self {
        let stranger = Self::new(url, "");
        let credentials = json!({ "username": username, "password": password });
        let reply = stranger.post("/auth/login", &credentials, None).await.expect("the server answers");
        assert_eq!(reply.status, 200, "{username} can log in: {}", reply.body);
        Self { token: reply.body["access_token"].as_str().expect("a token").to_owned(), ..stranger }
    }

    /// The token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The same user at a server that has started anew elsewhere: tokens outlive it.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { http: self.http.clone(), url: url.to_owned(), token: self.token.clone() }
    }

    /// A request to make a peculiar one of; see [`Self::send`].
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    /// Sends it and reads the whole reply; an error when the connection broke before its end.
    pub(crate) async fn send(&self, request: RequestBuilder) -> reqwest::Result<Reply> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let position = response.headers().get("lmao-position").and_then(|value| value.to_str().ok());
        let position = position.map(str::to_owned);
        let bytes = response.bytes().await?;
        let body = match serde_json::from_slice(&bytes) {
            Ok(body) => body,
            Err(_) if bytes.is_empty() => Value::Null,
            Err(_) => String::from_utf8_lossy(&bytes).into_owned().into(),
        };
        Ok(Reply { status, position, body })
    }

    /// `GET path`.
    pub(crate) async fn get(&self, path: &str) -> reqwest::Result<Reply> {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST path` with a JSON body and, where given, an `Idempotency-Key`.
    pub(crate) async fn post(&self, path: &str, body: &Value, key: Option<&str>) -> reqwest::Result<Reply> {
        self.send(keyed(self.request(Method::POST, path).json(body), key)).await
    }

    /// Says something in a session, or begins one.
    pub(crate) async fn chat(&self, session: Option<&str>, text: &str, key: Option<&str>) -> reqwest::Result<Reply> {
        let body = json!({ "message": text, "session_id": session.unwrap_or_default() });
        self.post("/api/v1/chat/message", &body, key).await
    }

    /// Uploads a file and waits until it can be found, or has failed.
    pub(crate) async fn upload(&self, name: &str, bytes: Vec<u8>, key: Option<&str>) -> reqwest::Result<Reply> {
        let form = multipart::Form::new().part("file", multipart::Part::bytes(bytes).file_name(name.to_owned()));
        let request = self.request(Method::POST, "/api/v1/documents/upload").multipart(form);
        self.send(keyed(request, key)).await
    }

    /// Everything that a paged list has under `field`, read at one position or a later one.
    pub(crate) async fn all(&self, path: &str, field: &str, position: Option<&str>) -> Vec<Value> {
        let (mut found, mut cursor) = (vec![], String::new());
        loop {
            let mut request = self.request(Method::GET, &format!("{path}?limit=200{cursor}"));
            if let Some(position) = position {
                request = request.header("LMAO-Position", position);
            }
            let reply = self.send(request).await.expect("the server answers");
            assert_eq!(reply.status, 200, "{path}: {}", reply.body);
            found.extend(reply.body[field].as_array().expect("a list").iter().cloned());
            match reply.body["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    }
}

fn keyed(request: RequestBuilder, key: Option<&str>) -> RequestBuilder {
    match key {
        Some(key) => request.header("Idempotency-Key", key),
        None => request,
    }
}
