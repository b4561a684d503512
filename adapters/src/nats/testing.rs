//! What the tests of the NATS stores share: namespaces that go with their test.

use std::ops::Deref;

use uuid::Uuid;

use super::{Nats, Replicas, migrate};

/// The URL of the server that tests share.
pub(super) fn url() -> String {
    std::env::var("LMAO_TEST_NATS").expect("LMAO_TEST_NATS is not set: run the tests with cargo xtask test")
}

/// A namespace of a test's own; its streams are deleted when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    nats: Nats,
    url: String,
}

impl Scratch {
    /// The URL with the namespace.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The namespace's part of a URL.
    pub(super) fn query(&self) -> &str {
        self.url.split_once('?').expect("a namespace").1
    }
}

impl Deref for Scratch {
    type Target = Nats;

    fn deref(&self) -> &Nats {
        &self.nats
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let url = self.url.clone();
        // A runtime of its own: that of the test may be ending.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let Ok(nats) = Nats::connect(&url).await else { return };
                for definition in migrate::Definition::ALL {
                    let _ = nats.jetstream().delete_stream(definition.name(&nats)).await;
                }
            });
        });
        let _ = cleaned.join();
    }
}

/// A namespace without streams.
pub(super) async fn empty() -> Scratch {
    let url = format!("{}?namespace=t{}", url(), Uuid::new_v4().simple());
    Scratch { nats: Nats::connect(&url).await.unwrap(), url }
}

/// A namespace with all streams.
pub(super) async fn migrated() -> Scratch {
    let scratch = empty().await;
    migrate(&scratch, Replicas::One).await.unwrap();
    scratch
}

/// Ports that nobody uses now.
pub(super) fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A server of a test's own.
#[derive(Debug)]
pub(super) struct Server {
    config: std::path::PathBuf,
    process: Option<std::process::Child>,
}

impl Server {
    /// Starts a server with this configuration; `dir` is its folder.
    pub(super) fn start(dir: &std::path::Path, config: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join("nats.conf");
        std::fs::write(&path, config).unwrap();
        let mut server = Self { config: path, process: None };
        server.run();
        server
    }

    /// Starts it again.
    pub(super) fn run(&mut self) {
        let binary = std::env::var("LMAO_TEST_NATS_SERVER")
            .expect("LMAO_TEST_NATS_SERVER is not set: run the tests with cargo xtask test");
        let log = std::fs::File::create(self.config.with_extension("log")).unwrap();
        let mut command = std::process::Command::new(binary);
        command.arg("-c").arg(&self.config).stdout(std::process::Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// As a power cut would end it.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Connects as soon as the servers are ready.
pub(super) async fn connect_when_ready(url: &str) -> Nats {
    let begun = std::time::Instant::now();
    loop {
        match Nats::connect(url).await {
            Ok(nats) => return nats,
            Err(error) => assert!(begun.elapsed().as_secs() < 60, "{error:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
