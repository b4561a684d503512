//! A client of the HTTP API: authentication, retries with limits, and errors for people. It knows the wire format of the
//! API and nothing of what is behind it.

mod chat;
mod error;
mod files;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

pub(crate) use chat::{Chat, ChatEvent};
pub(crate) use files::name_files;
pub(crate) use wire::{Citation, Document, Documents, Found, Replied, Uploaded};

use crate::exit::{Code, Effect, Stop};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Nothing the server does leaves a connection silent for longer.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// A server that says "later" is asked again, so many times.
const MAX_RETRIES: u32 = 30;
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// A connection to a server that was there breaks: so often in a row it is tried again, after this pause each time. That is
/// long enough for a restart.
const MAX_BREAKS: u32 = 10;
const AFTER_BREAK: Duration = Duration::from_secs(1);
/// The header that makes a request safe to repeat.
pub(crate) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// The header of positions, in replies and in reads that must see them.
pub(crate) const POSITION: &str = "LMAO-Position";

/// Gives tokens to whom no login is needed.
#[async_trait]
pub(crate) trait Issuer: Send + Sync {
    /// A fresh one.
    ///
    /// # Errors
    /// When none can be made.
    async fn issue(&self) -> Result<String, Stop>;
}

/// How to prove who asks.
#[derive(Clone)]
pub(crate) enum Credentials {
    /// A token, used as it is.
    Token(String),
    /// A login, repeated whenever its token runs out.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// Tokens of this program's own, another one whenever one runs out.
    Issued(Arc<dyn Issuer>),
}

/// What the server at `base` says of itself. Needs no token, and is asked once.
///
/// # Errors
/// [`Code::Unreachable`] when it does not answer.
pub(crate) async fn health(base: &str) -> Result<Value, Stop> {
    let client = Client::new(base, Credentials::Token(String::new()))?;
    let silent = |error| Stop::new(Code::Unreachable, format!("{base} does not say how it is")).because(error);
    let asked = client.request(Method::GET, "/health", &[]).timeout(CONNECT_TIMEOUT);
    asked.send().await.map_err(silent)?.json().await.map_err(silent)
}

/// A client of one server.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    credentials: Credentials,
    token: Mutex<Option<String>>,
    /// Whether the server has answered before.
    spoke: AtomicBool,
}

impl Client {
    /// Of the server at `base`, for example `http://127.0.0.1:8000`.
    ///
    /// # Errors
    /// [`Code::Usage`] when `base` is no such address; when this process cannot make connections at all.
    pub(crate) fn new(base: &str, credentials: Credentials) -> Result<Self, Stop> {
        let base = base.trim_end_matches('/').to_owned();
        if !Url::parse(&base).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            return Err(Stop::new(Code::Usage, format!("{base:?} is not the address of a server"))
                .hint("an address looks like http://127.0.0.1:8000"));
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("lmao/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        let builder = if is_loopback(&base) { builder.no_proxy() } else { builder };
        let http =
            builder.build().map_err(|error| Stop::new(Code::Failed, "no HTTP client can be made").because(error))?;
        Ok(Self { http, base, credentials, token: Mutex::new(None), spoke: AtomicBool::new(false) })
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// A request to `path` under the server's address with these query parameters, without its token.
    pub(crate) fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let address = format!("{}{path}", self.base);
        if query.is_empty() {
            return self.http.request(method, address);
        }
        match Url::parse_with_params(&address, query) {
            Ok(url) => self.http.request(method, url),
            // An address that is none is told when the request is sent.
            Err(_) => self.http.request(method, address),
        }
    }

    /// `GET path` with these query parameters.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Stop> {
        self.send(async || Ok(self.request(Method::GET, path, query))).await.map(Answer::into_body)?
    }

