//! Tools behind HTTP endpoints: a call is one POST of JSON, its result the JSON of the answer.
//!
//! Knows the wire and its faults, and sends each call once: a tool may be one that must not run twice. Says nothing of the
//! address but its host, because the rest may hold secrets.

use std::fmt;

use async_trait::async_trait;
use lmao_events::tool_call::MAX_RESULT_BYTES;
use lmao_ports::{EndpointError, RemoteCall, Span, ToolEndpoint};
use reqwest::{
    StatusCode, Url,
    header::{ACCEPT, HeaderName},
};
use serde_json::Value;

use crate::http::{self, BodyFault, broken};

/// What is read of an error's body.
const MAX_ERROR_BYTES: usize = 16 * 1024;

/// What is kept of it.
const MESSAGE_CHARS: usize = 300;

/// Names the call, so that the other side can tell a repetition
/// (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Who goes on with the trace (W3C Trace Context).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Why an endpoint cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address makes no sense. It is not repeated: it may hold secrets.
    #[error("a tool's `url` is an http or https address such as https://HOST/PATH")]
    Address,
    /// TLS or the resolver does not start.
    #[error("the HTTP client does not start")]
    Client(#[source] reqwest::Error),
}

/// A tool's endpoint.
pub struct HttpTool {
    client: reqwest::Client,
    url: Url,
}

impl fmt::Debug for HttpTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTool").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

impl HttpTool {
    /// Names the endpoint; nothing is sent yet. A user and a password in the address are sent as basic authentication.
    ///
    /// # Errors
    /// When the address makes no sense.
    pub fn new(url: &str) -> Result<Self, Error> {
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or(Error::Address)?;
        let mut builder = http::client();
        if url.scheme() == "http" {
            // An endpoint on this machine must not fail for want of the system's certificates.
            builder = builder.tls_certs_only([]);
        }
        let client = builder
            // Followed, a POST would become a GET, and the arguments might go elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // A connection that was kept may be closed by the other side just as the call goes out: nobody would know
            // whether it arrived.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(Error::Client)?;
        Ok(Self { client, url })
    }

    async fn post(&self, call: &RemoteCall, traceparent: Option<String>) -> Result<Value, EndpointError> {
        let mut post = self.client.post(self.url.clone()).header(ACCEPT, "application/json");
        post = post.header(IDEMPOTENCY_KEY, call.call_id.to_string());
        if let Some(traceparent) = traceparent {
            post = post.header(TRACEPARENT, traceparent);
        }
        let response = post.json(call).send().await.map_err(|error| match broken(&error) {
            text if error.is_connect() => EndpointError::Unreachable(text),
            text => EndpointError::BrokeOff(text),
        })?;
        let status = response.status();
        if !status.is_success() {
            // Its words are a courtesy: without them there is the status.
            let body = http::body(response, MAX_ERROR_BYTES).await.unwrap_or_default();
            return Err(EndpointError::Status { status: status.as_u16(), message: self.message(status, &body) });
        }
        let body = http::body(response, MAX_RESULT_BYTES).await.map_err(|fault| match fault {
            BodyFault::Transfer(error) => EndpointError::BrokeOff(broken(&error)),
            BodyFault::TooLong => EndpointError::TooLarge { limit: MAX_RESULT_BYTES },
        })?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| EndpointError::NotJson)
    }

    /// The tool's own words, without what many servers quote: the address.
    fn message(&self, status: StatusCode, body: &[u8]) -> String {
        if status.is_redirection() {
            return "redirects are not followed; set the tool's `url` to where it redirects to".to_owned();
        }
        let mut text = String::from_utf8_lossy(body).trim().to_owned();
        let query = self.url.query().unwrap_or_default();
        let target = format!("{}?{query}", self.url.path());
        let secrets = [target.trim_end_matches('?'), query, self.url.password().unwrap_or_default()];
        // One character, such as the path `/`, hides nothing.
        for secret in secrets.into_iter().filter(|secret| secret.len() > 1) {
            text = text.replace(secret, "…");
        }
        text.chars().take(MESSAGE_CHARS).collect()
    }
}

#[async_trait]
impl ToolEndpoint for HttpTool {
    async fn call(&self, call: &RemoteCall) -> Result<Value, EndpointError> {
        let span = Span::asking(|| "POST".into());
        span.set("http.request.method", "POST");
        span.set_with("server.address", || self.url.host_str().unwrap_or_default().to_owned());
        let answer = span.run(self.post(call, span.traceparent())).await;
        if let Err(error) = &answer {
            span.fail(match error {
                EndpointError::Unreachable(_) => "unreachable",
                EndpointError::BrokeOff(_) => "broke_off",
                EndpointError::Status { .. } => "status",
                EndpointError::TooLarge { .. } => "too_large",
                EndpointError::NotJson => "not_json",
            });
        }
        answer
    }
}

#[cfg(test)]
mod tests;
