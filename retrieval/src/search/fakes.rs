//! Small real things for this crate's tests: an index in memory and a model of hashed words. Nothing is scripted: both
//! compute what they answer.

use std::sync::Arc;

use async_trait::async_trait;
use lmao_events::Position;
use lmao_ports::{
    ChunkRecord, Digest, EmbedError, Embedder, Hit, IndexError, IndexedDocument, KeywordQuery, LegHit, ModelManifest,
    Pooling, SearchFilter, SearchIndex, SemanticState, Semantics, Space, TokenSpan,
};
use uuid::Uuid;

use super::terms::{coverage, terms};

/// A passage of document `document`.
pub(crate) fn hit(document: u128, ordinal: u32, section: &str, chunk_type: &str, content: &str) -> Hit {
    let start = u64::from(ordinal) * 1000;
    Hit {
        chunk_id: Uuid::from_u128(document << 32 | u128::from(ordinal)),
        ordinal,
        content: content.to_owned(),
        score: 1.0 / (ordinal + 1) as f32,
        similarity: None,
        document_id: Uuid::from_u128(document),
        filename: format!("file{document}.md"),
        title: None,
        page_number: None,
        page_turns: vec![],
        section: (!section.is_empty()).then(|| section.to_owned()),
        chunk_type: chunk_type.to_owned(),
        relevant: true,
        language: None,
        parent: None,
        start,
        end: start + content.len() as u64,
        explained: None,
    }
}

/// An index of a few passages of one owner: the words' coverage, and exact cosine.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex {
    pub(crate) hits: Vec<Hit>,
    pub(crate) model: Option<ModelManifest>,
    /// The model of code, if that has one of its own; passages of code are then in its space only.
    pub(crate) domain: Option<ModelManifest>,
    /// Whether every leg fails.
    pub(crate) broken: bool,
    /// Whether passages' vectors cannot be read.
    pub(crate) vectors_fail: bool,
}

impl MemoryIndex {
    /// Whether the passage has a vector in this space.
    fn is_in(&self, space: Space, hit: &Hit) -> bool {
        let is_code = self.domain.is_some() && hit.chunk_type == "code";
        is_code == (space == Space::Domain)
    }

    pub(crate) fn of(contents: &[&str]) -> Self {
        let hits = (0..).zip(contents).map(|(n, content)| hit(u128::from(n) + 1, n, "", "prose", content)).collect();
        Self { hits, model: Some(HashedWords::default().0), domain: None, broken: false, vectors_fail: false }
    }

    fn ranked(&self, k: usize, score: impl Fn(&str) -> f32) -> Result<Vec<LegHit>, IndexError> {
        self.ranked_of(|_| true, k, score)
    }

    fn ranked_of(
        &self,
        wanted: impl Fn(&Hit) -> bool,
        k: usize,
        score: impl Fn(&str) -> f32,
    ) -> Result<Vec<LegHit>, IndexError> {
        if self.broken {
            return Err(IndexError::Damaged("a bad page".to_owned()));
        }
        let wanted = self.hits.iter().filter(|hit| wanted(hit));
        let mut found: Vec<LegHit> = wanted.map(|hit| leg_hit(hit, score(&hit.content))).collect();
        found.retain(|hit| hit.score > 0.0);
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.chunk.chunk_id.cmp(&b.chunk.chunk_id)));
        found.truncate(k);
        Ok(found)
    }
}

pub(crate) fn leg_hit(hit: &Hit, score: f32) -> LegHit {
    let chunk = ChunkRecord {
        chunk_id: hit.chunk_id,
        ordinal: hit.ordinal,
        content: hit.content.clone(),
        chunk_type: hit.chunk_type.clone(),
        page_number: hit.page_number,
        section: hit.section.clone(),
        start: hit.start,
        end: hit.end,
        page_turns: hit.page_turns.clone(),
        language: None,
        parent: hit.parent,
    };
    let (filename, title) = (hit.filename.clone(), hit.title.clone());
    LegHit { chunk: Arc::new(chunk), document_id: hit.document_id, filename, title, score }
}

