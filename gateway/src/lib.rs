//! The gateway: HTTP and WebSocket on one side, commands and queries on the other.
//!
//! The only crate that knows poem, and the only place where a request becomes a command and an error becomes a status. It
//! decides nothing and stores nothing: what it answers comes from the log and from projections of it. It knows the ports
//! and the events, never an actor or an adapter.

mod api;
mod app;
mod body;
mod compress;
mod context;
mod cors;
mod edge;
mod error;
mod idempotency;
mod ingest;
mod metrics;
mod multipart;
mod password;
mod position;
mod rates;
mod reply;
mod serve;
mod token;
mod turn;
mod watch;

use std::{future::Future, sync::Arc, time::Duration};

use lmao_events::{
    derive_id,
    session::MAX_MESSAGE_BYTES,
    user::{Field, Role, canonical, claim_of},
};
use lmao_ports::{
    Blobs, Cache, Clock, Commands, Entropy, Health, Journal, Live, Metrics, Projection, RateLimiter, ReadModel,
    Retriever, SearchIndex, ToolCatalog, Vault,
};
use poem::{Response, endpoint::BoxEndpoint, http::HeaderMap};
use uuid::Uuid;

pub use cors::{NoOrigin, Origins};
pub use rates::Rates;

use crate::{
    api::{NewUser, register},
    app::App,
    context::Context,
    error::ApiError,
};

/// The ports that the gateway stands on.
#[derive(Debug, Clone)]
pub struct State {
    /// Where commands go.
    pub commands: Arc<dyn Commands>,
    /// The log, opened.
    pub journal: Arc<dyn Journal>,
    /// The tables.
    pub read_model: Arc<dyn ReadModel>,
    /// The projection into the search index: asked only how far it is.
    pub search: Arc<dyn Projection>,
    /// The search index: asked for single passages, and what it holds of a document.
    pub index: Arc<dyn SearchIndex>,
    /// The retrieval pipeline.
    pub retriever: Arc<dyn Retriever>,
    /// The tools there are.
    pub tools: Arc<dyn ToolCatalog>,
    /// Passwords and keys.
    pub vault: Arc<dyn Vault>,
    /// Where uploads go.
    pub blobs: Arc<dyn Blobs>,
    /// Tokens and hints.
    pub live: Arc<dyn Live>,
    /// Counters of failed logins; bodies that idempotency keys came with.
    pub cache: Arc<dyn Cache>,
    /// Token buckets: how often whom is answered.
    pub limiter: Arc<dyn RateLimiter>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// What the process says of itself.
    pub health: Arc<dyn Health>,
    /// What the process counts and measures.
    pub metrics: Arc<dyn Metrics>,
    /// How much clients may do.
    pub limits: Limits,
    /// Whose web pages may call, beside those of the server itself.
    pub cors_origins: Origins,
}

/// How much clients may do. What is beyond it is refused, never queued without end.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a JSON body, escapes included.
    pub json_bytes: usize,
    /// Bytes of a file.
    pub upload_bytes: u64,
    /// Requests in flight; more are answered 503.
    pub requests: usize,
    /// Uploads in flight.
    pub uploads: usize,
    /// Chat sockets open.
    pub sockets: usize,
    /// Followers of the log.
    pub followers: usize,
    /// Connections; more wait to be accepted.
    pub connections: usize,
    /// How long a request waits for its outcome before it is answered 202.
    pub wait: Duration,
    /// Requests in a minute.
    pub rates: Rates,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Six bytes of JSON for each byte of a message that is escaped throughout, and room for the context.
            json_bytes: 8 * MAX_MESSAGE_BYTES,
            upload_bytes: 512 * 1024 * 1024,
            requests: 1024,
            uploads: 64,
            sockets: 1024,
            followers: 64,
            connections: 4096,
            wait: Duration::from_secs(25),
            rates: Rates::default(),
        }
    }
}

/// Why the gateway cannot be set up, or an account not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// A stable string: `unavailable`, `vault_sealed`, `bad_password`, `username_taken`, `still_opening`, ….
    pub reason: String,
    /// What happened, and what to do.
    pub message: String,
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self { reason: error.reason.into_owned(), message: error.message }
    }
}

