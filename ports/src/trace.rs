//! Traces: where a request's time goes, over actors, nodes and restarts (OpenTelemetry; context as W3C `traceparent`).
//!
//! The gateway begins a trace; commands and commits carry it on as text, so that whoever goes on with the work, later or
//! elsewhere, goes on with the trace. Until the node calls [`listen`], and in a trace that is not sampled, every span is
//! nothing and costs nothing: rooms make them without asking.

use std::{
    borrow::Cow,
    fmt::{self, Debug, Write as _},
    future::Future,
    sync::OnceLock,
};

use futures::future::Either;
use opentelemetry::{
    Context, KeyValue, Value,
    context::{FutureExt as _, WithContext},
    global::{self, BoxedTracer},
    trace::{
        SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        Tracer as _,
    },
};

/// Who listens, once somebody does.
static TRACER: OnceLock<BoxedTracer> = OnceLock::new();

/// Characters of a name that is made of data.
const MAX_NAME: usize = 64;

/// From now on spans are made, and go to the global tracer provider as it is now. Called once, at the start.
pub fn listen() {
    // A second call would name the same provider.
    let _ = TRACER.set(global::tracer("lmao"));
}

/// A piece of work in a trace; it ends when this is dropped.
#[derive(Debug)]
pub struct Span(Option<Context>);

impl Span {
    /// No span.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// A request from outside: goes on with the trace of its `traceparent` as its sender decided, else begins one, if the
    /// sampler wants it.
    #[must_use]
    pub fn request(name: impl FnOnce() -> Cow<'static, str>, traceparent: Option<&str>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let parent = traceparent.and_then(parse);
        let parent = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        Self::begin(tracer, name(), SpanKind::Server, &parent)
    }

    /// A step of the trace that `traceparent` names: nothing without one, and nothing when that is not sampled.
    #[must_use]
    pub fn of(traceparent: Option<&str>, name: impl FnOnce() -> Cow<'static, str>) -> Self {
        let (Some(tracer), Some(traceparent)) = (TRACER.get(), traceparent) else { return Self(None) };
        let Some(parent) = parse(traceparent).filter(SpanContext::is_sampled) else { return Self(None) };
        Self::begin(tracer, name(), SpanKind::Internal, &Context::new().with_remote_span_context(parent))
    }

    /// A step within the span that [`Span::run`] runs here: nothing outside of one.
    #[must_use]
    pub fn here(name: impl FnOnce() -> Cow<'static, str>) -> Self {
        Self::within(SpanKind::Internal, name)
    }

    /// As [`Span::here`]; the work is done by somebody else, whom this one asks.
    #[must_use]
    pub fn asking(name: impl FnOnce() -> Cow<'static, str>) -> Self {
        Self::within(SpanKind::Client, name)
    }

    fn within(kind: SpanKind, name: impl FnOnce() -> Cow<'static, str>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let parent = Context::map_current(|here| here.span().span_context().is_sampled().then(|| here.clone()));
        parent.map_or(Self(None), |parent| Self::begin(tracer, name(), kind, &parent))
    }

    fn begin(tracer: &BoxedTracer, name: Cow<'static, str>, kind: SpanKind, parent: &Context) -> Self {
        let span = tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), parent);
        let context = parent.with_span(span);
        let recorded = context.span().is_recording();
        Self(recorded.then_some(context))
    }

    /// Runs a future in this span: spans that it makes [`here`](Span::here) are children of this one, and log messages
    /// carry its ids. What it spawns does not belong to it.
    pub fn run<F: Future>(&self, future: F) -> Either<F, WithContext<F>> {
        match &self.0 {
            None => Either::Left(future),
            Some(context) => Either::Right(future.with_context(context.clone())),
        }
    }

    /// Says something of it.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// As [`Span::set`], for what is not worth computing for nobody.
    pub fn set_with<V: Into<Value>>(&self, key: &'static str, value: impl FnOnce() -> V) {
        if self.0.is_some() {
            self.set(key, value());
        }
    }

    /// It failed: why.
    pub fn fail(&self, why: impl Into<Cow<'static, str>>) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(why));
        }
    }

    /// Names it for those who go on elsewhere; nothing when there is no span.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        self.0.as_ref().map(|context| format(context.span().span_context()))
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // Contexts that still run something hold the span too: it ends with this one all the same.
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// A future that is about to be spawned, in the span that runs here.
pub fn carried<F: Future>(future: F) -> Either<F, WithContext<F>> {
    let here = TRACER.get().and_then(|_| Context::map_current(|here| here.has_active_span().then(|| here.clone())));
    match here {
        None => Either::Left(future),
        Some(here) => Either::Right(future.with_context(here)),
    }
}

/// The name of the variant that a value of an enum is, by its `Debug` form, of which no more is computed.
#[must_use]
pub fn variant(value: &dyn Debug) -> String {
    /// Takes text up to the first character that is part of no name.
    struct Head(String);

    impl fmt::Write for Head {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
            let room = MAX_NAME.saturating_sub(self.0.len());
            let end = text.floor_char_boundary(end.min(room));
            self.0.push_str(&text[..end]);
            if end < text.len() { Err(fmt::Error) } else { Ok(()) }
        }
    }

    let mut head = Head(String::new());
    // An error is how it says that it has enough.
    let _ = write!(head, "{value:?}");
    head.0
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, neither id zero (W3C Trace Context).
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || trace.len() != 32 || span.len() != 16 || flags.len() != 2 || parts.next().is_some() {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

fn format(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_and_written_as_the_standard_says() {
        assert_eq!(format(&parse(TRACE).unwrap()), TRACE);
        assert!(!parse(&TRACE.replace("-01", "-00")).unwrap().is_sampled());
        for wrong in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn while_nobody_listens_there_are_no_spans() {
        for span in [
            Span::request(|| unreachable!("nobody asks for its name"), Some(TRACE)),
            Span::of(Some(TRACE), || unreachable!("nobody asks for its name")),
            Span::here(|| unreachable!("nobody asks for its name")),
        ] {
            assert_eq!(span.traceparent(), None);
        }
    }

    #[test]
    fn a_variant_has_a_short_name() {
        #[derive(Debug)]
        enum Sample {
            Unit,
            Tuple(#[allow(dead_code, reason = "only its name is looked at")] u32),
            Fields {
                #[allow(dead_code, reason = "only its name is looked at")]
                x: u32,
            },
        }
        assert_eq!(variant(&Sample::Unit), "Unit");
        assert_eq!(variant(&Sample::Tuple(1)), "Tuple");
        assert_eq!(variant(&Sample::Fields { x: 1 }), "Fields");
        assert_eq!(variant(&"quoted"), "");
    }
}
