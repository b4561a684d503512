//! The model at work: the one thread that has loaded it runs it, fed by a queue in which queries go before passages, and calls
//! for passages take turns, text by text: a few sentences do not wait for a document.
//!
//! One text is one run. Dynamic quantization takes its scale from the whole input tensor, so in a batch a vector would depend
//! on its neighbours (measured: cosine 0.994 to the text alone) and could not be cached by content; and on a CPU a batch is no
//! faster (measured, 250-token passages: 17.7 a CPU-second alone, 13.6 in batches of 4096 tokens). So nothing is padded either, and a query
//! waits for at most one passage.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    vec,
};

use async_trait::async_trait;
use fastembed::{InitOptionsUserDefined, QuantizationMode, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel};
use lmao_ports::{EmbedError, Embedder, ModelManifest, Pooling, TokenSpan};
use ort::environment::Environment;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::tokens::TokenCounter;
use crate::metrics::{Embedded, embedded};

/// Calls that may wait in each lane; more wait outside, at no cost.
const QUEUE_LIMIT: usize = 64;

/// A token stands for at most this many bytes of text that are worth tokenizing: longer texts are cut there before the model
/// cuts them by tokens.
const BYTES_PER_TOKEN: usize = 128;

/// How far from 1 the length of a normalised vector may be.
const LENGTH_TOLERANCE: f32 = 1e-3;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The files do not make a model.
    #[error("it does not load ({0})")]
    Model(String),
    /// The tokenizer does not count.
    #[error("tokenizer.json does not load ({0})")]
    Tokenizer(String),
    /// It runs, but not as its manifest says.
    #[error("a trial run failed: {0}")]
    Trial(String),
}

/// The way to an ONNX model on another thread, which is [`Served`] there.
pub(super) struct OnnxEmbedder {
    manifest: ModelManifest,
    counter: TokenCounter,
    queue: Arc<Queue>,
}

impl fmt::Debug for OnnxEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxEmbedder").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl OnnxEmbedder {
    /// Loads the model from its files' bytes and tries it. Blocks.
    pub(super) fn load(
        onnx_file: Vec<u8>,
        tokenizer_file: Vec<u8>,
        manifest: ModelManifest,
        environment: Environment,
        threads: usize,
        queue: Arc<Queue>,
    ) -> Result<(Self, Served), LoadError> {
        // One text at a time gains nothing from tokenizing in parallel, and a thread pool of its own would be kept for it.
        tokenizers::utils::parallelism::set_parallelism(false);
        let tokenizer_files = TokenizerFiles {
            tokenizer_file,
            config_file: b"{}".to_vec(),
            special_tokens_map_file: b"{}".to_vec(),
            // Nothing is ever padded; the token is only asked for.
            tokenizer_config_file: format!(r#"{{"model_max_length": {}, "pad_token": "[PAD]"}}"#, manifest.max_tokens)
                .into_bytes(),
        };
        let pooling = match manifest.pooling {
            Pooling::Cls => fastembed::Pooling::Cls,
            Pooling::Mean => fastembed::Pooling::Mean,
        };
        let model = UserDefinedEmbeddingModel::new(onnx_file, tokenizer_files)
            .with_pooling(pooling)
            .with_quantization(QuantizationMode::None);
        let options = InitOptionsUserDefined::new()
            .with_environment(environment)
            .with_max_length(manifest.max_tokens)
            .with_intra_threads(threads)
            // Threads that spin while they wait would take the cores from the server.
            .with_session_config("session.intra_op.allow_spinning", "0");
        let model = TextEmbedding::try_new_from_user_defined(model, options)
            .map_err(|error| LoadError::Model(error.to_string()))?;
        let counter =
            TokenCounter::new(model.tokenizer.clone()).map_err(|error| LoadError::Tokenizer(error.to_string()))?;
        let mut model = Model { model, manifest: manifest.clone() };
        model.embed("a trial run").map_err(LoadError::Trial)?;
        Ok((Self { manifest, counter, queue: Arc::clone(&queue) }, Served { queue, model }))
    }

    async fn embed(&self, lane: Lane, prefix: &str, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        if texts.is_empty() {
            return Ok(vec![]);
        }
        let ended = || self.error("it has ended");
        let permit = Arc::clone(&self.queue.permits[lane as usize]).acquire_owned().await.map_err(|_| ended())?;
        let (reply, answer) = oneshot::channel();
        let limit = self.manifest.max_tokens * BYTES_PER_TOKEN;
        let vectors = Vec::with_capacity(texts.len());
        let texts = texts.into_iter().map(|text| prepared(prefix, text, limit)).collect::<Vec<_>>().into_iter();
        self.queue.push(lane, Job { texts, vectors, reply, _permit: permit });
        let outcome = answer.await.map_err(|_| ended())?;
        if let Ok(vectors) = &outcome {
            embedded(match lane {
                Lane::Queries => Embedded::Query,
                Lane::Passages => Embedded::Passages(vectors.len()),
            });
        }
        outcome.map_err(|message| self.error(message))
    }

    fn error(&self, message: impl Into<String>) -> EmbedError {
        EmbedError::Model { model: self.manifest.id.clone(), message: message.into() }
    }
}

