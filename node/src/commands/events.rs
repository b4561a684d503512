//! `lmao events`: the log as it is told to administrators, from a server or from the files.

use std::time::Duration;

use futures::StreamExt as _;
use lmao_events::{Owes, Position};
use lmao_ports::{Committed, Filter, Journal as _};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Invocation,
    session::{Target, running_client, target},
};
use crate::{
    cli::Events,
    client::Client,
    compose::Reader,
    exit::{Code, Stop},
    output::{Ink, Output, plain, shorten},
};

const ROUTE: &str = "/admin/events";
/// Records that are asked for at once.
const PAGE: u64 = 10_000;
/// Characters of an event's data that are shown.
const SHOWN: usize = 200;
/// A server that follows sends a sign of life every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// Prints the records.
///
/// # Errors
/// Those of the server and of reaching it, or of the files.
pub(crate) async fn run(invocation: &Invocation, events: Events) -> anyhow::Result<()> {
    let config = invocation.configuration(None)?.config;
    match target(invocation) {
        // Reading beside the server needs neither a token nor the server.
        Target::DataDir => from_files(invocation.out, &Reader::open(&config).await?, &events).await,
        Target::Server(_) => {
            let Some(client) = running_client(invocation, &config).await? else {
                return Err(Stop::new(Code::Unreachable, "no server is named").into());
            };
            from_server(invocation.out, &client, &events).await
        }
    }
}

async fn from_files(out: Output, reader: &Reader, events: &Events) -> anyhow::Result<()> {
    let filter = events.stream.unwrap_or_default();
    let tail = reader.journal.tail().await?;
    // The whole log is followed where an end is wanted: the end of a part of it could not be told.
    let followed = if events.follow { filter } else { Filter::All };
    if !events.follow && Position(events.after) >= tail {
        return Ok(());
    }
    let mut records = reader.journal.follow(Position(events.after), followed);
    let mut wanted = events.limit.unwrap_or(u64::MAX);
    while let Some(record) = records.next().await {
        let record = record?;
        let position = record.position;
        if filter.matches(&record.header.stream) {
            show(out, &record_of(record))?;
            wanted -= 1;
        }
        if wanted == 0 || !events.follow && position >= tail {
            break;
        }
    }
    Ok(())
}

async fn from_server(out: Output, client: &Client, events: &Events) -> anyhow::Result<()> {
    let mut after = events.after;
    let mut wanted = events.limit.unwrap_or(u64::MAX);
    loop {
        let page = if events.follow { wanted } else { wanted.min(PAGE) };
        let mut query = vec![("after", after.to_string())];
        query.extend((page < u64::MAX).then(|| ("limit", page.to_string())));
        query.extend(events.stream.and_then(name).map(|stream| ("stream", stream)));
        if events.follow {
            query.push(("follow", "true".to_owned()));
        }
        let response = client.response(async || Ok(client.request(Method::GET, ROUTE, &query))).await?;
        let mut body = response.bytes_stream();
        let mut waiting: Vec<u8> = vec![];
        let mut records = 0;
        loop {
            let piece = tokio::time::timeout(SILENCE, body.next()).await;
            let Ok(piece) = piece else {
                return Err(Stop::new(Code::Unreachable, format!("the server has said nothing for {SILENCE:?}")).into());
            };
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|error| {
                let hint = format!("go on with --after {after}");
                Stop::new(Code::Unreachable, "the connection to the server broke")
                    .because(error.without_url())
                    .hint(hint)
            })?;
            waiting.extend_from_slice(&piece);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let record: Value = serde_json::from_slice(&line)?;
                after = record["position"].as_u64().unwrap_or(after);
                records += 1;
                show(out, &record)?;
            }
        }
        wanted = wanted.saturating_sub(records);
        if events.follow || records < page || wanted == 0 {
            return Ok(());
        }
    }
}

/// What a filter is called on the wire.
fn name(filter: Filter) -> Option<String> {
    match filter {
        Filter::All => None,
        Filter::Category(category) => Some(category.to_string()),
        Filter::Stream(stream) => Some(stream.to_string()),
    }
}

/// A record in the shape of the API.
fn record_of(commit: Committed) -> Value {
    let Committed { position, hash, header, events } = commit;
    let time = |time: lmao_events::Timestamp| {
        chrono::DateTime::from_timestamp_micros(time.0)
            .unwrap_or_default()
            .to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
    };
    let owes = match header.owes {
        Owes::Nothing => "nothing".to_owned(),
        Owes::Now => "now".to_owned(),
        Owes::At(at) => time(at),
    };
    let mut record = json!({
        "position": position.0,
        "stream": header.stream.to_string(),
        "version": header.version.0,
        "id": header.id.0,
        "time": time(header.time),
        "who": header.who,
        "causation": header.causation,
        "correlation": header.correlation,
        "hash": hash.to_string(),
        "prev": header.prev.to_string(),
        "owes": owes,
    });
    match events {
        Ok(events) => {
            let shown = events.iter().map(|event| json!({ "type": event.name(), "data": event.to_json() }));
            record["events"] = shown.collect();
        }
        Err(lmao_ports::Unreadable::Erased) => record["erased"] = true.into(),
        Err(lmao_ports::Unreadable::Damaged(how)) => record["damaged"] = how.as_str().into(),
    }
    record
}

fn show(out: Output, record: &Value) -> Result<(), Stop> {
    if out.is_json() {
        return out.json_line(record);
    }
    let text = |field: &str| plain(record[field].as_str().unwrap_or_default());
    let position = record["position"].as_u64().unwrap_or_default();
    let head = format!("{position:>8}  {}  {} v{}", text("time"), text("stream"), record["version"]);
    out.line(out.paint(Ink::Dim, &head))?;
    if record["erased"] == true {
        return out.line("          (erased)");
    }
    if let Some(how) = record["damaged"].as_str() {
        return out.line(format!("          (cannot be read: {})", plain(how)));
    }
    for event in record["events"].as_array().into_iter().flatten() {
        let kind = out.paint(Ink::Bold, &plain(event["type"].as_str().unwrap_or_default()));
        out.line(format!("          {kind} {}", shorten(&event["data"].to_string(), SHOWN)))?;
    }
    Ok(())
}
