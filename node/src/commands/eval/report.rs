//! What was measured: a table for people, JSON for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    collection::Collection,
    metrics::{Quality, mean, quantile},
};
use crate::output::{Output, Table, note, plain};

/// What one query came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    pub is_even: bool,
    pub quality: Quality,
    pub milliseconds: f64,
}

/// What one way of searching came to.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub name: String,
    /// Over all queries.
    pub all: Quality,
    /// Over those of even numbers, by which parameters may be chosen.
    pub even: Quality,
    /// Over those of odd numbers, which nobody looked at.
    pub odd: Quality,
    /// Wall time of a query, in milliseconds.
    pub p50_ms: f64,
    pub p95_ms: f64,
    /// CPU time of a query on average, in milliseconds, of all threads.
    pub cpu_ms: Option<f64>,
    /// Documents of the collection that were found, over all queries.
    pub found: usize,
}

impl Row {
    pub(super) fn new(name: String, judged: &[Judged], cpu_ms: Option<f64>, found: usize) -> Self {
        let of = |wanted: &dyn Fn(&Judged) -> bool| {
            let some: Vec<Quality> = judged.iter().filter(|one| wanted(one)).map(|one| one.quality).collect();
            mean(&some)
        };
        let times: Vec<f64> = judged.iter().map(|one| one.milliseconds).collect();
        Self {
            name,
            all: of(&|_| true),
            even: of(&|one| one.is_even),
            odd: of(&|one| !one.is_even),
            p50_ms: quantile(&times, 0.5),
            p95_ms: quantile(&times, 0.95),
            cpu_ms,
            found,
        }
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub collection: String,
    pub documents: usize,
    /// Passages of our own index.
    pub passages: Option<u64>,
    pub queries: usize,
    /// Queries for which nothing is relevant: not asked.
    pub unjudged: usize,
    /// By space.
    pub models: BTreeMap<String, String>,
    pub indexing_seconds: Option<f64>,
    pub rows: Vec<Row>,
}

impl Report {
    /// Of this collection, without figures.
    pub(super) fn of(collection: &Collection) -> Self {
        Self {
            collection: collection.name.clone(),
            documents: collection.documents.len(),
            passages: None,
            queries: collection.queries.len(),
            unjudged: collection.unjudged,
            models: BTreeMap::new(),
            indexing_seconds: None,
            rows: vec![],
        }
    }

    /// Prints a row for each way of searching.
    pub(super) fn print(&self, out: Output) -> anyhow::Result<()> {
        let Self { collection, documents, passages, queries, indexing_seconds, models, .. } = self;
        let models: Vec<String> = models.iter().map(|(space, id)| format!("{space} {id}")).collect();
        let of_its_own = passages.zip(*indexing_seconds).map(|(passages, seconds)| {
            let models = if models.is_empty() { "no model".to_owned() } else { models.join(", ") };
            format!(" in {passages} passages, indexed in {seconds:.1} s; {}", plain(&models))
        });
        let of_its_own = of_its_own.unwrap_or_default();
        out.line(format!("{}: {documents} documents{of_its_own}; {queries} queries", plain(collection)))?;
        if self.unjudged > 0 {
            note(format_args!("note: {} queries have no relevant document and were not asked", self.unjudged));
        }
        out.table(&self.table())?;
        Ok(out.line(
            "nDCG with linear gains; MAP and MRR over the first 100 passages; a document ranks by its best passage",
        )?)
    }

    fn table(&self) -> Table {
        let mut table = Table::new([
            "SEARCH", "NDCG@10", "EVEN", "ODD", "MAP", "MRR", "R@10", "R@100", "P50 MS", "P95 MS", "CPU MS",
        ]);
        for row in &self.rows {
            let share = |value: f64| format!("{value:.4}");
            table.row([
                row.name.clone(),
                share(row.all.ndcg_at_10),
                share(row.even.ndcg_at_10),
                share(row.odd.ndcg_at_10),
                share(row.all.map),
                share(row.all.mrr),
                share(row.all.recall_at_10),
                share(row.all.recall_at_100),
                format!("{:.1}", row.p50_ms),
                format!("{:.1}", row.p95_ms),
                row.cpu_ms.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.1}")),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_are_told_apart() {
        let judged = |is_even, ndcg_at_10, milliseconds| Judged {
            is_even,
            quality: Quality { ndcg_at_10, ..Quality::default() },
            milliseconds,
        };
        let row = Row::new(
            "x".to_owned(),
            &[judged(true, 1.0, 2.0), judged(false, 0.5, 4.0), judged(true, 0.0, 9.0)],
            None,
            3,
        );
        assert_eq!((row.all.ndcg_at_10, row.even.ndcg_at_10, row.odd.ndcg_at_10), (0.5, 0.5, 0.5));
        assert_eq!((row.p50_ms, row.p95_ms), (4.0, 9.0));
    }
}