    /// `POST path` with a JSON body, under an `Idempotency-Key` of this call: for routes that take one, or change nothing.
    /// However often it arrives, it is carried out once.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Stop> {
        let key = Uuid::new_v4().to_string();
        let request = async || Ok(self.request(Method::POST, path, &[]).header(IDEMPOTENCY_KEY, &key).json(body));
        self.send(request).await.map(Answer::into_body)?
    }

    /// `DELETE path`; `false` when there is no such thing.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Stop> {
        self.send(async || Ok(self.request(Method::DELETE, path, &[]))).await.map(|_| ())
    }

    /// Sends the request that `make` makes, again with a fresh token when that ran out, and again after a pause while the
    /// server asks to come later; reads the JSON answer. What may have been carried out is sent again only if it changes
    /// nothing or has an `Idempotency-Key`, the same each time.
    ///
    /// # Errors
    /// [`Code::Unreachable`] when nobody answers, [`Code::Refused`] when the server refuses, [`Code::Failed`] when it fails.
    pub(crate) async fn send(&self, make: impl AsyncFn() -> Result<RequestBuilder, Stop>) -> Result<Answer, Stop> {
        let response = self.response(make).await?;
        let status = response.status();
        let position = response.headers().get(POSITION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = response.bytes().await.map_err(|error| error::unreachable(&self.base, error))?;
        let body = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
        let body = body.map_err(|error| error::not_ours(&self.base, error))?;
        Ok(Answer { status, position, body })
    }

    /// As [`Client::send`], without reading the answer's body.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn response(
        &self,
        make: impl AsyncFn() -> Result<RequestBuilder, Stop>,
    ) -> Result<Response, Stop> {
        let (mut renewed, mut retries, mut breaks) = (false, 0, 0);
        loop {
            let token = self.token().await?;
            let request =
                make().await?.bearer_auth(&token).build().map_err(|error| error::unreachable(&self.base, error))?;
            let is_repeatable = is_repeatable(&request);
            // Somebody else who asked may have found the server gone for a moment: it is being started again.
            let goes_on = is_repeatable && self.spoke.load(Ordering::Relaxed);
            let response = match self.http.execute(request).await {
                Ok(response) => response,
                Err(error) if goes_on && !error.is_timeout() && !error.is_builder() && breaks < MAX_BREAKS => {
                    breaks += 1;
                    tokio::time::sleep(AFTER_BREAK).await;
                    continue;
                }
                Err(error) => return Err(error::unreachable(&self.base, error)),
            };
            self.spoke.store(true, Ordering::Relaxed);
            match response.status() {
                status if status.is_success() => return Ok(response),
                StatusCode::UNAUTHORIZED if !renewed && !matches!(self.credentials, Credentials::Token(_)) => {
                    self.forget(&token).await;
                    renewed = true;
                }
                _ => {
                    let pause = pause(&response).filter(|_| retries < MAX_RETRIES);
                    let stop = error::of(response).await;
                    let makes_sense = stop.api.as_ref().is_some_and(|api| match api.effect {
                        Effect::Nothing => true,
                        Effect::Unknown => is_repeatable,
                        Effect::Recorded => false,
                    });
                    let Some(pause) = pause.filter(|_| makes_sense) else { return Err(stop) };
                    retries += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// A valid token, by a login or an issuer if there is none yet. Who comes meanwhile waits for the same one.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn token(&self) -> Result<String, Stop> {
        if let Credentials::Token(token) = &self.credentials {
            return Ok(token.clone());
        }
        let mut known = self.token.lock().await;
        if let Some(token) = known.as_ref() {
            return Ok(token.clone());
        }
        let token = match &self.credentials {
            Credentials::Token(token) => token.clone(),
            Credentials::Password { username, password } => self.log_in(username, password).await?,
            Credentials::Issued(issuer) => issuer.issue().await?,
        };
        *known = Some(token.clone());
        Ok(token)
    }

    async fn log_in(&self, username: &str, password: &str) -> Result<String, Stop> {
        let body = json!({ "username": username, "password": password });
        let response = self.request(Method::POST, "/auth/login", &[]).json(&body).send().await;
        let response = response.map_err(|error| error::unreachable(&self.base, error))?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let hint = format!(
                "{username} has another password than the one that was given, or that the data directory has; with \
                 LMAO_TOKEN none is needed"
            );
            return Err(error::of(response).await.hint(hint));
        }
        if !response.status().is_success() {
            return Err(error::of(response).await);
        }
        let body: Value = response.json().await.map_err(|error| error::not_ours(&self.base, error))?;
        match body.get("access_token").and_then(Value::as_str) {
            Some(token) => Ok(token.to_owned()),
            None => Err(error::not_ours(&self.base, anyhow::anyhow!("a login gave no token"))),
        }
    }

    /// Forgets a token that ran out, unless there is a fresh one already.
    async fn forget(&self, token: &str) {
        let mut known = self.token.lock().await;
        if known.as_deref() == Some(token) {
            *known = None;
        }
    }
}

/// Whether a request may arrive twice.
fn is_repeatable(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::DELETE) || request.headers().contains_key(IDEMPOTENCY_KEY)
}

/// What the server answered.
pub(crate) struct Answer {
    /// Its status, a success.
    pub status: StatusCode,
    /// The position of what was written: a read that sends it back sees at least that.
    pub position: Option<String>,
    /// Its JSON; null when it was empty.
    pub body: Value,
}

impl Answer {
    /// The body in its shape.
    ///
    /// # Errors
    /// [`Code::Failed`] when it has another one: another version of the server, or something else altogether.
    pub(crate) fn into_body<T: DeserializeOwned>(self) -> Result<T, Stop> {
        read(&self.body)
    }
}

/// A part of an answer in its shape.
///
/// # Errors
/// As [`Answer::into_body`].
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Stop> {
    T::deserialize(value).map_err(|error| error::not_ours("the server", error))
}

/// How long to wait before the same request may succeed; `None` when the server does not say that it may.
fn pause(response: &Response) -> Option<Duration> {
    error::wait(response.headers()).map(|wait| wait.clamp(MIN_PAUSE, MAX_PAUSE))
}

/// Whether an address is on this machine: no proxy can reach it, and the local administrator's password may go there.
fn is_loopback(base: &str) -> bool {
    Url::parse(base).is_ok_and(|url| match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    })
}

#[cfg(test)]
mod tests;
