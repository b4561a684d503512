//! What the benchmarks of the running program share: the real `lmao serve` as a process of its own, an instant language
//! model, a plain HTTP client, and what the operating system says that the process has used.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod bare;
pub(crate) mod history;
pub(crate) mod servers;
pub(crate) mod system;

use std::{
    fs, io,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
};

/// Of the first administrator.
pub(crate) const PASSWORD: &str = "a password for benchmarks only";

/// The number in this environment variable, or another.
pub(crate) fn size(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// The program, with the model and the limits of rates off, and without whatever configuration is around.
pub(crate) fn lmao(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lmao"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LMAO_")) {
        command.env_remove(name);
    }
    command.env("LMAO_LOG_FILTER", "error").env("LMAO_ADMIN_PASSWORD", PASSWORD);
    command.arg("--json").arg("--data").arg(data).args(["--set", "models=off"]);
    command.args(["--set", "rates.requests=0", "--set", "rates.documents=0", "--set", "rates.all=0"]);
    command
}

/// A server that runs; killed when dropped.
pub(crate) struct Server {
    process: Child,
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// When it was started.
    pub(crate) started: Instant,
}

impl Server {
    /// Starts it on this data directory, with this language model if any. Returns once it says where it listens.
    pub(crate) fn start(data: &Path, llm: Option<&str>) -> Self {
        Self::run(lmao(data), llm)
    }

