//! What a document must be to be indexed, and the digest of what an index holds: the same for every adapter.

use lmao_events::{Hash, Timestamp};
use lmao_ports::{Digest, IndexError, IndexedDocument, Space};
use serde::{Deserialize, Serialize};

use super::spaces::BySpace;

/// What is told of a document beside its passages.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    /// JSON.
    pub metadata: String,
    /// When the file was handed in.
    pub created_at: Timestamp,
    pub title: Option<String>,
    pub authors: Vec<String>,
    pub tags: Vec<String>,
}

impl Head {
    /// Of a document.
    pub(crate) fn of(document: &IndexedDocument) -> Self {
        Self {
            metadata: document.metadata.to_string(),
            created_at: document.created_at,
            title: document.title.clone(),
            authors: document.authors.clone(),
            tags: document.tags.clone(),
        }
    }
}

/// What the port asks of a document.
pub(crate) fn check(document: &IndexedDocument) -> Result<(), IndexError> {
    let id = document.document_id;
    if Space::ALL.iter().map(|space| document.vectors.of(*space).len()).any(|n| n != 0 && n != document.chunks.len()) {
        return Err(IndexError::Invalid(format!("document {id} does not have one vector, or none, for each passage")));
    }
    if document.chunks.windows(2).any(|pair| pair[0].ordinal >= pair[1].ordinal) {
        return Err(IndexError::Invalid(format!(
            "the passages of document {id} are not in the order of their ordinals"
        )));
    }
    Ok(())
}

/// Vectors were given, and nobody said of which model.
pub(crate) fn no_model() -> IndexError {
    IndexError::Invalid("a document with vectors, but no model was declared for them".to_owned())
}

/// A passage's vector as it is kept: of `dims` finite numbers, at length 1.
pub(crate) fn row(vector: &[f32], dims: usize) -> Result<Vec<f32>, IndexError> {
    let is = vector.len();
    if is != dims {
        return Err(IndexError::Invalid(format!("a vector of {is} dimensions; the model has {dims}")));
    }
    unit(vector).ok_or_else(|| IndexError::Invalid("a vector with a value that is not a finite number".to_owned()))
}

/// The vector at length 1; `None` if it has a value that is not finite. A vector of length 1 keeps its bits, zero stays zero.
pub(crate) fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if !length.is_finite() {
        return None;
    }
    if length == 0.0 || (length - 1.0).abs() < 1e-5 {
        return Some(vector.to_vec());
    }
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 rounds, which is what is wanted")]
    let unit = vector.iter().map(|x| (f64::from(*x) / length) as f32).collect();
    Some(unit)
}

/// The bytes of a head or a passage that count for the digest: MessagePack by place.
pub(crate) fn record(value: &impl Serialize) -> Result<Vec<u8>, IndexError> {
    rmp_serde::to_vec(value).map_err(|e| IndexError::Invalid(format!("a passage cannot be stored: {e}")))
}

/// A document as the digest sees it, its passages aside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digested<'a> {
    pub document_id: uuid::Uuid,
    pub owner: uuid::Uuid,
    pub filename: &'a str,
    pub format: &'a str,
    pub language: Option<&'a str>,
    /// [`record`] of its [`Head`].
    pub head: &'a [u8],
    pub passages: u64,
}

/// The digest of an index, fed in the order of document ids and ordinals. Every part is preceded by its length, so that no
/// two contents have the same bytes.
#[derive(Debug)]
pub(crate) struct ContentDigest(blake3::Hasher);

impl ContentDigest {
    /// Of an index with vectors of these models, in each space that holds any.
    pub(crate) fn new(models: BySpace<Option<&str>>) -> Self {
        let mut digest = Self(blake3::Hasher::new());
        for (_, model) in models.iter() {
            digest.part(model.unwrap_or_default().as_bytes());
        }
        digest
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }

    /// Begins a document.
    pub(crate) fn document(&mut self, document: Digested<'_>) {
        self.part(document.document_id.as_bytes());
        self.part(document.owner.as_bytes());
        self.part(document.filename.as_bytes());
        self.part(document.format.as_bytes());
        self.part(document.language.unwrap_or_default().as_bytes());
        self.part(document.head);
        self.part(&document.passages.to_le_bytes());
    }

    /// A passage of the document that was begun: its [`record`].
    pub(crate) fn passage(&mut self, record: &[u8]) {
        self.part(record);
    }

    /// Ends a document's part for one space: the numbers of the passages that have a vector there, and the floats of these,
    /// little-endian.
    pub(crate) fn vectors(&mut self, passages: impl Iterator<Item = u32>, floats: &[u8]) {
        let numbers: Vec<u8> = passages.flat_map(u32::to_le_bytes).collect();
        self.part(&numbers);
        self.part(floats);
    }

    /// What was fed.
    pub(crate) fn finish(&self) -> Digest {
        Hash(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_length_one_and_keep_their_bits() {
        assert_eq!(unit(&[f32::NAN, 0.0]), None);
        assert_eq!(unit(&[f32::INFINITY, 0.0]), None);
        assert_eq!(unit(&[0.0, 0.0]), Some(vec![0.0, 0.0]));
        assert_eq!(unit(&[1.0, 0.0]), Some(vec![1.0, 0.0]));
        assert_eq!(unit(&[3.0, 4.0]), Some(vec![0.6, 0.8]));
        assert_eq!(unit(&[f32::MAX, f32::MAX]).map(|v| v.len()), Some(2));
    }
}
