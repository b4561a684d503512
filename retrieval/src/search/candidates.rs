//! Candidates: what the legs found, each passage once, with all that is known of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use blake3::Hash;
use lmao_ports::{IndexError, LegHit, SearchIndex, Space, StageRank};
use uuid::Uuid;

use super::{
    fuse::{Meaning, Words},
    legs::{FUSED, Found, content_hash},
    neighbours::{Likeness, dot, unit},
    terms::{Rarity, terms},
};

/// Vectors that are asked for at once.
const MAX_VECTORS: usize = 256;

/// A passage that a leg found.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) hit: LegHit,
    pub(super) text: Hash,
    /// BM25, if the keyword leg found it.
    bm25: Option<f32>,
    /// Cosine similarity in each space whose leg found it.
    cosines: BTreeMap<Space, f32>,
    /// Its vectors, of length 1, in the spaces that were asked.
    pub(super) vectors: BTreeMap<Space, Arc<[f32]>>,
    /// Its places in the rankings.
    pub(super) stages: Vec<StageRank>,
    /// The score of the last ranking, in [0, 1].
    pub(super) score: f32,
}

impl Candidate {
    fn new(hit: LegHit) -> Self {
        let text = content_hash(&hit.chunk.content);
        let (cosines, vectors) = (BTreeMap::new(), BTreeMap::new());
        Self { hit, text, bm25: None, cosines, vectors, stages: vec![], score: 0.0 }
    }

    /// Its id.
    pub(super) fn id(&self) -> Uuid {
        self.hit.chunk.chunk_id
    }

    /// Cosine similarity to a question's vector: by its own vector, else as the leg said.
    pub(super) fn cosine(&self, space: Space, question: &[f32]) -> Option<f32> {
        let own = self.vectors.get(&space).filter(|vector| vector.len() == question.len());
        own.map(|vector| dot(vector, question)).or_else(|| self.cosines.get(&space).copied())
    }

    /// The terms of its text and its headings.
    pub(super) fn terms(&self) -> BTreeSet<String> {
        let chunk = &self.hit.chunk;
        let mut found = terms(&chunk.content);
        found.extend(chunk.section.as_deref().map(terms).unwrap_or_default());
        found
    }

    /// Says that it has this place in a ranking.
    pub(super) fn placed(&mut self, stage: impl Into<String>, index: usize, score: f32) {
        self.stages.push(StageRank { stage: stage.into(), rank: index + 1, score });
    }

