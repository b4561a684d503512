//! The indexes behind the alias: their names, how one is made, which one searches see, and the switch to another.
//!
//! ```text
//! lmao-chunks             the alias: what searches see
//! lmao-chunks-000001      an index: passages, documents, and the state that says how far they reach
//! lmao-chunks-000001-own  its own alias: it is written to by this name only
//! ```
//!
//! Writing goes through an index's own alias, which has to exist: a writer that comes late to an index that is gone gets an
//! error, where the bare name would have made a new index of whatever shape.

use elasticsearch::http::Method;
use lmao_ports::{IndexError, Space, Unavailable};
use serde_json::{Value, json};

use super::{
    client::Client,
    error::{Error, STORE},
};
use crate::passages::spaces::BySpace;

/// How an index is made: the one place that says so.
const CHUNKS: &str = include_str!("../../../schemas/elasticsearch/chunks.json");
/// Of the form above; a part of what is stored.
const FORMAT: u64 = 2;
/// The field of a space's vectors that are searched.
pub(super) const fn vectors(space: Space) -> &'static str {
    match space {
        Space::General => "content_vector_general",
        Space::Domain => "content_vector_domain",
    }
}

/// One of the indexes behind the alias.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub name: String,
    number: u32,
    /// Whether searches see it.
    pub is_serving: bool,
}

/// An index's own alias.
pub(super) fn own(index: &str) -> String {
    format!("{index}-own")
}

