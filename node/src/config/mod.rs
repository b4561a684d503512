//! The configuration: defaults < file < environment < command line. Every key is known, every value is checked when it is
//! read, and where each value came from can be told. Nothing is opened here.

mod origin;
mod rates;
mod roles;
mod telemetry;
mod tokens;
mod tools;
mod value;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use lmao_adapters::models::{Role, hub_names, is_hub_name};
use serde::{Deserialize, Serialize, Serializer};

pub(crate) use origin::{Loaded, Overrides, is_ours, load};
pub(crate) use rates::Rates;
pub(crate) use roles::Roles;
pub(crate) use telemetry::{Endpoint, Ratio, Telemetry};
pub(crate) use tokens::ContextTokens;
pub(crate) use tools::{HttpTool, Tools};
pub(crate) use value::{Blobs, Cache, Durable, Live, Models, Search, Tables, Url, parse_address};

/// Everything that can be configured. The field names are the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where the server listens.
    #[serde(deserialize_with = "value::address")]
    pub listen: SocketAddr,
    /// What this node does.
    pub roles: Roles,
    /// The event log.
    pub log: Durable,
    /// Snapshots of states.
    pub snapshots: Durable,
    /// Secrets.
    pub vault: Durable,
    /// The key that wraps them, 64 hexadecimal digits; the data directory's own without one.
    pub master_key: Option<ApiKey>,
    /// The tables.
    pub read_model: Tables,
    /// The search index.
    pub search: Search,
    /// What may be forgotten.
    pub cache: Cache,
    /// Files and large payloads.
    pub blobs: Blobs,
    /// Live frames.
    pub live: Live,
    /// Where the embedding model comes from.
    pub models: Models,
    /// Where the embedding model for code comes from: it works beside the other. Off unless set: it is a download of some 640
    /// MB, and takes the CPU of several passages for each of code.
    pub domain_model: Models,
    /// Where the cross-encoder comes from that puts the best results in order. Off unless set: it makes each search a
    /// matter of seconds on a small machine.
    pub reranker: Models,
    /// The language model; answers are extractive without one.
    pub llm: Llm,
    /// Tools that run elsewhere.
    pub tools: Tools,
    /// How often clients may ask.
    pub rates: Rates,
    /// Web pages of which origins may call; none unless set.
    pub cors_origins: lmao_gateway::Origins,
    /// What the process tells of itself.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("lmao-data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            roles: Roles::default(),
            log: Durable::default(),
            snapshots: Durable::default(),
            vault: Durable::default(),
            master_key: None,
            read_model: Tables::default(),
            search: Search::default(),
            cache: Cache::default(),
            blobs: Blobs::default(),
            live: Live::default(),
            models: Models::default(),
            domain_model: Models::Off,
            reranker: Models::Off,
            llm: Llm::default(),
            tools: Tools::default(),
            rates: Rates::default(),
            cors_origins: lmao_gateway::Origins::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Config {
    /// Where the log is on NATS, so is what else NATS can hold, unless it is set. Returns the keys that follow.
    fn follow_log(&mut self, is_set: impl Fn(&str) -> bool) -> Vec<&'static str> {
        let Durable::Nats(url) = &self.log else { return vec![] };
        let mut followed = vec![];
        let mut follow = |key: &'static str| {
            let follows = !is_set(key);
            followed.extend(follows.then_some(key));
            follows
        };
        if follow("snapshots") {
            self.snapshots = Durable::Nats(url.clone());
        }
        if follow("vault") {
            self.vault = Durable::Nats(url.clone());
        }
        if follow("blobs") {
            self.blobs = Blobs::Nats(url.clone());
        }
        if follow("live") {
            self.live = Live::Nats(url.clone());
        }
        followed
    }

    /// Whether other nodes work on the same log.
    pub(crate) fn is_distributed(&self) -> bool {
        matches!(self.log, Durable::Nats(_))
    }

    /// What is wrong with the keys taken together.
    fn fault(&self) -> Option<String> {
        let shares = |is_shared: bool, key: &str, what: &str| {
            (!is_shared)
                .then(|| format!("roles is {} and {key} is a store of this node alone: name {what}", self.roles))
        };
        let local_log = || {
            let stores = [("snapshots", &self.snapshots), ("vault", &self.vault)];
            let (key, _) = stores.into_iter().find(|(_, store)| matches!(store, Durable::Nats(_)))?;
            Some(format!("{key} is on NATS and log is not: a log of this machine goes with stores of this machine"))
        };
        let shared_log = || {
            let stores = [("snapshots", &self.snapshots), ("vault", &self.vault)];
            let blobs = (self.blobs == Blobs::InDataDir).then_some("blobs");
            let live = (self.live == Live::Memory).then_some("live");
            let store = stores.into_iter().find(|(_, store)| !matches!(store, Durable::Nats(_))).map(|(key, _)| key);
            let key = store.or(blobs).or(live)?;
            Some(format!("log is on NATS and {key} is not: nodes that share a log share it too"))
        };
        let stores = if self.is_distributed() { shared_log() } else { local_log() };
        let stores = stores.or_else(|| self.model_fault());
        let stores =
            stores.or_else(|| self.llm.fault()).or_else(|| self.tools.fault()).or_else(|| self.telemetry.fault());
        if self.roles.is_all() {
            return stores;
        }
        stores
            .or_else(|| shares(self.is_distributed(), "log", "a NATS server, nats://HOST:PORT"))
            .or_else(|| shares(matches!(self.read_model, Tables::Postgres(_)), "read_model", "a Postgres server"))
            .or_else(|| shares(matches!(self.search, Search::Elasticsearch(_)), "search", "an Elasticsearch server"))
    }
}

