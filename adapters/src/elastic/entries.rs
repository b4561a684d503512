//! Documents and passages as the server keeps them, and back.
//!
//! A document is one entry for itself and one for each passage. The terms that are searched and the vector that is compared
//! are derived, and left out of what is kept of an entry; the vector is kept as the bits that were given.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use lmao_events::Timestamp;
use lmao_ports::{ChunkRecord, IndexError, IndexedDocument, LegHit, PageTurn};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::client::Op;
use crate::passages::{content, terms};

/// What the server keeps of a document or a passage.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Entry {
    Document(DocumentEntry),
    Passage(PassageEntry),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DocumentEntry {
    pub document_id: Uuid,
    pub owner: Uuid,
    /// Before every passage's.
    ordinal: i64,
    pub passages: u64,
    pub metadata: Metadata,
    /// JSON.
    pub uploaded_metadata: String,
    created_at: i64,
    pub created_micros: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PassageEntry {
    pub document_id: Uuid,
    owner: Uuid,
    pub ordinal: u32,
    chunk_id: Uuid,
    content: String,
    chunk_type: String,
    text_start: u64,
    text_end: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    page_turns: Vec<PageTurn>,
    metadata: Metadata,
    created_at: i64,
    has_vector: bool,
    /// Its floats, little-endian, in base64. Not read by searches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Metadata {
    pub filename: String,
    pub file_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page_number: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    section: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

/// What is sent: an entry with what is derived from it.
#[derive(Serialize)]
struct Sent<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_terms: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    section_terms: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_vector_general: Option<&'a [f32]>,
}

/// A document, ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    pub ordinals: Vec<u32>,
    pub has_vectors: bool,
    /// The document's own source, then its passages'.
    pub sources: Vec<Bytes>,
    pub bytes: usize,
}

/// The id of a passage's entry; a document's is its own.
pub(super) fn passage_id(document: Uuid, ordinal: u32) -> String {
    format!("{document}-{ordinal}")
}

/// Turns a document into what is sent, refusing what makes no sense. `dims` is that of the declared model.
pub(super) fn prepare(document: &IndexedDocument, dims: Option<usize>) -> Result<Prepared, IndexError> {
    content::check(document)?;
    let general = content::general(document);
    let created_at = document.created_at.0.div_euclid(1_000);
    let tags = document.metadata["tags"].as_array().into_iter().flatten();
    let metadata = Metadata {
        filename: document.filename.clone(),
        file_type: document.format.clone(),
        page_number: None,
        section: None,
        language: document.language.clone(),
        created_at,
        tags: tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect(),
    };
    let own = Entry::Document(DocumentEntry {
        document_id: document.document_id,
        owner: document.owner,
        ordinal: -1,
        passages: document.chunks.len() as u64,
        metadata: metadata.clone(),
        uploaded_metadata: document.metadata.to_string(),
        created_at,
        created_micros: document.created_at.0,
    });
    let mut sources = vec![source(&own, None)?];
    for (number, chunk) in document.chunks.iter().enumerate() {
        let row = match general.as_ref().and_then(|vectors| vectors.get(number)) {
            Some(vector) => Some(content::row(vector, dims.ok_or_else(content::no_model)?)?),
            None => None,
        };
        let entry = Entry::Passage(PassageEntry {
            document_id: document.document_id,
            owner: document.owner,
            ordinal: chunk.ordinal,
            chunk_id: chunk.chunk_id,
            content: chunk.content.clone(),
            chunk_type: chunk.chunk_type.clone(),
            text_start: chunk.start,
            text_end: chunk.end,
            page_turns: chunk.page_turns.clone(),
            metadata: Metadata { page_number: chunk.page_number, section: chunk.section.clone(), ..metadata.clone() },
            created_at,
            has_vector: row.is_some(),
            vector: row.as_deref().map(encoded),
        });
        sources.push(source(&entry, row.as_deref())?);
    }
    Ok(Prepared {
        ordinals: document.chunks.iter().map(|chunk| chunk.ordinal).collect(),
        has_vectors: general.is_some() && !document.chunks.is_empty(),
        bytes: sources.iter().map(Bytes::len).sum(),
        sources,
    })
}

