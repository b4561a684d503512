//! `lmao search`: passages, best first.

use serde_json::{Value, json};

use super::{
    Invocation,
    session::{Need, with_client},
};
use crate::{
    cli::Search,
    client::{Found, name_files, read},
    output::{Ink, Output, note, plain, shorten},
};

/// Characters of a passage that are shown.
const SHOWN: usize = 320;

/// Searches and prints.
///
/// # Errors
/// Those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, search: Search) -> anyhow::Result<()> {
    let body = json!({
        "query": search.query.join(" "),
        "max_results": search.max,
        "search_type": search.search_type.as_str(),
    });
    let answer: Value = with_client(invocation, Need::Searchable, async |client| {
        let mut answer: Value = client.post("/api/v1/documents/search", &body).await?;
        let results = answer.get_mut("results").and_then(Value::as_array_mut).into_iter().flatten();
        name_files(client, results.filter_map(|result| result.get_mut("metadata")).collect()).await;
        Ok(answer)
    })
    .await?;
    let found: Found = read(&answer)?;
    if invocation.out.is_json() {
        return Ok(invocation.out.json(&answer)?);
    }
    show(invocation.out, &found)
}

fn show(out: Output, found: &Found) -> anyhow::Result<()> {
    found.notices.iter().for_each(|notice| note(format_args!("note: {}", plain(notice))));
    if found.results.is_empty() {
        out.line("nothing found")?;
    }
    for (n, passage) in found.results.iter().enumerate() {
        let name = out.paint(Ink::Bold, &plain(passage.metadata.file()));
        let at = plain(&passage.metadata.within());
        let score = out.paint(Ink::Dim, &format!("{:.3}", passage.score));
        let head = [name, at, score].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
        out.line(format!("{:>2}. {head}", n + 1))?;
        out.line(format!("    {}", shorten(&passage.content, SHOWN)))?;
    }
    Ok(())
}
