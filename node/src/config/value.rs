//! The values of the configuration that choose an adapter, each written as an address: `sqlite:`, `memory`, `nats://…`.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use lmao_adapters::{
    blobs::S3Options,
    models::{ModelSource, Role, is_hub_name},
};
use serde::{Deserialize, Deserializer, Serialize, de};

/// Why `text` names no adapter of this build; `usable` says what would.
fn refused(text: &str, usable: &str) -> String {
    let scheme = scheme(text);
    if text.contains("://") {
        // The rest of the address may hold a password.
        format!("{scheme}://… is nothing that this build knows here; use {usable}")
    } else {
        format!("{text:?} is nothing that this build knows; use {usable}")
    }
}

fn scheme(text: &str) -> &str {
    text.split(':').next().unwrap_or(text)
}

/// The address of a server. May hold a password, and is therefore masked where it is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url(String);

impl Url {
    const NATS: &[&str] = &["nats", "tls"];
    const POSTGRES: &[&str] = &["postgres", "postgresql"];
    const ELASTICSEARCH: &[&str] = &["elasticsearch+http", "elasticsearch+https"];
    const REDIS: &[&str] = &["redis", "rediss"];
    const S3: &[&str] = &["s3"];

    /// An address of one of these schemes.
    fn of(schemes: &[&str], text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        (schemes.contains(&scheme) && !rest.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The address itself, for the one who connects.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://…", scheme(&self.0))
    }
}

/// An address to listen on.
///
/// # Errors
/// What was expected.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "an address has an IP and a port, for example 127.0.0.1:8000 or [::1]:8000")
}

/// As [`parse_address`], for a field of the configuration.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// Serializes a type by its `Display` and `FromStr`.
macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_text!(Durable, Tables, Search, Cache, Blobs, Live, Models);

/// Where the write side keeps its state: the log, the vault, the snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Durable {
    /// `sqlite:`, the file in the data directory.
    #[default]
    InDataDir,
    /// `sqlite:PATH`, this file.
    Sqlite(PathBuf),
    /// `nats://…`, JetStream.
    Nats(Url),
}

impl FromStr for Durable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let file = sqlite(text).map(|path| path.map_or(Self::InDataDir, Self::Sqlite));
        let nats = || Url::of(Url::NATS, text).map(Self::Nats);
        file.or_else(nats).ok_or_else(|| {
            refused(text, "\"sqlite:\" (in the data directory), \"sqlite:PATH\" or \"nats://HOST:PORT\"")
        })
    }
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InDataDir => f.write_str("sqlite:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Nats(url) => f.write_str(url.reveal()),
        }
    }
}

/// The tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Tables {
    /// `sqlite:`, the file in the data directory.
    #[default]
    InDataDir,
    /// `sqlite:PATH`, this file.
    Sqlite(PathBuf),
    /// `postgres://…`.
    Postgres(Url),
}

impl FromStr for Tables {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let file = sqlite(text).map(|path| path.map_or(Self::InDataDir, Self::Sqlite));
        let postgres = || Url::of(Url::POSTGRES, text).map(Self::Postgres);
        file.or_else(postgres).ok_or_else(|| {
            refused(text, "\"sqlite:\" (in the data directory), \"sqlite:PATH\" or \"postgres://USER@HOST/DATABASE\"")
        })
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InDataDir => f.write_str("sqlite:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(url.reveal()),
        }
    }
}

/// The search index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Search {
    /// In the data directory.
    #[default]
    Embedded,
    /// `elasticsearch+http://…`.
    Elasticsearch(Url),
}

impl FromStr for Search {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        let url = Url::of(Url::ELASTICSEARCH, text).map(Self::Elasticsearch);
        url.ok_or_else(|| refused(text, "\"embedded\" or \"elasticsearch+http://HOST:PORT\""))
    }
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Elasticsearch(url) => f.write_str(url.reveal()),
        }
    }
}

