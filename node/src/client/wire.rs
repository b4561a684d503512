//! The parts of the API's answers that the commands use. Unknown fields are ignored, so that a newer server is understood.

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// The answer to an upload.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Uploaded {
    /// The document, the existing one if this is a duplicate.
    pub document_id: Uuid,
    /// The content was there before.
    #[serde(default)]
    pub duplicate: bool,
}

/// A document.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Document {
    /// Its id.
    #[serde(alias = "id")]
    pub document_id: Uuid,
    /// Its file's name.
    pub filename: String,
    /// `queued` … `ready` or `failed`.
    pub status: String,
    /// Bytes.
    #[serde(default)]
    pub file_size: u64,
    /// SHA-256, hexadecimal.
    #[serde(default)]
    pub content_hash: String,
    /// Passages.
    #[serde(default)]
    pub chunks_count: Option<u32>,
    /// What is known of it; `failure` says why it failed.
    #[serde(default)]
    pub metadata: Value,
}

impl Document {
    /// Its file: by the path that `ingest` was given, which tells files of one name apart, where there is one.
    pub(crate) fn file(&self) -> &str {
        self.path().unwrap_or(&self.filename)
    }

    /// The path that `ingest` was given.
    pub(crate) fn path(&self) -> Option<&str> {
        self.metadata["path"].as_str().filter(|path| !path.is_empty())
    }

    /// Where `ingest` had it from.
    pub(crate) fn origin(&self) -> Option<&str> {
        self.metadata["origin"].as_str()
    }

    /// Reason and message of a failed document.
    pub(crate) fn failure(&self) -> (String, String) {
        let text = |field: &str| self.metadata["failure"][field].as_str().map(str::to_owned);
        (text("reason").unwrap_or_else(|| "failed".to_owned()), text("message").unwrap_or_default())
    }
}

/// A page of documents.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Documents {
    /// The documents, the newest first.
    #[serde(alias = "items")]
    pub documents: Vec<Value>,
    /// Where the next page begins.
    #[serde(default, alias = "next_cursor")]
    pub next: Option<String>,
}

/// The answer to a message.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Replied {
    /// The session that it belongs to.
    pub session_id: Uuid,
    /// Empty while it is being written.
    pub response: String,
    /// Citations and more; `status` says whether it is complete.
    pub metadata: Map<String, Value>,
}

/// What a search found.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Found {
    /// The passages, the best first.
    pub results: Vec<Passage>,
    /// What the reader should know.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// A passage.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Passage {
    /// Its text.
    pub content: String,
    /// Comparable within one search only.
    pub score: f64,
    /// Whether it speaks of the question at all.
    #[serde(default = "yes")]
    pub relevant: bool,
    /// Where it stands.
    #[serde(default)]
    pub metadata: Place,
}

/// Of a server that does not judge.
fn yes() -> bool {
    true
}

/// A source of an answer.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Citation {
    /// Its number in the text.
    pub n: u32,
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// The words relied on.
    #[serde(default)]
    pub quote: String,
}

/// Where a passage stands.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Place {
    /// The file's name.
    #[serde(default)]
    filename: String,
    /// Its path as `ingest` was given it: [`super::name_files`] adds it, the server does not.
    #[serde(default)]
    path: Option<String>,
    /// 1-based.
    #[serde(default)]
    page_number: Option<u32>,
    /// Headings.
    #[serde(default)]
    section: Option<String>,
}

impl Place {
    /// The file, by its path where that is known.
    pub(crate) fn file(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.filename)
    }

    /// Where in the file: `page 3, Ownership > Moves`.
    pub(crate) fn within(&self) -> String {
        let page = self.page_number.map(|page| format!("page {page}"));
        let section = self.section.clone().filter(|section| !section.is_empty());
        page.into_iter().chain(section).collect::<Vec<_>>().join(", ")
    }
}
