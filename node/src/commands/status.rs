//! `lmao status`: who lives, who works for what, and how far everything is.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::StreamExt as _;
use lmao_actors::Cluster;
use lmao_adapters::{
    clock::{OsEntropy, SystemClock},
    elastic::{self, ElasticIndex},
    nats::{Nats, NatsLog, NatsMembership, NatsRouter},
    postgres::PostgresReadModel,
};
use lmao_events::Position;
use lmao_ports::{Clock as _, Entropy as _, EventLog as _, Membership as _, NodeId, NodeInfo, Projection, SearchIndex};
use serde_json::{Value, json};

use super::{Invocation, session::running_client};
use crate::{
    compose::elasticsearch,
    config::{Config, Durable, Search, Tables, Url},
    exit::{Code, Stop},
    output::{Ink, Output, Table},
};

/// How long the first view of the leases may take.
const VIEW: Duration = Duration::from_secs(5);
/// How long the nodes have to say which streams they set aside.
const PARKED: Duration = Duration::from_secs(5);

/// Prints it.
///
/// # Errors
/// [`Code::Unreachable`] when nobody can be asked; [`Code::Partial`] when something does not work.
pub(crate) async fn run(invocation: &Invocation) -> anyhow::Result<()> {
    let config = invocation.configuration(None)?.config;
    match &config.log {
        Durable::Nats(url) if invocation.global.server.is_none() => distributed(invocation, &config, url).await,
        // A server that is named is asked itself.
        _ => one(invocation, &config).await,
    }
}

/// `lmao health`: whether a server works, for those who watch over it. Needs no token.
///
/// # Errors
/// [`Code::Unreachable`] when it does not answer; [`Code::Failed`] when a part does not work.
pub(crate) async fn health(invocation: &Invocation) -> anyhow::Result<()> {
    let config = invocation.configuration(None)?.config;
    let Some(base) = super::session::address(invocation, &config).await? else {
        return Err(nobody().into());
    };
    let health = crate::client::health(&base).await?;
    let is_failed = health["status"] == "failed";
    let printed = print_health(invocation.out, &health);
    if is_failed { Err(Stop::silent(Code::Failed).into()) } else { printed }
}

fn nobody() -> Stop {
    Stop::new(Code::Unreachable, "no server runs on this data directory")
        .hint("name one with --server, or start one with `lmao serve`")
}

/// Of a system that is one process: what that says of itself.
async fn one(invocation: &Invocation, config: &Config) -> anyhow::Result<()> {
    let Some(client) = running_client(invocation, config).await? else { return Err(nobody().into()) };
    let health = crate::client::health(client.base()).await?;
    let projections: Value = client.get("/admin/projections", &[]).await?;
    let out = invocation.out;
    if out.is_json() {
        return Ok(out.json(&json!({ "health": health, "projections": projections["projections"] }))?);
    }
    print_health(out, &health)?;
    print_projections(out, projections["projections"].as_array().map_or(&[], Vec::as_slice))
}

fn print_health(out: Output, health: &Value) -> anyhow::Result<()> {
    if out.is_json() {
        return Ok(out.json(health)?);
    }
    let mut table = Table::new(["PART", "STATE", ""]);
    for part in health["components"].as_array().into_iter().flatten() {
        let text = |field: &str| part[field].as_str().unwrap_or_default().to_owned();
        table.row([text("name"), text("state"), text("message")]);
    }
    Ok(out.table(&table)?)
}

