//! `lmao search`: passages, best first.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Invocation,
    session::{Need, with_client},
};
use crate::{
    cli::{Search, SearchKey, pages},
    client::{Found, name_files, read},
    output::{Ink, Output, Table, note, plain, shorten},
};

/// Characters of a passage that are shown.
const SHOWN: usize = 320;

/// Searches and prints.
///
/// # Errors
/// Those of the server and of reaching it.
pub(crate) async fn run(invocation: &Invocation, search: Search) -> anyhow::Result<()> {
    let mut body = json!({
        "query": search.query.join(" "),
        "max_results": search.max,
        "offset": search.offset,
        "search_type": search.search_type.as_str(),
        "filters": filters(&search.filter),
        "explain": search.explain,
    });
    if let Some(diversity) = search.diversity {
        body["diversity"] = json!(diversity);
    }
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
    show(invocation.out, &found, search.offset)?;
    if search.explain {
        explain(invocation.out, &answer)?;
    }
    Ok(())
}

/// The filters as the API takes them: alternatives of one key together.
fn filters(given: &[(SearchKey, String)]) -> Value {
    let mut filters = Map::new();
    for (key, value) in given {
        let list = match key {
            SearchKey::Document => "document_ids",
            SearchKey::File => "filenames",
            SearchKey::Type => "file_types",
            SearchKey::Language => "languages",
            SearchKey::ChunkType => "chunk_types",
            SearchKey::Tag => "tags",
            SearchKey::Author => "authors",
            SearchKey::Section => "sections",
            SearchKey::Page => {
                // Checked when it was given.
                let (from, to) = pages(value).unwrap_or((1, u32::MAX));
                filters.insert("page".to_owned(), json!({ "from": from, "to": to }));
                continue;
            }
            SearchKey::From | SearchKey::Before => {
                let end = if *key == SearchKey::From { "from" } else { "before" };
                filters.entry("created").or_insert_with(|| json!({}))[end] = json!(value);
                continue;
            }
        };
        let values = filters.entry(list).or_insert_with(|| json!([]));
        values.as_array_mut().into_iter().for_each(|values| values.push(json!(value)));
    }
    filters.into()
}

fn show(out: Output, found: &Found, offset: u32) -> anyhow::Result<()> {
    found.notices.iter().for_each(|notice| note(format_args!("note: {}", plain(notice))));
    if found.results.is_empty() {
        out.line("nothing found")?;
    }
    for (n, passage) in (offset as usize + 1..).zip(&found.results) {
        let name = out.paint(Ink::Bold, &plain(passage.metadata.file()));
        let at = plain(&passage.metadata.within());
        let score = out.paint(Ink::Dim, &format!("{:.3}", passage.score));
        let weak = if passage.relevant { String::new() } else { out.paint(Ink::Yellow, "weak") };
        let head = [name, at, score, weak].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
        out.line(format!("{n:>2}. {head}"))?;
        out.line(format!("    {}", shorten(&passage.content, SHOWN)))?;
    }
    Ok(())
}

/// What became of the question, and of each result in each leg and stage.
fn explain(out: Output, answer: &Value) -> anyhow::Result<()> {
    let told = &answer["explain"];
    out.line("")?;
    let Some(rewritten) = told["rewritten"].as_str() else {
        return Ok(out.line("this server does not explain its results")?);
    };
    let list = |value: &Value, one: &dyn Fn(&Value) -> String| {
        value.as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
    };
    let text = |value: &Value| plain(value.as_str().unwrap_or_default());
    let weighted = |value: &Value| {
        format!(
            "{} {:.2}",
            plain(value["name"].as_str().unwrap_or_default()),
            value["weight"].as_f64().unwrap_or_default()
        )
    };
    let cost = |value: &Value| {
        let milliseconds = value["seconds"].as_f64().unwrap_or_default() * 1000.0;
        format!("{} {milliseconds:.1} ms ({})", plain(value["stage"].as_str().unwrap_or_default()), value["passages"])
    };
    let model =
        |value: &Value| format!("{} {}", text(&value["space"]), plain(value["model"].as_str().unwrap_or("none")));
    for (name, value) in [
        ("searched for", plain(rewritten)),
        ("taken for", text(&answer["intent"])),
        ("parted into", list(&told["sub_queries"], &text)),
        ("added", list(&told["expansions"], &weighted)),
        ("legs", list(&told["legs"], &weighted)),
        ("models", list(&told["models"], &model)),
        ("cost", list(&told["stages"], &cost)),
    ] {
        if !value.is_empty() {
            out.line(format!("{:<14}{value}", out.paint(Ink::Dim, &format!("{name}:"))))?;
        }
    }
    out.line("")?;
    for line in places(answer) {
        out.line(line)?;
    }
    Ok(())
}

