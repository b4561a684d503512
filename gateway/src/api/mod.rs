//! The routes, one module each, and their description. Wire types live beside the route that speaks them.

mod auth;
mod chat;
mod content;
mod documents;
mod events;
mod frames;
mod health;
mod messages;
mod metrics;
mod parked;
mod passages;
mod projections;
mod search;
mod sessions;
mod socket;
mod tools;
mod trace;
mod upload;
mod users;

use std::sync::Arc;

use bytes::Bytes;
use poem::{
    Endpoint, EndpointExt, IntoEndpoint, IntoResponse, Request, Response, Route,
    endpoint::{BoxEndpoint, make_sync},
    http::{HeaderValue, Method, header},
    web::Redirect,
};
use poem_openapi::{OpenApiService, Tags};
use serde_json::Value;

pub(crate) use auth::{holder, is_active};
pub(crate) use users::{NewUser, register};

use crate::{app::App, edge::Edge, reply::InMemory};

/// What routes are about.
#[derive(Tags)]
enum Tag {
    /// Tokens.
    Authentication,
    /// Questions and answers.
    Chat,
    /// Files in, passages out.
    Documents,
    /// Tools, called by hand.
    Tools,
    /// What concerns everyone; for administrators.
    Administration,
    /// What the server says of itself.
    Health,
}

/// Tuples have sixteen fields at most; what is about the same is in one of its own.
type Routes = (
    auth::Auth,
    chat::Chat,
    (sessions::Sessions, messages::Messages),
    socket::Socket,
    (documents::Documents, content::Content),
    upload::Upload,
    search::Search,
    passages::Passages,
    trace::Trace,
    tools::Tools,
    users::Users,
    events::Events,
    projections::Projections,
    parked::Parked,
    metrics::Scrape,
    health::Health,
);

fn service(app: Option<Arc<App>>) -> OpenApiService<Routes, ()> {
    let routes = (
        auth::Auth::new(app.clone()),
        chat::Chat::new(app.clone()),
        (sessions::Sessions::new(app.clone()), messages::Messages::new(app.clone())),
        socket::Socket::new(app.clone()),
        (documents::Documents::new(app.clone()), content::Content::new(app.clone())),
        upload::Upload::new(app.clone()),
        search::Search::new(app.clone()),
        passages::Passages::new(app.clone()),
        trace::Trace::new(app.clone()),
        tools::Tools::new(app.clone()),
        users::Users::new(app.clone()),
        events::Events::new(app.clone()),
        projections::Projections::new(app.clone()),
        parked::Parked::new(app.clone()),
        metrics::Scrape::new(app.clone()),
        health::Health::new(app),
    );
    OpenApiService::new(routes, "LMA-o", env!("CARGO_PKG_VERSION"))
        .summary("Chat with your documents; every step of it in an append-only log.")
        .description(
            "Every reply has `X-Request-Id`; every refusal and failure has one error body. Replies of writes carry \
             `LMAO-Position`: a read that sends it back sees at least that state.",
        )
}

/// The description of the API (OpenAPI 3.0), as served at `/openapi.json`.
pub(crate) fn openapi_json() -> String {
    let mut text = service(None).spec();
    text.push('\n');
    text
}

/// Health and metrics behind the edge: for a node that answers no clients.
pub(crate) fn probes(app: Arc<App>) -> BoxEndpoint<'static, Response> {
    let routes = (metrics::Scrape::new(Some(app.clone())), health::Health::new(Some(app.clone())));
    let service = OpenApiService::new(routes, "LMA-o", env!("CARGO_PKG_VERSION"));
    let methods = Methods::of_spec(&service.spec());
    Edge::new(service.into_endpoint().map_to_response(), app, methods).boxed()
}

/// All routes behind the edge.
pub(crate) fn endpoint(app: Arc<App>) -> BoxEndpoint<'static, Response> {
    let service = service(Some(app.clone()));
    let spec = service.spec();
    let methods = Methods::of_spec(&spec);
    let page = fixed("text/html; charset=utf-8", service.swagger_ui_html().into(), Some(DOCS_POLICY));
    let routes = Route::new()
        .at("/openapi.json", poem::get(fixed("application/json", spec.into(), None)))
        .at("/docs", poem::get(page))
        .nest("/", service.into_endpoint());
    // What is nested at `/` would take `/` itself.
    let routes = routes.around(|routes, request: Request| async move {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => Ok(Redirect::see_other("/docs").into_response()),
            _ => routes.call(request).await.map(IntoResponse::into_response),
        }
    });
    Edge::new(routes, app, methods).boxed()
}

