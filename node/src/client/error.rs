//! What goes wrong between client and server, for people.

use std::time::Duration;

use reqwest::{
    Response, StatusCode,
    header::{self, HeaderMap},
};
use serde_json::Value;

use crate::exit::{Api, Code, Effect, Stop};

/// Nobody answered, or the connection broke.
pub(crate) fn unreachable(base: &str, error: reqwest::Error) -> Stop {
    let what = if error.is_connect() {
        format!("no server answers at {base}")
    } else if error.is_timeout() {
        format!("the server at {base} did not answer in time")
    } else {
        format!("the connection to {base} broke")
    };
    Stop::new(Code::Unreachable, what)
        .because(error.without_url())
        .hint("start one with `lmao serve`, or name another with --server or --data")
}

/// Something answered that does not speak our API.
pub(crate) fn not_ours(base: &str, error: impl Into<anyhow::Error>) -> Stop {
    Stop::new(Code::Failed, format!("the answer of {base} is not that of an LMA-o server of this version"))
        .because(error)
}

/// The error that a server answered with.
pub(crate) async fn of(response: Response) -> Stop {
    let (status, wait) = (response.status(), wait(response.headers()));
    refusal(status, wait, &response.bytes().await.unwrap_or_default())
}

/// When the same request may succeed, by the header `Retry-After`.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let after = headers.get(header::RETRY_AFTER)?;
    // A date is none of ours.
    Some(Duration::from_secs(after.to_str().ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(1)))
}

/// The error of an answer with this status and body, and with the wait that it asks for.
pub(crate) fn refusal(status: StatusCode, wait: Option<Duration>, body: &[u8]) -> Stop {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = body["error"]["message"].as_str().filter(|message| !message.is_empty());
    let message = message.map_or_else(|| format!("the server answered {status}"), str::to_owned);
    let details = &body["error"]["details"];
    let reason = details["reason"].as_str().unwrap_or_default().to_owned();
    let code = match status {
        StatusCode::TOO_MANY_REQUESTS => Code::Failed,
        status if status.is_client_error() => Code::Refused,
        // A server that only a proxy speaks for is as good as none.
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT
            if reason.is_empty() =>
        {
            Code::Unreachable
        }
        _ => Code::Failed,
    };
    let mut stop = Stop::new(code, message);
    let effect = match reason.as_str() {
        _ if details["message_id"].is_string() => Effect::Recorded,
        "outcome_unknown" => Effect::Unknown,
        "" if status.is_server_error() => Effect::Unknown,
        _ => Effect::Nothing,
    };
    stop.api = Some(Api { status: status.as_u16(), reason, effect, wait });
    match (status, body["error"]["request_id"].as_str()) {
        (StatusCode::UNAUTHORIZED, _) => stop
            .hint("set LMAO_TOKEN to a fresh token (`lmao login` gives one), or name the data directory with --data"),
        (StatusCode::TOO_MANY_REQUESTS, _) => stop.hint(match wait {
            Some(wait) => format!("wait {} s, then try again", wait.as_secs()),
            None => "wait a moment, then try again".to_owned(),
        }),
        (StatusCode::INTERNAL_SERVER_ERROR, Some(id)) => {
            stop.hint(format!("the server's log tells more of request {id}"))
        }
        _ => stop,
    }
}
