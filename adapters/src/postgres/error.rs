//! What Postgres' error codes mean to people: what happened, and what to do.

use lmao_ports::{ProjectionError, Unavailable};
use sqlx::Error;

use crate::tls;

/// The name of the store in errors.
pub(super) const STORE: &str = "postgres";

/// What a failed statement says about its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// They do not fit, now or later.
    Refused,
    /// The store failed.
    Failed,
}

/// The code that the server gave, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn code(error: &Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

pub(super) fn outcome(error: &Error) -> Outcome {
    match code(error) {
        // Data that a type cannot hold, broken constraints, and limits such as the length of an index's key.
        Some(code) if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// Whether the server may be away: it did not answer, or says that it is stopping or starting.
fn is_silence(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::PoolTimedOut => true,
        _ => code(error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08")),
    }
}

/// An error that may be the server's silence.
pub(super) trait Silence: From<Unavailable> + std::fmt::Display {
    /// Whether it is.
    fn is_silence(&self) -> bool;
}

impl Silence for Unavailable {
    fn is_silence(&self) -> bool {
        let source = self.source.as_ref().and_then(|source| source.downcast_ref::<Error>());
        source.is_some_and(is_silence)
    }
}

impl Silence for ProjectionError {
    fn is_silence(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.is_silence())
    }
}

/// The error as the ports have it.
pub(super) fn unavailable(error: Error) -> Unavailable {
    Unavailable::new(STORE, explain(&error), error)
}

/// What happened and what to do.
pub(super) fn explain(error: &Error) -> &'static str {
    match error {
        Error::PoolTimedOut => {
            "no connection within the time for it; start the server, or check the host and port in the URL"
        }
        Error::PoolClosed => "this process is ending",
        Error::Io(error) if !tls::is_refused(error) => {
            "the server cannot be reached; start it, or check the host and port in the URL"
        }
        Error::Tls(_) | Error::Io(_) => {
            "TLS with the server failed; check `sslmode` and `sslrootcert` in the URL and the server's certificate"
        }
        Error::Configuration(_) => {
            "the URL cannot be used; write it as postgres://user:password@host:port/database?schema=name"
        }
        Error::Protocol(_) => "what answers does not speak Postgres' protocol; check the host and port in the URL",
        Error::ColumnNotFound(_) | Error::ColumnDecode { .. } | Error::Decode(_) | Error::RowNotFound => {
            "the tables are not as this build makes them; run `lmao migrate` of this build"
        }
        _ => code(error).map_or("the driver failed", |code| explain_code(&code)),
    }
}

fn explain_code(code: &str) -> &'static str {
    match code {
        "28P01" | "28000" => "the server refuses this user or password; correct them in the URL",
        "3D000" => "there is no such database; create it, or correct its name in the URL",
        "42P01" | "3F000" | "42703" => NOT_MIGRATED,
        "42501" => "this user may not do that; grant it the rights on the schema and its tables",
        "25006" => "the server is read-only, a standby perhaps; connect to the primary",
        "53100" => "the server's disk is full, nothing was stored; free some space there",
        "53200" => "the server is out of memory; give it more, or lower its `work_mem`",
        "53300" => "the server has no connection left; raise its `max_connections`, or stop other clients",
        "57014" | "55P03" => {
            "a statement took longer than its time; try again, and look at the server's load and locks"
        }
        "57P01" | "57P02" | "57P03" => "the server is stopping or starting; try again",
        "25P03" | "57P05" => "the server closed a connection on which nothing was said for too long; try again",
        "40001" | "40P01" => "two transactions stood in each other's way; try again",
        _ if code.starts_with("58") || code.starts_with("XX") => {
            "the server met a fault of its disk or its files; look at its log"
        }
        _ if code.starts_with("08") => "the connection to the server broke; try again",
        _ if code.starts_with("23") => "a rule of the schema refused the change",
        _ => "the server refused a statement",
    }
}

pub(super) const NOT_MIGRATED: &str = "the tables are missing or of an older build; run `lmao migrate`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_says_what_to_do() {
        for (code, text) in [
            ("28P01", "password"),
            ("3D000", "create it"),
            ("42P01", "lmao migrate"),
            ("25006", "primary"),
            ("53100", "free some space"),
            ("53300", "max_connections"),
            ("57014", "try again"),
            ("57P01", "try again"),
            ("99999", "refused"),
        ] {
            assert!(explain_code(code).contains(text), "{code}: {}", explain_code(code));
        }
        assert!(explain(&Error::PoolTimedOut).contains("start the server"));
        assert!(explain(&Error::Io(std::io::ErrorKind::ConnectionRefused.into())).contains("start it"));
    }
}
