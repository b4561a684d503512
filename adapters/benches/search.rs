//! Hybrid search over synthetic chunks, the query's vector given: CPU time of each query, recall against exact comparison,
//! what building costs, and how much is on disk. The baseline is a plain f32 comparison with every vector.
//!
//! Prints a table and one line of JSON. `LMAO_BENCH_CHUNKS`, `LMAO_BENCH_DIMENSIONS` and `LMAO_BENCH_QUERIES` shrink it.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do")]
#![expect(clippy::cast_possible_truncation, reason = "its numbers are small")]

use std::{fs, path::Path};

use lmao_adapters::index::EmbeddedIndex;
use lmao_events::{Position, Timestamp};
use lmao_ports::{
    ChunkRecord, IndexedDocument, Leg, ModelManifest, Pooling, SearchFilter, SearchIndex, Space, Vectors,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use uuid::Uuid;

const OWNER: Uuid = Uuid::from_u128(1);
const CHUNKS_OF_A_DOCUMENT: usize = 20;
const WORDS_OF_A_CHUNK: usize = 111;
const VOCABULARY: usize = 30_000;
/// What each leg is asked for, and what the reader gets.
const DEPTH: usize = 50;
const SHOWN: usize = 10;

fn main() {
    let size = |name: &str, otherwise| std::env::var(name).map_or(otherwise, |value| value.parse().unwrap());
    let (chunks, dims) = (size("LMAO_BENCH_CHUNKS", 100_000), size("LMAO_BENCH_DIMENSIONS", 768));
    let queries = size("LMAO_BENCH_QUERIES", 200);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let corpus = Corpus::new(chunks, dims);
    let questions: Vec<Question> = (0..queries).map(|n| corpus.question(n)).collect();
    let dir = tempfile::tempdir().unwrap();
    let index = runtime.block_on(EmbeddedIndex::open(dir.path())).unwrap();
    let start = cpu_ms();
    runtime.block_on(build(&index, &corpus, Spaces::One));
    let build_ms = cpu_ms() - start;
    let mut rows = runtime.block_on(measure(&index, &corpus, &questions));
    // With a second owner the owner's filter is no longer met by all.
    runtime.block_on(async {
        index.put(corpus.document(chunks, Uuid::from_u128(2), Spaces::One)).await.unwrap();
        index.commit(Position(2)).await.unwrap();
    });
    let all = SearchFilter::all_of(OWNER);
    let hybrid_of = |index: &EmbeddedIndex, spaces| {
        runtime.block_on(time(&questions, async |q| hybrid(index, q, &all, spaces).await))
    };
    rows.push(("hybrid, two owners".to_owned(), hybrid_of(&index, Spaces::One)));
    let (recall, bytes) = (runtime.block_on(recall(&index, &corpus, &questions)), bytes(dir.path()));
    drop(index);
    let dir = tempfile::tempdir().unwrap();
    let index = runtime.block_on(EmbeddedIndex::open(dir.path())).unwrap();
    runtime.block_on(build(&index, &corpus, Spaces::Two));
    hybrid_of(&index, Spaces::Two);
    rows.push(("hybrid, two spaces".to_owned(), hybrid_of(&index, Spaces::Two)));
    rows.push(("exact f32 (baseline)".to_owned(), baseline(&corpus, &questions)));
    report(
        &rows,
        &json!({
            "bench": "search", "chunks": chunks, "dimensions": dims, "queries": queries,
            "build_cpu_ms": build_ms, "bytes": bytes, "recall_at_10": recall,
        }),
    );
}

/// CPU time of this process so far, all threads, in milliseconds.
fn cpu_ms() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "the call writes the timespec that it is given, and nothing else")]
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    assert_eq!(result, 0);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// How many vectors a passage has.
#[derive(Clone, Copy, PartialEq)]
enum Spaces {
    One,
    Two,
}

struct Question {
    text: String,
    vector: Vec<f32>,
}

/// Texts with word frequencies as in language (Zipf), vectors in clusters as embeddings are.
struct Corpus {
    dims: usize,
    centres: Vec<Vec<f32>>,
    vectors: Vec<Vec<f32>>,
}

impl Corpus {
    fn new(chunks: usize, dims: usize) -> Self {
        let mut random = StdRng::seed_from_u64(1);
        let centres: Vec<Vec<f32>> = (0..500).map(|_| noise(&mut random, dims)).collect();
        let vectors = (0..chunks).map(|n| near(&centres[n % centres.len()], &mut random)).collect();
        Self { dims, centres, vectors }
    }

