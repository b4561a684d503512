//! A circuit breaker around each request to a bucket's server: one that says nothing is left alone for a moment.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::{
    ClientOptions, Result,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
    },
};

use crate::breaker::Breaker;

/// It was not asked.
#[derive(Debug, thiserror::Error)]
#[error("no answer lately; it is asked again within seconds")]
struct Away;

/// Makes clients that share a breaker.
#[derive(Debug)]
pub(super) struct Guarded(pub(super) Arc<Breaker>);

impl HttpConnector for Guarded {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { client, breaker: Arc::clone(&self.0) }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    breaker: Arc<Breaker>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !self.breaker.permits() {
            // Of a kind that is not tried again at once.
            return Err(HttpError::new(HttpErrorKind::Unknown, Away));
        }
        let answer = self.client.execute(request).await;
        match &answer {
            Ok(_) => self.breaker.answered(),
            Err(error) => self.breaker.failed(&innermost(error)),
        }
        answer
    }
}

/// What really happened: "connection refused", say.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
