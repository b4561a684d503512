//! What is known of a request before any route sees it: its id, its trace, its sender. Put there by the edge.

use std::sync::Arc;

use lmao_events::{CommandRef, user::Role};
use lmao_ports::{CommandMeta, Span};
use poem::{
    FromRequest, Request, RequestBody,
    http::{HeaderMap, StatusCode},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use uuid::Uuid;

use crate::{error::ApiError, token::Caller};

/// Bytes of a request id that is taken over from the client.
const MAX_REQUEST_ID: usize = 128;

/// A request's id and trace.
#[derive(Debug, Clone)]
pub(crate) struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    request_id: String,
    id: Uuid,
    /// The client's, if it sent one.
    client: Option<String>,
    /// What commands go on with.
    traceparent: Option<String>,
}

impl Context {
    /// From the request's headers; `fresh` is its id unless the client gave one.
    pub(crate) fn new(headers: &HeaderMap, fresh: Uuid) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let given = text("x-request-id").filter(|id| is_sane(id));
        let id = given.and_then(|id| id.parse().ok()).unwrap_or(fresh);
        let request_id = given.map_or_else(|| fresh.to_string(), str::to_owned);
        let client = text("traceparent").filter(|trace| is_traceparent(trace)).map(str::to_owned);
        Self(Arc::new(Inner { request_id, id, traceparent: client.clone(), client }))
    }

    /// The same request, as handled in `span`: commands go on with that one's trace; without one, with the client's.
    pub(crate) fn within(&self, span: &Span) -> Self {
        let Inner { request_id, id, client, traceparent } = &*self.0;
        let wanted = span.traceparent().or_else(|| client.clone());
        if *traceparent == wanted {
            return self.clone();
        }
        let (request_id, client) = (request_id.clone(), client.clone());
        Self(Arc::new(Inner { request_id, id: *id, client, traceparent: wanted }))
    }

    /// The client's trace context, if it sent one.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.0.client.as_deref()
    }

    /// The request's id as it is shown.
    pub(crate) fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// On whose behalf a command is sent. A command that came with an idempotency key is the cause of what follows, so
    /// that a repetition recognises its own commit.
    pub(crate) fn meta(&self, who: Option<Uuid>, command: Option<CommandRef>) -> CommandMeta {
        CommandMeta {
            who,
            command,
            causation: command.map_or(self.0.id, |command| command.id),
            correlation: self.0.id,
            traceparent: self.0.traceparent.clone(),
        }
    }
}

fn is_sane(id: &str) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
}

/// `00-<32 hex>-<16 hex>-<2 hex>` (W3C Trace Context).
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts[..], [version, trace, parent, flags] if version == "00"
        && trace.len() == 32
        && parent.len() == 16
        && flags.len() == 2
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')))
}

impl<'a> FromRequest<'a> for Context {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let context = request.extensions().get::<Self>().cloned();
        Ok(context.ok_or_else(|| ApiError::internal("the request did not come through the edge"))?)
    }
}

/// The sender, with a token that holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User(pub(crate) Caller);

/// The sender, who is an administrator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admin(pub(crate) Caller);

fn caller(request: &Request) -> Result<Caller, ApiError> {
    let missing = || ApiError::unauthorized("missing_token", "send the header Authorization: Bearer TOKEN");
    request.extensions().get::<Caller>().copied().ok_or_else(missing)
}

fn admin(request: &Request) -> Result<Caller, ApiError> {
    let caller = caller(request)?;
    if caller.role == Role::Admin {
        return Ok(caller);
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", "only administrators may do this"))
}

const SCHEME: &str = "bearer";

/// One extractor for each kind of sender; the description of the API names one scheme for all.
macro_rules! security_scheme {
    ($name:ident, $from:ident) => {
        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                registry.create_security_scheme(SCHEME, scheme());
            }

            fn security_schemes() -> Vec<&'static str> {
                vec![SCHEME]
            }

            async fn from_request(
                request: &'a Request,
                _: &mut RequestBody,
                _: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                Ok(Self($from(request)?))
            }
        }
    };
}

security_scheme!(User, caller);
security_scheme!(Admin, admin);

fn scheme() -> MetaSecurityScheme {
    MetaSecurityScheme {
        ty: "http",
        description: Some("The `access_token` of `POST /auth/login`."),
        name: None,
        key_in: None,
        scheme: Some("bearer"),
        bearer_format: Some("JWT"),
        flows: None,
        openid_connect_url: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_traces_are_taken_over_only_when_they_are_sane() {
        let fresh = Uuid::from_u128(7);
        let id = |given: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", given.parse().unwrap());
            Context::new(&headers, fresh).request_id().to_owned()
        };
        assert_eq!(id("job-17"), "job-17");
        assert_eq!(id("a b"), fresh.to_string());
        assert_eq!(id(""), fresh.to_string());
        assert!(is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assert!(!is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"));
        assert!(!is_traceparent("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    }
}
