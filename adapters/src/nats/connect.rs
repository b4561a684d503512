//! The connection to a NATS server or cluster, shared by all stores of a process, and what it demands of the server.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event,
    connection::State,
    jetstream::{self, Context, context::AccountErrorKind},
};
use lmao_ports::Unavailable;
use rand::RngExt as _;

use super::{
    STORE,
    url::{Address, Login},
};
use crate::{
    breaker::{Breaker, Standing},
    tls,
};

/// The oldest server that has batched direct gets.
const OLDEST: (i64, i64, i64) = (2, 11, 0);
/// What a server must take in one message: the largest snapshot.
const MIN_PAYLOAD: usize = 1024 * 1024;
/// How long connecting to a server may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request of the JetStream API may take.
const REQUEST: Duration = Duration::from_secs(5);
/// How often a quiet connection is probed; two probes without an answer end it.
const PING: Duration = Duration::from_secs(2);
/// How long requests are kept from a server that does not answer before one is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// How long a cluster may be without a leader before that is as bad as no answer: longer than an election takes.
const ELECTION: Duration = Duration::from_secs(10);
/// The longest pause between attempts to connect again, in milliseconds.
const LONGEST_PAUSE: u64 = 1000;
/// Messages that wait in one subscription; the stores ask for at most some hundreds at once.
const SUBSCRIPTION: usize = 4096;

/// A connection to NATS. Clones share it; it connects again by itself.
#[derive(Clone)]
pub struct Nats {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    jetstream: Context,
    namespace: Option<String>,
    /// For people.
    servers: String,
    /// Since when there has been no connection, as far as somebody has looked.
    lost: Mutex<Option<Instant>>,
    /// Requests that are sent and not answered.
    breaker: Breaker,
    /// Since when some stream has had no leader, and none an answer.
    leaderless: Mutex<Option<Instant>>,
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("servers", &self.shared.servers)
            .field("namespace", &self.shared.namespace)
            .finish()
    }
}

impl Nats {
    /// Connects to the servers of `url`, `nats://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][?namespace=NAME]` (`tls://` for TLS, then
    /// `ca=FILE` with it), and checks that they can do what the stores need.
    ///
    /// # Errors
    /// [`Unavailable`]: the URL is wrong; no server answers or lets us in; it is too old, has no JetStream, or takes too little
    /// in one message.
    pub async fn connect(url: &str) -> Result<Self, Unavailable> {
        let address = Address::parse(url)?;
        let servers = address.servers.join(",");
        let mut options = options(address.login);
        if let Some(ca) = address.ca {
            let trust = tls::trusting(&ca)
                .map_err(|error| Unavailable::new(STORE, "the URL's ca names no certificates", error))?;
            options = options.tls_client_config(trust);
        }
        let addresses: Result<Vec<async_nats::ServerAddr>, _> =
            address.servers.iter().map(|server| server.parse()).collect();
        let addresses = addresses
            .map_err(|error: std::io::Error| Unavailable::new(STORE, format!("{servers} is no address"), error))?;
        let client = options.connect(addresses).await.map_err(|error| unreachable(&servers, error))?;
        let jetstream =
            jetstream::context::ContextBuilder::new().timeout(REQUEST).ack_timeout(REQUEST).build(client.clone());
        let (lost, leaderless) = (Mutex::default(), Mutex::default());
        let (namespace, breaker) = (address.namespace, Breaker::pausing_at_most(TRY_EVERY));
        let shared = Shared { client, jetstream, namespace, servers, lost, breaker, leaderless };
        let nats = Self { shared: Arc::new(shared) };
        nats.check().await?;
        Ok(nats)
    }

    /// The version of the server that this process is connected to.
    #[must_use]
    pub fn server_version(&self) -> String {
        self.client().server_info().version
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client().connection_state() == State::Connected
    }

