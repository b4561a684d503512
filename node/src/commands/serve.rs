//! `lmao serve`: the server, until it is told to end.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use lmao_ports::Role;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::{
    Invocation,
    occupied::{Absent, lock},
};
use crate::{
    cli::Serve,
    compose::{DamagedIndex, FirstStart, Node, Parts, base_url},
    config::Config,
    exit::{Code, Stop},
    output::{Ink, Output},
    progress::ModelProgress,
    telemetry::{ProcessMetrics, Telemetry},
};

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends the process at once: nothing that was accepted is lost.
///
/// # Errors
/// When it cannot start, or the listener fails.
pub(crate) async fn run(invocation: &Invocation, serve: Serve) -> anyhow::Result<()> {
    let listen = serve.listen.map(|address| ("--listen", "listen".to_owned(), address.to_string()));
    let roles = serve.roles.map(|roles| ("--roles", "roles".to_owned(), roles));
    let config = invocation.configuration_with(listen.into_iter().chain(roles))?.config;
    let ending = signals()?;
    let telemetry = Telemetry::open(&config.telemetry, &config.roles.names())?;
    let served = serve_until(invocation, &config, ending).await;
    telemetry.close().await;
    served
}

async fn serve_until(invocation: &Invocation, config: &Config, mut ending: watch::Receiver<u32>) -> anyhow::Result<()> {
    let scrapers = scrapers(config, ending.clone()).await?;
    let started = tokio::select! {
        started = start(invocation, config) => started?,
        _ = ending.wait_for(|signals| *signals > 0) => return Ok(()),
    };
    let (node, listener) = started;
    node.serve(listener, async move {
        let _ = ending.wait_for(|signals| *signals > 0).await;
        tracing::info!("ending: no more requests are taken; a second signal ends at once");
    })
    .await?;
    if let Some(scrapers) = scrapers {
        // It ends with the same signal, and within a second.
        let _ = scrapers.await;
    }
    tracing::info!("ended");
    Ok(())
}

/// Answers scrapers at an address of their own, if there is one, until the process is to end.
async fn scrapers(config: &Config, mut ending: watch::Receiver<u32>) -> Result<Option<JoinHandle<()>>, Stop> {
    let Some(address) = config.telemetry.metrics_listen else { return Ok(None) };
    let listener = listen(address).await.map_err(|stop| stop.hint("telemetry.metrics_listen names it"))?;
    Ok(Some(tokio::spawn(async move {
        let ended = async move { _ = ending.wait_for(|signals| *signals > 0).await };
        if let Err(error) = lmao_gateway::serve_metrics(Arc::new(ProcessMetrics), listener, ended).await {
            tracing::error!(%error, "the metrics are no longer served");
        }
    })))
}

async fn start(invocation: &Invocation, config: &Config) -> anyhow::Result<(Node, TcpListener)> {
    let data = lock(config, Absent::Make).await?.for_server()?;
    let listener = listen(config.listen).await?;
    let parts = Parts::open(config, data, DamagedIndex::Refuse, Arc::new(ModelProgress::default())).await?;
    parts.models.begin();
    let node = Node::start(parts).await?;
    let password = invocation.variable("LMAO_ADMIN_PASSWORD");
    let first = match (config.is_distributed(), config.roles.has(Role::Gateway)) {
        (false, _) => node.first_start(password).await,
        // The workers may come later.
        (true, true) => {
            node.first_start_when_possible(password.map(str::to_owned));
            Ok(None)
        }
        (true, false) => Ok(None),
    };
    let first = match first {
        Ok(first) => first,
        Err(error) => {
            node.drain().await;
            return Err(error);
        }
    };
    // Nobody may be reading; that is no reason not to serve.
    let _ = greet(invocation.out, &node, listener.local_addr()?, first.as_ref());
    Ok((node, listener))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Stop> {
    TcpListener::bind(address).await.map_err(|error| {
        let stop = Stop::new(Code::Failed, format!("the server cannot listen on {address}"));
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "another program uses this port: stop it, or choose another with --listen",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 are for the administrator: choose another with --listen"
            }
            _ => "choose an address of this machine with --listen",
        };
        stop.because(error).hint(hint)
    })
}

fn greet(out: Output, node: &Node, address: SocketAddr, first: Option<&FirstStart>) -> Result<(), Stop> {
    let url = base_url(address);
    let parts = node.parts();
    let (data, answers) = (parts.data.path().display().to_string(), parts.answerer.name());
    if out.is_json() {
        let admin = first.map(|first| json!({ "username": first.username, "password": first.password }));
        return out.json_line(&json!({
            "started": url, "docs": format!("{url}/docs"), "data": data, "answers": answers, "admin": admin,
            "version": env!("CARGO_PKG_VERSION"),
        }));
    }
    out.line(format!("LMA-o {} at {}", env!("CARGO_PKG_VERSION"), out.paint(Ink::Bold, &url)))?;
    out.line(format!("  API      {url}/docs"))?;
    out.line(format!("  data     {data}"))?;
    out.line(format!("  answers  {answers}"))?;
    if let Some(FirstStart { username, password }) = first {
        let file = parts.data.admin_password().display().to_string();
        let password = match password {
            Some(password) => format!("the password {}", out.paint(Ink::Bold, password)),
            None => "the password that was given".to_owned(),
        };
        out.line(format!("\nFirst start: the account {username} has {password}"))?;
        out.line(format!("It is kept in {file} and not shown again.\n"))?;
    }
    Ok(())
}

/// Counts the signals that ask the process to end.
fn signals() -> anyhow::Result<watch::Receiver<u32>> {
    let (count, counted) = watch::channel(0);
    let mut signals = Signals::new().context("the operating system refuses to tell of signals")?;
    tokio::spawn(async move {
        loop {
            signals.next().await;
            count.send_modify(|count| *count += 1);
            if *count.borrow() > 1 {
                // Without running what is registered for the end: other threads are at work, and would find it gone.
                signal_hook::low_level::exit(i32::from(Code::Interrupted as u8));
            }
        }
    });
    Ok(counted)
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