fn source(entry: &Entry, row: Option<&[f32]>) -> Result<Bytes, IndexError> {
    let (content, section) = match entry {
        Entry::Passage(passage) => (Some(&passage.content), passage.metadata.section.as_ref()),
        Entry::Document(_) => (None, None),
    };
    let sent = Sent {
        entry,
        content_terms: content.map(|text| terms_of(text)),
        section_terms: section.map(|text| terms_of(text)),
        // Nothing points the way that zero does, and the server refuses it: such a passage is never near.
        content_vector_general: row.filter(|row| row.iter().any(|value| *value != 0.0)),
    };
    let json = serde_json::to_vec(&sent);
    json.map(Bytes::from).map_err(|error| IndexError::Invalid(format!("a passage cannot be stored: {error}")))
}

/// The terms of a text in order, a space between two. An identifier stands before its parts and takes a place of its own,
/// unlike in the embedded index: a phrase that goes on from an earlier word into the parts of an identifier that is
/// written in one is not found.
pub(super) fn terms_of(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut analyzer = terms::analyzer();
    analyzer.token_stream(text).process(&mut |token| {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(&token.text);
    });
    joined
}

fn encoded(row: &[f32]) -> String {
    BASE64.encode(row.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

impl Prepared {
    /// The changes that put the document there.
    pub(super) fn ops(&self, document: Uuid) -> impl Iterator<Item = Op> {
        let ids = std::iter::once(document.to_string());
        let ids = ids.chain(self.ordinals.iter().map(move |ordinal| passage_id(document, *ordinal)));
        let routing = document.to_string();
        ids.zip(&self.sources).map(move |(id, source)| Op::Put { id, routing: routing.clone(), source: source.clone() })
    }
}

impl Entry {
    /// The change that puts it there, as it was read, into another index.
    pub(super) fn op(&self) -> Result<Op, IndexError> {
        let (document, id) = match self {
            Self::Document(entry) => (entry.document_id, entry.document_id.to_string()),
            Self::Passage(entry) => (entry.document_id, passage_id(entry.document_id, entry.ordinal)),
        };
        let row = match self {
            Self::Passage(entry) => entry.row()?,
            Self::Document(_) => None,
        };
        Ok(Op::Put { id, routing: document.to_string(), source: source(self, row.as_deref())? })
    }
}

impl DocumentEntry {
    /// What the digest sees of it beside its columns.
    pub(super) fn head(&self) -> content::Head {
        content::Head { metadata: self.uploaded_metadata.clone(), created_at: Timestamp(self.created_micros) }
    }
}

impl PassageEntry {
    /// The floats of its vector, little-endian; none if it has no vector.
    pub(super) fn floats(&self) -> Result<Vec<u8>, IndexError> {
        let bytes = self.vector.as_deref().map(|vector| BASE64.decode(vector)).transpose();
        bytes.ok().filter(|bytes| bytes.is_some() == self.has_vector).map(Option::unwrap_or_default).ok_or_else(|| {
            IndexError::Damaged(format!("the vector of passage {} of {} was altered", self.ordinal, self.document_id))
        })
    }

    fn row(&self) -> Result<Option<Vec<f32>>, IndexError> {
        let bytes = self.floats()?;
        let floats = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        Ok(self.has_vector.then(|| floats.collect()))
    }

    /// The passage as it was put, and its document's file name.
    pub(super) fn into_chunk(self) -> (ChunkRecord, String) {
        let chunk = ChunkRecord {
            chunk_id: self.chunk_id,
            ordinal: self.ordinal,
            content: self.content,
            chunk_type: self.chunk_type,
            page_number: self.metadata.page_number,
            section: self.metadata.section,
            start: self.text_start,
            end: self.text_end,
            page_turns: self.page_turns,
            language: None,
            parent: None,
        };
        (chunk, self.metadata.filename)
    }

    /// It, found.
    pub(super) fn into_hit(self, score: f32) -> LegHit {
        let document_id = self.document_id;
        let (chunk, filename) = self.into_chunk();
        LegHit { chunk: chunk.into(), document_id, filename, score }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_stand_in_order() {
        assert_eq!(terms_of("The parse_request, now!"), "the parse_request pars request now");
        assert_eq!(terms_of(""), "");
    }

    #[test]
    fn vectors_keep_their_bits() {
        let row = [0.1_f32, -0.0, f32::MIN_POSITIVE / 4.0, 1.0 / 3.0, f32::MAX];
        let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let bytes = BASE64.decode(encoded(&row)).unwrap();
        let back: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert_eq!(bits(&back), bits(&row));
    }
}
