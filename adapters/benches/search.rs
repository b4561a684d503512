//! Hybrid search over synthetic chunks, the query's vector given: CPU time of each query, recall against exact comparison,
//! what building costs, and how much is on disk. The baseline is a plain f32 comparison with every vector. Then what each
//! kind of filter costs beside none, by how much it leaves, in each type of search.
//!
//! Prints two tables and one line of JSON. `LMAO_BENCH_CHUNKS`, `LMAO_BENCH_DIMENSIONS` and `LMAO_BENCH_QUERIES` shrink it.

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
/// Values that a field has, and how many of a thousand have it.
const SHARES: [(&str, u64); 4] = [("q-half", 500), ("q-some", 80), ("q-few", 10), ("q-rare", 1)];
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
    let far: Vec<Question> = (0..queries).map(|n| corpus.far(n)).collect();
    let dir = tempfile::tempdir().unwrap();
    let index = runtime.block_on(EmbeddedIndex::open(dir.path())).unwrap();
    let start = cpu_ms();
    runtime.block_on(build(&index, &corpus, Spaces::One));
    let build_ms = cpu_ms() - start;
    let mut rows = runtime.block_on(measure(&index, &questions));
    // With a second owner the owner's filter is no longer met by all.
    runtime.block_on(async {
        index.put(corpus.document(chunks, Uuid::from_u128(2), Spaces::One)).await.unwrap();
        index.commit(Position(2)).await.unwrap();
    });
    let all = SearchFilter::all_of(OWNER);
    let hybrid_of = |index: &EmbeddedIndex, questions: &[Question], spaces| {
        runtime.block_on(time(questions, async |q| hybrid(index, q, &all, spaces).await))
    };
    rows.push(("hybrid, two owners".to_owned(), hybrid_of(&index, &questions, Spaces::One)));
    rows.push(("hybrid, near to nothing".to_owned(), hybrid_of(&index, &far, Spaces::One)));
    let (recall, bytes) = (runtime.block_on(recall(&index, &corpus, &questions)), bytes(dir.path()));
    drop(index);
    let dir = tempfile::tempdir().unwrap();
    let index = runtime.block_on(EmbeddedIndex::open(dir.path())).unwrap();
    runtime.block_on(build(&index, &corpus, Spaces::Two));
    hybrid_of(&index, &questions, Spaces::Two);
    rows.push(("hybrid, two spaces".to_owned(), hybrid_of(&index, &questions, Spaces::Two)));
    rows.push(("hybrid, two, near to nothing".to_owned(), hybrid_of(&index, &far, Spaces::Two)));
    rows.push(("exact f32 (baseline)".to_owned(), baseline(&corpus, &questions)));
    let filtered = runtime.block_on(filtered(&index, &corpus, &questions[..queries.div_ceil(4)]));
    report(
        &rows,
        &filtered,
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
                chunk_type: group(number, 1).to_owned(),
                page_number: Some(scattered(number, 2) as u32),
                section: Some(format!("{} > {}", group(number, 3), word(number % 1_009))),
                start: 0,
                end: 1,
                page_turns: vec![],
                language: Some(group(number, 4).to_owned()),
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
            filename: group(first, 5).to_owned(),
            format: group(first, 6).to_owned(),
            language: None,
            metadata: Value::Null,
            title: None,
            authors: vec![group(first, 7).to_owned()],
            tags: vec![group(first, 8).to_owned()],
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

    /// A question in no cluster: its best passages are hardly better than the rest, the most work for whoever sorts them out.
    fn far(&self, n: usize) -> Question {
        let vector = noise(&mut StdRng::seed_from_u64(n as u64 + 7_000_000), self.dims);
        Question { vector, ..self.question(n) }
    }

    /// The best passages' similarities, by comparing with all.
    fn exact(&self, query: &[f32]) -> Vec<f32> {
        let mut all: Vec<f32> = self.vectors.iter().map(|vector| dot(vector, query)).collect();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        all.truncate(SHOWN);
        all
    }
}

