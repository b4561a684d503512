//! How what the server says, or that it says nothing, becomes the port's error: what happened and what to do.

use elasticsearch::http::StatusCode;
use lmao_ports::{IndexError, Unavailable};
use serde_json::Value;

/// The name under which errors of this store are reported.
pub(super) const STORE: &str = "search index";

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The server said no.
    #[error(transparent)]
    Refused(Refusal),
    /// No answer: not reached, or cut off.
    #[error("no answer from {endpoint}")]
    Unreachable {
        endpoint: String,
        #[source]
        source: elasticsearch::Error,
    },
    /// Its certificate, or how it speaks TLS, is not accepted here; nothing was sent.
    #[error("{endpoint} is not trusted")]
    Untrusted {
        endpoint: String,
        #[source]
        source: elasticsearch::Error,
    },
    /// There was no answer for a while, and it was not asked.
    #[error("no answer from {endpoint} lately; it is asked again within seconds")]
    Away { endpoint: String },
    /// No answer in time. The request may have been carried out.
    #[error("no answer from {endpoint} within {seconds} s")]
    TimedOut { endpoint: String, seconds: u64 },
    /// An answer that is none of Elasticsearch's.
    #[error("an answer from {endpoint} that cannot be read")]
    Unreadable {
        endpoint: String,
        #[source]
        source: serde_json::Error,
    },
    /// Another process writes: its state or a passage is newer than ours.
    #[error("another process has taken over")]
    Fenced,
    /// It is the port's already.
    #[error(transparent)]
    Index(IndexError),
}

/// The server's no.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind}: {reason} (HTTP {status})")]
pub(super) struct Refusal {
    pub status: u16,
    /// The exception's type; empty where the answer has none.
    pub kind: String,
    pub reason: String,
}

impl Refusal {
    /// From an answer's body.
    pub(super) fn of(status: StatusCode, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        Self::from_error(status.as_u16(), &body["error"])
    }

    /// From an `error` object.
    pub(super) fn from_error(status: u16, error: &Value) -> Self {
        // The outer reason of a search is "all shards failed"; the first shard's says why.
        let cause = [&error["failed_shards"][0]["reason"], &error["root_cause"][0], error];
        let cause = cause.into_iter().find(|cause| cause["type"].is_string()).unwrap_or(error);
        let text = |name: &str| cause[name].as_str().unwrap_or_default().to_owned();
        let reason = error.as_str().map_or_else(|| text("reason"), str::to_owned);
        Self { status, kind: text("type"), reason }
    }

    /// Whether the same request may go through a moment later.
    fn is_passing(&self) -> bool {
        matches!(self.status, 429 | 502..=504) && self.kind != "cluster_block_exception"
    }

    fn advice(&self) -> &'static str {
        match (self.status, &*self.kind) {
            (_, "cluster_block_exception") if self.reason.contains("disk usage") => {
                "Elasticsearch made the index read-only since a node's disk is nearly full; free some space there, nothing \
                 committed is lost"
            }
            (
                _,
                "cluster_block_exception" | "master_not_discovered_exception" | "no_shard_available_action_exception",
            )
            | (503, _) => {
                "the Elasticsearch cluster is not ready (no master, or a shard without a copy that is alive); look at its \
                 health, it is tried again"
            }
            (401, _) => "Elasticsearch refuses the credentials; check user and password or the API key",
            (403, _) => {
                "the user may not do this; it needs the privileges `monitor` for the cluster and `all` for the indexes of the \
                 prefix"
            }
            (404, "index_not_found_exception") => {
                "the index is gone; start a projector, it is rebuilt from the log, or rebuild it with `lmao projections \
                 rebuild search`"
            }
            (429, _) => "Elasticsearch is overloaded; it is tried again",
            (413, _) => "a request is larger than Elasticsearch allows; raise its http.max_content_length",
            (400, _) => {
                "the index was made otherwise than this version makes it, or the server is too old; rebuild it with `lmao \
                 projections rebuild search`"
            }
            _ => "Elasticsearch did not do what it was asked for",
        }
    }
}

impl Error {
    /// Whether the same request may go through a moment later. Not after a timeout: that has taken long enough.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_passing(),
            Self::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// Whether the server may be away: it said nothing.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Away { .. })
    }

    /// It, for another leg of the request that it befell.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Refused(refusal) => Self::Refused(refusal.clone()),
            Self::Away { endpoint } | Self::Unreachable { endpoint, .. } => Self::Away { endpoint: endpoint.clone() },
            Self::TimedOut { endpoint, seconds } => Self::TimedOut { endpoint: endpoint.clone(), seconds: *seconds },
            // The cause was told with the first.
            other => IndexError::from(Unavailable::plain(STORE, other.to_string())).into(),
        }
    }

    /// The refusal's status.
    pub(super) fn status(&self) -> Option<u16> {
        if let Self::Refused(refusal) = self { Some(refusal.status) } else { None }
    }

    /// Whether there is no such index.
    pub(super) fn is_missing_index(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.kind == "index_not_found_exception")
    }
}

impl From<Error> for IndexError {
    fn from(error: Error) -> Self {
        let message = match &error {
            Error::Refused(refusal) => refusal.advice(),
            Error::Unreachable { .. } | Error::Away { .. } => {
                "Elasticsearch cannot be reached; check that it runs, its address and the network"
            }
            Error::Untrusted { .. } => {
                "TLS with Elasticsearch failed; check its certificate, and the `ca` in the URL that it has to be signed by"
            }
            Error::TimedOut { .. } => "Elasticsearch does not answer in time; look at its health and its load",
            Error::Unreadable { .. } => "what answers is not Elasticsearch, or of another version; check the address",
            Error::Fenced => {
                return Unavailable::plain(
                    STORE,
                    "another process feeds the index now; what was not committed here is taken in from its checkpoint on",
                )
                .into();
            }
            Error::Index(_) => "",
        };
        match error {
            Error::Index(error) => error,
            error => Unavailable::new(STORE, message, error).into(),
        }
    }
}

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use serde_json::json;

    use super::*;

    fn said(status: u16, error: &Value) -> String {
        let error = IndexError::from(Error::Refused(Refusal::from_error(status, error)));
        assert!(error.source().is_some());
        error.to_string()
    }

    #[test]
    fn refusals_say_what_to_do() {
        let flood = json!({"type": "cluster_block_exception", "reason":
            "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only block];"});
        assert!(said(429, &flood).contains("free some space"));
        assert!(!Refusal::from_error(429, &flood).is_passing());
        let red = json!({"type": "search_phase_execution_exception", "reason": "all shards failed", "root_cause": []});
        assert!(said(503, &red).contains("not ready"));
        let busy = json!({"type": "es_rejected_execution_exception", "reason": "rejected"});
        assert!(said(429, &busy).contains("overloaded"));
        assert!(Refusal::from_error(429, &busy).is_passing());
        assert!(said(401, &json!({"type": "security_exception", "reason": "x"})).contains("credentials"));
        assert!(said(403, &json!({"type": "security_exception", "reason": "x"})).contains("privileges"));
        assert!(said(404, &json!({"type": "index_not_found_exception", "reason": "x"})).contains("rebuilt"));
        assert!(said(400, &json!({"type": "strict_dynamic_mapping_exception", "reason": "x"})).contains("rebuild"));
    }
}
