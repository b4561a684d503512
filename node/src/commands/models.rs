//! `lmao models`: the embedding models and the reranker.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::StreamExt as _;
use lmao_adapters::models::Role;
use lmao_events::{AnyEvent, Category, Position, StreamId, document};
use lmao_ports::{CommandMeta, Filter, Journal as _, Projection, SemanticState, Semantics as _, Space};
use serde_json::{Value, json};

use super::{
    Invocation,
    occupied::{Absent, lock},
    session::{Need, running_client, with_client},
};
use crate::{
    cli::Models,
    compose::{DamagedIndex, Node, Parts},
    exit::{Code, Stop},
    output::{Table, plain},
    progress::{self, ModelProgress},
};

/// How long a projection may take until it has the log's end.
const CATCH_UP: Duration = Duration::from_secs(600);

/// Runs the command.
///
/// # Errors
/// Those of the server and of reaching it, or of the files.
pub(crate) async fn run(invocation: &Invocation, models: Models) -> anyhow::Result<()> {
    match models {
        Models::Status => status(invocation).await,
        Models::Reembed => reembed(invocation).await,
    }
}

async fn status(invocation: &Invocation) -> anyhow::Result<()> {
    let health: Value =
        with_client(invocation, Need::Searchable, async |client| Ok(client.get("/health", &[]).await?)).await?;
    let part = |name| health["components"].as_array().into_iter().flatten().find(|part| part["name"] == name);
    let Some(general) = part("semantic_leg") else {
        return Err(Stop::new(Code::Failed, "the server says nothing of its embedding model").into());
    };
    // Older servers have none of these.
    let others = [("domain_leg", "domain"), ("reranker", "reranker")];
    if invocation.out.is_json() {
        let mut all = general.clone();
        for (name, key) in others {
            all[key] = part(name).cloned().unwrap_or_default();
        }
        return Ok(invocation.out.json(&all)?);
    }
    let mut table = Table::new(["MODEL", "STATE", ""]);
    let others = others.iter().filter_map(|(name, key)| Some((*key, part(name)?)));
    for (key, part) in std::iter::once(("general", general)).chain(others) {
        let text = |field: &str| plain(part[field].as_str().unwrap_or_default());
        table.row([key.to_owned(), text("state"), text("message")]);
    }
    Ok(invocation.out.table(&table)?)
}

async fn reembed(invocation: &Invocation) -> anyhow::Result<()> {
    let config = invocation.configuration(None)?.config;
    if let Some(client) = running_client(invocation, &config).await? {
        let text = format!("a server is running at {}, and this needs the index for itself", client.base());
        return Err(Stop::new(Code::Failed, text).hint("stop it, embed again, and start it again").into());
    }
    let data = lock(&config, Absent::Refuse).await?;
    let parts = Parts::open(&config, data, DamagedIndex::Erase, Arc::new(ModelProgress::default())).await?;
    let InUse { general: model, domain } = in_use(&parts.models).await?;
    let held = parts.index.model(Space::General).await?;
    let other = held.is_none_or(|held| held.id != model);
    // Vectors of a domain model that is gone go with the documents' next ones; those of another are in the way of its.
    let held = parts.index.model(Space::Domain).await?;
    let other_domain = held.zip(domain.as_ref()).is_some_and(|(held, domain)| held.id != *domain);
    if other || other_domain || parts.index.without_vectors().await? > 0 {
        // Vectors of two models never stand side by side: the index begins anew, and is filled from the log. That also
        // brings back the vectors that a rebuild without the model had to leave out.
        parts.search.reset().await?;
    }
    let node = Node::start(parts).await?;
    let outcome = embed_all(&node, &model, domain.as_deref()).await;
    node.drain().await;
    let (documents, failed) = outcome?;
    let printed = if invocation.out.is_json() {
        invocation.out.json(&json!({ "model": model, "domain": domain, "documents": documents, "failed": failed }))
    } else {
        let models = document::models_name(&model, domain.as_deref());
        let have = if documents == 1 { "document has" } else { "documents have" };
        invocation.out.line(format!("{documents} {have} vectors of {models}, {failed} failed"))
    };
    let judged = if failed > 0 { Err(Stop::silent(Code::Partial)) } else { Ok(()) };
    Ok(judged.and(printed)?)
}

/// The ids of the models that documents are embedded with now.
struct InUse {
    general: String,
    domain: Option<String>,
}

async fn in_use(models: &lmao_adapters::models::Models) -> Result<InUse, Stop> {
    let missing = |what: &str, reason: String| {
        Stop::new(Code::Failed, format!("there is no {what} to embed with")).because(anyhow::anyhow!(reason))
    };
    let general = match models.settled(Space::General).await {
        SemanticState::Ready(embedder) => embedder.manifest().id.clone(),
        SemanticState::Off(reason) | SemanticState::Loading(reason) => return Err(missing("embedding model", reason)),
    };
    let domain = match models.settled(Space::Domain).await {
        SemanticState::Ready(embedder) => Some(embedder.manifest().id.clone()),
        // Asked for and not to be had: what has its vectors keeps them until somebody says that it is to be off.
        SemanticState::Off(reason) | SemanticState::Loading(reason) if models.is_wanted(Role::Domain) => {
            let stop = missing("domain model", reason);
            return Err(stop.hint("set domain_model = \"off\" to have code embedded by the general model"));
        }
        SemanticState::Off(_) | SemanticState::Loading(_) => None,
    };
    Ok(InUse { general, domain })
}

/// Asks every document that needs it for new vectors and follows each to its end: how many there were, and how many failed.
async fn embed_all(node: &Node, model: &str, domain: Option<&str>) -> anyhow::Result<(usize, usize)> {
    let parts = node.parts();
    let begun = parts.journal.tail().await?;
    reaches(parts.read_model.as_ref(), begun).await?;
    let (commands, request) = (node.commands(), uuid::Uuid::new_v4());
    let mut going = HashSet::new();
    for id in parts.read_model.documents_of_other_models(&document::models_name(model, domain)).await? {
        let stream = StreamId::new(Category::Document, id);
        let meta =
            CommandMeta { who: None, command: None, causation: request, correlation: request, traceparent: None };
        let command = document::Command::Reembed { model: model.to_owned(), domain: domain.map(str::to_owned) };
        // Where nothing was decided, nothing will end.
        if commands.send(stream, command.into(), meta).await?.head.position > begun {
            going.insert(stream);
        }
    }
    let (all, mut failed) = (going.len(), 0);
    let bar = progress::bar(Some(all as u64), "{bar:30} {pos}/{len} documents, {eta} left");
    let mut commits = parts.journal.follow(begun, Filter::Category(Category::Document));
    while !going.is_empty() {
        let Some(commit) = commits.next().await.transpose()? else { break };
        for event in commit.events.unwrap_or_default() {
            let ended = match event {
                AnyEvent::Document(document::Event::Indexed(_) | document::Event::Deleted(_)) => Some(0),
                AnyEvent::Document(document::Event::Failed(_)) => Some(1),
                _ => None,
            };
            if let Some(failures) = ended.filter(|_| going.remove(&commit.header.stream)) {
                failed += failures;
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    reaches(parts.search.as_ref(), begun).await?;
    Ok((all - failed, failed))
}

async fn reaches(projection: &dyn Projection, position: Position) -> Result<(), Stop> {
    if projection.wait_for(position, CATCH_UP).await {
        return Ok(());
    }
    let stop = Stop::new(Code::Failed, format!("{} does not catch up with the log", projection.name()));
    Err(stop.hint("see `lmao projections status`"))
}
