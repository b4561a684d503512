//! `lmao eval`: how well questions of a judged collection are answered, by the real steps of ingestion and the real search on
//! an index of its own.

mod collection;
mod metrics;
mod report;

use std::{collections::HashMap, path::Path, sync::Arc, time::Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use lmao_ports::{
    ChatMessage, Explain, SearchFilter, SearchRequest, SearchResults, SearchType, SemanticState, Space, Stages,
};
use uuid::Uuid;

use self::{
    collection::{Collection, Document},
    metrics::quality,
    report::{Judged, Report, Row},
};
use super::Invocation;
use crate::{
    cli::{self, Eval},
    compose::Scratch,
    exit::{Code, Stop},
    output::note,
    progress::{self, ModelProgress},
};

/// Passages that each query asks for; a document's rank is that of its best passage.
const DEPTH: usize = 100;
/// Documents taken in at once: enough to keep the model busy.
const AT_ONCE: usize = 8;
/// Documents between two commits of the index.
const COMMIT_EVERY: u64 = 256;
/// How much unlikeness counts in the row that shows what it costs.
const DIVERSITY: f32 = 0.3;
const NO_ONE_SPOKE: Vec<ChatMessage> = vec![];

/// Measures and prints.
///
/// # Errors
/// [`Code::Usage`] when there is no such collection, [`Code::Interrupted`]; when a document cannot be taken in, or a search
/// fails.
pub(crate) async fn run(invocation: &Invocation, eval: Eval) -> anyhow::Result<()> {
    let config = invocation.configuration(None)?.config;
    let limit = eval.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let dir = eval.dir.clone();
    let collection = tokio::task::spawn_blocking(move || Collection::read(&dir, limit)).await??;
    let scratch = Scratch::open(&config, Arc::new(ModelProgress::default())).await?;
    let measured = tokio::select! {
        measured = measure(&scratch, &collection, &eval) => measured,
        _ = tokio::signal::ctrl_c() => Err(Stop::silent(Code::Interrupted).into()),
    };
    // The model is not at work any more when the process ends.
    scratch.models.end().await;
    let report = measured?;
    if invocation.out.is_json() {
        return Ok(invocation.out.json(&report)?);
    }
    report.print(invocation.out)
}

async fn measure(scratch: &Scratch, collection: &Collection, eval: &Eval) -> anyhow::Result<Report> {
    let models = models(scratch).await?;
    let begun = Instant::now();
    let ids = fill(scratch, collection, eval.extension.as_deref()).await?;
    let filled = begun.elapsed().as_secs_f64();
    let plans = if eval.stages {
        stages(scratch, collection, &models).await?
    } else {
        vec![Plan::new(eval.search_type.as_str(), search_type(eval.search_type))]
    };
    let mut rows = vec![];
    for plan in &plans {
        rows.push(row(scratch, collection, plan, &ids).await?);
    }
    Ok(Report {
        collection: collection.name.clone(),
        documents: collection.documents.len(),
        passages: scratch.count().await?,
        queries: collection.queries.len(),
        unjudged: collection.unjudged,
        models: models.into_iter().map(|(space, id)| (space.name().to_owned(), id)).collect(),
        indexing_seconds: filled,
        rows,
    })
}

/// Waits for the models; says which are missing.
async fn models(scratch: &Scratch) -> anyhow::Result<Vec<(Space, String)>> {
    let spinner = progress::bar(None, "{spinner} loading the models");
    let states = scratch.settle().await;
    spinner.finish_and_clear();
    let mut models = vec![];
    for (space, state) in states? {
        match state {
            SemanticState::Ready(embedder) => models.push((space, embedder.manifest().id.clone())),
            SemanticState::Off(reason) | SemanticState::Loading(reason) => {
                note(format_args!("note: without the {} leg: {reason}", space.name()));
            }
        }
    }
    Ok(models)
}

/// Takes the documents in: the id of each by that of the system.
async fn fill(
    scratch: &Scratch,
    collection: &Collection,
    extension: Option<&str>,
) -> anyhow::Result<HashMap<Uuid, String>> {
    let bar =
        progress::bar(Some(collection.documents.len() as u64), "{bar:30} {pos}/{len} documents, {elapsed}, {eta} left");
    let take = |(n, document): (u128, &Document)| {
        let id = Uuid::from_u128(n + 1);
        let filename = extension.map_or_else(|| document.id.clone(), |ending| format!("{}.{ending}", document.id));
        let (name, content) = (document.id.clone(), document.content());
        async move {
            scratch.take_in(id, base(&filename), content.into_bytes()).await?;
            anyhow::Ok((id, name))
        }
    };
    let taken: Vec<_> = (0..).zip(&collection.documents).map(take).collect();
    let mut taken = futures::stream::iter(taken).buffer_unordered(AT_ONCE);
    let mut ids = HashMap::with_capacity(collection.documents.len());
    let mut position = 0;
    while let Some((id, name)) = taken.try_next().await.inspect_err(|_| bar.finish_and_clear())? {
        ids.insert(id, name);
        position += 1;
        bar.inc(1);
        if position % COMMIT_EVERY == 0 {
            scratch.commit(position).await?;
        }
    }
    drop(taken);
    scratch.commit(position + 1).await?;
    bar.finish_and_clear();
    Ok(ids)
}

/// A file's name without what looks like folders.
fn base(name: &str) -> &str {
    Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or("document")
}

/// What is measured.
#[derive(Debug, Clone)]
struct Plan {
    name: String,
    search_type: SearchType,
    stages: Stages,
    diversity: Option<f32>,
}

impl Plan {
    fn new(name: impl Into<String>, search_type: SearchType) -> Self {
        Self { name: name.into(), search_type, stages: Stages::ALL, diversity: None }
    }

    fn request(&self, scratch: &Scratch, query: &str, explain: Explain) -> SearchRequest {
        let filter = SearchFilter::all_of(scratch.owner());
        SearchRequest {
            stages: self.stages,
            diversity: self.diversity,
            conversation: NO_ONE_SPOKE,
            explain,
            ..SearchRequest::new(query.to_owned(), filter, DEPTH, self.search_type)
        }
    }
}

fn search_type(named: cli::SearchType) -> SearchType {
    match named {
        cli::SearchType::Hybrid => SearchType::Hybrid,
        cli::SearchType::Semantic => SearchType::Semantic,
        cli::SearchType::Keyword => SearchType::Keyword,
        cli::SearchType::Code => SearchType::Code,
    }
}

/// Each leg alone, then all of them with one stage more in each row; what is not there has no row.
async fn stages(scratch: &Scratch, collection: &Collection, models: &[(Space, String)]) -> anyhow::Result<Vec<Plan>> {
    let alone = Stages { keyword: false, general: false, domain: false, expansion: false, reranking: false };
    let leg = |name: &str, search_type, stages| Plan { stages, ..Plan::new(name, search_type) };
    let mut plans = vec![leg("keyword", SearchType::Keyword, Stages { keyword: true, ..alone })];
    for (space, _) in models {
        let stages = match space {
            Space::General => Stages { general: true, ..alone },
            Space::Domain => Stages { domain: true, ..alone },
        };
        plans.push(leg(space.name(), SearchType::Semantic, stages));
    }
    let fused = Stages { expansion: false, reranking: false, ..Stages::ALL };
    plans.push(leg("fused", SearchType::Hybrid, fused));
    let expanded = Stages { expansion: true, ..fused };
    plans.push(leg("+ expansion", SearchType::Hybrid, expanded));
    let whole = Plan::new("+ reranking", SearchType::Hybrid);
    let reranks = reranks(scratch, collection, &whole).await?;
    plans.extend(reranks.then(|| whole.clone()));
    plans.push(Plan { name: "+ diversity".to_owned(), diversity: Some(DIVERSITY), ..whole });
    Ok(plans)
}

/// Whether anything is reranked here.
async fn reranks(scratch: &Scratch, collection: &Collection, plan: &Plan) -> anyhow::Result<bool> {
    let Some(query) = collection.queries.first() else { return Ok(false) };
    let found = scratch.retriever.search(plan.request(scratch, &query.text, Explain::Yes)).await?;
    let mut stages = found.hits.iter().filter_map(|hit| hit.explained.as_ref()).flat_map(|hit| &hit.stages);
    Ok(stages.any(|stage| stage.stage == "reranked"))
}

/// Asks all queries, one after the other.
async fn row(
    scratch: &Scratch,
    collection: &Collection,
    plan: &Plan,
    ids: &HashMap<Uuid, String>,
) -> anyhow::Result<Row> {
    let ask = async |query: &str| {
        let found = scratch.retriever.search(plan.request(scratch, query, Explain::No)).await;
        found.with_context(|| format!("the search for {query:?} ({})", plan.name))
    };
    // What is loaded once is not counted.
    if let Some(first) = collection.queries.first() {
        ask(&first.text).await?;
    }
    let bar = progress::bar(Some(collection.queries.len() as u64), "{bar:30} {pos}/{len} queries: {msg}");
    bar.set_message(plan.name.clone());
    let cpu = cpu_seconds();
    let mut judged = vec![];
    for (place, query) in collection.queries.iter().enumerate() {
        let begun = Instant::now();
        let found = ask(&query.text).await.inspect_err(|_| bar.finish_and_clear())?;
        let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
        if let Some(quality) = quality(&ranking(&found, ids), &query.grades) {
            judged.push(Judged { is_even: query.is_even(place), quality, milliseconds });
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let cpu = cpu_seconds().zip(cpu).map(|(now, before)| (now - before) * 1000.0 / judged.len().max(1) as f64);
    Ok(Row::new(plan.name.clone(), &judged, cpu))
}

/// Documents by their best passage.
fn ranking(found: &SearchResults, ids: &HashMap<Uuid, String>) -> Vec<String> {
    let mut ranking: Vec<String> = vec![];
    for hit in &found.hits {
        if let Some(id) = ids.get(&hit.document_id).filter(|id| !ranking.contains(id)) {
            ranking.push(id.clone());
        }
    }
    ranking
}

/// CPU seconds of all threads of this process so far, to 10 ms (`proc_pid_stat(5)`: fields 14 and 15, in ticks); none where
/// there is no such file.
fn cpu_seconds() -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let ticks = behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().ok());
    Some(ticks.sum::<Option<f64>>()? / TICKS_PER_SECOND)
}