#[async_trait]
impl Embedder for OnnxEmbedder {
    fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.embed(Lane::Passages, &self.manifest.passage_prefix, texts).await
    }

    async fn query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        let mut vectors = self.embed(Lane::Queries, &self.manifest.query_prefix, vec![text.to_owned()]).await?;
        vectors.pop().ok_or_else(|| self.error("it gave no vector"))
    }

    fn tokens(&self, text: &str) -> Vec<TokenSpan> {
        self.counter.spans(text)
    }
}

/// The text as the model gets it: with its prefix, and without what it would cut anyway.
fn prepared(prefix: &str, mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    if !prefix.is_empty() {
        text.insert_str(0, prefix);
    }
    text
}

/// Queries go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Queries = 0,
    Passages = 1,
}

/// A call, as far as it has got.
struct Job {
    texts: vec::IntoIter<String>,
    vectors: Vec<Vec<f32>>,
    reply: oneshot::Sender<Result<Vec<Vec<f32>>, String>>,
    _permit: OwnedSemaphorePermit,
}

/// What waits for the model, bounded by the permits of each lane.
pub(super) struct Queue {
    permits: [Arc<Semaphore>; 2],
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lanes: [VecDeque<Job>; 2],
    closed: bool,
}

impl Default for Queue {
    fn default() -> Self {
        let permits = || Arc::new(Semaphore::new(QUEUE_LIMIT));
        Self { permits: [permits(), permits()], waiting: Mutex::default(), changed: Condvar::new() }
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A queue that is closed drops the job, which its caller sees.
    fn push(&self, lane: Lane, job: Job) {
        let mut waiting = self.waiting();
        if !waiting.closed {
            waiting.lanes[lane as usize].push_back(job);
            self.changed.notify_one();
        }
    }

    /// The next job to give one text to; waits for it. `None` when the queue is closed.
    fn next(&self) -> Option<(Lane, Job)> {
        let mut waiting = self.waiting();
        loop {
            if waiting.closed {
                return None;
            }
            for lane in [Lane::Queries, Lane::Passages] {
                if let Some(job) = waiting.lanes[lane as usize].pop_front() {
                    return Some((lane, job));
                }
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops what waits and lets nobody in any more.
    pub(super) fn close(&self) {
        for permits in &self.permits {
            permits.close();
        }
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.lanes = Default::default();
        self.changed.notify_all();
    }
}

/// The model with its queue, on the thread that works it off. Closes the queue when it ends, however it ends, so that nobody
/// waits for it.
pub(super) struct Served {
    queue: Arc<Queue>,
    model: Model,
}

impl Served {
    /// Works until the queue is closed.
    pub(super) fn run(&mut self) {
        while let Some((lane, mut job)) = self.queue.next() {
            // The caller has gone: so has the reason to work.
            if job.reply.is_closed() {
                continue;
            }
            match job.texts.next().map(|text| self.model.embed(&text)) {
                Some(Ok(vector)) => job.vectors.push(vector),
                Some(Err(message)) => {
                    let _ = job.reply.send(Err(message));
                    continue;
                }
                None => {}
            }
            if job.texts.len() == 0 {
                let _ = job.reply.send(Ok(job.vectors));
            } else {
                // Behind the others of its lane, so that each gets its turn.
                self.queue.push(lane, job);
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The model and what it promised to give.
struct Model {
    model: TextEmbedding,
    manifest: ModelManifest,
}

impl Model {
    /// The vector of one text, checked.
    fn embed(&mut self, text: &str) -> Result<Vec<f32>, String> {
        let vectors = self.model.embed([text], Some(1)).map_err(|error| error.to_string())?;
        let vector = vectors.into_iter().next().ok_or("it gave no vector")?;
        if vector.len() != self.manifest.dimensions {
            let wanted = self.manifest.dimensions;
            return Err(format!("its vectors have {} dimensions, its manifest says {wanted}", vector.len()));
        }
        // Covers values that are not finite: the sum is not finite then either.
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        if (length - 1.0).abs() <= LENGTH_TOLERANCE {
            Ok(vector)
        } else {
            Err(format!("a vector has the length {length}"))
        }
    }
}

#[cfg(test)]
mod tests;
