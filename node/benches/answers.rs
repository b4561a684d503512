//! Answers by quotes on judged collections: with the model and by words alone, are questions answered, from the right
//! documents, and refused where the collection knows nothing? Prints a table, and JSON.
//!
//! `LMAO_TEST_SHARED` names the folder whose `eval` holds the collections. Each one's questions are asked of both. For
//! *hidden* the first sentence of a right Cranfield document is put between sentences of this project's documents, which
//! speak of anything but aerodynamics: it should be found, and the sentences around it should not be quoted.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot run has nothing better to do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use lmao_adapters::{
    index::EmbeddedIndex,
    models::{ModelConfig, ModelSource, Models, default_cache_dir},
};
use lmao_events::{Answer, Citation, Position, Timestamp};
use lmao_ports::{
    ChunkRecord, IndexedDocument, Retriever, SearchFilter, SearchIndex, SearchRequest, SearchResults, SearchType,
    SemanticState, Semantics, Space, Vectors,
};
use lmao_retrieval::{
    answer::{Answerer, Extractive, Question},
    search::Hybrid,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// Questions of each collection, and documents beside those that are right for one.
const QUESTIONS: usize = 40;
const OTHERS: usize = 100;
/// Passages that an answer is made of, as the plan of a chat asks for.
const PASSAGES: usize = 12;
/// As a chat asks for it.
const DIVERSITY: f32 = 0.15;
/// The collection of hidden sentences, and what each of them begins with.
const HIDDEN: &str = "hidden";
const MARK: &str = "This is said of it:";
const OWNER: Uuid = Uuid::nil();

#[derive(Deserialize)]
struct Text {
    id: String,
    text: String,
}

struct Collection {
    name: &'static str,
    chunk_type: &'static str,
    documents: Vec<Text>,
    questions: Vec<(String, BTreeSet<String>)>,
}

/// What was asked of which documents.
#[derive(Default)]
struct Tally {
    asked: usize,
    answered: usize,
    first_right: usize,
    quotes: usize,
    right: usize,
    took: Duration,
}

/// No model.
#[derive(Debug)]
struct Off;

#[async_trait::async_trait]
impl Semantics for Off {
    fn state(&self, _: Space) -> SemanticState {
        SemanticState::Off("left out".to_owned())
    }
    async fn settled(&self, _: Space) -> SemanticState {
        self.state(Space::General)
    }
}

#[tokio::main]
async fn main() {
    let Some(shared) = std::env::var_os("LMAO_TEST_SHARED").map(PathBuf::from) else {
        println!("left out: answers: LMAO_TEST_SHARED names no folder with collections");
        return;
    };
    let config = ModelConfig { threads: 1, ..ModelConfig::general(default_cache_dir().unwrap(), ModelSource::Auto) };
    let models = Models::new(config, Arc::new(()));
    models.begin();
    let SemanticState::Ready(_) = models.settled(Space::General).await else { panic!("no model") };
    let own = [read(&shared, "cranfield", "prose"), read(&shared, "cosqa", "code")];
    for (mode, semantics) in [("model", Arc::clone(&models) as Arc<dyn Semantics>), ("words", Arc::new(Off))] {
        let hidden = hidden(&own[0]);
        for collection in own.iter().chain([&hidden]) {
            let dir = tempfile::tempdir().unwrap();
            let search = indexed(dir.path(), collection, Arc::clone(&semantics)).await;
            let answerer = Extractive::new(Arc::clone(&semantics));
            for asking in &own {
                let mut tally = Tally::default();
                for (question, right) in &asking.questions {
                    let begun = Instant::now();
                    let answer = ask(&search, &answerer, question).await;
                    tally.took += begun.elapsed();
                    tally.count(&answer, right, asking.name, question);
                }
                report(mode, asking.name, collection.name, &tally);
            }
        }
    }
    models.end().await;
}

impl Tally {
    fn count(&mut self, answer: &Answer, right: &BTreeSet<String>, of: &str, question: &str) {
        let is_right = |citation: &Citation| {
            let named = right.iter().any(|id| citation.filename.ends_with(&format!("{of} {id}")));
            // Of a passage in which a sentence is hidden, only that sentence.
            named && (!citation.filename.starts_with(HIDDEN) || citation.quote.contains(MARK))
        };
        self.asked += 1;
        self.answered += usize::from(answer.grounded);
        self.first_right += usize::from(answer.citations.first().is_some_and(&is_right));
        self.quotes += answer.citations.len();
        self.right += answer.citations.iter().filter(|citation| is_right(citation)).count();
        if std::env::args().any(|argument| argument == "--show") {
            println!("  ? {question}\n{}\n", answer.text);
        }
    }
}

fn report(mode: &str, questions: &str, documents: &str, tally: &Tally) {
    let share = |part: usize, whole: usize| (part as f64 * 1000.0 / whole.max(1) as f64).round() / 10.0;
    let figures: [(&str, Value); 7] = [
        ("mode", json!(mode)),
        ("questions", json!(questions)),
        ("documents", json!(documents)),
        ("answered_percent", json!(share(tally.answered, tally.asked))),
        ("first_quote_right_percent", json!(share(tally.first_right, tally.asked))),
        ("quotes_right_percent", json!(share(tally.right, tally.quotes))),
        ("quotes_per_answer", json!(tally.quotes as f64 / tally.answered.max(1) as f64)),
    ];
    println!("{}", json!(figures.into_iter().collect::<BTreeMap<_, _>>()));
    println!("  {:.0} ms a question", tally.took.as_secs_f64() * 1000.0 / tally.asked as f64);
}

fn read(shared: &Path, name: &'static str, chunk_type: &'static str) -> Collection {
    let folder = shared.join("eval").join(name);
    let lines = |file: &str| -> Vec<Text> {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let judged: BTreeMap<String, BTreeMap<String, i32>> =
        serde_json::from_str(&fs::read_to_string(folder.join("qrels.json")).unwrap()).unwrap();
    let questions = lines("queries.jsonl").into_iter().filter_map(|question| {
        let right = judged.get(&question.id)?.keys().cloned().collect();
        Some((question.text, right))
    });
    let questions: Vec<(String, BTreeSet<String>)> = questions.take(QUESTIONS).collect();
    let wanted: BTreeSet<&String> = questions.iter().flat_map(|(_, right)| right).collect();
    let (right, others): (Vec<Text>, Vec<Text>) =
        lines("corpus.jsonl").into_iter().partition(|document| wanted.contains(&document.id));
    let documents = right.into_iter().chain(others.into_iter().take(OTHERS)).collect();
    Collection { name, chunk_type, documents, questions }
}

/// A passage for each right document: its first sentence between those of something else.
fn hidden(of: &Collection) -> Collection {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let prose = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap()
        + &fs::read_to_string(root.join("README.md")).unwrap();
    let hay: Vec<String> = prose
        .split("\n\n")
        .filter(|block| block.starts_with(char::is_alphabetic) && block.len() > 150)
        .map(|block| block.replace('\n', " "))
        .collect();
    let right: BTreeSet<&String> = of.questions.iter().flat_map(|(_, right)| right).collect();
    let documents =
        of.documents.iter().filter(|document| right.contains(&document.id)).enumerate().map(|(n, document)| {
            let needle = document.text.split(" . ").next().unwrap();
            let (before, after) = (&hay[n % hay.len()], &hay[(n + 1) % hay.len()]);
            Text { id: document.id.clone(), text: format!("{before}\n\n{MARK} {needle}.\n\n{after}") }
        });
    Collection { name: HIDDEN, chunk_type: "prose", documents: documents.collect(), questions: vec![] }
}

async fn indexed(dir: &Path, collection: &Collection, semantics: Arc<dyn Semantics>) -> Hybrid {
    let index = EmbeddedIndex::open(dir).await.unwrap();
    let embedder = match semantics.state(Space::General) {
        SemanticState::Ready(embedder) => Some(embedder),
        _ => None,
    };
    if let Some(embedder) = &embedder {
        index.use_model(Space::General, embedder.manifest()).await.unwrap();
    }
    let of = if collection.name == HIDDEN { "hidden cranfield" } else { collection.name };
    for (n, Text { id, text }) in (1_u128..).zip(&collection.documents) {
        let vectors = match &embedder {
            Some(embedder) => Vectors::general(embedder.passages(vec![text.clone()]).await.unwrap()),
            None => Vectors::default(),
        };
        let chunk = ChunkRecord {
            chunk_id: Uuid::from_u128(n << 32),
            ordinal: 0,
            content: text.clone(),
            chunk_type: collection.chunk_type.to_owned(),
            page_number: None,
            section: None,
            start: 0,
            end: text.len() as u64,
            page_turns: vec![],
            language: None,
            parent: None,
        };
        let document = IndexedDocument {
            document_id: Uuid::from_u128(n),
            owner: OWNER,
            filename: format!("{of} {id}"),
            format: collection.chunk_type.to_owned(),
            language: None,
            metadata: json!({}),
            title: None,
            authors: vec![],
            tags: vec![],
            created_at: Timestamp(0),
            chunks: vec![chunk],
            vectors,
        };
        index.put(document).await.unwrap();
    }
    index.commit(Position(1)).await.unwrap();
    Hybrid::new(Arc::new(index), semantics)
}

async fn ask(search: &Hybrid, answerer: &Extractive, query: &str) -> Answer {
    let mut request = SearchRequest::new(query.to_owned(), SearchFilter::all_of(OWNER), PASSAGES, SearchType::Hybrid);
    request.diversity = Some(DIVERSITY);
    let SearchResults { hits, intent, .. } = search.search(request).await.unwrap();
    let question = Question { query: query.to_owned(), hits, intent, ..Question::default() };
    answerer.answer(question, Box::new(|_| {})).await.unwrap()
}
