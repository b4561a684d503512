//! `lmao sessions`: the conversations, to be gone on with.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Invocation,
    session::{Need, with_client},
};
use crate::{
    cli::Sessions,
    client::{Client, read},
    exit::Stop,
    output::{Table, shorten},
};

const ROUTE: &str = "/api/v1/sessions";
/// Sessions of a page, at most.
const PAGE: usize = 200;
/// Characters of a title that are shown.
const SHOWN: usize = 80;

/// A page of sessions.
#[derive(Debug, Deserialize)]
struct Page {
    sessions: Vec<Value>,
    next: Option<String>,
}

/// A session.
#[derive(Debug, Deserialize)]
struct Session {
    session_id: Uuid,
    title: Option<String>,
    last_activity: DateTime<Utc>,
    messages: u64,
}

/// Lists them, the newest first.
///
/// # Errors
/// Those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, sessions: Sessions) -> anyhow::Result<()> {
    with_client(invocation, Need::Existing, async |client| show(invocation, list(client, sessions.max as usize).await?))
        .await
}

/// The sessions, page by page, at most `max`.
async fn list(client: &Client, max: usize) -> Result<Vec<Value>, Stop> {
    let mut sessions: Vec<Value> = vec![];
    let mut cursor = None;
    loop {
        let mut query = vec![("limit", (max - sessions.len()).min(PAGE).to_string())];
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Page = client.get(ROUTE, &query).await?;
        let got = page.sessions.len();
        sessions.extend(page.sessions);
        cursor = page.next;
        if cursor.is_none() || got == 0 || sessions.len() >= max {
            sessions.truncate(max);
            return Ok(sessions);
        }
    }
}

fn show(invocation: &Invocation, sessions: Vec<Value>) -> anyhow::Result<()> {
    if invocation.out.is_json() {
        return Ok(invocation.out.json(&sessions)?);
    }
    if sessions.is_empty() {
        return Ok(invocation.out.line("there are no sessions; `lmao ask` begins one")?);
    }
    let mut table = Table::new(["ID", "LAST MESSAGE", "MESSAGES", "TITLE"]);
    for session in sessions {
        let Session { session_id, title, last_activity, messages } = read(&session)?;
        let title = shorten(&title.unwrap_or_default(), SHOWN);
        let last = last_activity.format("%Y-%m-%d %H:%M").to_string();
        table.row([session_id.to_string(), last, messages.to_string(), title]);
    }
    Ok(invocation.out.table(&table)?)
}
