//! The values of the configuration that choose an adapter, each written as an address: `sqlite:`, `memory`, `nats://…`.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

/// Schemes of adapters that belong to the distributed system.
const PLANNED: [&str; 8] =
    ["nats", "postgres", "postgresql", "elasticsearch+http", "elasticsearch+https", "redis", "s3", "rediss"];

/// Why `text` names no adapter of this build; `usable` says what would.
fn refused(text: &str, usable: &str) -> String {
    let scheme = text.split(':').next().unwrap_or(text);
    if PLANNED.contains(&scheme) {
        // The rest of the address may hold a password.
        format!("{scheme}:… is not supported by this build yet; use {usable}")
    } else {
        format!("{text:?} is nothing that this build knows; use {usable}")
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

as_text!(Sqlite, Search, Cache, Blobs, Live, Models);

/// An SQLite file: `sqlite:` is the one in the data directory, `sqlite:PATH` another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Sqlite {
    /// The one in the data directory.
    #[default]
    InDataDir,
    /// This file.
    At(PathBuf),
}

impl Sqlite {
    /// Its file; `own` is the one in the data directory.
    pub(crate) fn or(&self, own: PathBuf) -> PathBuf {
        match self {
            Self::InDataDir => own,
            Self::At(path) => path.clone(),
        }
    }
}

impl FromStr for Sqlite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("sqlite:") {
            Some("") => Ok(Self::InDataDir),
            Some(path) => Ok(Self::At(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))),
            None => Err(refused(text, "\"sqlite:\" (in the data directory) or \"sqlite:PATH\"")),
        }
    }
}

impl fmt::Display for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InDataDir => f.write_str("sqlite:"),
            Self::At(path) => write!(f, "sqlite:{}", path.display()),
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
}

impl FromStr for Search {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(Self::Embedded),
            _ => Err(refused(text, "\"embedded\"")),
        }
    }
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("embedded")
    }
}

/// What may be forgotten at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Cache {
    /// In this process.
    #[default]
    Memory,
}

impl FromStr for Cache {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            _ => Err(refused(text, "\"memory\"")),
        }
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

/// Files and large payloads: `file:` is the folder in the data directory, `file:PATH` another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Blobs {
    /// The folder in the data directory.
    #[default]
    InDataDir,
    /// This folder.
    At(PathBuf),
}

impl Blobs {
    /// Its folder; `own` is the one in the data directory.
    pub(crate) fn or(&self, own: PathBuf) -> PathBuf {
        match self {
            Self::InDataDir => own,
            Self::At(path) => path.clone(),
        }
    }
}

impl FromStr for Blobs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("file:") {
            Some("") => Ok(Self::InDataDir),
            Some(path) => Ok(Self::At(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))),
            None => Err(refused(text, "\"file:\" (in the data directory) or \"file:PATH\"")),
        }
    }
}

impl fmt::Display for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InDataDir => f.write_str("file:"),
            Self::At(path) => write!(f, "file:{}", path.display()),
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
}

impl FromStr for Live {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            _ => Err(refused(text, "\"memory\"")),
        }
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

/// Where the embedding model comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Models {
    /// The shared cache; obtained on first use.
    #[default]
    Auto,
    /// None: search goes by words alone.
    Off,
    /// A directory that holds the model and the runtime.
    Dir(PathBuf),
}

impl FromStr for Models {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => match text.strip_prefix("dir:") {
                Some(path) if !path.is_empty() => Ok(Self::Dir(PathBuf::from(path))),
                _ => Err(refused(text, "\"auto\", \"off\" or \"dir:PATH\"")),
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
        }
    }
}