/// The page holds all that it shows: nothing is loaded from elsewhere.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'";

fn fixed(kind: &'static str, body: Bytes, policy: Option<&'static str>) -> impl Endpoint + 'static {
    make_sync(move |_| {
        let mut response = Response::builder().content_type(kind).body(body.clone());
        response.extensions_mut().insert(InMemory(body.len()));
        if let Some(policy) = policy {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        }
        response
    })
}

/// Which paths there are, which methods they take, and with which query parameters: for the header `Allow`, for names of bounded
/// number, and against misspelt parameters.
#[derive(Debug)]
pub(crate) struct Methods(Vec<Operations>);

/// What can be asked of a path.
#[derive(Debug)]
struct Operations {
    template: String,
    /// Methods with the names of their query parameters.
    methods: Vec<(Method, Vec<String>)>,
}

impl Operations {
    /// Of a path in the description.
    fn of_spec(template: &str, described: &Value) -> Self {
        let operations = described.as_object().into_iter().flatten();
        let methods = operations.filter_map(|(method, operation)| {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let names = parameters.filter(|one| one["in"] == "query").filter_map(|one| one["name"].as_str());
            Some((method.to_uppercase().parse().ok()?, names.map(str::to_owned).collect()))
        });
        Self { template: template.to_owned(), methods: methods.collect() }
    }
}

impl Methods {
    fn of_spec(spec: &str) -> Self {
        let spec: Value = serde_json::from_str(spec).unwrap_or_default();
        let paths = spec["paths"].as_object().into_iter().flatten();
        let own = ["/", "/openapi.json", "/docs"]
            .map(|path| Operations { template: path.to_owned(), methods: vec![(Method::GET, vec![])] });
        Self(paths.map(|(path, operations)| Operations::of_spec(path, operations)).chain(own).collect())
    }

    /// Those of this path, as the header says them.
    pub(crate) fn of(&self, path: &str) -> String {
        let methods = self.find(path).into_iter().flat_map(|one| &one.methods);
        methods.map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The query parameters of a method of this path, if there is such a one.
    pub(crate) fn parameters(&self, method: &Method, path: &str) -> Option<&[String]> {
        let (_, names) = self.find(path)?.methods.iter().find(|(one, _)| one == method)?;
        Some(names)
    }

    /// The template that this path follows.
    pub(crate) fn template(&self, path: &str) -> Option<&str> {
        self.find(path).map(|one| one.template.as_str())
    }

    fn find(&self, path: &str) -> Option<&Operations> {
        let fits = |template: &str| {
            let (mut wanted, mut given) = (template.split('/'), path.split('/'));
            loop {
                match (wanted.next(), given.next()) {
                    (None, None) => return true,
                    (Some(wanted), Some(given)) if wanted == given || wanted.starts_with('{') => {}
                    _ => return false,
                }
            }
        };
        // A literal segment is preferred to a parameter, as the router does.
        let fitting = self.0.iter().filter(|one| fits(&one.template));
        fitting.min_by_key(|one| one.template.matches('{').count())
    }
}

/// Declares a group of routes: a cheap handle on what all of them share.
macro_rules! routes {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        pub(super) struct $name(Option<std::sync::Arc<$crate::app::App>>);

        impl $name {
            pub(super) fn new(app: Option<std::sync::Arc<$crate::app::App>>) -> Self {
                Self(app)
            }

            /// There is one wherever requests are answered; only the description is made without.
            #[allow(dead_code, reason = "some groups need the owned handle only")]
            fn app(&self) -> Result<&std::sync::Arc<$crate::app::App>, $crate::error::ApiError> {
                self.0.as_ref().ok_or_else(|| $crate::error::ApiError::internal("the API is only described here"))
            }
        }
    };
}
use routes;