/// What may be forgotten at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Cache {
    /// In this process.
    #[default]
    Memory,
    /// `redis://…`.
    Redis(Url),
}

impl FromStr for Cache {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        let url = Url::of(Url::REDIS, text).map(Self::Redis);
        url.ok_or_else(|| refused(text, "\"memory\" or \"redis://HOST:PORT\""))
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(url) => f.write_str(url.reveal()),
        }
    }
}

/// Files and large payloads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Blobs {
    /// `file:`, the folder in the data directory.
    #[default]
    InDataDir,
    /// `file:PATH`, this folder.
    At(PathBuf),
    /// `nats://…`, a stream of their own.
    Nats(Url),
    /// `s3://BUCKET/PREFIX?endpoint=…&region=…`.
    S3(Url),
}

impl FromStr for Blobs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let file = path(text, "file:").map(|path| path.map_or(Self::InDataDir, Self::At));
        let nats = || Url::of(Url::NATS, text).map(Self::Nats);
        if text.starts_with("s3:") {
            text.parse::<S3Options>().map_err(|error| error.to_string())?;
        }
        let s3 = || Url::of(Url::S3, text).map(Self::S3);
        file.or_else(nats).or_else(s3).ok_or_else(|| {
            refused(
                text,
                "\"file:\" (in the data directory), \"file:PATH\", \"nats://HOST:PORT\" or \"s3://BUCKET/PREFIX\"",
            )
        })
    }
}

impl fmt::Display for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InDataDir => f.write_str("file:"),
            Self::At(path) => write!(f, "file:{}", path.display()),
            Self::Nats(url) | Self::S3(url) => f.write_str(url.reveal()),
        }
    }
}

/// Tokens and progress for whoever is watching.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Live {
    /// In this process.
    #[default]
    Memory,
    /// `nats://…`, without storing anything.
    Nats(Url),
}

impl FromStr for Live {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        let url = Url::of(Url::NATS, text).map(Self::Nats);
        url.ok_or_else(|| refused(text, "\"memory\" or \"nats://HOST:PORT\""))
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Nats(url) => f.write_str(url.reveal()),
        }
    }
}

/// `sqlite:` is `Some(None)`, `sqlite:PATH` is `Some(Some(PATH))`.
fn sqlite(text: &str) -> Option<Option<PathBuf>> {
    path(text, "sqlite:")
}

fn path(text: &str, prefix: &str) -> Option<Option<PathBuf>> {
    let path = text.strip_prefix(prefix)?;
    let path = path.strip_prefix("//").unwrap_or(path);
    Some((!path.is_empty()).then(|| PathBuf::from(path)))
}

/// Where a model comes from: the general one (`models`), that for code (`domain_model`), the cross-encoder (`reranker`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Models {
    /// The one that is suggested, in the shared cache; obtained on first use.
    #[default]
    Auto,
    /// None.
    Off,
    /// A directory that holds the model and the runtime.
    Dir(PathBuf),
    /// Another one of the model hub, by its name.
    Hub(String),
}

impl Models {
    /// The same in the words of the one who obtains it.
    pub(crate) fn source(&self) -> ModelSource {
        match self {
            Self::Auto => ModelSource::Auto,
            Self::Off => ModelSource::Off,
            Self::Dir(path) => ModelSource::Dir(path.clone()),
            Self::Hub(name) => ModelSource::Hub(name.clone()),
        }
    }
}

impl FromStr for Models {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => match text.strip_prefix("dir:") {
                Some(path) if !path.is_empty() => Ok(Self::Dir(PathBuf::from(path))),
                // Whether it suits the key is asked where the key is known.
                None if [Role::General, Role::Domain, Role::Reranker].iter().any(|role| is_hub_name(*role, text)) => {
                    Ok(Self::Hub(text.to_owned()))
                }
                _ => Err(refused(text, "\"auto\", \"off\", \"dir:PATH\" or the name of a model of the hub")),
            },
        }
    }
}

impl fmt::Display for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::Hub(name) => f.write_str(name),
        }
    }
}
