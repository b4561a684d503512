//! The servers that a system stands on: how each of them stands, what goes on without it, and its metric.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::future::join_all;
use lmao_adapters::{
    Standing, blobs::S3Blobs, elastic::ElasticIndex, nats::Nats, postgres::PostgresReadModel, redis::RedisCache,
};
use lmao_ports::{Component, HealthState, Projection as _, Role, SearchIndex as _};
use opentelemetry::{KeyValue, global};

use super::health::part;
use crate::config::Roles;

/// How often each is asked something, so that an idle node knows too, and finds one again that was away.
const EVERY: Duration = Duration::from_secs(2);
/// How long one may take to answer that.
const WITHIN: Duration = Duration::from_secs(5);

/// A server that this process uses.
#[derive(Clone)]
pub(crate) enum Server {
    /// The log, the vault, snapshots, and the way to other nodes.
    Nats(Nats),
    /// The tables.
    Postgres(Arc<PostgresReadModel>),
    /// The search index, as those see it who search.
    Elasticsearch(ElasticIndex),
    /// Caches and limits.
    Redis(Arc<RedisCache>),
    /// The files, and what is made of them.
    S3(S3Blobs),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Server {
    /// As health and metrics call it.
    fn name(&self) -> &'static str {
        match self {
            Self::Nats(_) => "nats",
            Self::Postgres(_) => "postgres",
            Self::Elasticsearch(_) => "elasticsearch",
            Self::Redis(_) => "redis",
            Self::S3(_) => "s3",
        }
    }

    /// The cache that all nodes share.
    pub(super) fn redis(&self) -> Option<Arc<RedisCache>> {
        match self {
            Self::Redis(cache) => Some(Arc::clone(cache)),
            _ => None,
        }
    }

    /// Whether the log is on it.
    pub(super) const fn keeps_the_log(&self) -> bool {
        matches!(self, Self::Nats(_))
    }

    /// How it stands, as far as is known without asking it.
    fn standing(&self) -> Standing {
        match self {
            Self::Nats(nats) => nats.standing(),
            Self::Postgres(tables) => tables.standing(),
            Self::Elasticsearch(index) => index.standing(),
            Self::Redis(cache) => cache.standing(),
            Self::S3(bucket) => bucket.standing(),
        }
    }

    /// Asks it something; what comes of it is seen in how it stands.
    async fn ask(&self) {
        match self {
            // It renews the lease all the time.
            Self::Nats(_) => {}
            Self::Postgres(tables) => drop(tables.checkpoint().await),
            Self::Elasticsearch(index) => drop(index.checkpoint().await),
            Self::Redis(cache) => drop(cache.check().await),
            Self::S3(bucket) => drop(bucket.check().await),
        }
    }

    /// What goes on without it on a node with these roles, and what does not.
    fn without(&self, roles: &Roles) -> (HealthState, &'static str) {
        match self {
            Self::Nats(_) if roles.has(Role::Gateway) => (
                HealthState::Degraded,
                "nothing can be written or said, such requests are answered 503; tables and index can still be read",
            ),
            Self::Nats(_) => (HealthState::Failed, "this node can do nothing until it is back"),
            Self::Postgres(_) => (
                HealthState::Degraded,
                "messages and files are still taken, searched and answered; lists and single rows are answered 503, and the \
                 tables catch up later",
            ),
            Self::Elasticsearch(_) => (
                HealthState::Degraded,
                "searches, and messages that need one, are answered 503; uploads are taken and wait until it is back",
            ),
            Self::Redis(_) => {
                (HealthState::Degraded, "everything goes on; limits and caches hold for each process on its own")
            }
            Self::S3(_) => (
                HealthState::Degraded,
                "what is indexed is searched and answered; uploads are answered 503, and documents that are being taken in \
                 may fail and be tried again once it is back",
            ),
        }
    }

    /// What health says of it.
    pub(super) fn component(&self, roles: &Roles) -> Component {
        match self.standing() {
            Standing::Up => part(self.name(), HealthState::Ok, "it answers".to_owned()),
            Standing::Down { why } => {
                let (state, without) = self.without(roles);
                part(self.name(), state, format!("away ({why}): {without}"))
            }
        }
    }
}

/// Asks each of them again and again, and measures how they stand, without end.
pub(super) fn watch(servers: Vec<Server>) -> impl Future<Output = ()> + Send + 'static {
    let up = global::meter("lmao")
        .u64_gauge("lmao.dependency.up")
        .with_unit("{server}")
        .with_description("1 while a server that this process uses answers, else 0.")
        .build();
    async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            join_all(servers.iter().map(|server| tokio::time::timeout(WITHIN, server.ask()))).await;
            for server in &servers {
                let name = KeyValue::new("lmao.dependency", server.name());
                up.record(u64::from(server.standing() == Standing::Up), &[name]);
            }
        }
    }
}
