//! An embedding model at work: the one thread that has loaded it runs it, fed by a queue in which queries go before passages,
//! and calls for passages take turns, text by text: a few sentences do not wait for a document.
//!
//! One text is one run. Dynamic quantization takes its scale from the whole input tensor, so in a batch a vector would depend
//! on its neighbours (measured: cosine 0.994 to the text alone) and could not be cached by content; and on a CPU a batch is no
//! faster (measured, 250-token passages: 17.7 a CPU-second alone, 13.6 in batches of 4096 tokens). So nothing is padded either, and a query
//! waits for at most one passage.

use std::{fmt, sync::Arc, vec};

use async_trait::async_trait;
use fastembed::{InitOptionsUserDefined, QuantizationMode, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel};
use lmao_ports::{EmbedError, Embedder, ModelManifest, Pooling, TokenSpan};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    obtain::Files,
    queue::{Closing, Lane, Queue, Turn},
    slot::{Kind, Runs, Work},
    tokens::TokenCounter,
};
use crate::metrics::{Embedded, embedded};

/// A token stands for at most this many bytes of text that are worth tokenizing: longer texts are cut there before the model
/// cuts them by tokens.
pub(super) const BYTES_PER_TOKEN: usize = 128;

/// How far from 1 the length of a normalised vector may be.
const LENGTH_TOLERANCE: f32 = 1e-3;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
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

/// Embedding models in a slot.
pub(super) struct Embedding;

impl Kind for Embedding {
    type Handle = Arc<dyn Embedder>;
    type Job = Job;

    fn start(files: Files, runs: Runs, queue: Arc<Queue<Job>>) -> Result<(Self::Handle, Box<dyn Work>), String> {
        let (embedder, served) = OnnxEmbedder::load(files, runs, queue).map_err(|error| error.to_string())?;
        Ok((Arc::new(embedder), Box::new(served)))
    }
}

/// The way to an ONNX model on another thread, which is [`Served`] there.
struct OnnxEmbedder {
    manifest: ModelManifest,
    counter: TokenCounter,
    queue: Arc<Queue<Job>>,
}

impl fmt::Debug for OnnxEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxEmbedder").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl OnnxEmbedder {
    /// Loads the model from its files' bytes and tries it. Blocks.
    fn load(files: Files, runs: Runs, queue: Arc<Queue<Job>>) -> Result<(Self, Served), LoadError> {
        let Files { onnx, tokenizer: tokenizer_file, manifest, .. } = files;
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
        let model = UserDefinedEmbeddingModel::new(onnx, tokenizer_files)
            .with_pooling(pooling)
            .with_quantization(QuantizationMode::None);
        let options = InitOptionsUserDefined::new()
            .with_environment(runs.environment)
            .with_max_length(manifest.max_tokens)
            .with_intra_threads(runs.threads)
            // Threads that spin while they wait would take the cores from the server.
            .with_session_config("session.intra_op.allow_spinning", "0");
        let model = TextEmbedding::try_new_from_user_defined(model, options)
            .map_err(|error| LoadError::Model(error.to_string()))?;
        let counter =
            TokenCounter::new(model.tokenizer.clone()).map_err(|error| LoadError::Tokenizer(error.to_string()))?;
        let mut model = Model { model, manifest: manifest.clone() };
        model.embed("a trial run").map_err(LoadError::Trial)?;
        let served = Served { queue: Closing(Arc::clone(&queue)), model, turn: runs.turn };
        Ok((Self { manifest, counter, queue }, served))
    }

    async fn embed(&self, lane: Lane, prefix: &str, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        if texts.is_empty() {
            return Ok(vec![]);
        }
        let ended = || self.error("it has ended");
        let permit = self.queue.room(lane).await.map_err(|_| ended())?;
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
fn prepared(prefix: &str, text: String, limit: usize) -> String {
    let mut text = cut(text, limit);
    if !prefix.is_empty() {
        text.insert_str(0, prefix);
    }
    text
}

/// At most so many bytes of a text.
pub(super) fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// A call, as far as it has got.
pub(super) struct Job {
    texts: vec::IntoIter<String>,
    vectors: Vec<Vec<f32>>,
    reply: oneshot::Sender<Result<Vec<Vec<f32>>, String>>,
    _permit: OwnedSemaphorePermit,
}

/// The model with its queue, on the thread that works it off.
struct Served {
    queue: Closing<Job>,
    model: Model,
    turn: Arc<Turn>,
}

impl Work for Served {
    fn run(&mut self) {
        while let Some((lane, mut job)) = self.queue.0.next() {
            // The caller has gone: so has the reason to work.
            if job.reply.is_closed() {
                continue;
            }
            if let Some(text) = job.texts.next() {
                let turn = self.turn.take();
                let made = self.model.embed(&text);
                drop(turn);
                match made {
                    Ok(vector) => job.vectors.push(vector),
                    Err(message) => {
                        let _ = job.reply.send(Err(message));
                        continue;
                    }
                }
            }
            if job.texts.len() == 0 {
                let _ = job.reply.send(Ok(job.vectors));
            } else {
                // Behind the others of its lane, so that each gets its turn.
                self.queue.0.push(lane, job);
            }
        }
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
