//! Passages a second through the `Embedder` port beside bare ONNX Runtime on the same texts with the same threads, tokenized
//! beforehand and sorted by length, in batches of several sizes. Prints JSON; CPU time is that of all threads.
//!
//! The bare session lives in a process of its own, this binary again, as a process can hold only one environment.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot run has nothing better to do")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use lmao_adapters::models::{ModelConfig, ModelSource, Models, default_cache_dir};
use lmao_ports::{Embedder, SemanticState, Semantics, Space};
use ort::{session::Session, value::Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

const PASSAGES: usize = 200;
const BATCHES: [usize; 4] = [1, 4, 16, 32];
const ROUNDS: usize = 3;

fn main() {
    let argument = |name: &str| std::env::args().find_map(|argument| argument.strip_prefix(name).map(str::to_owned));
    let threads = argument("--threads=").map_or(1, |threads| threads.parse().unwrap());
    if let Some(library) = argument("--bare=") {
        return Bare::load(Path::new(&library), threads).print();
    }
    let cache = default_cache_dir().unwrap();
    let config = ModelConfig { threads, ..ModelConfig::general(cache.clone(), ModelSource::Auto) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let models = Models::new(config, Arc::new(()));
    let embedder = match runtime.block_on(models.settled(Space::General)) {
        SemanticState::Ready(embedder) => embedder,
        other => panic!("no model: {other:?}"),
    };
    let library = sources(&cache).into_iter().find(|path| path.to_string_lossy().contains("libonnxruntime")).unwrap();
    let texts = passages();
    through_the_port(&runtime, &*embedder, &texts[..PASSAGES / 4]);
    let mut results: Vec<Measured> = vec![];
    // Taken in turn, so that a busy machine treats them alike; the best round of each counts.
    for _ in 0..ROUNDS {
        let mut round = vec![measure("embedder".to_owned(), || through_the_port(&runtime, &*embedder, &texts))];
        round.extend(bare_round(&library, threads));
        if results.is_empty() {
            results = round;
        } else {
            results.iter_mut().zip(round).for_each(|(best, again)| best.keep_best(&again));
        }
    }
    println!("{}", report(&results, threads));
}

fn bare_round(library: &Path, threads: usize) -> Vec<Measured> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(format!("--bare={}", library.display())).arg(format!("--threads={threads}"));
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the bare run failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn through_the_port(runtime: &tokio::runtime::Runtime, embedder: &dyn Embedder, texts: &[String]) {
    let vectors = runtime.block_on(embedder.passages(texts.to_vec())).unwrap();
    assert_eq!(vectors.len(), texts.len());
}

fn report(results: &[Measured], threads: usize) -> Value {
    let (port, baselines) = results.split_first().unwrap();
    let best = |time: fn(&Measured) -> f64| baselines.iter().map(time).fold(f64::INFINITY, f64::min);
    json!({
        "bench": "embedding",
        "passages": PASSAGES,
        "threads": threads,
        "results": results.iter().map(Measured::json).collect::<Vec<_>>(),
        "ratio_to_best_bare_cpu": best(|measured| measured.cpu) / port.cpu,
        "ratio_to_best_bare_wall": best(|measured| measured.wall) / port.wall,
    })
}

/// Seconds for all passages.
#[derive(Serialize, Deserialize)]
struct Measured {
    name: String,
    wall: f64,
    cpu: f64,
}

impl Measured {
    fn keep_best(&mut self, again: &Self) {
        self.wall = self.wall.min(again.wall);
        self.cpu = self.cpu.min(again.cpu);
    }

    fn json(&self) -> Value {
        let rate = |seconds: f64| (PASSAGES as f64 / seconds * 10.0).round() / 10.0;
        json!({
            "name": self.name,
            "passages_per_second": rate(self.wall),
            "passages_per_cpu_second": rate(self.cpu),
        })
    }
}

fn measure(name: String, run: impl FnOnce()) -> Measured {
    let (wall, cpu) = (Instant::now(), cpu_time());
    run();
    Measured { name, wall: wall.elapsed().as_secs_f64(), cpu: cpu_time() - cpu }
}

/// CPU seconds of all threads of this process so far, to 10 ms (`proc_pid_stat(5)`: fields 14 and 15, in ticks).
fn cpu_time() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>()
        / TICKS_PER_SECOND
}

/// A model without anything around it.
struct Bare {
    session: Session,
    /// Token ids, shortest first.
    inputs: Vec<Vec<i64>>,
}

impl Bare {
    fn load(library: &Path, threads: usize) -> Self {
        let folder = default_cache_dir().unwrap().join("bge-small-en-v1.5-int8");
        let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
        let ids = |text: String| {
            let encoding = tokenizer.encode(text, true).unwrap();
            encoding.get_ids().iter().map(|&id| i64::from(id)).take(512).collect()
        };
        let mut inputs: Vec<Vec<i64>> = passages().into_iter().map(ids).collect();
        inputs.sort_by_key(Vec::len);
        let environment = ort::init_from(library).unwrap().build().unwrap();
        let session = Session::builder(&environment)
            .unwrap()
            .with_intra_threads(threads)
            .unwrap()
            .with_intra_op_spinning(false)
            .unwrap()
            .commit_from_file(folder.join("model.onnx"))
            .unwrap();
        Self { session, inputs }
    }

    fn print(mut self) {
        let all = std::mem::take(&mut self.inputs);
        self.inputs = all[..PASSAGES / 4].to_vec();
        self.run(1);
        self.inputs = all;
        let measured = BATCHES.map(|batch| measure(format!("bare, batches of {batch}"), || self.run(batch)));
        println!("{}", serde_json::to_string(&measured).unwrap());
    }

    fn run(&mut self, batch: usize) {
        for inputs in self.inputs.chunks(batch) {
            let length = inputs.last().unwrap().len();
            let (mut ids, mut mask) = (vec![0; inputs.len() * length], vec![0; inputs.len() * length]);
            for (row, input) in inputs.iter().enumerate() {
                ids[row * length..][..input.len()].copy_from_slice(input);
                mask[row * length..][..input.len()].fill(1);
            }
            let tensor = |values: Vec<i64>| Tensor::from_array(([inputs.len(), length], values)).unwrap();
            let types = vec![0; ids.len()];
            let outputs = self
                .session
                .run(ort::inputs! {
                    "input_ids" => tensor(ids), "attention_mask" => tensor(mask), "token_type_ids" => tensor(types)
                })
                .unwrap();
            assert!(outputs[0].try_extract_tensor::<f32>().unwrap().1[0].is_finite());
        }
    }
}

/// Real prose: the comments and documents of this repository, in passages of 20 to 250 words.
fn passages() -> Vec<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files: Vec<_> =
        ["adapters/src", "events/src", "ports/src"].iter().flat_map(|dir| sources(&root.join(dir))).collect();
    files.sort();
    let words: Vec<String> = files
        .iter()
        .flat_map(|file| fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| Some(line.trim().strip_prefix("//")?.trim_start_matches(['/', '!', ' ']).to_owned()))
        .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let mut words = words.iter().cycle();
    (0..PASSAGES).map(|n| words.by_ref().take(20 + n * 89 % 231).cloned().collect::<Vec<_>>().join(" ")).collect()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}
