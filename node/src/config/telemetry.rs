//! The configuration of what the process tells of itself.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, de};

use super::value::parse_address;

/// What is exported, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// The collector that traces, metrics and log messages go to (OTLP over gRPC); nothing is sent without one.
    pub otlp: Option<Endpoint>,
    /// Which part of the traces that begin here is kept; one that a client began is kept as the client says.
    pub sample: Ratio,
    /// What this system is called in traces and metrics.
    pub service_name: String,
    /// Where `/metrics` is answered without a token, beside the route for administrators.
    #[serde(deserialize_with = "optional_address")]
    pub metrics_listen: Option<SocketAddr>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { otlp: None, sample: Ratio(1.0), service_name: "lmao".to_owned(), metrics_listen: None }
    }
}

impl Telemetry {
    /// What is wrong with the keys taken together.
    pub(super) fn fault(&self) -> Option<String> {
        self.service_name.trim().is_empty().then(|| "telemetry.service_name: it is empty; give it a name".to_owned())
    }
}

fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_address(&text).map_err(de::Error::custom)).transpose()
}

/// The address of a collector: `http://HOST:PORT` or, with TLS, `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Endpoint(String);

impl Endpoint {
    /// As it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is spoken to by TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        match rest {
            Some(rest) if !rest.is_empty() && !rest.starts_with(['/', ':']) => Ok(Self(text)),
            // What comes before an @ may be a password.
            _ => {
                let shown = text.rsplit('@').next().unwrap_or_default();
                Err(format!("{shown:?} is no http:// or https:// address, for example http://127.0.0.1:4317"))
            }
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0
    }
}

/// A part of a whole: 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratio(f64);

/// It is a number.
impl Eq for Ratio {}

impl Ratio {
    /// 0 to 1.
    pub(crate) fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RatioVisitor)
    }
}

/// A file has a number, the environment and the command line have text.
struct RatioVisitor;

impl de::Visitor<'_> for RatioVisitor {
    type Value = Ratio;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 1")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Ratio, E> {
        if (0.0..=1.0).contains(&value) {
            return Ok(Ratio(value));
        }
        Err(E::custom(format!("{value} is not from 0 (no trace) to 1 (all of them)")))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Ratio, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Ratio, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ratio, E> {
        let value = text.trim().parse().map_err(|_| E::custom(format!("{text:?} is no number from 0 to 1")))?;
        self.visit_f64(value)
    }
}
