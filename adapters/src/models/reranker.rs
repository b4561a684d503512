//! The cross-encoder at work: a thread that has loaded it scores one pair of question and passage at a time.
//!
//! One pair is one run, for the reasons that `embedder` has: nothing is padded, a score depends on its pair alone whatever
//! the quantization, and on a CPU a batch is no faster. The pairs are worked off from the shortest to the longest, so that
//! the runtime's buffers grow once.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use fastembed::{RerankInitOptionsUserDefined, TextRerank, TokenizerFiles, UserDefinedRerankingModel};
use lmao_ports::{EmbedError, MAX_RERANKED, Reranker};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    embedder::{BYTES_PER_TOKEN, cut},
    obtain::Files,
    queue::{Closing, Lane, Queue, Turn},
    slot::{Kind, Runs, Work},
};
use crate::metrics;

/// Rerankers in a slot.
pub(super) struct Scoring;

impl Kind for Scoring {
    type Handle = Arc<dyn Reranker>;
    type Job = Job;

    fn start(files: Files, runs: Runs, queue: Arc<Queue<Job>>) -> Result<(Self::Handle, Box<dyn Work>), String> {
        let manifest = files.manifest;
        let tokenizer_files = TokenizerFiles {
            tokenizer_file: files.tokenizer,
            config_file: b"{}".to_vec(),
            special_tokens_map_file: b"{}".to_vec(),
            // Nothing is ever padded; the token is only asked for.
            tokenizer_config_file: format!(r#"{{"model_max_length": {}, "pad_token": "[PAD]"}}"#, manifest.max_tokens)
                .into_bytes(),
        };
        let options = RerankInitOptionsUserDefined::new()
            .with_environment(runs.environment)
            .with_max_length(manifest.max_tokens)
            .with_intra_threads(runs.threads)
            .with_session_config("session.intra_op.allow_spinning", "0");
        let model = UserDefinedRerankingModel::new(files.onnx, tokenizer_files);
        let model = TextRerank::try_new_from_user_defined(model, options)
            .map_err(|error| format!("it does not load ({error})"))?;
        let mut served = Served { queue: Closing(Arc::clone(&queue)), model, turn: runs.turn };
        served.score("a trial run", "a passage").map_err(|error| format!("a trial run failed: {error}"))?;
        let reranker = CrossEncoder { id: manifest.id, limit: manifest.max_tokens * BYTES_PER_TOKEN, queue };
        Ok((Arc::new(reranker), Box::new(served)))
    }
}

/// The way to a cross-encoder on another thread.
struct CrossEncoder {
    id: String,
    /// Bytes of a text that are worth tokenizing.
    limit: usize,
    queue: Arc<Queue<Job>>,
}

impl fmt::Debug for CrossEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrossEncoder").field("id", &self.id).finish_non_exhaustive()
    }
}

impl CrossEncoder {
    fn error(&self, message: impl Into<String>) -> EmbedError {
        EmbedError::Model { model: self.id.clone(), message: message.into() }
    }
}

#[async_trait]
impl Reranker for CrossEncoder {
    fn id(&self) -> &str {
        &self.id
    }

    async fn score(&self, query: &str, passages: Vec<String>) -> Result<Vec<f32>, EmbedError> {
        if passages.len() > MAX_RERANKED {
            return Err(self.error(format!("{} passages are too many, {MAX_RERANKED} are taken", passages.len())));
        }
        if passages.is_empty() {
            return Ok(vec![]);
        }
        let ended = || self.error("it has ended");
        let permit = self.queue.room(Lane::Queries).await.map_err(|_| ended())?;
        let (reply, answer) = oneshot::channel();
        let scores = vec![0.0; passages.len()];
        let mut left: Vec<_> = passages.into_iter().map(|passage| cut(passage, self.limit)).enumerate().collect();
        left.sort_by_key(|(at, passage)| std::cmp::Reverse((passage.len(), *at)));
        let query = cut(query.to_owned(), self.limit);
        self.queue.push(Lane::Queries, Job { query, left, scores, reply, _permit: permit });
        let scores = answer.await.map_err(|_| ended())?.map_err(|message| self.error(message))?;
        metrics::reranked(scores.len());
        Ok(scores)
    }
}

/// A call, as far as it has got.
pub(super) struct Job {
    query: String,
    /// Passages without a score and their places, the next one last.
    left: Vec<(usize, String)>,
    scores: Vec<f32>,
    reply: oneshot::Sender<Result<Vec<f32>, String>>,
    _permit: OwnedSemaphorePermit,
}

/// The model with its queue, on the thread that works it off.
struct Served {
    queue: Closing<Job>,
    model: TextRerank,
    turn: Arc<Turn>,
}

impl Work for Served {
    fn run(&mut self) {
        while let Some((lane, mut job)) = self.queue.0.next() {
            // The caller has gone: so has the reason to work.
            if job.reply.is_closed() {
                continue;
            }
            if let Some((at, passage)) = job.left.pop() {
                match self.score(&job.query, &passage) {
                    Ok(score) => job.scores[at] = score,
                    Err(message) => {
                        let _ = job.reply.send(Err(message));
                        continue;
                    }
                }
            }
            if job.left.is_empty() {
                let _ = job.reply.send(Ok(job.scores));
            } else {
                // Behind the others, so that each gets its turn.
                self.queue.0.push(lane, job);
            }
        }
    }
}

impl Served {
    /// The logistic of the model's one output.
    fn score(&mut self, query: &str, passage: &str) -> Result<f32, String> {
        let _turn = self.turn.take();
        let found = self.model.rerank(query, [passage], false, Some(1)).map_err(|error| error.to_string())?;
        let logit = found.first().map(|result| result.score).ok_or("it gave no score")?;
        if logit.is_finite() { Ok(1.0 / (1.0 + (-logit).exp())) } else { Err(format!("a score is {logit}")) }
    }
}

#[cfg(test)]
mod tests;