/// A number below 1,000 for the n-th of something, as if by chance; of each `salt` its own.
fn scattered(n: usize, salt: u64) -> u64 {
    StdRng::seed_from_u64(n as u64 * 16 + salt).random_range(0..1_000)
}

/// What the n-th has in a field: each value of [`SHARES`] as often as it says, another one otherwise.
fn group(n: usize, salt: u64) -> &'static str {
    let place = scattered(n, salt);
    let mut end = 0;
    let value = SHARES.iter().find(|(_, per_mille)| {
        end += per_mille;
        place < end
    });
    value.map_or("q-rest", |(value, _)| value)
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

async fn measure(index: &EmbeddedIndex, questions: &[Question]) -> Vec<(String, Vec<f64>)> {
    let all = SearchFilter::all_of(OWNER);
    let both = async |q: &Question| hybrid(index, q, &all, Spaces::One).await;
    let words = async |q: &Question| drop(index.keyword(&q.text.as_str().into(), &all, DEPTH).await.unwrap());
    let near = async |q: &Question| drop(index.nearest(Space::General, &q.vector, &all, DEPTH).await.unwrap());
    // The first queries fault the files in.
    time(questions, both).await;
    vec![
        ("hybrid".to_owned(), time(questions, both).await),
        ("keyword".to_owned(), time(questions, words).await),
        ("nearest".to_owned(), time(questions, near).await),
    ]
}

/// Each kind of filter, from half of all to nothing, by what it leaves.
fn filters(corpus: &Corpus) -> Vec<(&'static str, Vec<(&'static str, SearchFilter)>)> {
    let chunks = corpus.vectors.len();
    let all = SearchFilter::all_of(OWNER);
    let named = |name: &str| vec![name.to_owned()];
    let documents: Vec<Uuid> =
        (0..chunks).step_by(CHUNKS_OF_A_DOCUMENT).map(|first| Uuid::from_u128(first as u128 + 1)).collect();
    let shares = [("50 %", "q-half", 500), ("8 %", "q-some", 80), ("1 %", "q-few", 10), ("0.1 %", "q-rare", 1)];
    let of = |kind: &'static str, filter: &dyn Fn(&str, usize) -> SearchFilter| {
        let some = shares.iter().map(|(share, value, per_mille)| (*share, filter(value, *per_mille)));
        (kind, some.chain([("nothing", filter("q-none", 0))]).collect::<Vec<_>>())
    };
    let (mut ids, one) = (
        of("document", &|_, per_mille| {
            // Scattered over the whole; the API takes a thousand at most, which is a fifth of them here.
            let ids = documents.iter().step_by(1_000 / per_mille.clamp(1, 200)).copied().collect();
            let none = vec![Uuid::from_u128(u128::MAX)];
            SearchFilter { document_ids: if per_mille == 0 { none } else { ids }, ..all.clone() }
        }),
        SearchFilter { document_ids: vec![documents[documents.len() / 2]], ..all.clone() },
    );
    ids.1.insert(4, ("one", one));
    ids.1[0].0 = "20 %";
    vec![
        ids,
        of("filename", &|value, _| SearchFilter { filenames: named(value), ..all.clone() }),
        of("format", &|value, _| SearchFilter { formats: named(value), ..all.clone() }),
        of("tag", &|value, _| SearchFilter { tags: named(value), ..all.clone() }),
        of("author", &|value, _| SearchFilter { authors: named(value), ..all.clone() }),
        of("created", &|_, per_mille| {
            let end = Timestamp((chunks * per_mille / 1_000) as i64);
            SearchFilter { created_before: Some(end), ..all.clone() }
        }),
        of("type", &|value, _| SearchFilter { chunk_types: named(value), ..all.clone() }),
        of("language", &|value, _| SearchFilter { languages: named(value), ..all.clone() }),
        of("section", &|value, _| SearchFilter { sections: named(value), ..all.clone() }),
        of("pages", &|_, per_mille| {
            let pages = if per_mille == 0 { (1_000, 2_000) } else { (0, per_mille as u32 - 1) };
            SearchFilter { pages: Some(pages), ..all.clone() }
        }),
    ]
}