/// Of a system of many nodes: what their leases and stores say. Needs no node that answers.
async fn distributed(invocation: &Invocation, config: &Config, url: &Url) -> anyhow::Result<()> {
    let nats = Nats::connect(url.reveal()).await?;
    let log = NatsLog::open(&nats).await?;
    let leases = Arc::new(NatsMembership::open(&nats).await?);
    let nodes = tokio::time::timeout(VIEW, async { leases.watch().next().await }).await.ok().flatten();
    let nodes = nodes.ok_or_else(|| Stop::new(Code::Unreachable, "the leases of the nodes cannot be read"))?;
    let table = lmao_actors::placement::Table::of(nodes.clone());
    let unowned = (0..=u8::MAX).filter(|bucket| table.owner(*bucket).is_none()).count();
    let entropy = Arc::new(OsEntropy);
    // Without a lease: it asks, and nobody counts on it.
    let me = NodeInfo {
        id: NodeId(entropy.id(SystemClock.now())),
        name: "lmao status".to_owned(),
        roles: BTreeSet::new(),
        reads: lmao_events::readable_set(),
        gave_up: BTreeSet::new(),
    };
    let cluster = Cluster::new(leases, Arc::new(NatsRouter::new(&nats)), entropy, me);
    let tail = log.tail().await?;
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|node| {
            json!({
                "id": node.id, "name": node.name, "roles": node.roles, "buckets": table.buckets_of(node.id).len(),
                "gave_up": node.gave_up, "reads": node.reads,
            })
        })
        .collect();
    let projections = vec![tables(config, tail).await, search(config, tail).await];
    let mut seen = cluster.watch();
    let parked = tokio::time::timeout(PARKED, async {
        let _ = seen.wait_for(|table| !table.nodes().is_empty() || nodes.is_empty()).await;
        cluster.commands().parked().await
    });
    let parked = match parked.await {
        Ok(Ok(parked)) => Ok(parked),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("not every node answered".to_owned()),
    };
    let is_well =
        unowned == 0 && parked.as_ref().is_ok_and(Vec::is_empty) && projections.iter().all(|p| p["error"].is_null());
    let out = invocation.out;
    let set_aside: Vec<Value> = parked
        .iter()
        .flatten()
        .map(|(stream, reason)| json!({ "stream": stream.to_string(), "reason": reason }))
        .collect();
    if out.is_json() {
        out.json(&json!({
            "log": { "id": log.id(), "tail": tail.0, "server": nats.server_version() },
            "nodes": nodes, "unowned_buckets": unowned, "projections": projections,
            "parked": set_aside, "parked_error": parked.as_ref().err(),
        }))?;
    } else {
        out.line(format!("log {} ends at {tail}, NATS {}", log.id(), nats.server_version()))?;
        print_nodes(out, &nodes)?;
        if unowned > 0 {
            out.line(format!("{}: {unowned} of 256 buckets have no worker", out.paint(Ink::Red, "unowned")))?;
        }
        print_projections(out, &projections)?;
        if let Err(error) = &parked {
            out.line(format!("streams set aside are not known: {error}"))?;
        }
        for one in &set_aside {
            out.line(format!(
                "set aside: {}: {}",
                one["stream"].as_str().unwrap_or_default(),
                one["reason"].as_str().unwrap_or_default()
            ))?;
        }
    }
    if is_well { Ok(()) } else { Err(Stop::silent(Code::Partial).into()) }
}

async fn tables(config: &Config, tail: Position) -> Value {
    let asked = async {
        let Tables::Postgres(url) = &config.read_model else { return Ok(None) };
        let tables = PostgresReadModel::open(url.reveal()).await?;
        anyhow::Ok(Some((tables.checkpoint().await?, tables.parked().await?.len())))
    };
    projection("read_model", tail, asked.await)
}

async fn search(config: &Config, tail: Position) -> Value {
    let asked = async {
        let Search::Elasticsearch(url) = &config.search else { return Ok(None) };
        anyhow::Ok(Some((
            ElasticIndex::open(&elasticsearch(url)?, elastic::Role::Search).await?.checkpoint().await?,
            0,
        )))
    };
    projection("search", tail, asked.await)
}

/// A row of what is computed from the log; one that is on each node alone is not seen from here.
fn projection(name: &str, tail: Position, asked: anyhow::Result<Option<(Position, usize)>>) -> Value {
    match asked {
        Ok(Some((position, parked))) => json!({
            "name": name, "position": position.0, "tail": tail.0, "lag": tail.0.saturating_sub(position.0), "parked": parked,
        }),
        Ok(None) => json!({ "name": name, "tail": tail.0, "note": "on each node" }),
        Err(error) => json!({ "name": name, "tail": tail.0, "error": format!("{error:#}") }),
    }
}

fn print_nodes(out: Output, nodes: &[Value]) -> anyhow::Result<()> {
    let mut table = Table::new(["NODE", "NAME", "ROLES", "BUCKETS"]);
    for node in nodes {
        let roles: Vec<&str> = node["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let text = |field: &str| node[field].as_str().unwrap_or_default().to_owned();
        table.row([text("id"), text("name"), roles.join(","), node["buckets"].to_string()]);
    }
    Ok(out.table(&table)?)
}

fn print_projections(out: Output, projections: &[Value]) -> anyhow::Result<()> {
    let mut table = Table::new(["PROJECTION", "POSITION", "OF", "LAG", ""]);
    for row in projections {
        let number = |field: &str| row[field].as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
        let lag =
            row["tail"].as_u64().zip(row["position"].as_u64()).map(|(tail, at)| tail.saturating_sub(at).to_string());
        let note = row["error"].as_str().or(row["note"].as_str()).unwrap_or_default().to_owned();
        let name = row["name"].as_str().unwrap_or_default().to_owned();
        table.row([name, number("position"), number("tail"), lag.unwrap_or_else(|| "-".to_owned()), note]);
    }
    Ok(out.table(&table)?)
}
