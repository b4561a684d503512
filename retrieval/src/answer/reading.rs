//! Reading on in documents that a search found: the other passages of a section, the beginnings of a document's parts. What
//! cannot be read is left out: an answer from less is better than none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lmao_ports::{Hit, SearchIndex};
use uuid::Uuid;

use super::Question;
use crate::search::terms::terms;

/// Passages that are asked for at once, and at most to learn a document's parts.
const PAGE: u32 = 256;
const MAX_PASSAGES: u32 = 1024;

/// Beginnings of parts in a summary.
const MAX_PARTS: usize = 20;

/// The index that documents are read in; without one, nothing more is read than was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading(Option<Arc<dyn SearchIndex>>);

impl Reading {
    /// In this index.
    pub(super) fn of(index: Arc<dyn SearchIndex>) -> Self {
        Self(Some(index))
    }

    /// These passages, by document and ordinal, as far as they can be had. Their documents have to be the reader's.
    pub(super) async fn passages(&self, wanted: &[(Uuid, u32)]) -> Vec<Hit> {
        let Some(index) = self.0.as_ref().filter(|_| !wanted.is_empty()) else { return vec![] };
        match index.chunks(wanted).await {
            // They were not searched for: what one scores is not known, and counts as nothing.
            Ok(found) => found.into_iter().map(|found| Hit { score: 0.0, ..Hit::from(found) }).collect(),
            Err(error) => {
                tracing::warn!(%error, "passages beside those found could not be read");
                vec![]
            }
        }
    }

    /// The beginning of each part of the document that a question names, in order; empty where it names none of those
    /// found. Where there are many parts, the outermost.
    pub(super) async fn beginnings(&self, question: &Question) -> Vec<Hit> {
        let Some(document) = named(question.sought(), &question.hits) else { return vec![] };
        let mut passages = vec![];
        for from in (0..MAX_PASSAGES).step_by(PAGE as usize) {
            let wanted: Vec<(Uuid, u32)> = (from..from + PAGE).map(|ordinal| (document, ordinal)).collect();
            let found = self.passages(&wanted).await;
            let more = found.len() == wanted.len();
            passages.extend(found);
            if !more {
                break;
            }
        }
        beginnings(passages)
    }
}

/// The document, of those found, whose file name or title a question has: as it stands, or all the words of it. Where there is only
/// one document, it is that one.
fn named(query: &str, hits: &[Hit]) -> Option<Uuid> {
    let documents: BTreeMap<Uuid, &Hit> = hits.iter().map(|hit| (hit.document_id, hit)).collect();
    if let (1, Some(document)) = (documents.len(), documents.keys().next()) {
        return Some(*document);
    }
    let (lower, asked) = (query.to_lowercase(), terms(query));
    let has = |name: &str, words: &str| {
        let words = terms(words);
        lower.contains(&name.to_lowercase()) || !words.is_empty() && words.is_subset(&asked)
    };
    // How long the name is that the question has.
    let length = |hit: &Hit| {
        let stem = hit.filename.rsplit_once('.').map_or(&*hit.filename, |(stem, _)| stem);
        let file = has(&hit.filename, stem).then_some(hit.filename.len());
        let title = hit.title.as_deref().filter(|title| !title.is_empty() && has(title, title)).map(str::len);
        file.max(title)
    };
    documents
        .into_values()
        .filter_map(|hit| Some((length(hit)?, hit)))
        .max_by_key(|(length, _)| *length)
        .map(|(_, hit)| hit.document_id)
}

/// The first passage of each section that is more than its heading; of a document without sections passages at even distances.
fn beginnings(mut passages: Vec<Hit>) -> Vec<Hit> {
    passages.sort_by_key(|hit| hit.ordinal);
    passages.retain(|hit| hit.chunk_type != "heading");
    let mut known = BTreeSet::new();
    let mut parts: Vec<Hit> = passages.iter().filter(|hit| known.insert(hit.section.clone())).cloned().collect();
    if parts.len() < 2 {
        let step = passages.len().div_ceil(MAX_PARTS / 2).max(1);
        return passages.into_iter().step_by(step).collect();
    }
    let depth = |hit: &Hit| hit.section.as_deref().map_or(0, |section| section.split(" > ").count());
    parts.sort_by_key(depth);
    parts.truncate(MAX_PARTS);
    parts.sort_by_key(|hit| hit.ordinal);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::fakes::{MemoryIndex, hit};

    fn question(query: &str, hits: Vec<Hit>) -> Question {
        Question { query: query.to_owned(), hits, ..Question::default() }
    }

    #[tokio::test]
    async fn a_named_document_is_read_by_its_parts() {
        let mut index = MemoryIndex::default();
        let places = ["", "A", "A > X", "A > X", "B"];
        index.hits = (0..).zip(places).map(|(n, section)| hit(1, n, section, "prose", &format!("part {n}"))).collect();
        index.hits[1].chunk_type = "heading".to_owned();
        let reading = Reading::of(Arc::new(index));
        let mut found = vec![hit(2, 0, "", "prose", "other"), hit(1, 3, "A > X", "prose", "part 3")];
        found[1].filename = "House Rules.pdf".to_owned();
        for query in ["Summarize house rules.pdf", "what do the house rules say?"] {
            let parts = reading.beginnings(&question(query, found.clone())).await;
            assert_eq!(parts.iter().map(|hit| hit.ordinal).collect::<Vec<_>>(), [0, 2, 4], "{query}");
        }
        assert!(reading.beginnings(&question("Summarize everything", found.clone())).await.is_empty());
        found[1].filename = "scan-7.pdf".to_owned();
        found[1].title = Some("House Rules".to_owned());
        assert_eq!(reading.beginnings(&question("Summarize the house rules", found.clone())).await.len(), 3);
        assert_eq!(reading.beginnings(&question("Summarize it", found[1..].to_vec())).await.len(), 3);
        assert!(Reading::default().beginnings(&question("house rules", found)).await.is_empty());
    }

    #[tokio::test]
    async fn an_index_that_is_away_gives_nothing_more() {
        let index = MemoryIndex { broken: true, ..MemoryIndex::of(&["a"]) };
        assert!(Reading::of(Arc::new(index)).passages(&[(Uuid::from_u128(1), 0)]).await.is_empty());
    }

    #[test]
    fn a_document_without_sections_is_read_at_even_distances() {
        let passages = (0..100).map(|n| hit(1, n, "", "prose", "text")).collect();
        let parts = beginnings(passages);
        assert_eq!(
            parts.iter().map(|hit| hit.ordinal).collect::<Vec<_>>(),
            (0..10).map(|n| n * 10).collect::<Vec<_>>()
        );
    }
}
