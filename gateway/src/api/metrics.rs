//! Metrics for scrapers that have a token of an administrator; those that have none use the separate listener.

use poem_openapi::{
    ApiResponse, OpenApi,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::Type,
};

use super::Tag;
use crate::{context::Admin, error::ApiError, metrics::Text};

impl ApiResponse for Text {
    fn meta() -> MetaResponses {
        let response = MetaResponse {
            description: "The metrics, in the Prometheus text format.",
            status: Some(200),
            status_range: None,
            content: vec![MetaMediaType { content_type: "text/plain; version=0.0.4", schema: String::schema_ref() }],
            headers: vec![],
        };
        MetaResponses { responses: vec![response] }
    }

    fn register(_: &mut Registry) {}
}

super::routes! {
    /// `/metrics`
    Scrape
}

#[OpenApi(tag = "Tag::Administration")]
impl Scrape {
    /// Show the metrics
    ///
    /// What this process counts and measures, for Prometheus.
    #[oai(path = "/metrics", method = "get", operation_id = "metrics")]
    async fn metrics(&self, _admin: Admin) -> Result<Text, ApiError> {
        Ok(Text(self.app()?.state.metrics.render()))
    }
}
