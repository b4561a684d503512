//! A collector, told everything by OTLP over gRPC: in batches, from threads of their own, and never waited for.
//!
//! The SDK bounds its queues (2,048 spans and messages; `OTEL_BSP_*`, `OTEL_BLRP_*` and `OTEL_METRIC_EXPORT_INTERVAL`
//! are honoured) and drops what does not fit. What was offered and what the collector took are counted: the rest is lost.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use lmao_ports::trace;
use opentelemetry::{Context, KeyValue, global, metrics::Counter};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    logs::{LogBatch, LogExporter as ExportLogs, SdkLoggerProvider},
    metrics::{
        MeterProviderBuilder, SdkMeterProvider, Temporality, data::ResourceMetrics, exporter::PushMetricExporter,
    },
    trace::{
        BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter as ExportSpans, SpanProcessor,
    },
};
use tokio::sync::oneshot;

use super::logs;
use crate::{
    config::{Endpoint, Ratio},
    exit::{Code, Stop},
};

/// How long one export may take.
const EXPORT_WITHIN: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the collector.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// How often it is said that a collector does not take something.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
    Logs,
}

struct Counters {
    offered: Counter<u64>,
    exported: Counter<u64>,
}

static COUNTERS: LazyLock<Counters> = LazyLock::new(|| {
    let meter = global::meter("lmao");
    let counter = |name, what| meter.u64_counter(name).with_unit("{item}").with_description(what).build();
    Counters {
        offered: counter("lmao.telemetry.offered", "Spans, log messages and batches of metrics for the collector."),
        exported: counter("lmao.telemetry.exported", "Those that the collector took; the rest waits or is lost."),
    }
});

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    fn attribute(self) -> [KeyValue; 1] {
        [KeyValue::new("lmao.signal", self.name())]
    }

    /// So many are to be sent.
    pub(super) fn offered(self, items: usize) {
        COUNTERS.offered.add(items as u64, &self.attribute());
    }

    fn exported(self, items: usize) {
        COUNTERS.exported.add(items as u64, &self.attribute());
    }
}

/// The providers that lead to one collector.
#[derive(Debug)]
pub(super) struct Collector {
    tracers: SdkTracerProvider,
    meters: SdkMeterProvider,
    loggers: SdkLoggerProvider,
}

impl Collector {
    /// Installs the providers; `meters` is told to send to the collector too.
    pub(super) fn open(
        endpoint: &Endpoint,
        sample: Ratio,
        resource: &Resource,
        meters: MeterProviderBuilder,
    ) -> Result<Self, Stop> {
        let unusable = |error: ExporterBuildError| {
            Stop::new(Code::Usage, "telemetry.otlp cannot be used")
                .because(error)
                .hint("for example http://127.0.0.1:4317")
        };
        let (spans, metrics, logs) = exporters(endpoint).map_err(unusable)?;

        let meters = meters.with_periodic_exporter(Watched::new(Signal::Metrics, metrics)).build();
        global::set_meter_provider(meters.clone());

        let spans = BatchSpanProcessor::builder(Watched::new(Signal::Traces, spans)).build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample.get())));
        let tracers = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_sampler(sampler)
            .with_span_processor(Counted(spans))
            .build();
        global::set_tracer_provider(tracers.clone());
        trace::listen();

        let logs = Watched::new(Signal::Logs, logs);
        let loggers = SdkLoggerProvider::builder().with_resource(resource.clone()).with_batch_exporter(logs).build();
        logs::send_to(&loggers);
        Ok(Self { tracers, meters, loggers })
    }

    /// Sends what waits. On threads of their own, since the SDK blocks; those that a collector holds up end with the process.
    pub(super) async fn close(self) {
        let Self { tracers, meters, loggers } = self;
        let closing: [Box<dyn FnOnce() -> OTelSdkResult + Send>; 3] = [
            Box::new(move || tracers.shutdown_with_timeout(CLOSE_WITHIN)),
            Box::new(move || meters.shutdown_with_timeout(CLOSE_WITHIN)),
            Box::new(move || loggers.shutdown_with_timeout(CLOSE_WITHIN)),
        ];
        let ended = closing.map(|close| {
            let (done, ended) = oneshot::channel();
            std::thread::spawn(move || {
                // The exporters have said what was the matter; who waited may be gone.
                let _ = close();
                let _ = done.send(());
            });
            ended
        });
        let _ = tokio::time::timeout(CLOSE_WITHIN, futures::future::join_all(ended)).await;
    }
}

fn exporters(endpoint: &Endpoint) -> Result<(SpanExporter, MetricExporter, LogExporter), ExporterBuildError> {
    /// The same for each signal: the builders share no trait that could build.
    macro_rules! exporter {
        ($exporter:ident) => {{
            let builder =
                $exporter::builder().with_tonic().with_endpoint(endpoint.as_str()).with_timeout(EXPORT_WITHIN);
            if endpoint.is_tls() {
                builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots()).build()?
            } else {
                builder.build()?
            }
        }};
    }
    Ok((exporter!(SpanExporter), exporter!(MetricExporter), exporter!(LogExporter)))
}

/// Counts the spans that are to be sent.
#[derive(Debug)]
struct Counted(BatchSpanProcessor);

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        Signal::Traces.offered(1);
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// An exporter that counts what it gets across, and says now and then that it does not.
#[derive(Debug)]
struct Watched<E> {
    signal: Signal,
    exporter: E,
    trouble: Mutex<Trouble>,
}

/// What is known of failures.
#[derive(Debug, Default)]
struct Trouble {
    failing: bool,
    said: Option<Instant>,
}

impl<E> Watched<E> {
    fn new(signal: Signal, exporter: E) -> Self {
        Self { signal, exporter, trouble: Mutex::default() }
    }

    fn ended(&self, items: usize, result: &OTelSdkResult) {
        let signal = self.signal.name();
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                self.signal.exported(items);
                if std::mem::take(&mut trouble.failing) {
                    tracing::info!(signal, "the collector takes it again");
                }
            }
            Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => {
                trouble.failing = true;
                if trouble.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
                    trouble.said = Some(Instant::now());
                    tracing::warn!(signal, %error, "the collector does not take it; it is dropped, and the server goes on");
                }
            }
        }
    }
}

impl<E: ExportSpans> ExportSpans for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let items = batch.len();
        let result = self.exporter.export(batch).await;
        self.ended(items, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: ExportLogs> ExportLogs for Watched<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let items = batch.iter().count();
        let result = self.exporter.export(batch).await;
        self.ended(items, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.signal.offered(1);
        let result = self.exporter.export(metrics).await;
        self.ended(1, &result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
