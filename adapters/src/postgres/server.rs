//! Which server, database and schema: the URL, what every connection is told first, and the pool.

use std::{str::FromStr as _, time::Duration};

use lmao_ports::Unavailable;
use sqlx::{
    ConnectOptions as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::error::{STORE, explain, unavailable};

/// Connections of one process at most; more requests wait for them. One of them listens, when somebody waits for a position.
const CONNECTIONS: u32 = 10;
/// How long a request waits for one, connecting included.
const WAIT: Duration = Duration::from_millis(1500);
/// After this much quiet, a connection that is not needed is closed.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// What every connection is told first. Durations are the server's: a process that hangs or vanishes holds nothing for long.
const SETTINGS: [(&str, &str); 8] = [
    ("timezone", "UTC"),
    ("statement_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "10s"),
    // A crash of the server may take the last moments back, rows and checkpoint together: they are read from the log again.
    ("synchronous_commit", "off"),
    ("client_min_messages", "warning"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// A place for the tables: a schema of a database of a server. Shown, it names no password.
#[derive(Clone)]
pub(super) struct Server {
    options: PgConnectOptions,
    pub(super) schema: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Server").field(&self.name()).finish()
    }
}

impl Server {
    /// `postgres://user:password@host:port/database?schema=name&sslmode=mode`, as [`super::PostgresReadModel::open`] has it.
    pub(super) fn at(url: &str) -> Result<Self, Unavailable> {
        let (url, schema) = split_schema(url);
        let schema = schema.unwrap_or("public").to_owned();
        let plain = schema.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !plain || schema.is_empty() || schema.len() > 63 {
            let message = "the schema in the URL has to be of a to z, 0 to 9 and _, 63 at most";
            return Err(Unavailable::plain(STORE, message));
        }
        let options = PgConnectOptions::from_str(&url).map_err(unavailable)?;
        let options = options
            .application_name(&format!("lmao.{schema}"))
            .options(SETTINGS)
            .options([("search_path", &schema)])
            .disable_statement_logging();
        Ok(Self { options, schema })
    }

    /// With a setting of its own.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.options = self.options.options([(name, value)]);
        self
    }

    /// Connections, opened when they are needed.
    pub(super) fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(WAIT)
            .idle_timeout(IDLE)
            .connect_lazy_with(self.options.clone())
    }

    /// One connection.
    pub(super) async fn connect(&self) -> Result<PgConnection, Unavailable> {
        match tokio::time::timeout(WAIT, self.options.connect()).await {
            Ok(connected) => connected.map_err(|error| self.cannot_use(error)),
            Err(_) => Err(self.cannot_use(sqlx::Error::PoolTimedOut)),
        }
    }

    /// The error of a first connection: it names the place.
    pub(super) fn cannot_use(&self, error: sqlx::Error) -> Unavailable {
        Unavailable::new(STORE, format!("cannot use {}: {}", self.name(), explain(&error)), error)
    }

    /// The place, for people.
    pub(super) fn name(&self) -> String {
        let options = &self.options;
        let database = options.get_database().unwrap_or(options.get_username());
        match options.get_socket() {
            Some(socket) => format!("{database}.{} at {}", self.schema, socket.display()),
            None => format!("{database}.{} at {}:{}", self.schema, options.get_host(), options.get_port()),
        }
    }
}

/// The error of a pool, whose time is up for one of two reasons.
pub(super) fn of_pool(pool: &PgPool, error: sqlx::Error) -> Unavailable {
    if matches!(error, sqlx::Error::PoolTimedOut) && pool.size() >= CONNECTIONS && pool.num_idle() == 0 {
        return Unavailable::new(STORE, "every connection is in use; try again", error);
    }
    unavailable(error)
}

/// The schema that a URL names, and the rest, which the driver understands.
fn split_schema(url: &str) -> (String, Option<&str>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let schema = query.split('&').find_map(|pair| pair.strip_prefix("schema="));
    let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("schema=")).collect();
    (format!("{base}?{}", rest.join("&")), schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_schema_and_no_password_is_shown() {
        let url = "postgres://ada:s3cret@db.example.org:5433/lmao?sslmode=require&schema=chat_2&application_name=x";
        let server = Server::at(url).unwrap();
        assert_eq!(server.name(), "lmao.chat_2 at db.example.org:5433");
        assert_eq!(server.options.get_ssl_mode() as i32, sqlx::postgres::PgSslMode::Require as i32);
        assert!(!format!("{server:?}").contains("s3cret"));
        assert_eq!(Server::at("postgres://localhost/lmao").unwrap().schema, "public");
        for wrong in ["", "A", "a;drop", "a%20b", &"x".repeat(64)] {
            let error = Server::at(&format!("postgres://u:s3cret@h/d?schema={wrong}")).unwrap_err();
            assert!(error.message.contains("a to z") && !format!("{error:?}").contains("s3cret"), "{error:?}");
        }
        let error = Server::at("postgres://u:s3cret@h:port/d").unwrap_err();
        assert!(error.message.contains("postgres://user") && !format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}
