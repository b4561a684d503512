//! What a search says of itself: notices for the reader, and what each stage did and cost.

use std::time::Instant;

use lmao_ports::{Explain, QueryExplained, SearchResults, StageCost};

/// What is being told.
#[derive(Debug)]
pub(super) struct Report {
    explain: Explain,
    pub(super) notices: Vec<String>,
    pub(super) explained: QueryExplained,
    /// Whether something is missing that may be there the next time.
    pub(super) partial: bool,
    /// Passages that were reranked.
    pub(super) reranked: usize,
    laps: Laps,
}

impl Report {
    pub(super) fn new(explain: Explain) -> Self {
        let explained = QueryExplained::default();
        Self { explain, notices: vec![], explained, partial: false, reranked: 0, laps: Laps::new() }
    }

    /// A stage ended with so many passages.
    pub(super) fn stage(&mut self, stage: &str, passages: usize) {
        self.laps.end(stage, passages);
    }

    /// Takes over what was measured elsewhere since the last stage.
    pub(super) fn stages(&mut self, costs: Vec<StageCost>) {
        self.laps = Laps { costs: std::mem::take(&mut self.laps.costs), ..Laps::new() };
        self.laps.costs.extend(costs);
    }

    /// Something did not take part: the reader is told if it matters to the results, else only who asks for an explanation.
    pub(super) fn left_out(&mut self, why: String, told: Told) {
        if told == Told::Always || self.explain == Explain::Yes {
            self.notices.push(why.clone());
        }
        self.explained.left_out.push(why);
    }

    /// The end: results without a hit yet.
    pub(super) fn finish(mut self) -> SearchResults {
        self.explained.stages = self.laps.costs;
        let explained = (self.explain == Explain::Yes).then_some(self.explained);
        let Self { notices, partial, reranked, .. } = self;
        SearchResults { explained, notices, partial, reranked, ..SearchResults::default() }
    }
}

/// Who is told that something was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Every reader.
    Always,
    /// Who asks for an explanation.
    Asked,
}

/// Stages that follow each other, each with its wall time.
#[derive(Debug)]
pub(super) struct Laps {
    since: Instant,
    pub(super) costs: Vec<StageCost>,
}

impl Laps {
    /// The first stage begins now.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), costs: vec![] }
    }

    /// One ends, the next begins.
    pub(super) fn end(&mut self, stage: &str, passages: usize) {
        let now = Instant::now();
        let seconds = now.duration_since(self.since).as_secs_f64();
        self.costs.push(StageCost { stage: stage.to_owned(), seconds, passages });
        self.since = now;
    }
}
