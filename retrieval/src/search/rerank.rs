//! Reranking: a cross-encoder reads question and passage together (Nogueira & Cho, Passage Re-ranking with BERT, 2019), which
//! tells more than two vectors and costs a model's run for each pair. So only the best are read, best first, as far as the
//! time allows; what was not read keeps its order behind them. The pages of one search are cut from the same order only if as
//! many are read for each: the first one decides how many.

use std::{sync::Arc, time::Duration};

use lmao_ports::{EmbedError, Reranker, Span};
use tokio::time::{Instant, timeout_at};

use super::candidates::Candidate;

/// Passages that are read at most.
const READ: usize = 50;
/// Passages that are read at once: what is lost when the time is up.
const BATCH: usize = 10;
/// How long it may take.
const BUDGET: Duration = Duration::from_millis(1500);
/// How long it may take to read again what was read for the first page: the machine may be busier now.
const AGAIN: Duration = Duration::from_secs(5);

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// What time allows.
    Timed,
    /// As much as for the page before.
    Again(usize),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// So many were read.
    Read(usize),
    /// So many were read when the time was up or the model failed: what the reader should know.
    CutOff(usize, String),
}

/// Puts the best results in the cross-encoder's order.
pub(super) async fn rerank(
    query: &str,
    results: &mut [Candidate],
    reranker: &Arc<dyn Reranker>,
    extent: Extent,
) -> Outcome {
    let span = Span::here(|| format!("rerank {}", reranker.id()).into());
    let (budget, most) = match extent {
        Extent::Timed => (BUDGET, READ),
        Extent::Again(read) => (AGAIN, read.min(READ)),
    };
    let deadline = Instant::now() + budget;
    let wanted = results.len().min(most);
    let mut scores: Vec<f32> = Vec::with_capacity(wanted);
    let mut cut = None;
    for batch in results[..wanted].chunks(BATCH) {
        let passages: Vec<String> = batch.iter().map(text).collect();
        match timeout_at(deadline, span.run(reranker.score(query, passages))).await {
            Ok(Ok(batch_scores)) if batch_scores.len() == batch.len() => scores.extend(batch_scores),
            Ok(Ok(batch_scores)) => {
                cut = Some(format!("it gave {} scores for {} passages", batch_scores.len(), batch.len()));
            }
            Ok(Err(EmbedError::Model { message, .. })) => cut = Some(message),
            Err(_) => cut = Some(format!("its {} ms were up", budget.as_millis())),
        }
        if cut.is_some() {
            break;
        }
    }
    let read = scores.len();
    apply(results, &scores);
    match cut {
        None => Outcome::Read(read),
        Some(why) => {
            let read_of =
                if read == 0 { "no result was".to_owned() } else { format!("only the first {read} results were") };
            let repeats = match extent {
                Extent::Timed => "",
                Extent::Again(_) => "; this page may repeat or miss results of the one before",
            };
            Outcome::CutOff(read, format!("{read_of} reranked: {why}{repeats}"))
        }
    }
}

/// What the model reads of a passage: its headings say what it is about.
fn text(candidate: &Candidate) -> String {
    let chunk = &candidate.hit.chunk;
    chunk.section.as_ref().map_or_else(|| chunk.content.clone(), |section| format!("{section}\n{}", chunk.content))
}

/// Sorts the first results by their new scores. Those behind are scaled to stay behind: scores fall from first to last.
fn apply(results: &mut [Candidate], scores: &[f32]) {
    let (read, rest) = results.split_at_mut(scores.len());
    for (candidate, score) in read.iter_mut().zip(scores) {
        candidate.score = if score.is_finite() { score.clamp(0.0, 1.0) } else { 0.0 };
    }
    // Stable: equal ones keep their order.
    read.sort_by(|a, b| b.score.total_cmp(&a.score));
    for (place, candidate) in read.iter_mut().enumerate() {
        let score = candidate.score;
        candidate.placed("reranked", place, score);
    }
    if let Some(last) = read.last() {
        rest.iter_mut().for_each(|candidate| candidate.score *= last.score);
    }
}
