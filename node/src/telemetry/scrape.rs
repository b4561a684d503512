//! Metrics in the form that Prometheus scrapes.

use std::sync::OnceLock;

use lmao_ports::Metrics;
use opentelemetry_sdk::{
    Resource,
    metrics::{MeterProviderBuilder, SdkMeterProvider},
};
use prometheus::{Registry, TextEncoder};

use crate::exit::{Code, Stop};

static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// The metrics of this process: empty unless it serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessMetrics;

impl Metrics for ProcessMetrics {
    fn render(&self) -> String {
        let Some(registry) = REGISTRY.get() else { return String::new() };
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the metrics cannot be written");
            String::new()
        })
    }
}

/// Makes the registry that [`ProcessMetrics`] renders, and a provider of meters that fills it; others may be told too before
/// that is built.
pub(super) fn install(resource: Resource) -> Result<MeterProviderBuilder, Stop> {
    let registry = REGISTRY.get_or_init(Registry::new).clone();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry)
        // One scope: it says nothing.
        .scope_info_enabled(false)
        .build()
        .map_err(|error| Stop::new(Code::Failed, "metrics cannot be gathered").because(error))?;
    Ok(SdkMeterProvider::builder().with_resource(resource).with_reader(reader))
}
