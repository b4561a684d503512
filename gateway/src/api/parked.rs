//! Streams that keep failing, for administrators: shown with the reason, and tried again once that is out of the way.

use lmao_events::StreamId;
use lmao_ports::{ParkedStream, Unparked};
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::{
    Tag,
    projections::{all, failed},
};
use crate::{body::JsonBody, context::Admin, error::ApiError, reply::Reply};

/// A stream whose actor keeps failing.
#[derive(Debug, Object, Serialize)]
struct ParkedActor {
    stream: String,
    reason: String,
}

/// A stream that a projection cannot take in.
#[derive(Debug, Object, Serialize)]
struct ParkedProjection {
    /// `read_model` or `search`.
    projection: String,
    stream: String,
    /// The first version that was not taken in.
    version: u64,
    position: u64,
    reason: String,
}

impl ParkedProjection {
    fn new(projection: &str, parked: ParkedStream) -> Self {
        let ParkedStream { stream, version, position, reason } = parked;
        let (projection, stream) = (projection.to_owned(), stream.to_string());
        Self { projection, stream, version: version.0, position: position.0, reason }
    }
}

/// All that is set aside.
#[derive(Debug, Object, Serialize)]
struct ParkedResponse {
    /// Streams that take no commands and perform no effects.
    actors: Vec<ParkedActor>,
    /// Streams of which something cannot be seen or found.
    projections: Vec<ParkedProjection>,
}

/// Which stream to try again.
#[derive(Debug, Object, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct RetryRequest {
    /// For example `document/0190a9c2-…`.
    stream: String,
}

/// What the retry came to.
#[derive(Debug, Object, Serialize)]
struct RetryResponse {
    stream: String,
    /// Its actor was set aside and goes on now; should it fail again, it is set aside again.
    actor: bool,
    /// Projections that have taken it in.
    projections: Vec<String>,
    /// Projections that cannot take it in even now, and why.
    still_parked: Vec<ParkedProjection>,
}

super::routes! {
    /// `/admin/parked`
    Parked
}

#[OpenApi(tag = "Tag::Administration")]
impl Parked {
    /// Show what was set aside
    #[oai(path = "/admin/parked", method = "get", operation_id = "list_parked")]
    async fn list(&self, _admin: Admin) -> Result<Reply<ParkedResponse>, ApiError> {
        let app = self.app()?;
        let actors = app.state.commands.parked().await?.into_iter();
        let actors = actors.map(|(stream, reason)| ParkedActor { stream: stream.to_string(), reason }).collect();
        let mut projections = Vec::new();
        for projection in all(app) {
            let parked = projection.parked().await.map_err(failed)?.into_iter();
            projections.extend(parked.map(|parked| ParkedProjection::new(projection.name(), parked)));
        }
        Ok(Reply::ok(ParkedResponse { actors, projections }))
    }

    /// Try a stream again that was set aside
    ///
    /// What refers to it (the sessions of a person, say) may be set aside for its sake: try it first, then those. A request
    /// that breaks off can be sent again.
    #[oai(path = "/admin/parked/retry", method = "post", operation_id = "retry_parked")]
    async fn retry(&self, _admin: Admin, body: JsonBody<RetryRequest>) -> Result<Reply<RetryResponse>, ApiError> {
        let app = self.app()?;
        let stream: StreamId = body.0.stream.parse().map_err(|error| {
            ApiError::unprocessable("bad_stream", format!("stream is no CATEGORY/ID: {error}"))
                .with("parameter", "stream")
        })?;
        let (mut projections, mut still_parked) = (Vec::new(), Vec::new());
        // The actor comes last: what it does next may need to be seen or found.
        for projection in all(app) {
            match projection.unpark(stream, &*app.state.journal).await.map_err(failed)? {
                Unparked::NotParked => {}
                Unparked::TakenIn => projections.push(projection.name().to_owned()),
                Unparked::Again(parked) => still_parked.push(ParkedProjection::new(projection.name(), parked)),
            }
        }
        let actor = app.state.commands.parked().await?.iter().any(|(parked, _)| *parked == stream);
        if actor {
            app.state.commands.unpark(stream).await?;
        }
        if !actor && projections.is_empty() && still_parked.is_empty() {
            let text = format!("{stream} is not set aside; GET /admin/parked shows what is");
            return Err(ApiError::not_found("not_parked", text).with("stream", stream.to_string()));
        }
        Ok(Reply::ok(RetryResponse { stream: stream.to_string(), actor, projections, still_parked }))
    }
}
