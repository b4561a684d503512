//! From what ports and the framework report to what a client is told: the one place where an error becomes a status.

use std::{error::Error as StdError, time::Duration};

use lmao_events::{Rejection, RejectionKind};
use lmao_ports::{CommandError, EmbedError, IndexError, ReadError, SearchError, Unavailable, VaultError};
use poem::{
    error::{MethodNotAllowedError, NotFoundError, ParseMultipartError, WebSocketError},
    http::StatusCode,
};
use poem_openapi::error::{ContentTypeError, ParseParamError, ParsePathError};

use super::{ApiError, UNAVAILABLE};

/// What is told in time, when what a request needs has neither answered nor failed.
pub(crate) fn unanswered() -> ApiError {
    let text =
        "what this needs did not answer in time; it may have been done: try again, with the same Idempotency-Key";
    ApiError::passing("outcome_unknown", text, SOON)
}

/// When a busy or unavailable part is asked again.
const SOON: Duration = Duration::from_secs(1);

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let Rejection { kind, reason, message } = rejection;
        let status = match kind {
            RejectionKind::NotFound => StatusCode::NOT_FOUND,
            RejectionKind::Conflict => StatusCode::CONFLICT,
            RejectionKind::Invalid if reason.ends_with("_too_large") => StatusCode::PAYLOAD_TOO_LARGE,
            RejectionKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            RejectionKind::Busy => return Self::passing(reason, message, SOON),
        };
        Self::new(status, reason, message)
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error {
            CommandError::Rejected(rejection) => rejection.into(),
            CommandError::KeyReused => key_reused(),
            CommandError::Overloaded { retry_after } => Self::passing("overloaded", message, retry_after),
            CommandError::Unknown => Self::passing("outcome_unknown", message, SOON),
            CommandError::Erased => Self::new(StatusCode::GONE, "erased", message),
            CommandError::Parked { stream, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "parked", message).with("stream", stream.to_string())
            }
            CommandError::Unavailable(unavailable) => unavailable.into(),
            CommandError::ShuttingDown => shutting_down(),
        }
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        tracing::error!(store = error.store, error = %error, source = %sources(&error), "a store cannot be used");
        Self::passing(UNAVAILABLE, error.to_string(), SOON).with("store", error.store)
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Unavailable(unavailable) => unavailable.into(),
            VaultError::Sealed(_) => {
                tracing::error!(error = %error, "the vault does not open");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "vault_sealed", error.to_string())
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(unavailable) => unavailable.into(),
            ReadError::Damaged { .. } => {
                tracing::error!(error = %error, "the log is damaged");
                let message = format!("{error}; `lmao audit verify` says more, and nothing is written over it");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "log_damaged", message)
            }
        }
    }
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        let message = error.to_string();
        match error {
            SearchError::Invalid(_) => Self::unprocessable("bad_search", message),
            SearchError::SemanticOff(_) => {
                let message = format!("{message}; use search_type hybrid or keyword");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "semantic_off", message)
            }
            SearchError::Index(index) => index.into(),
            SearchError::Embed(EmbedError::Model { .. }) => Self::passing("model_failed", message, SOON),
        }
    }
}

impl From<IndexError> for ApiError {
    fn from(error: IndexError) -> Self {
        let reason = match error {
            IndexError::Unavailable(unavailable) => return unavailable.into(),
            IndexError::Invalid(message) => return Self::unprocessable("bad_search", message),
            IndexError::OtherModel { .. } => "index_of_other_model",
            IndexError::Damaged(_) => "index_damaged",
        };
        tracing::error!(error = %error, "the search index cannot be used");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, error.to_string())
    }
}

impl From<poem::Error> for ApiError {
    fn from(error: poem::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(ours) => return ours,
            Err(other) => other,
        };
        let message = error.to_string();
        if error.is::<NotFoundError>() {
            return Self::not_found("not_found", "there is nothing at this path; /docs lists what there is");
        }
        if error.is::<MethodNotAllowedError>() {
            let text = "this path does not take this method; the header Allow and /docs list those it takes";
            return Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text);
        }
        let parameter = error.downcast_ref().map(|ParseParamError { name, .. }| *name);
        if let Some(name) = parameter.or_else(|| error.downcast_ref().map(|ParsePathError { name, .. }| *name)) {
            let text =
                format!("the parameter {name} is missing or has a value that it does not take; /docs lists those");
            return Self::bad_request("bad_parameter", text).with("parameter", name);
        }
        if error.is::<ContentTypeError>() {
            return Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
        }
        if error.is::<ParseMultipartError>() {
            return Self::bad_request("bad_multipart", message);
        }
        if error.is::<WebSocketError>() {
            let text = "this path speaks WebSocket (RFC 6455): ask for an upgrade, version 13";
            return Self::new(StatusCode::UPGRADE_REQUIRED, "websocket_expected", text);
        }
        let status = error.status();
        if status.is_server_error() {
            tracing::error!(%status, error = %message, "a request failed");
            return Self { status, ..Self::internal("the server failed; its log says more under this request id") };
        }
        Self::new(status, "bad_request", message)
    }
}

/// The same Idempotency-Key came with another request.
pub(crate) fn key_reused() -> ApiError {
    let text = "this Idempotency-Key was used with another request; use a new key for a new request";
    ApiError::unprocessable("idempotency_key_reused", text)
}

/// The process is ending.
pub(crate) fn shutting_down() -> ApiError {
    ApiError::passing("shutting_down", "the server is shutting down; try again in a moment", SOON)
}

/// What a stream belonged to was erased.
pub(crate) fn erased() -> ApiError {
    CommandError::Erased.into()
}

fn sources(error: &dyn StdError) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&error.to_string());
        text.push_str("; ");
        source = error.source();
    }
    text
}