impl Config {
    /// A model of the hub at a key that it does not suit, or one for code without one for everything else.
    fn model_fault(&self) -> Option<String> {
        let keys = [
            ("models", Role::General, &self.models),
            ("domain_model", Role::Domain, &self.domain_model),
            ("reranker", Role::Reranker, &self.reranker),
        ];
        let unknown = keys.into_iter().find_map(|(key, role, model)| match model {
            Models::Hub(name) if !is_hub_name(role, name) => {
                let known = hub_names(role).join(", ");
                Some(format!(
                    "{key}: {name:?} is no model that this build knows here; use {known}, or `dir:PATH` with a manifest"
                ))
            }
            _ => None,
        });
        let alone = self.models == Models::Off && self.domain_model != Models::Off;
        unknown.or_else(|| {
            alone.then(|| {
                "domain_model is set and models is off: the model for code works beside one for everything else"
                    .to_owned()
            })
        })
    }
}

/// An OpenAI-compatible endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Llm {
    /// Its base URL, for example `http://127.0.0.1:11434/v1`.
    pub base_url: Option<String>,
    /// The model to ask for.
    pub model: Option<String>,
    /// The key to send, where the endpoint wants one.
    pub api_key: Option<ApiKey>,
    /// The model's `tokenizer.json`, for one whose name does not tell it: tokens are estimated on the high side without.
    pub tokenizer: Option<PathBuf>,
    /// Tokens that one completion may have, read and written together; by the model's name, else 16384.
    pub context_tokens: Option<ContextTokens>,
    /// Whether it may reword a question before it is searched for: one short call more for each question, at most two
    /// seconds; what it makes of the question is checked.
    pub rewrite_questions: bool,
}

impl Llm {
    /// Base URL and model, when an endpoint is configured.
    pub(crate) fn endpoint(&self) -> Option<(&str, &str)> {
        Some((self.base_url.as_deref()?, self.model.as_deref()?))
    }

    /// What is wrong with the keys taken together.
    fn fault(&self) -> Option<String> {
        match (&self.base_url, &self.model) {
            (Some(url), _) if !(url.starts_with("http://") || url.starts_with("https://")) => {
                Some(format!("llm.base_url: {url:?} is not an http:// or https:// address"))
            }
            (Some(_), None) => Some("llm.base_url is set and llm.model is not: name the model to ask for".to_owned()),
            (None, Some(_)) => Some("llm.model is set and llm.base_url is not: name the endpoint to ask".to_owned()),
            (None, None) if self.context_tokens.is_some() => {
                Some("llm.context_tokens is set and llm.base_url is not: name the endpoint to ask".to_owned())
            }
            (None, None) if self.rewrite_questions => {
                Some("llm.rewrite_questions is set and llm.base_url is not: name the endpoint to ask".to_owned())
            }
            (None, None) if self.tokenizer.is_some() => {
                Some("llm.tokenizer is set and llm.base_url is not: name the endpoint to ask".to_owned())
            }
            (None, None) if self.api_key.is_some() => {
                Some("llm.api_key is set and llm.base_url is not: name the endpoint to ask".to_owned())
            }
            _ => None,
        }
    }
}

/// A secret that is read from the configuration and never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct ApiKey(String);

impl ApiKey {
    /// The secret itself, for the one who sends it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl Serialize for ApiKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("********")
    }
}

#[cfg(test)]
mod tests;
