//! Documents and passages as the server keeps them, and back.
//!
//! A document is one entry for itself and one for each passage. The terms that are searched and the vector that is compared
//! are derived, and left out of what is kept of an entry; a vector is kept as the bits that were given.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use lmao_events::Timestamp;
use lmao_ports::{ChunkRecord, IndexError, IndexedDocument, LegHit, PageTurn, ParentChunk, Space};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::client::Op;
use crate::passages::{
    content, headings,
    sections::enclosing,
    spaces::BySpace,
    terms::{Analyzer, Tongue},
};

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent_chunk_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent_first: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent_last: Option<u32>,
    /// The document's, which is searched with each passage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// The passage's, where it has one of its own; the one among the metadata is the document's otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own_language: Option<String>,
    metadata: Metadata,
    created_at: i64,
    /// As the document's. Format 1 had it there only.
    #[serde(default)]
    created_micros: i64,
    /// Whether it has any. All that format 1 knew, which had vectors of one space; builds that read no other format do not
    /// read an entry without it.
    #[serde(default)]
    has_vector: bool,
    #[serde(default)]
    has_vector_general: Option<bool>,
    #[serde(default)]
    has_vector_domain: bool,
    /// Its floats, little-endian, in base64. Not read by searches.
    #[serde(default, alias = "vector", skip_serializing_if = "Option::is_none")]
    vector_general: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector_domain: Option<String>,
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    authors: Vec<String>,
}

/// What is sent: an entry with what is derived from it.
#[derive(Serialize)]
struct Sent<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_terms: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    section_terms: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    section_paths: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_vector_general: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_vector_domain: Option<&'a [f32]>,
}

/// A document, ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    pub ordinals: Vec<u32>,
    pub has_vectors: BySpace<bool>,
    /// The document's own source, then its passages'.
    pub sources: Vec<Bytes>,
    pub bytes: usize,
}

/// The id of a passage's entry; a document's is its own.
pub(super) fn passage_id(document: Uuid, ordinal: u32) -> String {
    format!("{document}-{ordinal}")
}

/// Turns a document into what is sent, refusing what makes no sense. `dims` are those of the declared models.
pub(super) fn prepare(document: &IndexedDocument, dims: BySpace<Option<usize>>) -> Result<Prepared, IndexError> {
    content::check(document)?;
    let created_at = document.created_at.0.div_euclid(1_000);
    let metadata = Metadata {
        filename: document.filename.clone(),
        file_type: document.format.clone(),
        page_number: None,
        section: None,
        language: document.language.clone(),
        created_at,
        tags: document.tags.clone(),
        authors: document.authors.clone(),
    };
    let own = Entry::Document(DocumentEntry {
        document_id: document.document_id,
        owner: document.owner,
        ordinal: -1,
        passages: document.chunks.len() as u64,
        metadata: metadata.clone(),
        title: document.title.clone(),
        uploaded_metadata: document.metadata.to_string(),
        created_at,
        created_micros: document.created_at.0,
    });
    let mut sources = vec![source(&own, &BySpace::default())?];
    for (number, chunk) in document.chunks.iter().enumerate() {
        let rows = BySpace::try_each(|space| match document.vectors.of(space).get(number) {
            Some(Some(vector)) => content::row(vector, dims.of(space).ok_or_else(content::no_model)?).map(Some),
            _ => Ok(None),
        })?;
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
            parent_chunk_id: chunk.parent.map(|parent| parent.chunk_id),
            parent_first: chunk.parent.map(|parent| parent.first),
            parent_last: chunk.parent.map(|parent| parent.last),
            title: document.title.clone(),
            own_language: chunk.language.clone(),
            metadata: Metadata {
                page_number: chunk.page_number,
                section: chunk.section.clone(),
                language: chunk.language.clone().or_else(|| document.language.clone()),
                ..metadata.clone()
            },
            created_at,
            created_micros: document.created_at.0,
            has_vector: rows.general.is_some() || rows.domain.is_some(),
            has_vector_general: Some(rows.general.is_some()),
            has_vector_domain: rows.domain.is_some(),
            vector_general: rows.general.as_deref().map(encoded),
            vector_domain: rows.domain.as_deref().map(encoded),
        });
        sources.push(source(&entry, &rows)?);
    }
    Ok(Prepared {
        ordinals: document.chunks.iter().map(|chunk| chunk.ordinal).collect(),
        has_vectors: BySpace::each(|space| document.vectors.of(space).iter().any(Option::is_some)),
        bytes: sources.iter().map(Bytes::len).sum(),
        sources,
    })
}

fn source(entry: &Entry, rows: &BySpace<Option<Vec<f32>>>) -> Result<Bytes, IndexError> {
    // Nothing points the way that zero does, and the server refuses it: such a passage is never near.
    let row = |space| rows.of(space).as_deref().filter(|row| row.iter().any(|value| *value != 0.0));
    let mut sent = Sent {
        entry,
        content_terms: None,
        section_terms: vec![],
        section_paths: vec![],
        content_vector_general: row(Space::General),
        content_vector_domain: row(Space::Domain),
    };
    if let Entry::Passage(passage) = entry {
        let section = passage.metadata.section.as_deref();
        let tongue = Tongue::of(passage.metadata.language.as_deref());
        let headings = headings(section, passage.title.as_deref(), &passage.metadata.filename);
        sent.content_terms = Some(terms_of(&passage.content, tongue));
        sent.section_terms = headings.into_iter().map(|text| terms_of(text, tongue)).collect();
        sent.section_paths = section.map(|path| enclosing(path).collect()).unwrap_or_default();
    }
    let json = serde_json::to_vec(&sent);
    json.map(Bytes::from).map_err(|error| IndexError::Invalid(format!("a passage cannot be stored: {error}")))
}