    /// How the servers stand: away without a connection, and where requests have got no answer for a while.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if self.is_connected() {
            return self.shared.breaker.standing();
        }
        Standing::Down { why: format!("there is no connection to {}", self.servers()) }
    }

    /// For how long there has been no connection, as far as anybody has looked; zero while there is one.
    #[must_use]
    pub fn away_for(&self) -> Duration {
        let mut lost = self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_connected() {
            *lost = None;
            return Duration::ZERO;
        }
        lost.get_or_insert_with(Instant::now).elapsed()
    }

    /// What is said while [`Nats::standing`] is down.
    pub(crate) fn away(&self) -> Unavailable {
        let what = if self.is_connected() { "there is no answer from" } else { "there is no connection to" };
        Unavailable::plain(STORE, format!("{what} {}; check that it runs, then try again", self.servers()))
    }

    /// Counts requests that are not answered.
    pub(crate) fn breaker(&self) -> &Breaker {
        &self.shared.breaker
    }

    /// A stream has answered.
    pub(crate) fn answered(&self) {
        *self.leaderless() = None;
        self.breaker().answered();
    }

    /// The server has said at once that nobody answers for a stream. While a leader is elected that shows
    /// that the server is there; whoever waits for the leader must not be kept from it by requests that the election leaves
    /// without an answer.
    pub(crate) fn has_no_leader(&self) {
        let since = *self.leaderless().get_or_insert_with(Instant::now);
        if since.elapsed() < ELECTION {
            return self.breaker().answered();
        }
        self.breaker().failed("a stream has no leader; check that most of its servers run");
    }

    fn leaderless(&self) -> MutexGuard<'_, Option<Instant>> {
        self.shared.leaderless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits to be sent, then closes the connection for all who share it.
    ///
    /// # Errors
    /// [`Unavailable`]: there is no connection any more.
    pub async fn close(&self) -> Result<(), Unavailable> {
        self.client()
            .drain()
            .await
            .map_err(|error| Unavailable::new(STORE, "the connection could not be closed in order", error))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    pub(crate) fn jetstream(&self) -> &Context {
        &self.shared.jetstream
    }

    /// What keeps this system apart from others on the same servers.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.shared.namespace.as_deref()
    }

    /// The subject `rest` of this system: `NAMESPACE.rest`.
    pub(crate) fn subject(&self, rest: &str) -> String {
        self.namespace().map_or_else(|| rest.to_owned(), |namespace| format!("{namespace}.{rest}"))
    }

    /// The stream or bucket `name` of this system: `NAMESPACE_name`.
    pub(crate) fn named(&self, name: &str) -> String {
        self.namespace().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}_{name}"))
    }

    /// The servers that were named, for people.
    pub(crate) fn servers(&self) -> &str {
        &self.shared.servers
    }

    async fn check(&self) -> Result<(), Unavailable> {
        let servers = self.servers();
        let refused = |message: String| Err(Unavailable::plain(STORE, message));
        let (major, minor, patch) = OLDEST;
        if !self.client().is_server_compatible(major, minor, patch) {
            let version = self.server_version();
            return refused(format!("{servers} is version {version}; version {major}.{minor} or newer is needed"));
        }
        let max = self.client().server_info().max_payload;
        if max < MIN_PAYLOAD {
            return refused(format!(
                "{servers} takes {max} bytes in one message; set max_payload to 1MB or more there"
            ));
        }
        match self.jetstream().query_account().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = match error.kind() {
                    AccountErrorKind::JetStreamUnavailable | AccountErrorKind::JetStream(_) => {
                        "JetStream is not available: add a jetstream block to the server's configuration, or wait until the \
                         cluster has a leader"
                    }
                    AccountErrorKind::TimedOut => {
                        "JetStream does not answer: wait until the cluster has a leader, then try again"
                    }
                    _ => "JetStream does not answer as it should",
                };
                Err(Unavailable::new(STORE, format!("{servers}: {message}"), error))
            }
        }
    }
}