#[async_trait]
impl SearchIndex for MemoryIndex {
    async fn checkpoint(&self) -> Result<Position, IndexError> {
        Ok(Position(0))
    }
    async fn model(&self, space: Space) -> Result<Option<ModelManifest>, IndexError> {
        Ok(match space {
            Space::General => self.model.clone(),
            Space::Domain => self.domain.clone(),
        })
    }
    async fn use_model(&self, _: Space, _: &ModelManifest) -> Result<(), IndexError> {
        unreachable!("searching does not write")
    }
    async fn put(&self, _: IndexedDocument) -> Result<(), IndexError> {
        unreachable!("searching does not write")
    }
    async fn delete(&self, _: Uuid) -> Result<(), IndexError> {
        unreachable!("searching does not write")
    }
    async fn commit(&self, _: Position) -> Result<(), IndexError> {
        unreachable!("searching does not write")
    }
    async fn save(&self) -> Result<(), IndexError> {
        unreachable!("searching does not write")
    }
    async fn reset(&self) -> Result<(), IndexError> {
        unreachable!("searching does not write")
    }
    async fn keyword(&self, query: &KeywordQuery, filter: &SearchFilter, k: usize) -> Result<Vec<LegHit>, IndexError> {
        let wanted = terms(&query.text);
        let more: Vec<_> = query.boosted.iter().map(|(text, weight)| (terms(text), *weight)).collect();
        self.ranked_of(
            |hit| filter.chunk_types.is_empty() || filter.chunk_types.contains(&hit.chunk_type),
            k,
            |content| {
                let found = terms(content);
                coverage(&wanted, &found)
                    + more.iter().map(|(more, weight)| weight * coverage(more, &found)).sum::<f32>()
            },
        )
    }
    async fn vectors(&self, space: Space, wanted: &[(Uuid, u32)]) -> Result<Vec<Option<Vec<f32>>>, IndexError> {
        if self.vectors_fail {
            return Err(IndexError::Damaged("a bad page".to_owned()));
        }
        let of = |(document, ordinal): &(Uuid, u32)| {
            let hit = self.hits.iter().find(|hit| hit.document_id == *document && hit.ordinal == *ordinal);
            hit.filter(|hit| self.is_in(space, hit)).map(|hit| hashed(&hit.content))
        };
        Ok(wanted.iter().map(of).collect())
    }
    async fn nearest(
        &self,
        space: Space,
        vector: &[f32],
        filter: &SearchFilter,
        k: usize,
    ) -> Result<Vec<LegHit>, IndexError> {
        let allowed = |hit: &Hit| filter.chunk_types.is_empty() || filter.chunk_types.contains(&hit.chunk_type);
        self.ranked_of(
            |hit| allowed(hit) && self.is_in(space, hit),
            k,
            |content| hashed(content).iter().zip(vector).map(|(a, b)| a * b).sum(),
        )
    }
    async fn chunks(&self, wanted: &[(Uuid, u32)]) -> Result<Vec<LegHit>, IndexError> {
        self.ranked(0, |_| 0.0)?;
        let hits = self.hits.iter().filter(|hit| wanted.contains(&(hit.document_id, hit.ordinal)));
        Ok(hits.map(|hit| leg_hit(hit, 0.0)).collect())
    }
    async fn holds(&self, document: Uuid) -> Result<bool, IndexError> {
        Ok(self.hits.iter().any(|hit| hit.document_id == document))
    }
    async fn count(&self) -> Result<u64, IndexError> {
        Ok(self.hits.len() as u64)
    }
    async fn without_vectors(&self) -> Result<u64, IndexError> {
        Ok(0)
    }
    async fn digest(&self) -> Result<Digest, IndexError> {
        unreachable!("searching does not compare projections")
    }
}

/// A model whose vectors are hashed three-letter parts of words: near when spelt alike.
#[derive(Debug)]
pub(crate) struct HashedWords(pub(crate) ModelManifest);

impl Default for HashedWords {
    fn default() -> Self {
        Self(ModelManifest {
            id: "hashed-words".to_owned(),
            dimensions: 256,
            pooling: Pooling::Mean,
            normalize: true,
            max_tokens: 512,
            query_prefix: String::new(),
            passage_prefix: String::new(),
        })
    }
}

fn hashed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0_f32; 256];
    for term in terms(text) {
        for part in format!("^{term}$").as_bytes().windows(3) {
            vector[usize::from(blake3::hash(part).as_bytes()[0])] += 1.0;
        }
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|x| x / length).collect()
}

#[async_trait]
impl Embedder for HashedWords {
    fn manifest(&self) -> &ModelManifest {
        &self.0
    }
    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        Ok(texts.iter().map(|text| hashed(text)).collect())
    }
    async fn query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        if text.contains("crash the model") {
            return Err(EmbedError::Model { model: self.0.id.clone(), message: "it crashed".to_owned() });
        }
        Ok(hashed(text))
    }
    fn tokens(&self, _: &str) -> Vec<TokenSpan> {
        vec![]
    }
}

/// The semantic legs, each in a given state.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) general: SemanticState,
    pub(crate) domain: SemanticState,
}

impl Leg {
    /// Both in the same state.
    pub(crate) fn both(state: SemanticState) -> Arc<Self> {
        Arc::new(Self { general: state.clone(), domain: state })
    }
    pub(crate) fn ready() -> Arc<Self> {
        Self::both(SemanticState::Ready(Arc::new(HashedWords::default())))
    }
    pub(crate) fn off() -> Arc<Self> {
        Self::both(SemanticState::Off("no model could be had".to_owned()))
    }
    /// With the general model, and that of code in this state.
    pub(crate) fn with_domain(domain: SemanticState) -> Arc<Self> {
        Arc::new(Self { general: SemanticState::Ready(Arc::new(HashedWords::default())), domain })
    }
}

#[async_trait]
impl Semantics for Leg {
    fn state(&self, space: Space) -> SemanticState {
        match space {
            Space::General => self.general.clone(),
            Space::Domain => self.domain.clone(),
        }
    }
    async fn settled(&self, space: Space) -> SemanticState {
        self.state(space)
    }
}
