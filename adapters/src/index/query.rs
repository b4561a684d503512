//! Asking the index: both legs, passages by place, and the digest. Each sees the state of one commit.

use lmao_ports::{Digest, IndexError, KeywordQuery, LegHit, SearchFilter, Space};
use uuid::Uuid;

use super::{
    engine::{Engine, View},
    error,
    store::Document,
    vectors::{self, Altered},
};
use crate::passages::{
    content::{ContentDigest, Digested},
    spaces::BySpace,
};

impl Engine {
    pub(super) fn keyword(
        &self,
        query: &KeywordQuery,
        filter: &SearchFilter,
        k: usize,
    ) -> Result<Vec<LegHit>, IndexError> {
        let view = self.view()?;
        let k = k.min(usize::try_from(view.catalog.passages()).unwrap_or(usize::MAX));
        let Some(allowed) = view.catalog.allowed(filter).filter(|_| k > 0) else { return Ok(Vec::new()) };
        let tongues = view.catalog.tongues_of(&filter.owner);
        let found = self.text.search(&view.text, (query, tongues), &view.catalog, allowed.passages(), k)?;
        let hits = found.into_iter().filter_map(|found| {
            let (document, number) = view.catalog.at_passage(found.passage)?;
            Some(view.hit(document, number, found.score))
        });
        hits.collect()
    }

    pub(super) fn nearest(
        &self,
        space: Space,
        vector: &[f32],
        filter: &SearchFilter,
        k: usize,
    ) -> Result<Vec<LegHit>, IndexError> {
        let view = self.view()?;
        if view.catalog.live_rows(space) == 0 {
            return Ok(Vec::new());
        }
        let (is, wanted) = (vector.len(), view.maps.dims(space));
        if is != wanted {
            return Err(IndexError::Invalid(format!("a query vector of {is} dimensions; the index has {wanted}")));
        }
        if vector.iter().any(|value| !value.is_finite()) {
            return Err(IndexError::Invalid("a query vector with a value that is not a finite number".to_owned()));
        }
        let Some(allowed) = view.catalog.allowed(filter) else { return Ok(Vec::new()) };
        let rows = view.maps.rows(&view.catalog, space);
        let found = vectors::nearest(vector, rows, &allowed.rows(space), k).map_err(altered)?;
        let hit = |(row, score): (usize, f32)| {
            let (document, number) = view
                .catalog
                .at_row(space, row)
                .ok_or_else(|| error::damaged(format!("row {row} belongs to no document")))?;
            view.hit(document, number, score)
        };
        found.into_iter().map(hit).collect()
    }

    pub(super) fn vectors(&self, space: Space, wanted: &[(Uuid, u32)]) -> Result<Vec<Option<Vec<f32>>>, IndexError> {
        let view = self.view()?;
        let rows = view.maps.rows(&view.catalog, space);
        let row_of = |(id, ordinal): &(Uuid, u32)| {
            let document = view.catalog.document(id)?;
            view.catalog.row_of(space, document, number_of(document, *ordinal)?)
        };
        wanted.iter().map(|place| row_of(place).map(|row| rows.exact(row).map_err(altered)).transpose()).collect()
    }

    pub(super) fn chunks(&self, wanted: &[(Uuid, u32)]) -> Result<Vec<LegHit>, IndexError> {
        let view = self.view()?;
        let places = wanted.iter().filter_map(|(id, ordinal)| {
            let document = view.catalog.document(id)?;
            Some((document, number_of(document, *ordinal)?))
        });
        places.map(|(document, number)| view.hit(document, number, 0.0)).collect()
    }

    /// Reads and verifies everything.
    pub(super) fn digest(&self) -> Result<Digest, IndexError> {
        let view = self.view()?;
        let models = BySpace::each(|space| view.model(space).map(|model| &*model.id));
        let mut digest = ContentDigest::new(models);
        for document in view.catalog.documents() {
            digest.document(Digested {
                document_id: document.document_id,
                owner: document.owner,
                filename: &document.filename,
                format: &document.format,
                language: document.language.as_deref(),
                head: view.maps.head_bytes(document)?,
                passages: document.chunks.len() as u64,
            });
            for number in 0..document.chunks.len() {
                digest.passage(view.maps.passage_bytes(document, number)?);
            }
            for (space, run) in document.vectors.iter() {
                digest.vectors(run.iter().flat_map(|run| run.numbers()), view.maps.floats_of(document, space)?);
            }
        }
        Ok(digest.finish())
    }
}

impl View {
    fn hit(&self, document: &Document, number: usize, score: f32) -> Result<LegHit, IndexError> {
        let mut chunk = self.maps.passage(document, number)?;
        if chunk.language.is_none() {
            chunk.language.clone_from(&document.language);
        }
        Ok(LegHit {
            chunk: chunk.into(),
            document_id: document.document_id,
            filename: document.filename.clone(),
            title: document.title.clone(),
            score,
        })
    }
}

fn altered(Altered(row): Altered) -> IndexError {
    error::damaged(format!("the vector in row {row} is not the one that was written"))
}

/// The number of the passage with this ordinal.
fn number_of(document: &Document, ordinal: u32) -> Option<usize> {
    document.chunks.binary_search_by_key(&ordinal, |place| place.ordinal).ok()
}
