//! The projections, for administrators: how far each has taken in the log, what it set aside, and a digest of its content.

use std::{sync::Arc, time::Duration};

use lmao_events::Position;
use lmao_ports::{Projection, ProjectionError, Unavailable};
use poem_openapi::{Object, OpenApi, param::Query};
use serde::Serialize;

use super::Tag;
use crate::{app::App, context::Admin, error::ApiError, reply::Reply};

/// How long a digest waits until its projection has taken in what the log holds.
const CATCH_UP: Duration = Duration::from_secs(30);

/// A projection.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Projection")]
struct ProjectionBody {
    name: String,
    /// The position up to which the log was taken in.
    position: u64,
    /// The log's last position.
    tail: u64,
    /// Streams that could not be taken in.
    parked: Vec<ParkedBody>,
    /// BLAKE3 of the content, hexadecimal; equal for equal histories.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

/// A stream that was set aside.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "ParkedStream")]
struct ParkedBody {
    stream: String,
    /// The first version that was not taken in.
    version: u64,
    position: u64,
    reason: String,
}

/// All of them.
#[derive(Debug, Object, Serialize)]
struct ProjectionsResponse {
    projections: Vec<ProjectionBody>,
}

super::routes! {
    /// `/admin/projections`
    Projections
}

#[OpenApi(tag = "Tag::Administration")]
impl Projections {
    /// Show the projections
    #[oai(path = "/admin/projections", method = "get", operation_id = "list_projections")]
    async fn list(
        &self,
        _admin: Admin,
        /// With a digest of each one's content, once it has caught up with the log.
        digest: Query<Option<bool>>,
    ) -> Result<Reply<ProjectionsResponse>, ApiError> {
        let app = self.app()?;
        let tail = app.state.journal.tail().await?;
        let mut projections = Vec::with_capacity(2);
        for projection in all(app) {
            projections.push(shown(&*projection, tail, digest.0.unwrap_or(false)).await?);
        }
        Ok(Reply::ok(ProjectionsResponse { projections }))
    }
}

/// Both of them.
pub(super) fn all(app: &App) -> [Arc<dyn Projection>; 2] {
    let tables: Arc<dyn Projection> = app.state.read_model.clone();
    [tables, app.state.search.clone()]
}

async fn shown(projection: &dyn Projection, tail: Position, with_digest: bool) -> Result<ProjectionBody, ApiError> {
    let name = projection.name();
    if with_digest && !projection.wait_for(tail, CATCH_UP).await {
        let text = format!("{name} has not caught up with the log yet; try again in a moment");
        return Err(ApiError::passing("behind", text, Duration::from_secs(5)).with("projection", name));
    }
    let parked = projection.parked().await.map_err(failed)?.into_iter().map(|parked| ParkedBody {
        stream: parked.stream.to_string(),
        version: parked.version.0,
        position: parked.position.0,
        reason: parked.reason,
    });
    let digest = match with_digest {
        true => Some(projection.digest().await.map_err(failed)?.to_string()),
        false => None,
    };
    Ok(ProjectionBody {
        name: name.to_owned(),
        position: projection.checkpoint().await.map_err(failed)?.0,
        tail: tail.0,
        parked: parked.collect(),
        digest,
    })
}

pub(super) fn failed(error: ProjectionError) -> ApiError {
    match error {
        ProjectionError::Unavailable(error) => error.into(),
        poisoned @ ProjectionError::Poisoned { .. } => {
            Unavailable::new("projections", "a projection cannot be read", poisoned).into()
        }
    }
}