/// The number in an index's name, if it is one of ours.
fn number(alias: &str, index: &str) -> Option<u32> {
    let digits = index.strip_prefix(alias)?.strip_prefix('-')?;
    (digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The name of the index after `last`.
pub(super) fn next_name(alias: &str, last: Option<&Found>) -> String {
    format!("{alias}-{:06}", last.map_or(0, |found| found.number) + 1)
}

/// The body of the request that makes an index. The dimensions of a space's vectors stay open until a model says them.
pub(super) fn body(dims: BySpace<Option<usize>>, replicas: u32) -> Result<Value, Error> {
    let mut body: Value = serde_json::from_str(CHUNKS).map_err(|error| {
        Error::from(IndexError::from(Unavailable::new(STORE, "the mapping in this build is not readable", error)))
    })?;
    body["settings"]["number_of_replicas"] = replicas.into();
    for (space, dims) in dims.iter() {
        if let Some(field) = body["mappings"]["properties"][vectors(space)].as_object_mut() {
            match dims {
                Some(dims) => field.insert("dims".to_owned(), (*dims).into()),
                None => field.remove("dims"),
            };
        }
    }
    Ok(body)
}

/// The indexes of this alias, oldest first.
pub(super) async fn list(client: &Client, alias: &str) -> Result<Vec<Found>, Error> {
    let answer: Value = client.call(Method::Get, &format!("/{alias}-*/_alias"), &[], None).await?;
    let all = answer.as_object().into_iter().flatten();
    let mut found: Vec<_> = all
        .filter_map(|(name, about)| {
            let number = number(alias, name)?;
            Some(Found { name: name.clone(), number, is_serving: about["aliases"].get(alias).is_some() })
        })
        .collect();
    found.sort_by_key(|found| found.number);
    Ok(found)
}

/// Whether a new index is what searches see at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serve {
    Now,
    Later,
}

/// Makes an index; one that is there already is left as it is.
pub(super) async fn create(
    client: &Client,
    alias: &str,
    name: &str,
    (dims, replicas): (BySpace<Option<usize>>, u32),
    serve: Serve,
) -> Result<(), Error> {
    let mut body = body(dims, replicas)?;
    body["aliases"] = json!({ own(name): {} });
    if serve == Serve::Now {
        body["aliases"][alias] = json!({});
    }
    match client.call::<Value>(Method::Put, &format!("/{name}"), &[], Some(&body)).await {
        Err(Error::Refused(refusal)) if refusal.kind == "resource_already_exists_exception" => Ok(()),
        answer => answer.map(drop),
    }
}

/// The indexes of this alias, oldest first: at least one, and one that searches see.
pub(super) async fn ensure(client: &Client, alias: &str, replicas: u32) -> Result<Vec<Found>, Error> {
    let mut found = list(client, alias).await?;
    if found.is_empty() {
        create(client, alias, &next_name(alias, None), (BySpace::default(), replicas), Serve::Now).await?;
        found = list(client, alias).await?;
    }
    if found.iter().all(|found| !found.is_serving)
        && let Some(last) = found.last_mut()
    {
        serve(client, alias, &last.name, None).await?;
        last.is_serving = true;
    }
    Ok(found)
}

/// Lets searches see `index`, and removes the one they saw before: one step, both or neither.
pub(super) async fn serve(client: &Client, alias: &str, index: &str, before: Option<&str>) -> Result<(), Error> {
    let mut actions = vec![json!({ "add": { "index": index, "alias": alias } })];
    if let Some(before) = before {
        actions.push(json!({ "remove_index": { "index": before } }));
    }
    let body = json!({ "actions": actions });
    match client.call::<Value>(Method::Post, "/_aliases", &[], Some(&body)).await {
        // A repeat, after an answer that was lost, finds nothing to remove any more; or somebody else removed it.
        Err(error) if error.is_missing_index() && before.is_some() => {
            let body = json!({ "actions": [actions[0]] });
            client.call::<Value>(Method::Post, "/_aliases", &[], Some(&body)).await.map(drop)
        }
        answer => answer.map(drop),
    }
}

/// Removes an index; one that is gone already is no error.
pub(super) async fn remove(client: &Client, index: &str) -> Result<(), Error> {
    match client.call::<Value>(Method::Delete, &format!("/{index}"), &[], None).await {
        Err(error) if error.is_missing_index() => Ok(()),
        answer => answer.map(drop),
    }
}

/// The dimensions of an index's vectors, in each space that has been told; `None` where an older version made it. Refused when
/// a newer one did.
pub(super) async fn dimensions(client: &Client, index: &str) -> Result<Option<BySpace<Option<usize>>>, Error> {
    let answer: Value = client.call(Method::Get, &format!("/{index}/_mapping"), &[], None).await?;
    let mapping = &answer[index]["mappings"];
    match mapping["_meta"]["format"].as_u64() {
        Some(FORMAT) => {}
        Some(newer) if newer > FORMAT => {
            let message = format!(
                "{index} was written by a newer version (format {newer}, this one reads {FORMAT}); use that version, or \
                 rebuild the index with `lmao projections rebuild search`"
            );
            return Err(IndexError::from(Unavailable::plain(STORE, message)).into());
        }
        Some(_) => return Ok(None),
        None => {
            return Err(IndexError::Damaged(format!("{index} does not have the layout that this version makes")).into());
        }
    }
    let dims = |space| mapping["properties"][vectors(space)]["dims"].as_u64();
    Ok(Some(BySpace::each(|space| dims(space).and_then(|dims| usize::try_from(dims).ok()))))
}

/// Tells an index how many dimensions its vectors of a space have, which cannot be changed again.
pub(super) async fn set_dimensions(client: &Client, index: &str, space: Space, dims: usize) -> Result<(), Error> {
    let all = BySpace::each(|_| Some(dims));
    let field = &body(all, 0)?["mappings"]["properties"][vectors(space)];
    let mapping = json!({ "properties": { vectors(space): field } });
    client.call::<Value>(Method::Put, &format!("/{index}/_mapping"), &[], Some(&mapping)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_indexes_have_numbers() {
        assert_eq!(number("a-chunks", "a-chunks-000012"), Some(12));
        assert_eq!(number("a-chunks", "a-chunks-1000012"), Some(1_000_012));
        for other in ["a-chunks", "a-chunks-12", "a-chunks-b-chunks-000001", "a-chunks-00001x", "b-chunks-000001"] {
            assert_eq!(number("a-chunks", other), None, "{other}");
        }
        let last = Found { name: "a-chunks-000009".to_owned(), number: 9, is_serving: true };
        assert_eq!(next_name("a-chunks", Some(&last)), "a-chunks-000010");
        assert_eq!(next_name("a-chunks", None), "a-chunks-000001");
    }

    #[test]
    fn the_mapping_is_the_committed_one() {
        let committed: Value = serde_json::from_str(CHUNKS).unwrap();
        assert_eq!(committed["mappings"]["_meta"]["format"], FORMAT);
        assert_eq!(committed["settings"]["number_of_shards"], 3);
        for space in Space::ALL {
            let field = &committed["mappings"]["properties"][vectors(space)];
            assert_eq!((&field["dims"], &field["similarity"]), (&json!(768), &json!("cosine")));
        }
        let mut body = body(BySpace { general: Some(384), domain: None }, 2).unwrap();
        assert_eq!(body["mappings"]["properties"][vectors(Space::General)]["dims"], 384);
        assert_eq!(body["settings"]["number_of_replicas"], 2);
        assert!(body["mappings"]["properties"][vectors(Space::Domain)].get("dims").is_none());
        for space in Space::ALL {
            body["mappings"]["properties"][vectors(space)]["dims"] = 768.into();
        }
        assert_eq!(body["mappings"], committed["mappings"]);
    }
}