/// The terms of a text in order, a space between two. An identifier stands before its parts and takes a place of its own,
/// unlike in the embedded index: a phrase that goes on from an earlier word into the parts of an identifier that is
/// written in one is not found.
pub(super) fn terms_of(text: &str, tongue: Tongue) -> String {
    let mut joined = String::with_capacity(text.len());
    for word in Analyzer::new(tongue).words(text) {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(&word.term);
    }
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
        let rows = match self {
            Self::Passage(entry) => BySpace::try_each(|space| entry.row(space))?,
            Self::Document(_) => BySpace::default(),
        };
        Ok(Op::Put { id, routing: document.to_string(), source: source(self, &rows)? })
    }
}

impl DocumentEntry {
    /// What the digest sees of it beside its columns.
    pub(super) fn head(&self) -> content::Head {
        content::Head {
            metadata: self.uploaded_metadata.clone(),
            created_at: Timestamp(self.created_micros),
            title: self.title.clone(),
            authors: self.metadata.authors.clone(),
            tags: self.metadata.tags.clone(),
        }
    }
}

impl PassageEntry {
    /// The floats of its vector in a space, little-endian; `None` if it has no vector there.
    pub(super) fn floats(&self, space: Space) -> Result<Option<Vec<u8>>, IndexError> {
        let (has_vector, vector) = match space {
            Space::General => (self.has_vector_general.unwrap_or(self.has_vector), &self.vector_general),
            Space::Domain => (self.has_vector_domain, &self.vector_domain),
        };
        let bytes = vector.as_deref().map(|vector| BASE64.decode(vector)).transpose();
        bytes.ok().filter(|bytes| bytes.is_some() == has_vector).ok_or_else(|| {
            IndexError::Damaged(format!("the vector of passage {} of {} was altered", self.ordinal, self.document_id))
        })
    }

    /// Likewise, as numbers.
    fn row(&self, space: Space) -> Result<Option<Vec<f32>>, IndexError> {
        Ok(self.floats(space)?.map(|bytes| floats_of(&bytes)))
    }

    /// The passage as it was put, and its document's file name.
    pub(super) fn into_chunk(self) -> (ChunkRecord, String) {
        let (first, last) = (self.parent_first.unwrap_or_default(), self.parent_last.unwrap_or_default());
        let parent = self.parent_chunk_id.map(|chunk_id| ParentChunk { chunk_id, first, last });
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
            language: self.own_language,
            parent,
        };
        (chunk, self.metadata.filename)
    }

    /// It, found.
    pub(super) fn into_hit(self, score: f32) -> LegHit {
        let (document_id, title, language) = (self.document_id, self.title.clone(), self.metadata.language.clone());
        let (mut chunk, filename) = self.into_chunk();
        chunk.language = language;
        LegHit { chunk: chunk.into(), document_id, filename, title, score }
    }
}

/// A vector that was kept on its own.
#[derive(Debug, Default, Deserialize)]
pub(super) struct KeptVector {
    #[serde(default, alias = "vector_general", alias = "vector_domain")]
    vector: Option<String>,
}

impl KeptVector {
    /// The source's field that has a space's.
    pub(super) const fn field(space: Space) -> &'static str {
        match space {
            Space::General => "vector_general,vector",
            Space::Domain => "vector_domain",
        }
    }

    /// It, if it is there.
    pub(super) fn row(&self) -> Result<Option<Vec<f32>>, IndexError> {
        let bytes = self.vector.as_deref().map(|vector| BASE64.decode(vector)).transpose();
        let bytes = bytes.map_err(|_| IndexError::Damaged("the vector of a passage was altered".to_owned()))?;
        Ok(bytes.map(|bytes| floats_of(&bytes)))
    }
}

fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use lmao_ports::conformance::search as suite;

    use super::{super::layout, *};

    #[test]
    fn terms_stand_in_order() {
        assert_eq!(terms_of("The parse_request, now!", Tongue::English), "the parse_request pars request now");
        assert_eq!(terms_of("", Tongue::English), "");
    }

    /// What a build reads that knows format 1 only.
    #[derive(Deserialize)]
    struct FirstFormat {
        has_vector: bool,
    }

    #[test]
    fn builds_of_the_first_format_read_passages() {
        let mut document = suite::document(1, Uuid::nil(), &["both", "general", "domain", "none"]);
        let row = || Some(vec![1.0; suite::DIMENSIONS]);
        document.vectors.general = vec![row(), row(), None, None];
        document.vectors.domain = vec![row(), None, row(), None];
        let prepared = prepare(&document, BySpace::each(|_| Some(suite::DIMENSIONS))).unwrap();
        let read = prepared.sources[1..].iter().map(|source| {
            let FirstFormat { has_vector } = serde_json::from_slice(source).unwrap();
            let Entry::Passage(entry) = serde_json::from_slice(source).unwrap() else { panic!("no passage") };
            (has_vector, Space::ALL.map(|space| entry.floats(space).unwrap().is_some()))
        });
        let expected = [(true, [true, true]), (true, [true, false]), (true, [false, true]), (false, [false, false])];
        assert_eq!(read.collect::<Vec<_>>(), expected);
        // The mapping takes it: it is strict.
        let body = layout::body(BySpace::default(), 0).unwrap();
        assert_eq!(body["mappings"]["properties"]["has_vector"]["type"], "boolean");
    }

    #[test]
    fn vectors_keep_their_bits() {
        let row = [0.1_f32, -0.0, f32::MIN_POSITIVE / 4.0, 1.0 / 3.0, f32::MAX];
        let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let bytes = BASE64.decode(encoded(&row)).unwrap();
        assert_eq!(bits(&floats_of(&bytes)), bits(&row));
    }
}
