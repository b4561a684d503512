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
    reply::Reply,
    token::LIFETIME,
};

/// Failed logins of one name within [`WINDOW`] before it has to wait.
const MAX_FAILURES: u64 = 10;
const WINDOW: Duration = Duration::from_secs(60);

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
    /// Ten failures of one name within a minute make it wait a minute (429).
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
        app.count_login(name.id, from).await?;
        refuse_throttled(app, name).await?;
        let holder = holder(app, name).await?;
        let secret = match holder {
            Some(id) => app.state.vault.get(&secret_of(id)).await?,
            None => None,
        };
        let fits = app.passwords.verify(&password, secret.as_ref()).await?;
        // Those who waited for their turn meanwhile count as well.
        refuse_throttled(app, name).await?;
        let (Some(id), true) = (holder, fits) else { return Err(failed(app, name).await) };
        let now = app.now();
        let stream = StreamId::new(Category::User, id);
        let meta = context.meta(Some(id), None);
        let receipt = match app.send(stream, user::Command::LogIn { at: now }, meta).await {
            Ok(receipt) => receipt,
            Err(CommandError::Rejected(_)) => return Err(failed(app, name).await),
            Err(error) => return Err(error.into()),
        };
        let role = role(app, stream).await?;
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

fn blocked(name: StreamId) -> String {
    format!("login/blocked/{}", name.id.simple())
}

async fn refuse_throttled(app: &App, name: StreamId) -> Result<(), ApiError> {
    match app.state.cache.get(&blocked(name)).await? {
        Some(_) => {
            let text = "too many failed logins of this name; wait a minute";
            let error = ApiError::passing("too_many_logins", text, WINDOW);
            Err(ApiError { status: StatusCode::TOO_MANY_REQUESTS, ..error })
        }
        None => Ok(()),
    }
}

/// Counts a failure, and says so in the same words whatever was wrong.
async fn failed(app: &App, name: StreamId) -> ApiError {
    let count = async {
        let failures = app.state.cache.count(&format!("login/failed/{}", name.id.simple()), WINDOW).await?;
        if failures >= MAX_FAILURES {
            app.state.cache.put(&blocked(name), Bytes::new(), WINDOW).await?;
        }
        Ok::<_, ApiError>(())
    };
    match count.await {
        Ok(()) => wrong(),
        Err(error) => error,
    }
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