    /// Takes the better of both where the same passage was found again.
    fn merge(&mut self, other: Self) {
        self.bm25 = match (self.bm25, other.bm25) {
            (Some(mine), Some(theirs)) => Some(mine.max(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        for (space, cosine) in other.cosines {
            let mine = self.cosines.entry(space).or_insert(cosine);
            *mine = mine.max(cosine);
        }
        for place in other.stages {
            if !self.stages.iter().any(|known| known.stage == place.stage) {
                self.stages.push(place);
            }
        }
        // Of passages with the same text it is always the same one that is shown.
        if other.hit.chunk.chunk_id < self.hit.chunk.chunk_id {
            self.hit = other.hit;
        }
    }
}

/// The candidates of one question, and what comes behind them.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// The best of each leg, in the order of their ids.
    pub(super) candidates: Vec<Candidate>,
    /// The last BM25 score that was let in, or 0 if there were no more.
    beyond: f32,
    /// What the legs found behind that, by their best rank in any leg.
    pub(super) tail: Vec<Candidate>,
}

impl Pool {
    /// Of what the legs found. Passages with the same text (one file under two names, a page header) are one.
    pub(super) fn of(found: &Found) -> Self {
        let mut by_text: HashMap<Hash, Candidate> = HashMap::new();
        for (name, hits) in found.rankings() {
            for (rank, hit) in hits.iter().take(FUSED).enumerate() {
                let candidate = in_leg(name, rank, hit);
                match by_text.get_mut(&candidate.text) {
                    Some(known) => known.merge(candidate),
                    None => {
                        by_text.insert(candidate.text, candidate);
                    }
                }
            }
        }
        let tail = tail(found, &by_text);
        let mut candidates: Vec<Candidate> = by_text.into_values().collect();
        candidates.sort_by_key(Candidate::id);
        let last = found.keyword.as_ref().and_then(|ranking| ranking.hits.get(FUSED - 1));
        Self { candidates, beyond: last.map_or(0.0, |hit| hit.score), tail }
    }

    /// Fetches the candidates' vectors in these spaces.
    ///
    /// # Errors
    /// When the index does not answer; what was fetched stays.
    pub(super) async fn fetch(&mut self, index: &dyn SearchIndex, spaces: &[Space]) -> Result<(), IndexError> {
        for space in spaces {
            for part in self.candidates.chunks_mut(MAX_VECTORS) {
                let wanted: Vec<_> = part.iter().map(|one| (one.hit.document_id, one.hit.chunk.ordinal)).collect();
                let vectors = index.vectors(*space, &wanted).await?;
                for (candidate, vector) in part.iter_mut().zip(vectors) {
                    if let Some(vector) = vector.and_then(unit) {
                        candidate.vectors.insert(*space, vector.into());
                    }
                }
            }
        }
        Ok(())
    }

    /// How rare each word of a question is among the candidates.
    pub(super) fn rarity(&self, question: &str) -> Rarity {
        Rarity::among(question, self.candidates.iter().map(|candidate| candidate.hit.chunk.content.as_str()))
    }

    /// Mixes into each score, to this share, how much of a question's words the passage has, the rare ones counting more.
    /// Squared: a passage with half of the words is far from half as good as one with all.
    pub(super) fn believe_words(&mut self, rarity: &Rarity, share: f32) {
        for candidate in &mut self.candidates {
            let had = rarity.share(&candidate.terms());
            candidate.score = (1.0 - share) * candidate.score + share * had * had;
        }
    }

    /// What the keyword leg knows of them.
    pub(super) fn words(&self) -> Words {
        let scores = self.candidates.iter().map(|candidate| candidate.bm25.unwrap_or(0.0)).collect();
        Words { scores, beyond: self.beyond }
    }

    /// What a space knows of them, for a question's vector there.
    pub(super) fn meaning(&self, space: Space, question: &[f32], weight: f32) -> Meaning {
        let vectors: Vec<Option<&[f32]>> =
            self.candidates.iter().map(|candidate| candidate.vectors.get(&space).map(AsRef::as_ref)).collect();
        Meaning {
            cosines: self.candidates.iter().map(|candidate| candidate.cosine(space, question)).collect(),
            returned: self.candidates.iter().map(|candidate| candidate.cosines.contains_key(&space)).collect(),
            likeness: Likeness::of(&vectors),
            weight,
        }
    }
}

fn in_leg(name: &'static str, rank: usize, hit: &LegHit) -> Candidate {
    let mut candidate = Candidate::new(hit.clone());
    match Space::ALL.into_iter().find(|space| space.name() == name) {
        Some(space) => {
            candidate.cosines.insert(space, hit.score);
        }
        None => candidate.bm25 = Some(hit.score),
    }
    candidate.placed(name, rank, hit.score);
    candidate
}

/// What stands behind the fused part of each leg, round by round: the next of each. Asking deeper only adds to its end.
fn tail(found: &Found, fused: &HashMap<Hash, Candidate>) -> Vec<Candidate> {
    let mut seen: HashSet<Hash> = fused.keys().copied().collect();
    let depth = found.rankings().map(|(_, hits)| hits.len()).max().unwrap_or(0);
    let mut tail = Vec::new();
    for rank in FUSED..depth {
        for (name, hits) in found.rankings() {
            let candidate = hits.get(rank).map(|hit| in_leg(name, rank, hit));
            tail.extend(candidate.filter(|candidate| seen.insert(candidate.text)));
        }
    }
    tail
}