/// The HTTP and WebSocket interface.
pub struct Gateway {
    app: Arc<App>,
    endpoint: BoxEndpoint<'static, Response>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("app", &self.app).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Sets it up. On the first start this makes the key that signs tokens and the key of keyed ids, in the vault.
    ///
    /// # Errors
    /// When the vault cannot be used.
    pub async fn new(state: State) -> Result<Self, Error> {
        let app = Arc::new(App::new(state).await?);
        let endpoint = api::endpoint(app.clone());
        Ok(Self { app, endpoint })
    }

    /// As [`Gateway::new`], with health and metrics alone: for a node that answers no clients.
    ///
    /// # Errors
    /// When the vault cannot be used.
    pub async fn probes(state: State) -> Result<Self, Error> {
        let app = Arc::new(App::new(state).await?);
        let endpoint = api::probes(app.clone());
        Ok(Self { app, endpoint })
    }

    /// All routes, for tests that need no network.
    #[must_use]
    pub fn endpoint(&self) -> &BoxEndpoint<'static, Response> {
        &self.endpoint
    }

    /// Serves until `shutdown` resolves; then takes no more requests, ends sockets and streams, and gives requests in
    /// flight half a minute.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub async fn serve(
        self,
        listener: tokio::net::TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        serve::serve(self, listener, shutdown).await
    }
}

/// Answers `GET /metrics` at `listener` until `shutdown`, and nothing else; to everyone, so the address is one that only
/// scrapers reach.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve_metrics(
    metrics: Arc<dyn Metrics>,
    listener: tokio::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    serve::metrics(metrics, listener, shutdown).await
}

/// What became of the first administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstAdmin {
    /// The account was opened with this password.
    Opened {
        /// Its id.
        id: Uuid,
        /// The given password, or the one made up.
        password: String,
    },
    /// The name was in use already; nothing was changed.
    Existed {
        /// Whose it is.
        id: Uuid,
    },
}

/// Opens the administrator's account `username` (`username@localhost`), by the same path as `POST /admin/users`, unless the
/// name is in use. Without a password one is made up: 24 characters of 62.
///
/// A caller that keeps the password in a file writes the file first and passes the password: after a crash in between, the
/// same call with the same password goes on where it ended.
///
/// # Errors
/// When a store cannot be used, the password is too short, or the actors do not answer within ten seconds.
pub async fn ensure_admin(state: &State, username: &str, password: Option<String>) -> Result<FirstAdmin, Error> {
    let app = App::new(state.clone()).await?;
    let name = claim_of(&app.keyed_ids, Field::Username, &canonical(username));
    // The same id in every attempt: an account that was half opened is the one that is opened.
    let id = derive_id(app.log, &format!("first administrator {}", canonical(username)));
    if let Some(holder) = api::holder(&app, name).await?
        && (holder != id || api::is_active(&app, holder).await?)
    {
        return Ok(FirstAdmin::Existed { id: holder });
    }
    let password = password.unwrap_or_else(|| made_up(&*app.state.entropy));
    let user = NewUser { id, username: username.to_owned(), email: format!("{username}@localhost"), role: Role::Admin };
    let context = Context::new(&HeaderMap::new(), app.fresh_id());
    register(&app, &context, None, user, &password, None).await?;
    Ok(FirstAdmin::Opened { id, password })
}

/// A token for a local program that can read the vault: good for half an hour, like any other.
///
/// # Errors
/// When the vault cannot be used.
pub async fn local_token(
    vault: &dyn Vault,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    user: Uuid,
    role: Role,
) -> Result<String, Error> {
    let key = app::signing_key(vault, entropy).await?;
    Ok(token::Tokens::new(&key).mint(user, role, clock.now(), entropy)?)
}

/// The description of the API (OpenAPI 3.0), as served at `/openapi.json`.
#[must_use]
pub fn openapi_json() -> String {
    api::openapi_json()
}

fn made_up(entropy: &dyn Entropy) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut password = String::new();
    while password.len() < 24 {
        let mut byte = [0];
        entropy.fill(&mut byte);
        // Only whole multiples of 62: no letter is likelier than another.
        if let Some(letter) = LETTERS.get(usize::from(byte[0] % 64)) {
            password.push(char::from(*letter));
        }
    }
    password
}
