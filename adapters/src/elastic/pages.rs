//! Everything that an index holds, in order: to be copied, and for the digest.

use elasticsearch::http::Method;
use lmao_ports::{Digest, IndexError, Space};
use serde_json::{Value, json};

use super::{
    client::Client,
    entries::Entry,
    error::Error,
    query::{ALL_SHARDS, Found},
};
use crate::passages::{
    content::{self, ContentDigest, Digested},
    spaces::BySpace,
};

/// Entries with their vectors that are read at once.
const PAGE: usize = 500;
/// How long the server keeps a view of the index between two pages.
const KEEP: &str = "2m";

/// All documents, each followed by its passages, in the order of ids and ordinals: one view of the index, page by page.
pub(super) struct Pages<'a> {
    client: &'a Client,
    view: String,
    after: Option<Vec<Value>>,
}

impl<'a> Pages<'a> {
    /// Of what searches see now. To be closed.
    pub(super) async fn open(client: &'a Client, index: &str) -> Result<Self, Error> {
        let answer: Value = client.call(Method::Post, &format!("/{index}/_pit"), &[("keep_alive", KEEP)], None).await?;
        let view = answer["id"].as_str().unwrap_or_default().to_owned();
        Ok(Self { client, view, after: None })
    }

    /// The next ones; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<Entry>, Error> {
        let mut body = json!({
            "query": { "exists": { "field": "document_id" } },
            "size": PAGE,
            "track_total_hits": false,
            "pit": { "id": self.view, "keep_alive": KEEP },
            "sort": [{ "document_id": "asc" }, { "ordinal": "asc" }],
        });
        if let Some(after) = &self.after {
            body["search_after"] = json!(after);
        }
        let found: Found<Entry> = self.client.call(Method::Post, "/_search", &[ALL_SHARDS], Some(&body)).await?;
        if let Some(view) = found.pit_id {
            self.view = view;
        }
        if let Some(last) = found.hits.hits.last() {
            self.after = Some(last.sort.clone());
        }
        Ok(found.hits.hits.into_iter().map(|hit| hit.source).collect())
    }

    /// Lets the server forget the view; it does so by itself after two minutes.
    pub(super) async fn close(self) {
        let body = json!({ "id": self.view });
        if let Err(error) = self.client.call::<Value>(Method::Delete, "/_pit", &[], Some(&body)).await {
            tracing::debug!(%error, "a view of the search index was left to expire");
        }
    }
}

/// The digest of everything that searches see; `models` are whose vectors they are.
pub(super) async fn digest(client: &Client, index: &str, models: BySpace<Option<&str>>) -> Result<Digest, Error> {
    let mut pages = Pages::open(client, index).await?;
    let digest = digest_of(&mut pages, models).await;
    pages.close().await;
    digest
}

/// Of a document in hand: the numbers of the passages that have a vector, and their floats.
type Held = BySpace<(Vec<u32>, Vec<u8>)>;

async fn digest_of(pages: &mut Pages<'_>, models: BySpace<Option<&str>>) -> Result<Digest, Error> {
    let mut digest = ContentDigest::new(models);
    let end = |digest: &mut ContentDigest, held: Held| {
        for (_, (numbers, floats)) in held.iter() {
            digest.vectors(numbers.iter().copied(), floats);
        }
    };
    // Of the document in hand: its vectors so far, and passages that came and that are still to come.
    let (mut held, mut number, mut missing) = (None::<Held>, 0, 0);
    let torn = || Error::from(IndexError::Damaged("a document does not have all of its passages".to_owned()));
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        for entry in page {
            match entry {
                Entry::Document(entry) => {
                    if missing > 0 {
                        return Err(torn());
                    }
                    if let Some(held) = held.replace(Held::default()) {
                        end(&mut digest, held);
                    }
                    (number, missing) = (0, entry.passages);
                    digest.document(Digested {
                        document_id: entry.document_id,
                        owner: entry.owner,
                        filename: &entry.metadata.filename,
                        format: &entry.metadata.file_type,
                        language: entry.metadata.language.as_deref(),
                        head: &content::record(&entry.head())?,
                        passages: entry.passages,
                    });
                }
                Entry::Passage(entry) => {
                    missing = missing.checked_sub(1).ok_or_else(torn)?;
                    for space in Space::ALL {
                        if let (Some(held), Some(floats)) = (&mut held, entry.floats(space)?) {
                            let (numbers, all) = held.of_mut(space);
                            numbers.push(number);
                            all.extend(floats);
                        }
                    }
                    number += 1;
                    digest.passage(&content::record(&entry.into_chunk().0)?);
                }
            }
        }
    }
    if missing > 0 {
        return Err(torn());
    }
    if let Some(held) = held {
        end(&mut digest, held);
    }
    Ok(digest.finish())
}
