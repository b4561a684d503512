//! A running node: core, projectors, witness and gateway on opened parts, and the order in which they end.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use lmao_actors::{Limits, Orphans, ProjectorHandle, Runtime, Stores, World};
use lmao_gateway::{Gateway, State};
use lmao_ports::{Commands, Projection};
use lmao_tools::Registry;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    Parts,
    admin::{FirstStart, first_start},
    gauges,
    health::NodeHealth,
    witness::Witness,
};
use crate::telemetry::ProcessMetrics;

/// A node that runs.
pub(crate) struct Node {
    parts: Parts,
    runtime: Runtime,
    projectors: Arc<Projectors>,
    witness: Witness,
    orphans: JoinHandle<()>,
    gauges: JoinHandle<()>,
    state: State,
}

/// The projectors that run, for those who ask how they are, and for the one who ends them.
#[derive(Debug)]
pub(crate) struct Projectors(Mutex<Vec<(Arc<dyn Projection>, ProjectorHandle)>>);

impl Projectors {
    fn spawn(parts: &Parts) -> Self {
        let spawned = parts.projectors().into_iter().map(|(projection, projector)| (projection, projector.spawn()));
        Self(Mutex::new(spawned.collect()))
    }

    /// Each projection, with what keeps it from going on.
    pub(crate) fn errors(&self) -> Vec<(Arc<dyn Projection>, Option<String>)> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().map(|(projection, handle)| (Arc::clone(projection), handle.status().error)).collect()
    }

    async fn stop(&self) {
        let running = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, handle) in running {
            handle.stop().await;
        }
    }
}

impl Node {
    /// Starts everything but the listener.
    ///
    /// # Errors
    /// When a store cannot be used.
    pub(crate) async fn start(parts: Parts) -> anyhow::Result<Self> {
        let tools = Arc::new(Registry::builtin(Arc::clone(&parts.retriever)));
        let runtime = Runtime::start(stores(&parts), world(&parts, Arc::clone(&tools)), Limits::default()).await?;
        let projectors = Arc::new(Projectors::spawn(&parts));
        let witness = Witness::start(Arc::clone(&parts.log), Arc::clone(&parts.vault)).await?;
        let health = NodeHealth {
            log: Arc::clone(&parts.log),
            index: Arc::clone(&parts.index),
            semantics: Arc::clone(&parts.models) as _,
            commands: runtime.commands(),
            projectors: Arc::clone(&projectors),
            answerer: parts.answerer.name().to_owned(),
        };
        let state = state(&parts, &runtime, tools, health);
        let gauges = gauges::run(Arc::clone(&parts.log), Arc::clone(&projectors), runtime.commands());
        let orphans = Orphans::new(stores(&parts), Arc::clone(&parts.blobs));
        Ok(Self {
            parts,
            runtime,
            projectors,
            witness,
            orphans: tokio::spawn(orphans.run()),
            gauges: tokio::spawn(gauges),
            state,
        })
    }

    /// What it runs on.
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The way into the core.
    pub(crate) fn commands(&self) -> Arc<dyn Commands> {
        self.runtime.commands()
    }

    /// Opens the administrator's account on the first start; `password` is used then, and only then.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) async fn first_start(&self, password: Option<&str>) -> anyhow::Result<Option<FirstStart>> {
        first_start(&self.state, &self.parts.data.admin_password(), password).await
    }

    /// Answers requests at `listener` until `shutdown`, then ends everything in order.
    ///
    /// # Errors
    /// When the gateway cannot be set up or the listener cannot be used.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let served = self.answer(listener, shutdown).await;
        self.drain().await;
        served
    }

    async fn answer(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let address = listener.local_addr().context("the listener has no address")?;
        let gateway = Gateway::new(self.state.clone()).await?;
        self.parts.data.set_address(&base_url(address))?;
        gateway.serve(listener, shutdown).await.context("the listener cannot be used any more")
    }

    /// Ends everything: first what makes commits, then what follows them, then the stores.
    pub(crate) async fn drain(self) {
        let Self { parts, runtime, projectors, witness, orphans, gauges, state } = self;
        for task in [orphans, gauges] {
            task.abort();
            // Cancelled, as it was meant to be.
            let _ = task.await;
        }
        runtime.drain().await;
        projectors.stop().await;
        witness.stop().await;
        drop(state);
        parts.close().await;
    }
}

/// What the core stands on.
pub(super) fn stores(parts: &Parts) -> Stores {
    Stores {
        log: Arc::clone(&parts.log),
        snapshots: Arc::clone(&parts.snapshots),
        vault: Arc::clone(&parts.vault),
        live: Arc::clone(&parts.live),
        clock: Arc::clone(&parts.clock),
        entropy: Arc::clone(&parts.entropy),
        keyring: parts.keyring.clone(),
    }
}

/// What the core's effects act on.
fn world(parts: &Parts, tools: Arc<Registry>) -> World {
    World {
        retriever: Arc::clone(&parts.retriever),
        answerer: Arc::clone(&parts.answerer),
        tools,
        steps: Arc::clone(&parts.steps),
        blobs: Arc::clone(&parts.blobs),
        search: Arc::clone(&parts.search),
    }
}

/// What the gateway answers from.
fn state(parts: &Parts, runtime: &Runtime, tools: Arc<Registry>, health: NodeHealth) -> State {
    State {
        commands: runtime.commands(),
        journal: Arc::new(runtime.journal()),
        read_model: Arc::clone(&parts.read_model),
        search: Arc::clone(&parts.search),
        retriever: Arc::clone(&parts.retriever),
        tools,
        vault: Arc::clone(&parts.vault),
        blobs: Arc::clone(&parts.blobs),
        live: Arc::clone(&parts.live),
        cache: Arc::clone(&parts.cache),
        clock: Arc::clone(&parts.clock),
        entropy: Arc::clone(&parts.entropy),
        health: Arc::new(health),
        metrics: Arc::new(ProcessMetrics),
        limits: lmao_gateway::Limits::default(),
    }
}

/// Where a client on this machine finds a server that listens here.
pub(crate) fn base_url(address: SocketAddr) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_a_server_on_all_addresses_go_to_loopback() {
        for (address, url) in [
            ("127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:8000", "http://[::1]:8000"),
            ("192.168.1.7:8000", "http://192.168.1.7:8000"),
        ] {
            assert_eq!(base_url(address.parse().unwrap()), url);
        }
    }
}
