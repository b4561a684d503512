//! `lmao documents`: what is there, deleted, tried again.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Invocation,
    session::{Need, with_client},
    trace,
};
use crate::{
    cli::{Documents, Status},
    client::{self, Client, Document},
    exit::{Code, Stop},
    output::{Table, bytes, shorten},
};

const ROUTE: &str = "/api/v1/documents";
const PAGE: usize = 200;

/// Runs the command.
///
/// # Errors
/// Those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, documents: Documents) -> anyhow::Result<()> {
    with_client(invocation, Need::Existing, async |client| match documents {
        Documents::List { status, max } => {
            let max = max.map_or(usize::MAX, |max| max as usize);
            let documents = list(client, status, max).await?;
            show(invocation, documents)
        }
        Documents::Trace { id } => trace::run(invocation.out, client, id).await,
        Documents::Delete { ids } => {
            let delete = async |id: &Uuid| client.delete(&format!("{ROUTE}/{id}")).await;
            each(invocation, &ids, "deleted", delete).await
        }
        Documents::Retry { ids, failed } => {
            let ids = if failed { failed_ids(client).await? } else { ids };
            if ids.is_empty() && !invocation.out.is_json() {
                return Ok(invocation.out.line("no document has failed")?);
            }
            each(invocation, &ids, "queued", async |id| {
                let request = async || {
                    Ok(client.request(Method::POST, &format!("{ROUTE}/{id}/retry"), &[("wait", "0".to_owned())]))
                };
                client.send(request).await.map(|_| ())
            })
            .await
        }
    })
    .await
}

/// All documents, page by page, at most `max`.
async fn list(client: &Client, status: Option<Status>, max: usize) -> Result<Vec<Value>, Stop> {
    let mut documents: Vec<Value> = vec![];
    let mut cursor = None;
    loop {
        let mut query = vec![("limit", max.saturating_sub(documents.len()).min(PAGE).to_string())];
        query.extend(status.map(|status| ("status", status.as_str().to_owned())));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: client::Documents = client.get(ROUTE, &query).await?;
        let got = page.documents.len();
        documents.extend(page.documents);
        cursor = page.next;
        if cursor.is_none() || got == 0 || documents.len() >= max {
            return Ok(documents);
        }
    }
}

async fn failed_ids(client: &Client) -> anyhow::Result<Vec<Uuid>> {
    let documents = list(client, Some(Status::Failed), usize::MAX).await?;
    documents.into_iter().map(|document| Ok(serde_json::from_value::<Document>(document)?.document_id)).collect()
}

fn show(invocation: &Invocation, documents: Vec<Value>) -> anyhow::Result<()> {
    if invocation.out.is_json() {
        return Ok(invocation.out.json(&documents)?);
    }
    if documents.is_empty() {
        return Ok(invocation.out.line("there are no such documents")?);
    }
    let mut table = Table::new(["ID", "STATUS", "SIZE", "PASSAGES", "FILE"]);
    for document in documents {
        let document: Document = serde_json::from_value(document)?;
        let mut file = document.file().to_owned();
        if document.status == "failed" {
            let (reason, message) = document.failure();
            file = format!("{file}: {}", shorten(if message.is_empty() { &reason } else { &message }, 100));
        }
        let passages = document.chunks_count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        table.row([document.document_id.to_string(), document.status, bytes(document.file_size), passages, file]);
    }
    Ok(invocation.out.table(&table)?)
}

/// Does the same to each, tells how it went, and goes on after a refusal.
async fn each(
    invocation: &Invocation,
    ids: &[Uuid],
    done: &str,
    act: impl AsyncFn(&Uuid) -> Result<(), Stop>,
) -> anyhow::Result<()> {
    let mut refused = 0;
    let mut results = vec![];
    // A reader who has seen enough does not stop what was asked for.
    let mut printed = Ok(());
    for id in ids {
        let result = match act(id).await {
            Ok(()) => done.to_owned(),
            Err(stop) if stop.code == Code::Refused && stop.api.as_ref().is_some_and(|api| api.status != 401) => {
                refused += 1;
                stop.to_string()
            }
            Err(stop) => return Err(stop.into()),
        };
        if invocation.out.is_json() {
            results.push(json!({ "document_id": id, "result": result }));
        } else {
            printed = printed.and_then(|()| invocation.out.line(format!("{id}  {result}")));
        }
    }
    if invocation.out.is_json() {
        printed = invocation.out.json(&results);
    }
    let judged = match refused {
        0 => Ok(()),
        all if all == ids.len() => Err(Stop::silent(Code::Refused)),
        _ => Err(Stop::silent(Code::Partial)),
    };
    Ok(judged.and(printed)?)
}
