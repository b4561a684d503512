//! The configuration of how often clients may ask.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// Requests that are admitted in a minute; 0 is without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rates {
    /// Of one person, but for what `documents` counts.
    pub requests: Rate,
    /// Of one person, to hand documents in, change and delete them.
    pub documents: Rate,
    /// Logins with one name from one address.
    pub logins: Rate,
    /// Of all people together.
    pub all: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        let lmao_gateway::Rates { requests, documents, logins, all } = lmao_gateway::Rates::default();
        Self { requests: Rate(requests), documents: Rate(documents), logins: Rate(logins), all: Rate(all) }
    }
}

impl From<Rates> for lmao_gateway::Rates {
    fn from(rates: Rates) -> Self {
        let Rates { requests, documents, logins, all } = rates;
        Self { requests: requests.0, documents: documents.0, logins: logins.0, all: all.0 }
    }
}

/// 0 to 1,000,000 in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Rate(pub(crate) u32);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RateVisitor)
    }
}

/// A file has a number, the environment and the command line have text.
struct RateVisitor;

impl de::Visitor<'_> for RateVisitor {
    type Value = Rate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0 (no limit) to 1000000")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Rate, E> {
        match u32::try_from(value) {
            Ok(rate @ 0..=1_000_000) => Ok(Rate(rate)),
            _ => Err(E::custom(format!("{value} is not from 0 (no limit) to 1000000 requests in a minute"))),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Rate, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
        let value = text.trim().parse();
        self.visit_u64(value.map_err(|_| E::custom(format!("{text:?} is no whole number of requests in a minute")))?)
    }
}
