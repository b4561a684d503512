//! What the process tells of itself: log messages to standard error from the first moment on; and, while it serves, metrics
//! for scrapers, and traces, metrics and log messages for a collector (OTLP over gRPC).
//!
//! The only place that knows who listens: the rooms speak to the facades of `tracing` and `opentelemetry`. Nothing here
//! is ever in the way: every queue is bounded, what does not fit or cannot be sent is dropped and counted, and the end of the
//! process waits two seconds for the collector at most.

mod collector;
mod logs;
mod scrape;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use uuid::Uuid;

use self::collector::Collector;
pub(crate) use self::{logs::start, scrape::ProcessMetrics};
use crate::{config, exit::Stop};

/// What a server exports; without it there are log messages on standard error and nothing else.
#[derive(Debug)]
pub(crate) struct Telemetry(Option<Collector>);

impl Telemetry {
    /// Installs what the rooms' facades lead to. Comes before anything is measured, once, within the runtime. `roles` are
    /// those of this node.
    ///
    /// # Errors
    /// When the collector's address cannot be used; nothing is connected yet.
    pub(crate) fn open(config: &config::Telemetry, roles: &str) -> Result<Self, Stop> {
        let resource = resource(config, roles);
        let meters = scrape::install(resource.clone())?;
        let Some(endpoint) = &config.otlp else {
            opentelemetry::global::set_meter_provider(meters.build());
            return Ok(Self(None));
        };
        Collector::open(endpoint, config.sample, &resource, meters).map(|collector| Self(Some(collector)))
    }

    /// Sends what waits, as far as two seconds allow.
    pub(crate) async fn close(self) {
        if let Some(collector) = self.0 {
            collector.close().await;
        }
    }
}

/// Who speaks. `OTEL_RESOURCE_ATTRIBUTES` adds to it.
fn resource(config: &config::Telemetry, roles: &str) -> Resource {
    Resource::builder()
        .with_service_name(config.service_name.clone())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
            KeyValue::new("lmao.roles", roles.to_owned()),
        ])
        .build()
}
