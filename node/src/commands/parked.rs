//! `lmao parked`: streams that keep failing and were set aside.

use lmao_events::StreamId;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Invocation,
    session::{Need, with_client},
};
use crate::{
    cli::{Parked, ParkedAction},
    exit::{Code, Stop},
    output::Table,
};

/// Runs the command.
///
/// # Errors
/// Those of the server and of reaching it; [`Code::Partial`] when a stream is set aside again at once.
pub(crate) async fn run(invocation: &Invocation, parked: Parked) -> anyhow::Result<()> {
    match parked.action {
        None => list(invocation).await,
        Some(ParkedAction::Retry { stream }) => retry(invocation, stream).await,
    }
}

async fn list(invocation: &Invocation) -> anyhow::Result<()> {
    let parked: Value =
        with_client(invocation, Need::Existing, async |client| Ok(client.get("/admin/parked", &[]).await?)).await?;
    let out = invocation.out;
    if out.is_json() {
        return Ok(out.json(&parked)?);
    }
    let rows = |of: &str| parked[of].as_array().cloned().unwrap_or_default();
    let (actors, projections) = (rows("actors"), rows("projections"));
    if actors.is_empty() && projections.is_empty() {
        return Ok(out.line("nothing is set aside")?);
    }
    let mut table = Table::new(["STREAM", "BY", "FROM", "REASON"]);
    for row in &actors {
        table.row([text(row, "stream"), "actor".to_owned(), "-".to_owned(), text(row, "reason")]);
    }
    for row in &projections {
        let version = format!("version {}", row["version"]);
        table.row([text(row, "stream"), text(row, "projection"), version, text(row, "reason")]);
    }
    Ok(out.table(&table)?)
}

async fn retry(invocation: &Invocation, stream: StreamId) -> anyhow::Result<()> {
    let body = json!({ "stream": stream.to_string() });
    let done: Value = with_client(invocation, Need::Existing, async |client| {
        let request = async || Ok(client.request(Method::POST, "/admin/parked/retry", &[]).json(&body));
        Ok(client.send(request).await?.into_body()?)
    })
    .await?;
    let rows = |of: &str| done[of].as_array().cloned().unwrap_or_default();
    let still = rows("still_parked");
    let out = invocation.out;
    let printed = if out.is_json() {
        out.json(&done)
    } else {
        let mut lines = vec![];
        if done["actor"] == true {
            lines.push(format!("{stream}: its actor goes on"));
        }
        for name in rows("projections") {
            lines.push(format!("{stream}: {} has taken it in", name.as_str().unwrap_or_default()));
        }
        for row in &still {
            let (projection, version) = (text(row, "projection"), &row["version"]);
            lines.push(format!("{stream}: {projection} cannot take in version {version}: {}", text(row, "reason")));
        }
        lines.iter().try_for_each(|line| out.line(line))
    };
    let judged = if still.is_empty() { Ok(()) } else { Err(Stop::silent(Code::Partial)) };
    Ok(judged.and(printed)?)
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}
