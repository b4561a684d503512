//! What the gateway measures of its requests, with the names of the semantic conventions for HTTP servers; and how all
//! metrics of the process are answered.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Histogram, UpDownCounter},
};
use poem::{
    IntoResponse, Response,
    http::{Method, StatusCode},
};

use crate::reply::InMemory;

/// Seconds, as the semantic conventions advise.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// The Prometheus text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Instruments {
    duration: Histogram<f64>,
    active: UpDownCounter<i64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = global::meter("lmao");
    Instruments {
        duration: meter
            .f64_histogram("http.server.request.duration")
            .with_unit("s")
            .with_description("From a request to the head of its response.")
            .with_boundaries(SECONDS.to_vec())
            .build(),
        active: meter
            .i64_up_down_counter("http.server.active_requests")
            .with_unit("{request}")
            .with_description("Requests that have no response yet.")
            .build(),
    }
});

/// A request without a response yet; counted until this is dropped, also when its client leaves.
pub(crate) struct Active {
    method: KeyValue,
    begun: Instant,
}

impl Active {
    pub(crate) fn begin(method: &Method) -> Self {
        let method = KeyValue::new("http.request.method", known(method));
        INSTRUMENTS.active.add(1, std::slice::from_ref(&method));
        Self { method, begun: Instant::now() }
    }

    /// It got a response; `route` is the template of its path, if it has one.
    pub(crate) fn answered(self, route: Option<&str>, status: StatusCode) -> Duration {
        let took = self.begun.elapsed();
        let status = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
        let route = route.map(|route| KeyValue::new("http.route", route.to_owned()));
        let attributes: Vec<KeyValue> = [self.method.clone(), status].into_iter().chain(route).collect();
        INSTRUMENTS.duration.record(took.as_secs_f64(), &attributes);
        took
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        INSTRUMENTS.active.add(-1, std::slice::from_ref(&self.method));
    }
}

/// The method, if it is one that everybody knows: clients may make up others without end.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// Metrics as they are answered.
#[derive(Debug)]
pub(crate) struct Text(pub(crate) String);

impl IntoResponse for Text {
    fn into_response(self) -> Response {
        let length = InMemory(self.0.len());
        let mut response = Response::builder().content_type(TEXT_FORMAT).body(self.0);
        response.extensions_mut().insert(length);
        response
    }
}
