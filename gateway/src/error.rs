//! What a client is told when something is refused or fails: one shape for all of it. Knows HTTP, no route.

mod map;

pub(crate) use map::{erased, key_reused, shutting_down, unanswered};

use std::{borrow::Cow, time::Duration};

use chrono::{DateTime, Utc};
use poem::{
    Response,
    error::ResponseError,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    payload::{Json, Payload},
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{Any, Type},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::rates::Standing;

/// The reason where a store cannot be used for now.
const UNAVAILABLE: &str = "unavailable";

/// A refusal or failure on its way to the client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// A stable string that clients may branch on.
    pub(crate) reason: Cow<'static, str>,
    /// What happened, what it means, what to do.
    pub(crate) message: String,
    /// More, for programs; `reason` is added when it is sent.
    pub(crate) details: Map<String, Value>,
    /// When the same request may succeed.
    pub(crate) retry_after: Option<Duration>,
    /// `LMAO-Position`, when something was written all the same.
    pub(crate) position: Option<String>,
    /// The bucket that was empty.
    pub(crate) rate: Option<Standing>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            message: message.into(),
            details: Map::new(),
            retry_after: None,
            position: None,
            rate: None,
        }
    }

    pub(crate) fn bad_request(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason, message)
    }

    pub(crate) fn unauthorized(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, reason, message)
    }

    pub(crate) fn not_found(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, reason, message)
    }

    pub(crate) fn too_large(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, reason, message)
    }

    pub(crate) fn unprocessable(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, reason, message)
    }

    /// A passing failure: the same request may succeed after `retry_after`.
    pub(crate) fn passing(
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        retry_after: Duration,
    ) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, message) }
    }

    /// Whether a store could not be used for now.
    pub(crate) fn is_absence(&self) -> bool {
        self.reason == UNAVAILABLE
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn at(self, position: String) -> Self {
        Self { position: Some(position), ..self }
    }

    /// `details` as they are sent, with the reason.
    pub(crate) fn all_details(&self) -> Map<String, Value> {
        let mut details = self.details.clone();
        details.insert("reason".to_owned(), Value::String(self.reason.clone().into_owned()));
        details
    }

    /// The reply with the spec's error body.
    pub(crate) fn respond(&self, request_id: &str, now: DateTime<Utc>) -> Response {
        let body = ErrorBody {
            error: ErrorInfo {
                message: self.message.clone(),
                code: self.status.as_u16(),
                details: Any(self.all_details()),
                request_id: request_id.to_owned(),
                timestamp: now,
            },
        };
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let mut response =
            Response::builder().status(self.status).content_type("application/json; charset=utf-8").body(bytes);
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Some(rate) = self.rate {
            rate.tell(headers);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(position) = self.position.as_deref().and_then(|position| HeaderValue::from_str(position).ok()) {
            headers.insert(crate::position::HEADER, position);
        }
        response
    }
}

impl ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        self.status
    }
}

impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        let media = MetaMediaType { content_type: Json::<ErrorBody>::CONTENT_TYPE, schema: ErrorBody::schema_ref() };
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Refused or failed: `code` is the HTTP status, `details.reason` a stable string.",
                status: None,
                status_range: None,
                content: vec![media],
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        ErrorBody::register(registry);
    }
}

/// The body of every refusal and failure.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Error")]
struct ErrorBody {
    error: ErrorInfo,
}

/// What happened.
#[derive(Debug, Object, Serialize)]
struct ErrorInfo {
    /// What happened, what it means, what to do.
    message: String,
    /// The HTTP status.
    code: u16,
    /// `reason`, a stable string to branch on, and more that depends on it.
    details: Any<Map<String, Value>>,
    /// The request, as in the header `X-Request-Id`.
    request_id: String,
    /// When.
    timestamp: DateTime<Utc>,
}