    /// The document whose first passage is number `first`.
    fn document(&self, first: usize, owner: Uuid, spaces: Spaces) -> IndexedDocument {
        let mut random = StdRng::seed_from_u64(first as u64 + 1_000);
        let numbers = first..(first + CHUNKS_OF_A_DOCUMENT).min(self.vectors.len().max(first + 1));
        let chunk = |(ordinal, number): (u32, usize)| {
            let words: Vec<String> = (0..WORDS_OF_A_CHUNK).map(|_| word(zipf(&mut random))).collect();
            ChunkRecord {
                chunk_id: Uuid::from_u128(number as u128),
                ordinal,
                content: words.join(" "),
                // A third, scattered: no two rows of it adjoin.
                chunk_type: if number.is_multiple_of(3) { "table" } else { "prose" }.to_owned(),
                page_number: Some(number as u32 % 1_000),
                section: Some(format!("{} > {}", word(number % 97), word(number % 1_009))),
                start: 0,
                end: 1,
                page_turns: vec![],
                language: None,
                parent: None,
            }
        };
        let vector = |n: usize| Some(self.vectors.get(n).unwrap_or(&self.centres[0]).clone());
        let mut vectors = Vectors { general: numbers.clone().map(vector).collect(), domain: vec![] };
        if spaces == Spaces::Two {
            // Other vectors than the general ones: those of passages far away.
            vectors.domain =
                numbers.clone().map(|n| vector((n + self.vectors.len() / 2) % self.vectors.len())).collect();
        }
        IndexedDocument {
            document_id: Uuid::from_u128(first as u128 + 1),
            owner,
            filename: format!("{first}.md"),
            // Every twelfth document: about 8 %.
            format: if (first / CHUNKS_OF_A_DOCUMENT).is_multiple_of(12) { "code" } else { "markdown" }.to_owned(),
            language: None,
            metadata: Value::Null,
            title: None,
            authors: vec![],
            tags: vec![if (first / CHUNKS_OF_A_DOCUMENT).is_multiple_of(10) { "rare" } else { "common" }.to_owned()],
            created_at: Timestamp(first as i64),
            chunks: (0..).zip(numbers).map(chunk).collect(),
            vectors,
        }
    }

    fn question(&self, n: usize) -> Question {
        let mut random = StdRng::seed_from_u64(n as u64 + 7);
        let words: Vec<String> = (0..5).map(|_| word(20 + zipf(&mut random))).collect();
        let vector = near(&self.centres[n % self.centres.len()], &mut random);
        Question { text: format!("what is the {} of {}?", words[..3].join(" "), words[3..].join(" ")), vector }
    }