/// A row for each result, a column for each leg or stage that ranked any: its rank there, and its score.
fn places(answer: &Value) -> Vec<String> {
    let results: Vec<&Value> = answer["results"].as_array().into_iter().flatten().collect();
    let mut stages: Vec<&str> = vec![];
    let ranks: Vec<BTreeMap<&str, String>> = results
        .iter()
        .map(|result| {
            let told = result["explain"]["stages"].as_array().into_iter().flatten();
            told.filter_map(|stage| {
                let name = stage["stage"].as_str()?;
                if !stages.contains(&name) {
                    stages.push(name);
                }
                Some((name, format!("{} ({:.3})", stage["rank"], stage["score"].as_f64()?)))
            })
            .collect()
        })
        .collect();
    // In the order in which the pipeline ranks.
    let order = ["keyword", "general", "domain", "fused", "reranked", "diverse"];
    stages.sort_by_key(|stage| order.iter().position(|known| known == stage).unwrap_or(order.len()));
    let headings = ["#", "SCORE"].into_iter().map(str::to_owned).chain(stages.iter().map(|name| name.to_uppercase()));
    let mut table = Table::of(headings.collect());
    for (n, (result, ranks)) in (1..).zip(results.iter().zip(&ranks)) {
        let score = format!("{:.3}", result["score"].as_f64().unwrap_or_default());
        let cells = stages.iter().map(|stage| ranks.get(stage).cloned().unwrap_or_else(|| "-".to_owned()));
        table.add([n.to_string(), score].into_iter().chain(cells).collect());
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn filters_of_one_key_are_alternatives() {
        let given = [
            (SearchKey::Type, "pdf"),
            (SearchKey::Type, "html"),
            (SearchKey::Page, "3-7"),
            (SearchKey::From, "2026-01-01"),
            (SearchKey::Before, "2026-02-01"),
            (SearchKey::ChunkType, "table"),
        ];
        let given = given.map(|(key, value)| (key, value.to_owned()));
        let wanted = json!({
            "file_types": ["pdf", "html"],
            "chunk_types": ["table"],
            "page": { "from": 3, "to": 7 },
            "created": { "from": "2026-01-01", "before": "2026-02-01" },
        });
        assert_eq!(filters(&given), wanted);
    }

    #[test]
    fn each_result_has_a_row_and_each_stage_a_column() {
        let stage = |stage: &str, rank: u32, score: f64| json!({ "stage": stage, "rank": rank, "score": score });
        let answer = json!({ "results": [
            { "score": 0.9, "explain": { "stages": [stage("general", 2, 0.71), stage("fused", 1, 0.9)] } },
            { "score": 0.5, "explain": { "stages": [stage("keyword", 1, 11.25), stage("fused", 2, 0.5)] } },
        ]});
        expect![[r"
            #  SCORE  KEYWORD     GENERAL    FUSED
            1  0.900  -           2 (0.710)  1 (0.900)
            2  0.500  1 (11.250)  -          2 (0.500)"]]
        .assert_eq(&places(&answer).join("\n"));
    }
}
