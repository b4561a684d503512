//! Servers that a test can take away and give back: processes of its own, and a way to those that all tests share.

use std::{
    env,
    net::TcpListener as StdListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// No recovery takes longer, on the slowest machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// The value of a variable that says where a server is.
#[track_caller]
pub(super) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `cargo xtask test`"))
}

fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// Waits until it is so, and says how long that took.
pub(super) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "after a minute it is not so that {what}");
        sleep(PAUSE).await;
    }
    println!("{what}: after {:?}", begun.elapsed());
}

/// A server of this test's own, on a port that it keeps; killed when dropped.
pub(super) struct Own {
    program: String,
    arguments: Vec<String>,
    pub(super) port: u16,
    process: Option<Child>,
}

impl Own {
    async fn start(program: String, port: u16, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut own = Self { program, arguments, port, process: None };
        own.run().await;
        own
    }

    pub(super) async fn nats(folder: &Path) -> Self {
        let (port, store) = (free_port(), folder.join("nats").display().to_string());
        let arguments = ["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd", &store];
        Self::start(variable("LMAO_TEST_NATS_SERVER"), port, &arguments).await
    }

    pub(super) async fn redis(folder: &Path) -> Self {
        let (port, dir) = (free_port(), folder.display().to_string());
        let arguments =
            ["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir", &dir, "--save", "", "--appendonly", "no"];
        Self::start(variable("LMAO_TEST_REDIS_SERVER"), port, &arguments).await
    }

    /// Starts it, and waits until it listens.
    pub(super) async fn run(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("the server can be started"));
        eventually("the server listens", async || TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()).await;
    }

    /// Whether a Redis server knows this key: its own protocol, one command in a line.
    pub(super) async fn knows(&self, key: &str) -> bool {
        let mut redis = TcpStream::connect(("127.0.0.1", self.port)).await.expect("it listens");
        redis.write_all(format!("EXISTS {key}\r\n").as_bytes()).await.expect("it reads");
        let mut answer = [0; 2];
        redis.read_exact(&mut answer).await.expect("it answers");
        answer == *b":1"
    }

    /// Makes it hang, or go on.
    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let process = self.process.as_ref().expect("it runs");
        rustix::process::kill_process(rustix::process::Pid::from_child(process), signal).expect("it is its own child");
    }

    /// Ends it as a power cut would.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("its own child can be killed");
            process.wait().expect("a killed child ends");
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A way to a server that others use too, which can be cut.
pub(super) struct Proxy {
    port: u16,
    /// `HOST:PORT` of the server.
    to: String,
    open: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A way to the server of a URL, and the URL that leads over it.
    pub(super) async fn before(url: &str) -> (Self, String) {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (login, to) =
            authority.rsplit_once('@').map_or((String::new(), authority), |(login, to)| (format!("{login}@"), to));
        let mut proxy = Self { port: free_port(), to: to.to_owned(), open: None };
        proxy.mend().await;
        let url = format!("{scheme}://{login}127.0.0.1:{}{path}", proxy.port);
        (proxy, url)
    }

    /// Lets connections through from now on.
    pub(super) async fn mend(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("its own port");
        let to = self.to.clone();
        self.open = Some(tokio::spawn(async move {
            // Dropped with this task: what is open is cut with it.
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let to = to.clone();
                connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        }));
    }

    /// Cuts every connection and refuses new ones.
    pub(super) async fn cut(&mut self) {
        if let Some(open) = self.open.take() {
            open.abort();
            let _ = open.await;
        }
    }
}
