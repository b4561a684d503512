//! NATS servers of a benchmark's own: one, or a cluster of three; they can be killed and started again.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// No server takes longer to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a server syncs what it has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Before it acknowledges it.
    Always,
    /// Every two minutes, as a server does that is told nothing.
    Default,
}

impl Sync {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Default => "default",
        }
    }

    fn setting(self) -> &'static str {
        match self {
            Self::Always => "sync_interval: always",
            Self::Default => "",
        }
    }
}

/// Servers in a folder; both go when it is dropped.
pub(crate) struct NatsServers {
    /// What clients connect to.
    pub(crate) url: String,
    configs: Vec<PathBuf>,
    processes: Vec<Option<Child>>,
    _folder: TempDir,
}

impl NatsServers {
    /// One.
    pub(crate) async fn one(sync: Sync) -> Self {
        let [port] = free_ports();
        let configure = |home: &Path, _| {
            format!(
                "listen: 127.0.0.1:{port}\nmax_payload: 8MB\njetstream {{ store_dir: {:?}\n{} }}\n",
                home.join("store"),
                sync.setting()
            )
        };
        Self::start(&[port], configure).await
    }

    /// Three, which sync every two minutes: each has what the others have.
    pub(crate) async fn three() -> Self {
        let (ports, routes) = (free_ports::<3>(), free_ports::<3>());
        let all = routes.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        let configure = |home: &Path, n: usize| {
            format!(
                "server_name: n{n}\nlisten: 127.0.0.1:{}\nmax_payload: 8MB\njetstream {{ store_dir: {:?} }}\n\
                 cluster {{ name: bench, listen: 127.0.0.1:{}, routes: [{all}] }}\n",
                ports[n],
                home.join("store"),
                routes[n]
            )
        };
        Self::start(&ports, configure).await
    }

    async fn start(ports: &[u16], configure: impl Fn(&Path, usize) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let configs = (0..ports.len()).map(|n| {
            let home = folder.path().join(format!("n{n}"));
            fs::create_dir_all(&home).unwrap();
            let path = home.join("nats.conf");
            fs::write(&path, configure(&home, n)).unwrap();
            path
        });
        let configs: Vec<_> = configs.collect();
        let addresses: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let processes = configs.iter().map(|_| None).collect();
        let mut servers = Self { url: format!("nats://{}", addresses.join(",")), configs, processes, _folder: folder };
        (0..ports.len()).for_each(|n| servers.run(n));
        servers.ready().await;
        servers
    }

    /// A connection that does nothing by itself.
    pub(crate) async fn client(&self) -> Result<async_nats::Client, async_nats::ConnectError> {
        let addresses = self.url.trim_start_matches("nats://").split(',');
        let addresses: Vec<async_nats::ServerAddr> = addresses.map(|address| address.parse().unwrap()).collect();
        async_nats::connect(addresses).await
    }

    /// Starts one of them, again.
    pub(crate) fn run(&mut self, n: usize) {
        let program = std::env::var("LMAO_TEST_NATS_SERVER");
        assert!(program.is_ok(), "LMAO_TEST_NATS_SERVER is not set: run it with `cargo xtask bench`");
        let log = fs::File::create(self.configs[n].with_extension("log")).unwrap();
        let mut command = Command::new(program.unwrap());
        command.arg("-c").arg(&self.configs[n]).stdout(Stdio::null()).stderr(log);
        self.processes[n] = Some(command.spawn().unwrap());
    }

    /// Ends one of them as a power cut would.
    pub(crate) fn kill(&mut self, n: usize) {
        if let Some(mut process) = self.processes[n].take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// CPU time so far of those that run.
    pub(crate) fn cpu(&self) -> Duration {
        self.processes.iter().flatten().map(|process| super::cpu_of_process(process.id())).sum()
    }

    /// Waits until JetStream answers.
    async fn ready(&self) {
        let begun = Instant::now();
        loop {
            if let Ok(client) = self.client().await
                && async_nats::jetstream::new(client).query_account().await.is_ok()
            {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the NATS servers are not ready after a minute");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for NatsServers {
    fn drop(&mut self) {
        (0..self.processes.len()).for_each(|n| self.kill(n));
    }
}

/// Ports that nobody uses now.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}
