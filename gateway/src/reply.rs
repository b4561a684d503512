//! Replies that succeed: a JSON body, a status, and the position of what was written.

use std::marker::PhantomData;

use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode},
};
use poem_openapi::{
    ApiResponse,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::Type,
};
use serde::Serialize;

use crate::position;

/// The statuses that a route can succeed with, and what they say.
pub(crate) trait Statuses: Send + Sync {
    const ALL: &'static [(u16, &'static str)];
}

/// It is done.
#[derive(Debug)]
pub(crate) enum Done {}

impl Statuses for Done {
    const ALL: &'static [(u16, &'static str)] = &[(200, "Done.")];
}

/// It was made.
#[derive(Debug)]
pub(crate) enum Created {}

impl Statuses for Created {
    const ALL: &'static [(u16, &'static str)] = &[(201, "Made.")];
}

/// It is done, or goes on.
#[derive(Debug)]
pub(crate) enum DoneOrAccepted {}

impl Statuses for DoneOrAccepted {
    const ALL: &'static [(u16, &'static str)] =
        &[(200, "Done."), (202, "Accepted, and not done within the wait: it goes on.")];
}

/// Bytes of a body that lies in memory: it may be compressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InMemory(pub(crate) usize);

/// A reply with a JSON body.
#[derive(Debug)]
pub(crate) struct Reply<T, S = Done> {
    status: StatusCode,
    body: T,
    position: Option<String>,
    statuses: PhantomData<S>,
}

impl<T, S> Reply<T, S> {
    pub(crate) fn new(status: StatusCode, body: T) -> Self {
        Self { status, body, position: None, statuses: PhantomData }
    }

    pub(crate) fn ok(body: T) -> Self {
        Self::new(StatusCode::OK, body)
    }

    pub(crate) fn at(self, position: String) -> Self {
        Self { position: Some(position), ..self }
    }
}

impl<T: Serialize + Send, S: Statuses> IntoResponse for Reply<T, S> {
    fn into_response(self) -> Response {
        let Ok(bytes) = serde_json::to_vec(&self.body) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let length = InMemory(bytes.len());
        let mut response =
            Response::builder().status(self.status).content_type("application/json; charset=utf-8").body(bytes);
        response.extensions_mut().insert(length);
        stamp(&mut response, self.position.as_deref());
        response
    }
}

/// Adds the position of what was written.
pub(crate) fn stamp(response: &mut Response, position: Option<&str>) {
    if let Some(position) = position.and_then(|position| HeaderValue::from_str(position).ok()) {
        response.headers_mut().insert(position::HEADER, position);
    }
}

impl<T: Type, S: Statuses> ApiResponse for Reply<T, S> {
    fn meta() -> MetaResponses {
        let response = |&(status, description)| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content: vec![MetaMediaType { content_type: "application/json; charset=utf-8", schema: T::schema_ref() }],
            headers: vec![],
        };
        MetaResponses { responses: S::ALL.iter().map(response).collect() }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// It is gone, and there is nothing to say about it.
#[derive(Debug)]
pub(crate) struct Gone(pub(crate) String);

impl IntoResponse for Gone {
    fn into_response(self) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        response.set_body(());
        response.headers_mut().remove(poem::http::header::CONTENT_TYPE);
        stamp(&mut response, Some(&self.0));
        response
    }
}

impl ApiResponse for Gone {
    fn meta() -> MetaResponses {
        let response = MetaResponse {
            description: "Gone.",
            status: Some(204),
            status_range: None,
            content: vec![],
            headers: vec![],
        };
        MetaResponses { responses: vec![response] }
    }

    fn register(_: &mut Registry) {}
}
