//! `lmao eval`: how well questions of a judged collection are answered, by the real steps of ingestion and the real search on
//! an index of its own; or by a server that has the documents already.

mod collection;
mod metrics;
mod report;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use lmao_ports::{Explain, SearchFilter, SearchRequest, SearchType, SemanticState, Space, Stages};
use serde_json::{Value, json};
use uuid::Uuid;

use self::{
    collection::{Collection, Document},
    metrics::quality,
    report::{Judged, Report, Row},
};
use super::{
    Invocation,
    session::{Need, with_client},
};
use crate::{
    cli::{self, Eval},
    client::Client,
    compose::Scratch,
    config::Config,
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
    let report = if invocation.global.server.is_some() {
        at_server(invocation, &collection, &eval).await?
    } else {
        alone(&config, &collection, &eval).await?
    };
    if invocation.out.is_json() {
        return Ok(invocation.out.json(&report)?);
    }
    report.print(invocation.out)
}

/// Asks a server that has each document under the name of its id.
async fn at_server(invocation: &Invocation, collection: &Collection, eval: &Eval) -> anyhow::Result<Report> {
    if eval.stages || eval.extension.is_some() {
        let stop = Stop::new(Code::Usage, "a server is asked as it is, with the documents that it has");
        return Err(stop.hint("leave --stages and --extension out, or --server").into());
    }
    let plan = Plan::new(eval.search_type.as_str(), search_type(eval.search_type));
    let asked = with_client(invocation, Need::Existing, async |client| {
        row(&System::Server { client, search_type: eval.search_type }, collection, &plan).await
    });
    let row = asked.await?;
    if row.found == 0 {
        let stop = Stop::new(Code::Failed, "the server found no document of this collection");
        return Err(stop.hint("each has to be there as a file named by its id, with or without an ending").into());
    }
    Ok(Report { rows: vec![row], ..Report::of(collection) })
}

async fn alone(config: &Config, collection: &Collection, eval: &Eval) -> anyhow::Result<Report> {
    let scratch = Scratch::open(config, Arc::new(ModelProgress::default())).await?;
    let measured = tokio::select! {
        measured = measure(&scratch, collection, eval) => measured,
        _ = tokio::signal::ctrl_c() => Err(Stop::silent(Code::Interrupted).into()),
    };
    // The model is not at work any more when the process ends.
    scratch.models.end().await;
    measured
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
        rows.push(row(&System::Alone { scratch, ids: &ids }, collection, plan).await?);
    }
    Ok(Report {
        passages: Some(scratch.count().await?),
        models: models.into_iter().map(|(space, id)| (space.name().to_owned(), id)).collect(),
        indexing_seconds: Some(filled),
        rows,
        ..Report::of(collection)
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

/// Who answers.
enum System<'a> {
    /// An index of our own, with the id of each document by that of the system.
    Alone { scratch: &'a Scratch, ids: &'a HashMap<Uuid, String> },
    /// A server.
    Server { client: &'a Client, search_type: cli::SearchType },
}

impl System<'_> {
    /// The names of the documents that were found, best first, each once: ranked by their best passage.
    async fn ranking(&self, plan: &Plan, query: &str) -> anyhow::Result<Vec<String>> {
        let found: Vec<String> = match self {
            Self::Alone { scratch, ids } => {
                let found = scratch.retriever.search(plan.request(scratch, query, Explain::No)).await?;
                found.hits.iter().filter_map(|hit| ids.get(&hit.document_id).cloned()).collect()
            }
            Self::Server { client, search_type } => {
                let body = json!({ "query": query, "max_results": DEPTH, "search_type": search_type.as_str() });
                let found: Value = client.post("/api/v1/documents/search", &body).await?;
                let results = found["results"].as_array().into_iter().flatten();
                results.filter_map(|result| Some(result["metadata"]["filename"].as_str()?.to_owned())).collect()
            }
        };
        let mut ranking: Vec<String> = vec![];
        for name in found {
            if !ranking.contains(&name) {
                ranking.push(name);
            }
        }
        Ok(ranking)
    }

    /// CPU seconds so far, where they are this process's.
    fn cpu_seconds(&self) -> Option<f64> {
        match self {
            Self::Alone { .. } => cpu_seconds(),
            Self::Server { .. } => None,
        }
    }
}

/// Asks all queries, one after the other.
async fn row(system: &System<'_>, collection: &Collection, plan: &Plan) -> anyhow::Result<Row> {
    let ids: HashSet<&str> = collection.documents.iter().map(|document| document.id.as_str()).collect();
    let ask = async |query: &str| {
        let found = system.ranking(plan, query).await;
        found.with_context(|| format!("the search for {query:?} ({})", plan.name))
    };
    // What is loaded once is not counted.
    if let Some(first) = collection.queries.first() {
        ask(&first.text).await?;
    }
    let bar = progress::bar(Some(collection.queries.len() as u64), "{bar:30} {pos}/{len} queries: {msg}");
    bar.set_message(plan.name.clone());
    let cpu = system.cpu_seconds();
    let (mut judged, mut known) = (vec![], 0);
    for (place, query) in collection.queries.iter().enumerate() {
        let begun = Instant::now();
        let found = ask(&query.text).await.inspect_err(|_| bar.finish_and_clear())?;
        let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
        // A server's files may have endings that the ids do not have.
        let ranking: Vec<String> = found.into_iter().map(|name| named(&name, &ids)).collect();
        known += ranking.iter().filter(|id| ids.contains(id.as_str())).count();
        if let Some(quality) = quality(&ranking, &query.grades) {
            judged.push(Judged { is_even: query.is_even(place), quality, milliseconds });
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let cpu = system.cpu_seconds().zip(cpu).map(|(now, before)| (now - before) * 1000.0 / judged.len().max(1) as f64);
    Ok(Row::new(plan.name.clone(), &judged, cpu, known))
}

/// The document's id that a file's name says: itself, or what comes before its ending.
fn named(name: &str, ids: &HashSet<&str>) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    if !ids.contains(name) && ids.contains(stem) { stem.to_owned() } else { name.to_owned() }
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
