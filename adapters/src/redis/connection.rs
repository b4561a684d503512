//! The connection to Redis, and the limits of waiting for it.

use std::{
    future::Future,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use fred::{
    clients::Client,
    error::{Error as RedisError, ErrorKind},
    interfaces::{ClientLike, EventInterface},
    types::{
        Builder, ConnectHandle,
        config::{Config, ReconnectPolicy, TlsConnector},
    },
};
use lmao_ports::Unavailable;
use tokio::{sync::broadcast::error::RecvError, time::timeout};

use crate::{
    breaker::{Breaker, Standing},
    tls::{self, CertificatesError},
};

/// The longest that a call takes, unless the URL says otherwise by `timeout_ms` (1 to 60,000).
pub const CALL: Duration = Duration::from_millis(250);
/// The longest that a URL can allow a call.
const MAX_CALL_MS: u64 = 60_000;
/// The first connection, and each later one with its handshake.
const CONNECT: Duration = Duration::from_secs(1);
/// Pauses between attempts to connect, in ms, growing twofold. There is no last one.
const RECONNECT_MS: (u32, u32) = (50, 1_000);
/// A connection on which a command got no answer for so long is closed: the other side may be gone without a word.
const UNRESPONSIVE: Duration = Duration::from_secs(5);
/// Commands that wait to be sent; more are refused.
const MAX_QUEUED: usize = 10_000;

/// Why no cache can be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is none of a Redis server.
    #[error(
        "{url} is no URL of a Redis server: redis[s]://[[user]:password@]host[:port][/database][?prefix=…&timeout_ms=…&ca=…]"
    )]
    Url {
        /// Without its password.
        url: String,
        /// What the driver said.
        #[source]
        source: RedisError,
    },
    /// The URL's `ca` names no certificates.
    #[error(transparent)]
    Certificates(CertificatesError),
    /// The server does not let us in.
    #[error("the Redis server refuses the user or the password")]
    Refused(#[source] RedisError),
}

/// One connection that all callers share; it is made again whenever it breaks.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    task: ConnectHandle,
    breaker: Breaker,
    limit: Duration,
}

impl Connection {
    /// The connection and the prefix of all keys.
    pub(super) async fn open(url: &str) -> Result<(Self, String), OpenError> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let no_url = |source| OpenError::Url { url: without_password(address), source };
        let (mut prefix, mut limit, mut ca) = (String::new(), CALL, None);
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("prefix", value)) => value.clone_into(&mut prefix),
                Some(("timeout_ms", value)) => match value.parse() {
                    Ok(ms @ 1..=MAX_CALL_MS) => limit = Duration::from_millis(ms),
                    _ => return Err(no_url(RedisError::new(ErrorKind::Url, "timeout_ms is out of range"))),
                },
                Some(("ca", file)) if address.starts_with("rediss:") => ca = Some(Path::new(file)),
                Some(("ca", _)) => return Err(no_url(RedisError::new(ErrorKind::Url, "ca is for rediss://"))),
                _ => return Err(no_url(RedisError::new(ErrorKind::Url, format!("{option} is not known")))),
            }
        }
        let mut config = match address.split_once("://") {
            Some(("redis" | "rediss", _)) => Config::from_url_centralized(address).map_err(no_url)?,
            _ => return Err(no_url(RedisError::new(ErrorKind::Url, "the scheme is another one"))),
        };
        config.fail_fast = false; // a server that is away comes back
        if let Some(file) = ca {
            let trust = tls::trusting(file).map_err(OpenError::Certificates)?;
            config.tls = Some(TlsConnector::from(trust).into());
        }

        let (min, max) = RECONNECT_MS;
        let client = Builder::from_config(config)
            .with_performance_config(|performance| {
                // A command that was not sent by then is never sent; the rest of the limit is for saying so.
                performance.default_command_timeout = limit * 9 / 10;
            })
            .with_connection_config(|connection| {
                connection.connection_timeout = CONNECT;
                connection.internal_command_timeout = CONNECT;
                // Once only: a count whose answer was lost may have been counted.
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = MAX_QUEUED;
                connection.unresponsive.max_timeout = Some(UNRESPONSIVE);
                connection.unresponsive.interval = CONNECT;
            })
            .set_policy(ReconnectPolicy::new_exponential(0, min, max, 2))
            .build()
            .map_err(no_url)?;
        let mut errors = client.error_rx();
        let connection = Self { task: client.connect(), client, breaker: Breaker::default(), limit };
        let why = Mutex::new(None);
        let refused = async {
            loop {
                match errors.recv().await {
                    Ok((error, _)) if *error.kind() == ErrorKind::Auth => break error,
                    Ok((error, _)) => *why.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
                    Err(RecvError::Closed) => std::future::pending().await,
                    Err(RecvError::Lagged(_)) => {}
                }
            }
        };
        tokio::select! {
            error = refused => return Err(OpenError::Refused(error)),
            connected = timeout(CONNECT, connection.client.wait_for_connect()) => {
                if !matches!(connected, Ok(Ok(()))) {
                    let why = why.lock().unwrap_or_else(PoisonError::into_inner).take().map(|error| error.to_string());
                    tracing::warn!(why, "redis is away; its caches are passed over until it answers");
                }
            }
        }
        Ok((connection, prefix))
    }

    /// How the server stands, as far as is known without asking it.
    pub(super) fn standing(&self) -> Standing {
        if self.client.is_connected() {
            return self.breaker.standing();
        }
        Standing::Down { why: "there is no connection".to_owned() }
    }

    pub(super) async fn ping(&self) -> Result<(), Unavailable> {
        let _: String = self.call(|redis| redis.ping(None)).await?;
        Ok(())
    }

    /// One command, within its limit. Where that ends without an answer, it may still be carried out.
    pub(super) async fn call<'a, T, F>(&'a self, command: impl FnOnce(&'a Client) -> F) -> Result<T, Unavailable>
    where
        F: Future<Output = Result<T, RedisError>> + 'a,
    {
        if !self.client.is_connected() {
            return Err(Unavailable::plain("redis", "it is not connected; caches are passed over until it is"));
        }
        if !self.breaker.permits() {
            return Err(Unavailable::plain("redis", "it does not answer; it is asked again within seconds"));
        }
        match timeout(self.limit, command(&self.client)).await {
            Ok(Ok(answer)) => {
                self.breaker.answered();
                Ok(answer)
            }
            Ok(Err(error)) if *error.kind() != ErrorKind::Timeout => {
                Err(Unavailable::new("redis", "it refused a command, or the connection broke", error))
            }
            Ok(Err(_)) | Err(_) => {
                let message = format!("it did not answer within {} ms", self.limit.as_millis());
                self.breaker.failed(&message);
                Err(Unavailable::plain("redis", message))
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}
