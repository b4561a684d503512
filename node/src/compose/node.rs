//! A running node: core, projectors, witness and gateway on opened parts, and the order in which they end.

use std::{collections::BTreeSet, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::StreamExt as _;
use lmao_actors::{Cluster, Limits, Runtime, Stores, World};
use lmao_adapters::nats::{Nats, NatsMembership, NatsRouter};
use lmao_gateway::{Gateway, State};
use lmao_ports::{Commands, Membership as _, NodeId, NodeInfo, Role};
use lmao_tools::Registry;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    Parts,
    admin::{FirstStart, Others, first_start},
    duties::Duties,
    gauges,
    health::{ModelHealth, NodeHealth},
    reachable::Reachable,
    servers,
};
use crate::{
    config::{Config, Durable},
    exit::{Code, Stop},
    telemetry::ProcessMetrics,
};

/// How long it may take until the leases are read, and those of nodes that died have ended.
const VIEW: Duration = NatsMembership::GONE_WITHIN.saturating_add(Duration::from_secs(5));
/// The pause before the first account is tried again.
const FIRST_START_PAUSE: Duration = Duration::from_secs(2);

/// A node that runs.
pub(crate) struct Node {
    parts: Parts,
    /// `None` where others work.
    runtime: Option<Runtime>,
    /// `None` where it is alone.
    cluster: Option<Cluster>,
    duties: Duties,
    gauges: JoinHandle<()>,
    state: State,
}

impl Node {
    /// Starts everything but the listener.
    ///
    /// # Errors
    /// When a store cannot be used.
    pub(crate) async fn start(parts: Parts) -> anyhow::Result<Self> {
        let tools = Arc::new(Registry::builtin(Arc::clone(&parts.retriever)).with(parts.tools.clone()));
        let cluster = match &parts.nats {
            Some(nats) => Some(cluster(&parts, nats).await?),
            None => None,
        };
        let world = world(&parts, Arc::clone(&tools));
        let runtime = match &cluster {
            None => Some(Runtime::start(stores(&parts), world, Limits::default()).await?),
            Some(cluster) if parts.roles.has(Role::Worker) => {
                Some(Runtime::start_placed(stores(&parts), world, Limits::default(), cluster).await?)
            }
            Some(_) => None,
        };
        let commands = match (&runtime, &cluster) {
            (Some(runtime), _) => runtime.commands(),
            (None, Some(cluster)) => cluster.commands(),
            (None, None) => unreachable!("a node that is alone has a runtime"),
        };
        let commands: Arc<dyn Commands> = match &parts.nats {
            Some(nats) => Arc::new(Reachable::new(commands, nats.clone())),
            None => commands,
        };
        let duties = Duties::start(&parts, cluster.as_ref());
        let health = NodeHealth {
            log: Arc::clone(&parts.log),
            models: ModelHealth {
                index: Arc::clone(&parts.index),
                models: Arc::clone(&parts.models),
                rejected: Arc::clone(&parts.rejected),
            },
            commands: Arc::clone(&commands),
            projectors: duties.projectors(),
            llm: parts.llm.clone(),
            servers: parts.servers.clone(),
            roles: parts.roles.clone(),
        };
        if !parts.servers.is_empty() {
            duties.beside(servers::watch(parts.servers.clone()));
        }
        let gauges = gauges::run(Arc::clone(&parts.log), duties.projectors(), Arc::clone(&commands));
        let state = state(&parts, commands, tools, health);
        if let Some(cluster) = &cluster {
            cluster.join().await?;
        }
        Ok(Self { parts, runtime, cluster, duties, gauges: tokio::spawn(gauges), state })
    }

    /// What it runs on.
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The way into the core.
    pub(crate) fn commands(&self) -> Arc<dyn Commands> {
        Arc::clone(&self.state.commands)
    }