    /// The best passages' similarities, by comparing with all.
    fn exact(&self, query: &[f32]) -> Vec<f32> {
        let mut all: Vec<f32> = self.vectors.iter().map(|vector| dot(vector, query)).collect();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        all.truncate(SHOWN);
        all
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for (x, y) in a.chunks(16).zip(b.chunks(16)) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    sums.iter().sum()
}

fn noise(random: &mut StdRng, dims: usize) -> Vec<f32> {
    (0..dims).map(|_| (0..4).map(|_| random.random::<f32>() - 0.5).sum()).collect()
}

/// A vector of length 1 around a centre.
fn near(centre: &[f32], random: &mut StdRng) -> Vec<f32> {
    let raw: Vec<f32> = centre.iter().zip(noise(random, centre.len())).map(|(x, y)| x + 0.8 * y).collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.iter().map(|x| x / length).collect()
}

/// A rank by Zipf's law, roughly.
fn zipf(random: &mut StdRng) -> usize {
    (VOCABULARY as f64).powf(random.random::<f64>()) as usize
}

/// A word for each number, without meaning and without a stem.
fn word(mut n: usize) -> String {
    let mut word = String::from("q");
    while n > 0 {
        word.push(char::from(b"abdfgikmoprtuvxz"[n % 16]));
        n /= 16;
    }
    word + "ox"
}

async fn build(index: &EmbeddedIndex, corpus: &Corpus, spaces: Spaces) {
    let manifest = ModelManifest {
        id: "synthetic".to_owned(),
        dimensions: corpus.dims,
        pooling: Pooling::Mean,
        normalize: true,
        max_tokens: 512,
        query_prefix: String::new(),
        passage_prefix: String::new(),
    };
    index.use_model(Space::General, &manifest).await.unwrap();
    index.use_model(Space::Domain, &manifest).await.unwrap();
    for first in (0..corpus.vectors.len()).step_by(CHUNKS_OF_A_DOCUMENT) {
        index.put(corpus.document(first, OWNER, spaces)).await.unwrap();
        if first % 5_000 == 0 {
            index.commit(Position(1)).await.unwrap();
        }
    }
    index.commit(Position(1)).await.unwrap();
}

/// All legs, then the passages around the best ones, as an answer needs them.
async fn hybrid(index: &EmbeddedIndex, question: &Question, filter: &SearchFilter, spaces: Spaces) {
    let near = |space| Leg::Nearest(space, question.vector.clone());
    let mut legs = vec![Leg::Keyword(question.text.as_str().into()), near(Space::General)];
    if spaces == Spaces::Two {
        legs.push(near(Space::Domain));
    }
    let mut best: Vec<(Uuid, u32)> = vec![];
    for hits in index.legs(&legs, filter, DEPTH).await {
        best.extend(hits.unwrap().iter().take(5).map(|hit| (hit.document_id, hit.chunk.ordinal + 1)));
    }
    index.chunks(&best).await.unwrap();
}

/// Filters from all to next to nothing, by document and by passage.
fn filters(corpus: &Corpus) -> Vec<(&'static str, SearchFilter)> {
    let all = SearchFilter::all_of(OWNER);
    let texts = |text: &str| vec![text.to_owned()];
    let chunks = corpus.vectors.len();
    let one = Uuid::from_u128((chunks / CHUNKS_OF_A_DOCUMENT / 2 * CHUNKS_OF_A_DOCUMENT) as u128 + 1);
    vec![
        ("all", all.clone()),
        ("99 %: created", SearchFilter { created_from: Some(Timestamp(chunks as i64 / 100)), ..all.clone() }),
        ("90 %: tag", SearchFilter { tags: texts("common"), ..all.clone() }),
        ("67 %: type, scattered", SearchFilter { chunk_types: texts("prose"), ..all.clone() }),
        ("50 %: pages", SearchFilter { pages: Some((0, 499)), ..all.clone() }),
        ("33 %: type, scattered", SearchFilter { chunk_types: texts("table"), ..all.clone() }),
        ("8 %: format", SearchFilter { formats: texts("code"), ..all.clone() }),
        ("1 %: section", SearchFilter { sections: vec![word(5)], ..all.clone() }),
        ("0.1 %: page", SearchFilter { pages: Some((7, 7)), ..all.clone() }),
        ("one document", SearchFilter { document_ids: vec![one], ..all }),
    ]
}

async fn measure(index: &EmbeddedIndex, corpus: &Corpus, questions: &[Question]) -> Vec<(String, Vec<f64>)> {
    let filters = filters(corpus);
    // The first queries fault the files in.
    time(questions, async |q| hybrid(index, q, &filters[0].1, Spaces::One).await).await;
    let mut rows = vec![];
    for (name, filter) in &filters {
        let words = async |q: &Question| drop(index.keyword(&q.text.as_str().into(), filter, DEPTH).await.unwrap());
        let near = async |q: &Question| drop(index.nearest(Space::General, &q.vector, filter, DEPTH).await.unwrap());
        rows.push((
            format!("hybrid, {name}"),
            time(questions, async |q| hybrid(index, q, filter, Spaces::One).await).await,
        ));
        rows.push((format!("keyword, {name}"), time(questions, words).await));
        rows.push((format!("nearest, {name}"), time(questions, near).await));
    }
    rows
}

/// CPU milliseconds of each question, sorted.
async fn time(questions: &[Question], ask: impl AsyncFn(&Question)) -> Vec<f64> {
    let mut times = Vec::with_capacity(questions.len());
    for question in questions {
        let start = cpu_ms();
        ask(question).await;
        times.push(cpu_ms() - start);
    }
    times.sort_by(f64::total_cmp);
    times
}

fn baseline(corpus: &Corpus, questions: &[Question]) -> Vec<f64> {
    let some = &questions[..questions.len().min(20)];
    let mut times: Vec<f64> = some
        .iter()
        .map(|question| {
            let start = cpu_ms();
            std::hint::black_box(corpus.exact(&question.vector));
            cpu_ms() - start
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

/// How many of the best ten the vector leg finds; rows with equal scores may stand for each other.
async fn recall(index: &EmbeddedIndex, corpus: &Corpus, questions: &[Question]) -> f64 {
    let (mut found, mut wanted) = (0, 0);
    for question in questions {
        let exact = corpus.exact(&question.vector);
        let worst = exact.last().copied().unwrap_or(1.0) - 1e-6;
        let hits = index.nearest(Space::General, &question.vector, &SearchFilter::all_of(OWNER), SHOWN).await.unwrap();
        found += hits.iter().filter(|hit| hit.score >= worst).count();
        wanted += exact.len();
    }
    found as f64 / wanted as f64
}

fn bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap().flatten();
    files.map(|file| if file.path().is_dir() { bytes(&file.path()) } else { file.metadata().unwrap().len() }).sum()
}

fn report(rows: &[(String, Vec<f64>)], facts: &Value) {
    println!("{:<32} {:>9} {:>9}   CPU ms a query", "", "p50", "p99");
    let mut figures = facts.clone();
    for (name, times) in rows {
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("{name:<32} {:>9.2} {:>9.2}", at(0.5), at(0.99));
        figures[name] = json!({ "cpu_ms_p50": at(0.5), "cpu_ms_p99": at(0.99) });
    }
    let (build, bytes) = (facts["build_cpu_ms"].as_f64().unwrap_or(0.0) / 1e3, facts["bytes"].as_u64().unwrap_or(0));
    println!("built in {build:.1} CPU-s, {} MB, recall@10 {}", bytes / 1_000_000, facts["recall_at_10"]);
    println!("{figures}");
}
