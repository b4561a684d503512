//! Asking the index: both legs, passages by place, and the digest. Each sees the state of one commit.

use std::sync::Arc;

use lmao_ports::{Digest, IndexError, LegHit, SearchFilter};
use uuid::Uuid;

use super::{
    engine::{Engine, View},
    error,
    store::Document,
    vectors::{self, Altered},
};
use crate::passages::content::{ContentDigest, Digested};

impl Engine {
    pub(super) fn keyword(&self, text: &str, filter: &SearchFilter, k: usize) -> Result<Vec<LegHit>, IndexError> {
        let view = self.view()?;
        let k = k.min(usize::try_from(view.catalog.passages()).unwrap_or(usize::MAX));
        if k == 0 {
            return Ok(Vec::new());
        }
        let mut hits = Vec::with_capacity(k);
        for found in self.text.search(&view.text, text, filter, &view.catalog, k)? {
            // Unknown only while a failed reload keeps searches at an older commit: gone since then.
            let Some(document) = view.catalog.entry(found.entry) else { continue };
            if let Some(number) = number_of(document, found.ordinal) {
                hits.push(view.hit(document, number, found.score)?);
            }
        }
        Ok(hits)
    }

    pub(super) fn nearest(&self, vector: &[f32], filter: &SearchFilter, k: usize) -> Result<Vec<LegHit>, IndexError> {
        let view = self.view()?;
        if view.catalog.live_rows() == 0 {
            return Ok(Vec::new());
        }
        let (is, wanted) = (vector.len(), view.maps.dims);
        if is != wanted {
            return Err(IndexError::Invalid(format!("a query vector of {is} dimensions; the index has {wanted}")));
        }
        if vector.iter().any(|value| !value.is_finite()) {
            return Err(IndexError::Invalid("a query vector with a value that is not a finite number".to_owned()));
        }
        let allowed = view.catalog.rows(filter);
        let found = vectors::nearest(vector, view.maps.rows(&view.catalog), &allowed, k).map_err(|Altered(row)| {
            error::damaged(format!("the vector in row {row} is not the one that was written"))
        })?;
        let hit = |(row, score): (usize, f32)| {
            let (document, number) = view
                .catalog
                .at_row(&filter.owner, row as u64)
                .ok_or_else(|| error::damaged(format!("row {row} belongs to no document")))?;
            view.hit(document, number, score)
        };
        found.into_iter().map(hit).collect()
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
        let model = view.model.as_ref().filter(|_| view.catalog.live_rows() > 0);
        let mut digest = ContentDigest::new(model.map(|model| &*model.id));
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
            digest.vectors(view.maps.floats_of(document)?);
        }
        Ok(digest.finish())
    }
}

impl View {
    fn hit(&self, document: &Document, number: usize, score: f32) -> Result<LegHit, IndexError> {
        Ok(LegHit {
            chunk: Arc::new(self.maps.passage(document, number)?),
            document_id: document.document_id,
            filename: document.filename.clone(),
            score,
        })
    }
}

/// The number of the passage with this ordinal.
fn number_of(document: &Document, ordinal: u32) -> Option<usize> {
    document.chunks.binary_search_by_key(&ordinal, |place| place.ordinal).ok()
}