    /// Opens the administrator's account on the first start; `password` is used then, and only then.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) async fn first_start(&self, password: Option<&str>) -> anyhow::Result<Option<FirstStart>> {
        first_start(&self.state, &self.parts.data.admin_password(), password, self.others()).await
    }

    fn others(&self) -> Others {
        if self.cluster.is_some() { Others::Gateways } else { Others::None }
    }

    /// As [`Node::first_start`], tried until a worker lives that opens the account. What comes of it is logged.
    pub(crate) fn first_start_when_possible(&self, password: Option<String>) {
        let (state, file) = (self.state.clone(), self.parts.data.admin_password());
        self.duties.beside(async move {
            loop {
                match first_start(&state, &file, password.as_deref(), Others::Gateways).await {
                    Ok(None) => return,
                    Ok(Some(first)) => {
                        let file = file.display().to_string();
                        tracing::info!(
                            username = first.username,
                            file,
                            "the first account is open; its password is kept"
                        );
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(error = format!("{error:#}"), "the first account cannot be opened yet");
                    }
                }
                tokio::time::sleep(FIRST_START_PAUSE).await;
            }
        });
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
        let cluster = self.cluster.clone();
        let leave = async move {
            shutdown.await;
            // Others take over at once; what clients have under way here is answered meanwhile.
            if let Some(cluster) = cluster {
                cluster.leave().await;
            }
        };
        let served = self.answer(listener, leave).await;
        self.drain().await;
        served
    }

    async fn answer(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let address = listener.local_addr().context("the listener has no address")?;
        let gateway = if self.parts.roles.has(Role::Gateway) {
            Gateway::new(self.state.clone()).await?
        } else {
            Gateway::probes(self.state.clone()).await?
        };
        self.parts.data.set_address(&base_url(address))?;
        // Who comes at the end waits for it instead of asking in vain: nobody is let in while the last requests are answered.
        let (ends, ending) = tokio::sync::oneshot::channel();
        let shutdown = async move {
            shutdown.await;
            let _ = ends.send(());
        };
        let serve = async { gateway.serve(listener, shutdown).await.context("the listener cannot be used any more") };
        let clear = async {
            // Not sent: the listener failed.
            let _ = ending.await;
            self.parts.data.clear_address()
        };
        let (served, cleared) = tokio::join!(serve, clear);
        served.and(cleared.map_err(Into::into))
    }

    /// Ends everything: first what makes commits, then what follows them, then the stores.
    pub(crate) async fn drain(self) {
        let Self { parts, runtime, cluster, duties, gauges, state } = self;
        gauges.abort();
        // Cancelled, as it was meant to be.
        let _ = gauges.await;
        match (runtime, &cluster) {
            (Some(runtime), _) => runtime.drain().await,
            (None, Some(cluster)) => cluster.leave().await,
            (None, None) => {}
        }
        duties.stop().await;
        drop(cluster);
        drop(state);
        parts.close().await;
    }
}

/// Refuses while nodes live that work on the same log: what is about to be done wants it for itself.
///
/// # Errors
/// [`Code::Failed`] when somebody lives; when the leases cannot be read.
pub(crate) async fn refuse_beside_nodes(config: &Config) -> anyhow::Result<()> {
    let Durable::Nats(url) = &config.log else { return Ok(()) };
    let leases = NatsMembership::open(&Nats::connect(url.reveal()).await?).await?;
    let mut views = leases.watch();
    let mut seen = None;
    // One that has just died is in the first views still.
    let empty = async {
        while let Some(view) = views.next().await {
            if seen.insert(view).is_empty() {
                return;
            }
        }
    };
    if tokio::time::timeout(VIEW, empty).await.is_ok() {
        return Ok(());
    }
    let nodes = seen.ok_or_else(|| Stop::new(Code::Unreachable, "the leases of the nodes cannot be read"))?;
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    Err(Stop::new(Code::Failed, format!("{} nodes are at work: {}", nodes.len(), names.join(", ")))
        .hint("stop them first, and start them again afterwards")
        .into())
}

/// This node's place among those that share the log.
async fn cluster(parts: &Parts, nats: &Nats) -> anyhow::Result<Cluster> {
    let id = NodeId(parts.entropy.id(parts.clock.now()));
    // A container's is its pod's name.
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_else(|_| "node".to_owned());
    let me = NodeInfo {
        id,
        name: format!("{}:{}", name.trim(), std::process::id()),
        roles: parts.roles.iter().collect(),
        reads: lmao_events::readable_set(),
        gave_up: BTreeSet::new(),
    };
    let leases = NatsMembership::open(nats).await?;
    Ok(Cluster::new(Arc::new(leases), Arc::new(NatsRouter::new(nats)), Arc::clone(&parts.entropy), me))
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
fn state(parts: &Parts, commands: Arc<dyn Commands>, tools: Arc<Registry>, health: NodeHealth) -> State {
    State {
        commands,
        journal: Arc::new(parts.journal.clone()),
        read_model: Arc::clone(&parts.read_model),
        search: Arc::clone(&parts.search),
        index: Arc::clone(&parts.index),
        retriever: Arc::clone(&parts.retriever),
        tools,
        vault: Arc::clone(&parts.vault),
        blobs: Arc::clone(&parts.blobs),
        live: Arc::clone(&parts.live),
        cache: Arc::clone(&parts.cache),
        limiter: Arc::clone(&parts.limiter),
        clock: Arc::clone(&parts.clock),
        entropy: Arc::clone(&parts.entropy),
        health: Arc::new(health),
        metrics: Arc::new(ProcessMetrics),
        limits: lmao_gateway::Limits { rates: parts.rates.into(), ..lmao_gateway::Limits::default() },
        cors_origins: parts.cors_origins.clone(),
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
