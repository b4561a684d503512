//! The outermost ring: every request gets an id, every sender is known or refused, every failure and panic gets the one
//! error body. Closed by default: a path is open only if it is listed here. Knows no route.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use lmao_ports::Span;
use poem::{
    Endpoint, Request, Response,
    http::{HeaderValue, Method, StatusCode, header},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    api::Methods,
    app::{App, BEYOND_WAIT, today},
    compress,
    context::Context,
    error::{ApiError, shutting_down, unanswered},
    metrics::Active,
    rates::Class,
    token::Caller,
};

/// What can be asked without a token; nothing else can.
const OPEN: [&str; 7] = ["/", "/health", "/health/live", "/health/ready", "/auth/login", "/openapi.json", "/docs"];
/// What is answered however busy the server is.
const HEALTH: &str = "/health";
/// What is asked too often to be worth a trace.
const METRICS: &str = "/metrics";
/// Where an upload's body arrives, which takes as long as it takes; the route itself bounds what follows.
const UPLOAD: &str = "/api/v1/documents/upload";
/// The longest that a client can ask to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a file may take from its store until its first byte is sent: 512 MiB over a slow line.
const FETCH: Duration = Duration::from_secs(30 * 60);
/// Where a token may come as `?access_token=`, because browsers set no headers on sockets.
const SOCKETS: &str = "/api/v1/chat/ws/";

/// The outermost endpoint.
#[derive(Debug)]
pub(crate) struct Edge<E> {
    inner: E,
    app: Arc<App>,
    methods: Methods,
}

impl<E> Edge<E> {
    pub(crate) fn new(inner: E, app: Arc<App>, methods: Methods) -> Self {
        Self { inner, app, methods }
    }

    fn admit(&self, request: &mut Request) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let path = request.uri().path();
        for name in ["idempotency-key", "lmao-position"] {
            if request.headers().get(name).is_some_and(|value| value.to_str().is_err()) {
                return Err(ApiError::bad_request("bad_header", format!("the header {name} is not plain ASCII")));
            }
        }
        if path.starts_with(HEALTH) && OPEN.contains(&path) {
            return Ok(None);
        }
        if !OPEN.contains(&path) {
            let caller = authenticate(&self.app, request)?;
            request.extensions_mut().insert(caller);
        }
        if self.app.closing.is_cancelled() {
            return Err(shutting_down());
        }
        let overloaded = |_| {
            let text = "too many requests are in flight; try again in a moment";
            ApiError::passing("overloaded", text, Duration::from_secs(1))
        };
        self.app.gates.requests.clone().try_acquire_owned().map(Some).map_err(overloaded)
    }
}

impl<E: Endpoint<Output = Response>> Edge<E> {
    /// Refuses a query parameter that there is none of: a misspelt filter would let everything through.
    fn check_parameters(&self, request: &Request) -> Result<(), ApiError> {
        let path = request.uri().path();
        // Probes and links come with parameters of somebody else's.
        if *request.method() == Method::GET && OPEN.contains(&path) {
            return Ok(());
        }
        let Some(known) = self.methods.parameters(request.method(), path) else { return Ok(()) };
        let given: Vec<(String, String)> = request.params().map_err(poem::Error::from)?;
        let Some((name, _)) = given.into_iter().find(|(name, _)| !known.contains(name)) else { return Ok(()) };
        let there_are = match known {
            [] => "this path takes none".to_owned(),
            known => format!("this path takes {}", known.join(", ")),
        };
        let text = format!("there is no query parameter {name:?} here; {there_are}");
        Err(ApiError::bad_request("bad_parameter", text).with("parameter", name))
    }

    /// The span of a request; what asks how the process is has none.
    fn span(&self, context: &Context, method: &Method, path: &str, route: Option<&str>) -> Span {
        if path.starts_with(HEALTH) || path == METRICS {
            return Span::none();
        }
        let span = Span::request(|| format!("{method} {}", route.unwrap_or_default()).into(), context.traceparent());
        span.set_with("http.request.method", || method.to_string());
        span.set_with("url.path", || path.to_owned());
        span.set_with("lmao.request_id", || context.request_id().to_owned());
        if let Some(route) = route {
            span.set_with("http.route", || route.to_owned());
        }
        span
    }

