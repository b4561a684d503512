//! The one place that builds HTTP clients, so that TLS is set up once and alike for every endpoint.

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

#[cfg(test)]
pub(crate) mod scripted;
