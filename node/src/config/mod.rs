//! The configuration: defaults < file < environment < command line. Every key is known, every value is checked when it is
//! read, and where each value came from can be told. Nothing is opened here.

mod origin;
mod telemetry;
mod value;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, Serializer};

pub(crate) use origin::{Loaded, Overrides, is_ours, load};
pub(crate) use telemetry::{Endpoint, Ratio, Telemetry};
pub(crate) use value::{Blobs, Cache, Live, Models, Search, Sqlite, parse_address};

/// Everything that can be configured. The field names are the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where the server listens.
    #[serde(deserialize_with = "value::address")]
    pub listen: SocketAddr,
    /// The event log.
    pub log: Sqlite,
    /// Snapshots of states.
    pub snapshots: Sqlite,
    /// Secrets.
    pub vault: Sqlite,
    /// The tables.
    pub read_model: Sqlite,
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
    /// The language model; answers are extractive without one.
    pub llm: Llm,
    /// What the process tells of itself.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("lmao-data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            log: Sqlite::default(),
            snapshots: Sqlite::default(),
            vault: Sqlite::default(),
            read_model: Sqlite::default(),
            search: Search::default(),
            cache: Cache::default(),
            blobs: Blobs::default(),
            live: Live::default(),
            models: Models::default(),
            llm: Llm::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Config {
    /// What is wrong with keys taken together.
    fn fault(&self) -> Option<String> {
        self.llm.fault().or_else(|| self.telemetry.fault())
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
