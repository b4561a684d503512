//! Log messages, structured: to standard error, and to the collector once there is one. Those of a trace carry its ids.

use std::{
    fmt,
    io::{self, IsTerminal},
    sync::OnceLock,
};

use opentelemetry::{Context, trace::TraceContextExt as _};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::{self, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use super::collector::Signal;
use crate::{
    cli::LogFormat,
    exit::{Code, Stop},
};

type Bridge = OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>;

/// The way to the collector, once there is one: the configuration that names it is read after the first messages.
static BRIDGE: OnceLock<Bridge> = OnceLock::new();

/// Those who send what we export: what they say of it would be sent too, and again what they say of that.
const SENDERS: [&str; 7] = ["opentelemetry", "tonic", "tower", "hyper", "h2", "rustls", "lmao::telemetry"];

/// Begins to write what passes `filter`.
///
/// # Errors
/// [`Code::Usage`] when `filter` is none.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<(), Stop> {
    let filter = with_quiet_exporters(filter).map_err(|error| {
        Stop::new(Code::Usage, format!("{filter:?} is no filter of log messages"))
            .because(error)
            .hint("for example info, or warn,lmao_actors=debug")
    })?;
    // Where standard error is closed, nobody can be told of it.
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).map_event_format(WithTrace).boxed(),
    };
    let started = tracing_subscriber::registry().with(lines).with(ToCollector).with(filter).try_init();
    started.map_err(|error| Stop::new(Code::Failed, "log messages cannot be written").because(anyhow::anyhow!(error)))
}

/// The exporters complain with every try; what is worth saying is said by [`super::collector`]. Who wants it all names them.
fn with_quiet_exporters(filter: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    if filter.contains("opentelemetry") {
        return EnvFilter::try_new(filter);
    }
    EnvFilter::try_new(format!("{filter},opentelemetry=off"))
}

/// From now on messages go to this provider too.
pub(super) fn send_to(provider: &SdkLoggerProvider) {
    // A second collector is none: there is one for the process.
    let _ = BRIDGE.set(OpenTelemetryTracingBridge::new(provider));
}

/// Hands messages to the collector, if there is one.
struct ToCollector;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ToCollector {
    fn on_event(&self, event: &Event<'_>, context: layer::Context<'_, S>) {
        let Some(bridge) = BRIDGE.get() else { return };
        let target = event.metadata().target();
        if SENDERS.iter().any(|sender| target.starts_with(sender)) {
            return;
        }
        Signal::Logs.offered(1);
        bridge.on_event(event, context);
    }
}

/// Adds `trace_id` and `span_id` to a JSON object.
struct WithTrace<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let ids = Context::map_current(|here| {
            let span = here.span();
            let context = span.span_context();
            context.is_valid().then(|| (context.trace_id(), context.span_id()))
        });
        let Some((trace, span)) = ids else { return self.0.format_event(context, to, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let object = line.trim_end();
        match object.strip_suffix('}') {
            Some(open) => writeln!(to, r#"{open},"trace_id":"{trace}","span_id":"{span}"}}"#),
            None => to.write_str(&line),
        }
    }
}