    /// How long a request may take until its answer begins.
    fn within(&self, path: &str, query: Option<&str>) -> Duration {
        // A file on a server is fetched whole before the first byte is sent.
        let is_file = path.starts_with("/api/v1/documents/") && path.ends_with("/content");
        let is_patient = path.starts_with("/admin/") || query.is_some_and(|query| query.contains("wait="));
        match path {
            UPLOAD => Duration::MAX,
            _ if is_file => FETCH,
            _ if is_patient => LONGEST_WAIT + BEYOND_WAIT,
            _ => self.app.state.limits.wait + BEYOND_WAIT,
        }
    }

    async fn answer(&self, mut request: Request) -> Result<Response, ApiError> {
        // A browser that asks for a page sends no token with it.
        if let Some(response) = self.app.state.cors_origins.preflight(&request) {
            return Ok(response);
        }
        let _place = self.admit(&mut request)?;
        let path = request.uri().path().to_owned();
        let rate = match request.extensions().get::<Caller>() {
            Some(caller) => self.app.count(caller.id, Class::of(request.method(), &path)).await?,
            None => None,
        };
        let within = self.within(&path, request.uri().query());
        let checked = self.check_parameters(&request);
        let answered = async {
            checked?;
            self.inner.call(request).await
        };
        let answered = AssertUnwindSafe(answered).catch_unwind();
        let answered = tokio::time::timeout(within, answered).await.unwrap_or_else(|_| Ok(Err(unanswered().into())));
        match answered {
            Ok(Ok(mut response)) => {
                if let Some(rate) = rate {
                    rate.tell(response.headers_mut());
                }
                Ok(response)
            }
            Ok(Err(error)) => {
                let error = ApiError::from(error);
                let allow = (error.status == StatusCode::METHOD_NOT_ALLOWED).then(|| self.methods.of(&path));
                let error = ApiError { rate: error.rate.or(rate), ..error };
                Err(match allow {
                    Some(methods) => error.with("allow", methods),
                    None => error,
                })
            }
            Err(panic) => {
                tracing::error!(path, panic = said(&*panic), "a request panicked");
                Err(ApiError::internal("the server failed; its log says more under this request id"))
            }
        }
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for Edge<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let context = Context::new(request.headers(), self.app.fresh_id());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let active = Active::begin(&method);
        let route = self.methods.template(&path);
        let span = self.span(&context, &method, &path, route);
        let context = context.within(&span);
        let coding = compress::wanted(request.headers());
        let origins = &self.app.state.cors_origins;
        let origin = origins.of(request.headers());
        request.extensions_mut().insert(context.clone());
        request.extensions_mut().insert(self.app.clone());
        let response = match span.run(self.answer(request)).await {
            Ok(response) => compress::with(response, coding),
            Err(error) => refuse(&error, &context, &self.app, &method),
        };
        let status = response.status();
        span.set("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.fail(status.canonical_reason().unwrap_or_default());
        }
        let millis = active.answered(route, status).as_millis();
        tracing::debug!(request_id = context.request_id(), %method, path, status = status.as_u16(), millis, "answered");
        let mut response = sign(response, &context);
        origins.permit(origin, response.headers_mut());
        Ok(response)
    }
}

fn refuse(error: &ApiError, context: &Context, app: &App, method: &Method) -> Response {
    let mut response = error.respond(context.request_id(), today(&*app.state.clock));
    if let Some(allow) = error.details.get("allow").and_then(|allow| HeaderValue::from_str(allow.as_str()?).ok()) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    if *method == Method::HEAD {
        response.set_body(());
    }
    response
}

/// The headers that every response has.
fn sign(mut response: Response, context: &Context) -> Response {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(context.request_id()) {
        headers.insert("x-request-id", id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

fn authenticate(app: &App, request: &Request) -> Result<Caller, ApiError> {
    let missing = || ApiError::unauthorized("missing_token", "send the header Authorization: Bearer TOKEN");
    let now = app.now();
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(missing());
        }
        return app.tokens.verify(token.trim(), now);
    }
    let query = request.uri().query().filter(|_| request.uri().path().starts_with(SOCKETS)).unwrap_or_default();
    let token = query.split('&').find_map(|pair| pair.strip_prefix("access_token=")).ok_or_else(missing)?;
    app.tokens.verify(token, now)
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("something that is no text")
}
