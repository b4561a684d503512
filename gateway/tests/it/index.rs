//! A search index that holds nothing but what a test puts there, and says so.

use std::sync::Mutex;

use async_trait::async_trait;
use lmao_events::Position;
use lmao_ports::{
    Digest, IndexError, IndexedDocument, KeywordQuery, LegHit, ModelManifest, SearchFilter, SearchIndex, Space,
};
use uuid::Uuid;

#[derive(Debug, Default)]
pub(crate) struct Nothing {
    /// Passages that it has all the same.
    pub(crate) passages: Mutex<Vec<LegHit>>,
}

#[async_trait]
impl SearchIndex for Nothing {
    async fn checkpoint(&self) -> Result<Position, IndexError> {
        Ok(Position(0))
    }

    async fn model(&self, _: Space) -> Result<Option<ModelManifest>, IndexError> {
        Ok(None)
    }

    async fn use_model(&self, _: Space, _: &ModelManifest) -> Result<(), IndexError> {
        Ok(())
    }

    async fn put(&self, _: IndexedDocument) -> Result<(), IndexError> {
        Ok(())
    }

    async fn delete(&self, _: Uuid) -> Result<(), IndexError> {
        Ok(())
    }

    async fn commit(&self, _: Position) -> Result<(), IndexError> {
        Ok(())
    }

    async fn save(&self) -> Result<(), IndexError> {
        Ok(())
    }

    async fn reset(&self) -> Result<(), IndexError> {
        Ok(())
    }

    async fn keyword(&self, _: &KeywordQuery, _: &SearchFilter, _: usize) -> Result<Vec<LegHit>, IndexError> {
        Ok(vec![])
    }

    async fn nearest(&self, _: Space, _: &[f32], _: &SearchFilter, _: usize) -> Result<Vec<LegHit>, IndexError> {
        Ok(vec![])
    }

    async fn vectors(&self, _: Space, wanted: &[(Uuid, u32)]) -> Result<Vec<Option<Vec<f32>>>, IndexError> {
        Ok(vec![None; wanted.len()])
    }

    async fn chunks(&self, wanted: &[(Uuid, u32)]) -> Result<Vec<LegHit>, IndexError> {
        let passages = self.passages.lock().unwrap();
        Ok(passages.iter().filter(|hit| wanted.contains(&(hit.document_id, hit.chunk.ordinal))).cloned().collect())
    }

    async fn holds(&self, _: Uuid) -> Result<bool, IndexError> {
        Ok(false)
    }

    async fn count(&self) -> Result<u64, IndexError> {
        Ok(0)
    }

    async fn without_vectors(&self) -> Result<u64, IndexError> {
        Ok(0)
    }

    async fn digest(&self) -> Result<Digest, IndexError> {
        Ok(Digest::default())
    }
}
