//! `lmao search`: passages, best first.

use serde_json::{Value, json};

use super::{
    Invocation,
    session::{Need, with_client},
};
use crate::{
    cli::Search,
    client::{Found, place},
    output::{Ink, Output, plain, shorten},
};

/// Characters of a passage that are shown.
const SHOWN: usize = 320;

/// Searches and prints.
///
/// # Errors
/// Those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, search: Search) -> anyhow::Result<()> {
    let body = json!({
        "query": search.query,
        "max_results": search.max,
        "search_type": search.search_type.as_str(),
    });
    let answer: Value = with_client(invocation, Need::Searchable, async |client| {
        Ok(client.post("/api/v1/documents/search", &body).await?)
    })
    .await?;
    if invocation.out.is_json() {
        return Ok(invocation.out.json(&answer)?);
    }
    show(invocation.out, &serde_json::from_value(answer)?)
}

fn show(out: Output, found: &Found) -> anyhow::Result<()> {
    for notice in &found.notices {
        eprintln!("note: {}", plain(notice));
    }
    if found.results.is_empty() {
        out.line("nothing found")?;
    }
    for (n, passage) in found.results.iter().enumerate() {
        let metadata = &passage.metadata;
        let name = out.paint(Ink::Bold, &plain(&metadata.filename));
        let at = plain(&place(metadata.page_number, metadata.section.as_deref()));
        let score = out.paint(Ink::Dim, &format!("{:.3}", passage.score));
        let head = [name, at, score].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
        out.line(format!("{:>2}. {head}", n + 1))?;
        out.line(format!("    {}", shorten(&passage.content, SHOWN)))?;
    }
    Ok(())
}
