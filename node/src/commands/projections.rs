//! `lmao projections`: what is computed from the log.

use std::sync::Arc;

use lmao_actors::{SearchProjection, catch_up};
use lmao_adapters::sqlite::SqliteReadModel;
use lmao_events::{Category, Position};
use lmao_ports::{Journal as _, ParkedStream, Projection};
use serde_json::{Value, json};

use super::{
    Invocation,
    occupied::{Absent, lock},
    session::running_client,
};
use crate::{
    cli::{ProjectionName, Projections},
    client::Client,
    compose::{DamagedIndex, Parts, refuse_beside_nodes},
    config::Config,
    exit::{Code, Stop},
    output::Table,
    progress::{self, ModelProgress},
};

const ROUTE: &str = "/admin/projections";

/// A projection, and which events it needs opened.
type Fed = (Arc<dyn Projection>, fn(Category) -> bool);

/// Runs the command.
///
/// # Errors
/// Those of the server and of reaching it, or of the files.
pub(crate) async fn run(invocation: &Invocation, projections: Projections) -> anyhow::Result<()> {
    let config = invocation.configuration(None)?.config;
    let client = running_client(invocation, &config).await?;
    match (projections, client) {
        (Projections::Status, Some(client)) => ask(invocation, &client, false).await,
        (Projections::Digest, Some(client)) => ask(invocation, &client, true).await,
        (Projections::Rebuild { .. }, Some(client)) => {
            let text =
                format!("a server is running at {}, and a rebuild needs the projections for itself", client.base());
            Err(Stop::new(Code::Failed, text).hint("stop it, rebuild, and start it again").into())
        }
        (Projections::Status, None) => status(invocation, &config).await,
        (Projections::Digest, None) => digest(invocation, &config).await,
        (Projections::Rebuild { name }, None) => rebuild(invocation, &config, name).await,
    }
}

/// What a running server says of them.
async fn ask(invocation: &Invocation, client: &Client, digest: bool) -> anyhow::Result<()> {
    let answer: Value = client.get(ROUTE, &[("digest", digest.to_string())]).await?;
    show(invocation, answer["projections"].as_array().map_or(&[], Vec::as_slice))
}

async fn open(config: &Config, damaged: DamagedIndex) -> anyhow::Result<Parts> {
    let data = lock(config, Absent::Refuse).await?;
    Parts::open(config, data, damaged, Arc::new(ModelProgress::default())).await
}

fn fed(parts: &Parts) -> [Fed; 2] {
    [(Arc::clone(&parts.read_model) as _, SqliteReadModel::wants), (Arc::clone(&parts.search), SearchProjection::wants)]
}

async fn status(invocation: &Invocation, config: &Config) -> anyhow::Result<()> {
    let parts = open(config, DamagedIndex::Refuse).await?;
    let tail = parts.journal.tail().await?;
    let mut rows = vec![];
    for (projection, _) in fed(&parts) {
        rows.push(row(projection.as_ref(), tail).await?);
    }
    show(invocation, &rows)
}

async fn digest(invocation: &Invocation, config: &Config) -> anyhow::Result<()> {
    let parts = open(config, DamagedIndex::Refuse).await?;
    let mut rows = vec![];
    for (projection, wanted) in fed(&parts) {
        feed(&parts, projection.as_ref(), wanted).await?;
        let mut row = row(projection.as_ref(), parts.journal.tail().await?).await?;
        row["digest"] = projection.digest().await?.to_string().into();
        rows.push(row);
    }
    show(invocation, &rows)
}

async fn rebuild(invocation: &Invocation, config: &Config, name: Option<ProjectionName>) -> anyhow::Result<()> {
    refuse_beside_nodes(config).await?;
    let damaged = match name {
        Some(ProjectionName::ReadModel) => DamagedIndex::Refuse,
        Some(ProjectionName::Search) | None => DamagedIndex::Erase,
    };
    let parts = open(config, damaged).await?;
    let tail = parts.journal.tail().await?;
    let mut rows = vec![];
    for (projection, wanted) in fed(&parts) {
        let is_wanted = match name {
            None => true,
            Some(ProjectionName::ReadModel) => projection.name() == parts.read_model.name(),
            Some(ProjectionName::Search) => projection.name() == parts.search.name(),
        };
        if is_wanted {
            projection.reset().await?;
            feed(&parts, projection.as_ref(), wanted).await?;
            rows.push(row(projection.as_ref(), tail).await?);
        }
    }
    let is_whole = rows.iter().all(|row| row["parked"].as_array().is_none_or(Vec::is_empty));
    let judged = if is_whole { Ok(()) } else { Err(Stop::silent(Code::Partial).into()) };
    judged.and(show(invocation, &rows))
}

async fn feed(parts: &Parts, projection: &dyn Projection, wanted: fn(Category) -> bool) -> anyhow::Result<()> {
    let bar = progress::bar(None, "{msg}  {bar:30} position {pos} of {len}, {eta} left");
    bar.set_message(projection.name());
    let fed = catch_up(projection, &parts.journal, wanted, |position, tail| {
        bar.set_length(tail.0);
        bar.set_position(position.0);
    })
    .await;
    bar.finish_and_clear();
    fed.map(|_| ()).map_err(|message| {
        let text = format!("{} does not take in the log", projection.name());
        Stop::new(Code::Failed, text).because(anyhow::anyhow!(message)).into()
    })
}

async fn row(projection: &dyn Projection, tail: Position) -> anyhow::Result<Value> {
    let checkpoint = projection.checkpoint().await?;
    let parked = projection.parked().await?.into_iter().map(|parked| {
        let ParkedStream { stream, version, position, reason } = parked;
        json!({ "stream": stream.to_string(), "version": version.0, "position": position.0, "reason": reason })
    });
    Ok(json!({
        "name": projection.name(), "position": checkpoint.0, "tail": tail.0, "parked": parked.collect::<Vec<_>>(),
    }))
}

fn show(invocation: &Invocation, rows: &[Value]) -> anyhow::Result<()> {
    let out = invocation.out;
    if out.is_json() {
        return Ok(out.json(&rows)?);
    }
    let mut table = Table::new(["NAME", "POSITION", "OF", "SET ASIDE", "DIGEST"]);
    for row in rows {
        let parked = row["parked"].as_array().map_or(0, Vec::len);
        table.row([
            row["name"].as_str().unwrap_or_default().to_owned(),
            row["position"].to_string(),
            row["tail"].to_string(),
            parked.to_string(),
            row["digest"].as_str().unwrap_or("-").to_owned(),
        ]);
    }
    out.table(&table)?;
    for parked in rows.iter().flat_map(|row| row["parked"].as_array().into_iter().flatten()) {
        let text = |field: &str| parked[field].as_str().unwrap_or_default().to_owned();
        out.line(format!("set aside: {} version {}: {}", text("stream"), parked["version"], text("reason")))?;
    }
    Ok(())
}
