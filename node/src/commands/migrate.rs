//! `lmao migrate`: makes what the servers of the distributed system have to hold, or brings it up to date.

use std::collections::BTreeSet;

use lmao_adapters::{
    elastic::{self, ElasticIndex},
    nats::{self, Nats, Replicas},
    postgres::{self, PostgresReadModel},
};

use lmao_ports::{Projection as _, SearchIndex as _};

use super::Invocation;
use crate::{
    cli::Migrate,
    compose::elasticsearch,
    config::{Blobs, Config, Durable, Live, Search, Tables},
};

/// Runs the command.
///
/// # Errors
/// When a server cannot be used, or holds what a newer build has made. What was done before stays, and it can be repeated.
pub(crate) async fn run(invocation: &Invocation, migrate: Migrate) -> anyhow::Result<()> {
    let config = invocation.configuration(None)?.config;
    let replicas = if migrate.replicas == 3 { Replicas::Three } else { Replicas::One };
    let mut changes: Vec<String> = vec![];
    for url in servers(&config) {
        let nats = Nats::connect(&url).await?;
        changes.extend(nats::migrate(&nats, replicas).await?.iter().map(ToString::to_string));
    }
    if let Tables::Postgres(url) = &config.read_model
        && !is_fit(url.reveal()).await
    {
        postgres::migrate(url.reveal()).await?;
        changes.push("made the tables, or brought them up to date".to_owned());
    }
    if let Search::Elasticsearch(url) = &config.search {
        // Makes what is missing, and begins anew what an older build made; what a newer one made is an error.
        let index = ElasticIndex::open(&elasticsearch(url)?, elastic::Role::Project).await?;
        // Opening waits for nobody; this does.
        index.checkpoint().await?;
    }
    let out = invocation.out;
    if out.is_json() {
        return Ok(out.json(&changes)?);
    }
    if changes.is_empty() {
        return Ok(out.line("nothing to do: everything is as this build needs it")?);
    }
    Ok(changes.iter().try_for_each(|change| out.line(change))?)
}

/// Whether the tables are those of this build.
async fn is_fit(url: &str) -> bool {
    match PostgresReadModel::open(url).await {
        Ok(tables) => tables.checkpoint().await.is_ok(),
        Err(_) => false,
    }
}

/// Each NATS server that the configuration names, once.
fn servers(config: &Config) -> BTreeSet<String> {
    let durable = [&config.log, &config.snapshots, &config.vault].into_iter().filter_map(|store| match store {
        Durable::Nats(url) => Some(url),
        Durable::InDataDir | Durable::Sqlite(_) => None,
    });
    let blobs = if let Blobs::Nats(url) = &config.blobs { Some(url) } else { None };
    let live = if let Live::Nats(url) = &config.live { Some(url) } else { None };
    durable.chain(blobs).chain(live).map(|url| url.reveal().to_owned()).collect()
}
