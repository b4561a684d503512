//! The one place that builds HTTP clients, so that TLS is set up once and alike for every endpoint, and what reading their
//! answers has in common.

use std::time::Duration;

/// How long a connection may take to be made.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A client builder with the process's TLS provider (`ring`), our name, and a limit for connecting.
///
/// Redirects and the limits of a whole exchange are the caller's to set.
pub(crate) fn client() -> reqwest::ClientBuilder {
    // Fails when a provider is installed already, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("lmao/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
}

/// Why a body stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("the connection broke")]
    Transfer(#[source] reqwest::Error),
    #[error("it is too long")]
    TooLong,
}

/// A whole body of at most `limit` bytes.
pub(crate) async fn body(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, BodyFault> {
    let mut body = vec![];
    while let Some(piece) = response.chunk().await.map_err(BodyFault::Transfer)? {
        if body.len() + piece.len() > limit {
            return Err(BodyFault::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// What broke, without the address: it may hold a password.
pub(crate) fn broken(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it does not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if error.is_connect() { format!("no connection ({cause})") } else { format!("the connection broke ({cause})") }
}

#[cfg(test)]
pub(crate) mod scripted;
