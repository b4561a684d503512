//! Which of the files of one name a passage is from.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use serde_json::Value;
use uuid::Uuid;

use super::{Client, Document};

/// Requests on their way at once.
const AT_ONCE: usize = 8;

/// Adds its file's `path` to each of `places`, objects that have a `document_id`. One whose document is gone, or was
/// uploaded without a path, stays as it is: it still has the file's name.
pub(crate) async fn name_files(client: &Client, places: Vec<&mut Value>) {
    let ids: BTreeSet<Uuid> = places.iter().filter_map(|place| document(place)).collect();
    let paths: BTreeMap<Uuid, String> = futures::stream::iter(ids)
        .map(async |id| {
            let document: Document = client.get(&format!("/api/v1/documents/{id}"), &[]).await.ok()?;
            Some((id, document.path()?.to_owned()))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |named| named)
        .collect()
        .await;
    for place in places {
        if let Some(path) = document(place).and_then(|id| paths.get(&id)) {
            place["path"] = path.as_str().into();
        }
    }
}

fn document(place: &Value) -> Option<Uuid> {
    place["document_id"].as_str()?.parse().ok()
}