    /// The same by a command that has its data directory and settings already.
    pub(crate) fn run(mut command: Command, llm: Option<&str>) -> Self {
        let started = Instant::now();
        if let Some(llm) = llm {
            command.args(["--set", &format!("llm.base_url={llm}"), "--set", "llm.model=instant"]);
        }
        command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let greeting: Value = serde_json::from_str(&line).unwrap();
        let address = greeting["started"].as_str().unwrap().trim_start_matches("http://").to_owned();
        Self { process, address, started }
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A connection without a token.
    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.address).await
    }

    /// The administrator's token.
    pub(crate) async fn token(&self) -> String {
        let body = json!({ "username": "admin", "password": PASSWORD });
        let answer = self.connect().await.post("/auth/login", &body).await;
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Waits until every projection is at the log's end.
    pub(crate) async fn caught_up(&self) {
        let mut connection = self.connect().await;
        loop {
            let health = connection.get("/health").await;
            let behind = |part: &Value| part["message"].as_str().is_some_and(|text| text.contains("behind"));
            let at_the_end = |part: &Value| part["message"].as_str().is_some_and(|text| text.ends_with(" 0 behind"));
            let parts = health["components"].as_array().unwrap();
            let projections: Vec<_> = parts.iter().filter(|part| behind(part)).collect();
            if !projections.is_empty() && projections.into_iter().all(at_the_end) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it uses no CPU worth mentioning: what runs in the background is done.
    pub(crate) async fn idle(&self) {
        loop {
            let before = self.cpu();
            tokio::time::sleep(Duration::from_secs(2)).await;
            if self.cpu() - before <= Duration::from_millis(40) {
                return;
            }
        }
    }

    /// CPU time so far of the process and of those of its children that have ended.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of_process(self.process.id())
    }

    /// Resident memory that is no file's, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Ends it as an operator does, and waits.
    pub(crate) fn stop(mut self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.process.wait().unwrap().success(), "the server did not end well");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// CPU time so far of a process and of those of its children that have ended.
pub(crate) fn cpu_of_process(pid: u32) -> Duration {
    cpu_of(&format!("/proc/{pid}/stat"), 4)
}

/// CPU time so far of everything on the machine (`proc_stat(5)`: all but the fourth and fifth figure, idle and waiting).
pub(crate) fn cpu_of_machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let figures = stat.lines().next().unwrap().split_whitespace().skip(1).take(8);
    let busy = figures.enumerate().filter(|(n, _)| ![3, 4].contains(n));
    Duration::from_millis(busy.map(|(_, ticks)| ticks.parse::<u64>().unwrap()).sum::<u64>() * 10)
}

/// CPU time of this process's children that have ended.
pub(crate) fn cpu_of_children() -> Duration {
    let all = cpu_of("/proc/self/stat", 4);
    all - cpu_of("/proc/self/stat", 2)
}

/// `proc_pid_stat(5)`: from field 14 on user and system time, and those of waited-for children, in ticks of 10 ms.
fn cpu_of(stat: &str, fields: usize) -> Duration {
    let stat = fs::read_to_string(stat).unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    let ticks = behind_name.split_whitespace().skip(11).take(fields).map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// An HTTP/1.1 connection that is kept open: less work than a real client, so that the server has the machine.
pub(crate) struct Connection {
    socket: BufStream<TcpStream>,
    token: Option<String>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket: BufStream::new(socket), token: None }
    }

    /// Sends this token from now on.
    pub(crate) fn with(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub(crate) async fn get(&mut self, path: &str) -> Value {
        self.ask("GET", path, "").await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, &body.to_string()).await
    }

    /// One turn: a message of this session (or of a new one), and its answer. Returns the session.
    pub(crate) async fn say(&mut self, session: Option<&str>) -> String {
        let body = json!({ "message": "Who owns a value, and for how long?", "session_id": session });
        let answer = self.post("/api/v1/chat/message", &body).await;
        assert_eq!(answer["metadata"]["status"], "completed", "{answer}");
        answer["session_id"].as_str().unwrap().to_owned()
    }

    /// A turn that may fail: its answer, once there is one. What was sent before with this key is not said twice.
    pub(crate) async fn try_say(&mut self, session: &str, key: &str) -> io::Result<Option<Value>> {
        let body = json!({ "message": "Who owns a value, and for how long?", "session_id": session }).to_string();
        let key = format!("idempotency-key: {key}\r\n");
        let (status, answer) = self.exchange("POST", "/api/v1/chat/message", &key, &body).await?;
        Ok((status == 200 && answer["metadata"]["status"] == "completed").then_some(answer))
    }

    /// The administrator's token, once the account is open.
    pub(crate) async fn login(&mut self) -> Option<String> {
        let body = json!({ "username": "admin", "password": PASSWORD }).to_string();
        let (status, answer) = self.exchange("POST", "/auth/login", "", &body).await.ok()?;
        (status == 200).then(|| answer["access_token"].as_str().unwrap().to_owned())
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.exchange(method, path, "", body).await.unwrap();
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// A request with these header lines: the status and the body.
    async fn exchange(&mut self, method: &str, path: &str, headers: &str, body: &str) -> io::Result<(u16, Value)> {
        let token = self.token.as_ref().map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{token}{headers}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.write_all(request.as_bytes()).await?;
        self.socket.flush().await?;
        let (head, body) = message(&mut self.socket).await.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// A request or a response: its head, and a body of stated length. `None` when the other end has closed.
async fn message(socket: &mut BufStream<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    socket.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

/// A language model that answers at once, always the same, in the protocol of OpenAI's chat completions. Returns its base
/// URL; it serves as long as the runtime lives.
pub(crate) async fn instant_llm() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let text = "Each value has one owner at a time; when the owner goes out of scope, the value is dropped.";
    let piece = json!({ "model": "instant", "choices": [{ "delta": { "content": text }, "finish_reason": null }] });
    let end = json!({ "model": "instant", "choices": [{ "delta": {}, "finish_reason": "stop" }] });
    let events = format!("data: {piece}\n\ndata: {end}\n\ndata: [DONE]\n\n");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length";
    let reply = format!("{head}: {}\r\n\r\n{events}", events.len());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).unwrap();
            let reply = reply.clone();
            tokio::spawn(async move {
                let mut socket = BufStream::new(socket);
                while message(&mut socket).await.is_some() {
                    if socket.write_all(reply.as_bytes()).await.is_err() || socket.flush().await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

/// The value below which this part of them lies.
pub(crate) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, reason = "an index")]
    let at = ((values.len() - 1) as f64 * q).round() as usize;
    values[at]
}

/// To two decimals, for people.
pub(crate) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
