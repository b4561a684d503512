//! Where configuration comes from, in layers, and which layer each value is from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use figment::{
    Error, Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map},
};
use serde_json::Value;

use super::Config;
use crate::exit::{Code, Stop};

/// Environment variables with our prefix that are no configuration keys.
const RESERVED: [&str; 7] = ["SERVER", "TOKEN", "CONFIG", "ADMIN_PASSWORD", "MODEL_CACHE", "LOG_FILTER", "LOG_FORMAT"];
const PREFIX: &str = "LMAO_";
/// Variables that OpenTelemetry has defined for everybody, and the keys that they set; our own of the same key win.
const STANDARD: [(&str, &str); 2] =
    [("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp"), ("OTEL_SERVICE_NAME", "telemetry.service_name")];
/// Beginnings of those that tests, simulations and benchmarks use.
const RESERVED_PREFIXES: [&str; 3] = ["TEST_", "SIM_", "BENCH_"];

/// What the command line sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// `--config` or `LMAO_CONFIG`.
    pub file: Option<PathBuf>,
    /// Option, key and value, in the order in which they win.
    pub flags: Vec<(&'static str, String, String)>,
}

/// A configuration and where each key's value comes from.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The effective values.
    pub config: Config,
    /// Key in dotted form -> `default`, the file's path, the variable or the option.
    pub origins: BTreeMap<String, String>,
}

/// Reads the configuration from its layers; `environment` are all variables of the process.
///
/// # Errors
/// [`Code::Usage`], naming the key and where it stands.
pub(crate) fn load(
    overrides: &Overrides,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Stop> {
    let mut figment = Figment::new();
    if let Some(path) = &overrides.file {
        if let Err(error) = std::fs::File::open(path) {
            return Err(Stop::new(Code::Usage, format!("the configuration file {} cannot be read", path.display()))
                .because(error));
        }
        figment = figment.merge(Toml::file_exact(path));
    }
    for setting in variables(environment) {
        figment = figment.merge(setting);
    }
    for (option, key, value) in &overrides.flags {
        figment = figment.merge(Setting { origin: (*option).to_owned(), key: key.clone(), value: value.clone() });
    }
    let mut config: Config = figment.extract().map_err(|error| refused(&error))?;
    let followed = config.follow_log(|key| figment.find_metadata(key).is_some());
    if let Some(fault) = config.fault() {
        return Err(Stop::new(Code::Usage, fault));
    }
    let origins = flatten(&config).into_iter().map(|(key, _)| {
        let default = if followed.contains(&key.as_str()) { "default: as log" } else { "default" };
        // A list has one origin: layers replace it as a whole.
        let place = if key.starts_with("tools.") { "tools" } else { &key };
        let origin = figment.find_metadata(place).map_or_else(|| default.to_owned(), source);
        (key, origin)
    });
    let origins = origins.collect();
    Ok(Loaded { config, origins })
}

impl Loaded {
    /// Every key in dotted form with its value as text, `None` where none is set; secrets are masked.
    pub(crate) fn entries(&self) -> Vec<(String, Option<String>)> {
        flatten(&self.config)
    }
}

/// One key set from one place. The value is text, whatever it looks like.
struct Setting {
    origin: String,
    key: String,
    value: String,
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Serialized::default(&self.key, &self.value).data()
    }
}

/// Whether a variable of the process is of use here.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) || STANDARD.iter().any(|(known, _)| *known == name)
}

/// `LMAO_LLM__BASE_URL=x` -> `llm.base_url = x`. An empty variable counts as absent.
fn variables(environment: impl IntoIterator<Item = (String, String)>) -> Vec<Setting> {
    let setting = |(name, value): (String, String)| {
        if let Some((_, key)) = STANDARD.iter().find(|(known, _)| *known == name && !value.is_empty()) {
            return Some(Setting { origin: name, key: (*key).to_owned(), value });
        }
        let rest = name.strip_prefix(PREFIX).filter(|rest| !value.is_empty() && !rest.is_empty())?;
        if RESERVED.contains(&rest) || RESERVED_PREFIXES.iter().any(|prefix| rest.starts_with(prefix)) {
            return None;
        }
        let key = rest.to_lowercase().replace("__", ".");
        Some(Setting { origin: name, key, value })
    };
    let mut settings: Vec<Setting> = environment.into_iter().filter_map(setting).collect();
    // What comes later wins.
    settings.sort_by_key(|setting| (setting.key.clone(), setting.origin.starts_with(PREFIX)));
    settings
}

fn source(metadata: &Metadata) -> String {
    match metadata.source.as_ref().and_then(|source| source.file_path()) {
        Some(path) => path.display().to_string(),
        None => metadata.name.clone().into_owned(),
    }
}

fn refused(error: &Error) -> Stop {
    let key = error.path.join(".");
    let place = error.metadata.as_ref().map(source).unwrap_or_default();
    let secret = key.ends_with("_key") || key.starts_with("tools");
    let what = match &error.kind {
        Kind::UnknownField(field, known) => {
            let parent = error.path.iter().filter(|part| *part != field).cloned().collect::<Vec<_>>();
            let name = parent.into_iter().chain([field.clone()]).collect::<Vec<_>>().join(".");
            let stop = Stop::new(Code::Usage, at(&place, &format!("{name:?} is no configuration key")));
            return stop.hint(format!("known here: {}", known.join(", ")));
        }
        Kind::Message(message) => message.clone(),
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if secret => format!("expected {expected}"),
        kind => kind.to_string(),
    };
    let message = if key.is_empty() { what } else { format!("{key}: {what}") };
    let stop = Stop::new(Code::Usage, at(&place, &message));
    if place == "LMAO_LOG" { stop.hint("the filter of log messages is LMAO_LOG_FILTER") } else { stop }
}

fn at(place: &str, message: &str) -> String {
    if place.is_empty() { message.to_owned() } else { format!("{place}: {message}") }
}

fn flatten(config: &Config) -> Vec<(String, Option<String>)> {
    fn walk(prefix: &str, value: &Value, to: &mut Vec<(String, Option<String>)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&key, value, to);
                }
            }
            Value::Null => to.push((prefix.to_owned(), None)),
            Value::String(text) => to.push((prefix.to_owned(), Some(without_password(text)))),
            other => to.push((prefix.to_owned(), Some(other.to_string()))),
        }
    }
    let mut entries = vec![];
    walk("", &serde_json::to_value(config).unwrap_or_default(), &mut entries);
    entries
}

/// `http://user:secret@host/` -> `http://********@host/`.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = Path::new(rest).iter().next().and_then(|part| part.to_str()).unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((user, host)) => format!("{scheme}://********@{host}{}", &rest[user.len() + 1 + host.len()..]),
        None => text.to_owned(),
    }
}