/// The types of search: what they ask the index for.
const TYPES: [&str; 4] = ["hybrid", "semantic", "keyword", "code"];

/// Milliseconds of CPU of a type of search, p50.
async fn p50(index: &EmbeddedIndex, questions: &[Question], kind: &str, filter: &SearchFilter) -> f64 {
    let near = |q: &Question, space| Leg::Nearest(space, q.vector.clone());
    let words = |q: &Question| Leg::Keyword(q.text.as_str().into());
    let times = time(questions, async |q| match kind {
        "hybrid" => hybrid(index, q, filter, Spaces::One).await,
        "semantic" => drop(index.legs(&[near(q, Space::General)], filter, DEPTH).await),
        "keyword" => drop(index.legs(&[words(q)], filter, DEPTH).await),
        _ => drop(index.legs(&[words(q), near(q, Space::Domain)], filter, DEPTH).await),
    });
    let times = times.await;
    times[times.len() / 2]
}

/// By filter, p50 of each type of search and how much that is of the same without a filter, taken just before.
async fn filtered(index: &EmbeddedIndex, corpus: &Corpus, questions: &[Question]) -> Vec<(String, [(f64, f64); 4])> {
    let all = SearchFilter::all_of(OWNER);
    let mut rows = vec![];
    for (kind, filters) in filters(corpus) {
        let mut none = [0.0; TYPES.len()];
        for (none, kind) in none.iter_mut().zip(TYPES) {
            *none = p50(index, questions, kind, &all).await;
        }
        rows.push((format!("(none, before {kind})"), none.map(|none| (none, 1.0))));
        for (share, filter) in filters {
            let mut row = [(0.0, 0.0); TYPES.len()];
            for ((cell, none), kind) in row.iter_mut().zip(none).zip(TYPES) {
                let p50 = p50(index, questions, kind, &filter).await;
                *cell = (p50, p50 / none);
            }
            rows.push((format!("{kind}, {share}"), row));
        }
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

fn report(rows: &[(String, Vec<f64>)], filtered: &[(String, [(f64, f64); 4])], facts: &Value) {
    println!("{:<32} {:>9} {:>9}   CPU ms a query", "", "p50", "p99");
    let mut figures = facts.clone();
    for (name, times) in rows {
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("{name:<32} {:>9.2} {:>9.2}", at(0.5), at(0.99));
        figures[name] = json!({ "cpu_ms_p50": at(0.5), "cpu_ms_p99": at(0.99) });
    }
    println!("\n{:<24} {}   CPU ms p50, share of none", "", TYPES.map(|kind| format!("{kind:>16}")).join(""));
    for (name, cells) in filtered {
        println!("{name:<24} {}", cells.map(|(ms, share)| format!("{ms:>9.2} {share:>6.2}")).join(""));
    }
    let cell = |(ms, share): (f64, f64)| json!({ "cpu_ms_p50": ms, "of_none": share });
    let row = |cells: &[(f64, f64); 4]| {
        TYPES.map(str::to_owned).into_iter().zip(cells.map(cell)).collect::<serde_json::Map<_, _>>()
    };
    figures["filters"] = filtered.iter().map(|(name, cells)| (name.clone(), Value::Object(row(cells)))).collect();
    let most = |n: usize| filtered.iter().map(|(_, cells)| cells[n].1).fold(0.0, f64::max);
    println!("most of none: {}", [0, 1, 2, 3].map(|n| format!("{} {:.2}", TYPES[n], most(n))).join(", "));
    let (build, bytes) = (facts["build_cpu_ms"].as_f64().unwrap_or(0.0) / 1e3, facts["bytes"].as_u64().unwrap_or(0));
    println!("built in {build:.1} CPU-s, {} MB, recall@10 {}", bytes / 1_000_000, facts["recall_at_10"]);
    println!("{figures}");
}