fn options(login: Login) -> ConnectOptions {
    let options = match login {
        Login::Anonymous => ConnectOptions::new(),
        Login::User { name, password } => ConnectOptions::with_user_and_password(name, password),
        Login::Token(token) => ConnectOptions::with_token(token),
    };
    options
        .name("lmao")
        .connection_timeout(CONNECT)
        .request_timeout(Some(REQUEST))
        .ping_interval(PING)
        .subscription_capacity(SUBSCRIPTION)
        .reconnect_delay_callback(|attempts| {
            let longest = 20_u64.saturating_mul(1 << attempts.min(16)).min(LONGEST_PAUSE);
            Duration::from_millis(rand::rng().random_range(longest / 2..=longest))
        })
        .event_callback(|event| async move {
            match event {
                Event::Connected => tracing::info!("connected to NATS"),
                Event::Disconnected => tracing::warn!("the connection to NATS is lost; connecting again"),
                // By this process: it is about to end.
                Event::Closed | Event::Draining => tracing::debug!(%event, "NATS"),
                other => tracing::warn!(event = %other, "NATS"),
            }
        })
}

fn unreachable(servers: &str, error: async_nats::ConnectError) -> Unavailable {
    let message = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            "refuses the login: check user, password or token in the URL"
        }
        ConnectErrorKind::Tls => {
            "TLS could not be agreed on: check the certificate, and that the URL begins with tls://"
        }
        ConnectErrorKind::Dns => "the host is not known: check its name",
        _ => "is not reachable: check that the server runs there",
    };
    Unavailable::new(STORE, format!("{servers} {message}"), error)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{
        breaker::MAX_FAILURES,
        nats::testing::{self, Server},
    };

    /// What connecting to a server with this configuration says once it runs.
    async fn refused(rest: &str, login: &str) -> String {
        let (dir, [port]) = (TempDir::new().unwrap(), testing::free_ports());
        let _server = Server::start(dir.path(), &format!("listen: 127.0.0.1:{port}\n{rest}\n"));
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Nats::connect(&format!("nats://{login}127.0.0.1:{port}")).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_server_that_does_not_fit_is_refused_with_what_to_do() {
        let [port] = testing::free_ports();
        let nobody = Nats::connect(&format!("nats://ada:secret@127.0.0.1:{port}")).await.unwrap_err().to_string();
        assert!(nobody.contains("is not reachable") && !nobody.contains("secret"), "{nobody}");
        let off = refused("", "").await;
        assert!(off.contains("add a jetstream block"), "{off}");
        let small = refused("max_payload: 65536", "").await;
        assert!(small.contains("set max_payload"), "{small}");
        let stranger = refused("authorization { user: ada, password: lovelace }", "ada:wrong@").await;
        assert!(stranger.contains("refuses the login") && !stranger.contains("wrong@"), "{stranger}");
    }

    #[tokio::test]
    async fn an_election_is_no_outage_unless_it_takes_too_long() {
        let nats = testing::empty().await;
        let unanswered = || (0..MAX_FAILURES).for_each(|_| nats.breaker().failed("no answer"));
        unanswered();
        assert_ne!(nats.standing(), Standing::Up);
        nats.has_no_leader();
        assert_eq!(nats.standing(), Standing::Up, "whoever says that there is no leader is there");
        *nats.leaderless() = Instant::now().checked_sub(ELECTION);
        (0..MAX_FAILURES).for_each(|_| nats.has_no_leader());
        let Standing::Down { why } = nats.standing() else { panic!("it is up without a leader") };
        assert!(why.contains("no leader"), "{why}");
        nats.answered();
        assert_eq!(nats.standing(), Standing::Up);
        assert!(nats.leaderless().is_none(), "the next election begins anew");
    }

    #[tokio::test]
    async fn users_and_tokens_in_the_url_are_used() {
        for (authorization, login) in
            [("user: ada, password: \"love@lace\"", "ada:love%40lace"), ("token: s3cret", "s3cret")]
        {
            let (dir, [port]) = (TempDir::new().unwrap(), testing::free_ports());
            let store = dir.path().join("store").display().to_string();
            let config = format!(
                "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?} }}\nauthorization {{ {authorization} }}\n"
            );
            let _server = Server::start(dir.path(), &config);
            let nats = testing::connect_when_ready(&format!("nats://{login}@127.0.0.1:{port}")).await;
            assert!(nats.is_connected() && nats.server_version().starts_with("2."));
            nats.close().await.unwrap();
        }
    }
}
