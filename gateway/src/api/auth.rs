//! Logging in: a name and a password for a token.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use lmao_events::{
    AnyEvent, Category, Decider, Place, StreamId, Version,
    claim::{self, Claim},
    user::{self, Field, Role, canonical, claim_of},
};
use lmao_ports::CommandError;
use poem::{http::StatusCode, web::RemoteAddr};
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Tag;
use crate::{
    app::App,
    body::JsonBody,
    context::Context,
    error::{ApiError, erased},
    rates::network,
    reply::Reply,
    token::LIFETIME,
};

/// Failed logins with one name from one address within [`WINDOW`] before that address has to wait.
const MAX_FAILURES: u64 = 10;
/// The same from all addresses together, for those who guess from many: all have to wait then but those that are [`KNOWN`].
const MAX_FAILURES_ANYWHERE: u64 = 1000;
const WINDOW: Duration = Duration::from_secs(60);
/// How long it is remembered that a name has logged in from an address: nobody elsewhere can lock it out there.
const KNOWN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A name and its password.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct LoginRequest {
    /// In any case: `Ann` and `ann` are one name.
    username: String,
    password: String,
}

/// A token.
#[derive(Debug, Object, Serialize)]
struct LoginResponse {
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    /// `bearer`
    token_type: String,
    /// Seconds.
    expires_in: u64,
}

super::routes! {
    /// `/auth`
    Auth
}

#[OpenApi(tag = "Tag::Authentication")]
impl Auth {
    /// Log in
    ///
    /// Ten failures with one name from one address within a minute make that address wait a minute (429).
    #[oai(path = "/auth/login", method = "post", operation_id = "login")]
    async fn login(
        &self,
        context: Context,
        from: &RemoteAddr,
        body: JsonBody<LoginRequest>,
    ) -> Result<Reply<LoginResponse>, ApiError> {
        let app = self.app()?;
        let JsonBody(LoginRequest { username, password }) = body;
        let name = claim_of(&app.keyed_ids, Field::Username, &canonical(&username));
        let attempt = Attempt::new(name, from);
        app.count_login(&attempt.here).await?;
        attempt.refuse_throttled(app).await?;
        let holder = holder(app, name).await?;
        let secret = match holder {
            Some(id) => app.state.vault.get(&secret_of(id)).await?,
            None => None,
        };
        let fits = app.passwords.verify(&password, secret.as_ref()).await?;
        // Those who waited for their turn meanwhile count as well.
        attempt.refuse_throttled(app).await?;
        let (Some(id), true) = (holder, fits) else { return Err(attempt.failed(app).await) };
        let now = app.now();
        let stream = StreamId::new(Category::User, id);
        let meta = context.meta(Some(id), None);
        let receipt = match app.send(stream, user::Command::LogIn { at: now }, meta).await {
            Ok(receipt) => receipt,
            Err(CommandError::Rejected(_)) => return Err(attempt.failed(app).await),
            Err(error) => return Err(error.into()),
        };
        let role = role(app, stream).await?;
        attempt.succeeded(app).await;
        let access_token = app.tokens.mint(id, role, now, &*app.state.entropy)?;
        let body = LoginResponse { access_token, token_type: "bearer".to_owned(), expires_in: LIFETIME.as_secs() };
        Ok(Reply::ok(body).at(app.written(receipt.head.position).await))
    }
}

/// The vault's name of an account's password.
pub(super) fn secret_of(user: Uuid) -> String {
    format!("password/{user}")
}

/// Whose name this is.
pub(crate) async fn holder(app: &App, name: StreamId) -> Result<Option<Uuid>, ApiError> {
    let mut state = claim::State::default();
    let mut commits = app.state.journal.read(name, Version(1));
    while let Some(commit) = commits.next().await {
        let commit = commit?;
        for (index, event) in (0..).zip(commit.events.map_err(|_| erased())?) {
            let AnyEvent::Claim(event) = event else { continue };
            let place = Place { version: commit.header.version, index, time: commit.header.time };
            state = Claim::evolve(state, &event, place).map_err(|error| {
                tracing::error!(stream = %name, %error, "a claim's history makes no sense");
                ApiError::internal("the server failed; its log says more under this request id")
            })?;
        }
    }
    Ok(state.holder)
}

async fn role(app: &App, stream: StreamId) -> Result<Role, ApiError> {
    let first = app.state.journal.read(stream, Version(1)).next().await.transpose()?;
    let events = first.map_or(Ok(vec![]), |commit| commit.events).map_err(|_| erased())?;
    let registered = events.into_iter().find_map(|event| match event {
        AnyEvent::User(user::Event::Registered(registered)) => Some(registered.role),
        _ => None,
    });
    registered.ok_or_else(wrong)
}

fn wrong() -> ApiError {
    ApiError::unauthorized("invalid_credentials", "this user name and password do not belong together")
}

/// An attempt to log in: what its failure counts against.
#[derive(Debug)]
struct Attempt {
    /// The name, by its keyed hash.
    name: String,
    /// The name at the address that it comes from.
    here: String,
}

impl Attempt {
    fn new(name: StreamId, from: &RemoteAddr) -> Self {
        let name = name.id.simple().to_string();
        let here = format!("{name}@{}", network(from));
        Self { name, here }
    }

    async fn refuse_throttled(&self, app: &App) -> Result<(), ApiError> {
        let is_set = async |key: String| app.state.cache.get(&key).await.map(|value| value.is_some());
        let is_blocked = is_set(blocked(&self.here)).await?
            || (is_set(blocked(&self.name)).await? && !is_set(known(&self.here)).await?);
        if !is_blocked {
            return Ok(());
        }
        let text = "too many failed logins with this name; wait a minute";
        let error = ApiError::passing("too_many_logins", text, WINDOW);
        Err(ApiError { status: StatusCode::TOO_MANY_REQUESTS, ..error })
    }

    /// Counts a failure, and says so in the same words whatever was wrong.
    async fn failed(&self, app: &App) -> ApiError {
        let cache = &app.state.cache;
        let count = async {
            for (whose, most) in [(&self.here, MAX_FAILURES), (&self.name, MAX_FAILURES_ANYWHERE)] {
                if cache.count(&format!("login/failed/{whose}"), WINDOW).await? >= most {
                    cache.put(&blocked(whose), Bytes::new(), WINDOW).await?;
                }
            }
            Ok::<_, ApiError>(())
        };
        match count.await {
            Ok(()) => wrong(),
            Err(error) => error,
        }
    }

    /// Remembers where this name is at home. It is logged in even if that is forgotten.
    async fn succeeded(&self, app: &App) {
        let put = app.state.cache.put(&known(&self.here), Bytes::new(), KNOWN).await;
        put.unwrap_or_else(|error| tracing::debug!(%error, "where a login came from is not remembered"));
    }
}

fn blocked(whose: &str) -> String {
    format!("login/blocked/{whose}")
}

fn known(here: &str) -> String {
    format!("login/known/{here}")
}

/// Whether an account can be used.
pub(crate) async fn is_active(app: &App, user: Uuid) -> Result<bool, ApiError> {
    let mut commits = app.state.journal.read(StreamId::new(Category::User, user), Version(1));
    while let Some(commit) = commits.next().await {
        let events = commit?.events.map_err(|_| erased())?;
        if events.iter().any(|event| matches!(event, AnyEvent::User(user::Event::Activated(_)))) {
            return Ok(true);
        }
    }
    Ok(false)
}
