//! What users of a system were promised, checked when all is quiet again: each message that was taken is there once, in its
//! order, with one end; each document is there once; and the log says the same of what nobody asked about.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time::sleep;

use crate::{
    support::Client,
    users::{Seen, Shelf, Talk, text},
};

/// When nothing is disturbed any more everything ends within this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Whether something may end with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failures {
    /// Nothing it needs was ever away.
    None,
    /// Something it needs may have been away for longer than it is tried again; it says so.
    Told,
}

/// How many ended, and how many of these with an error.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ended {
    pub(crate) ended: usize,
    pub(crate) failed: usize,
}

/// Asks again and again until there is nothing left to wait for.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(missing) => assert!(begun.elapsed() < PATIENCE, "{what}: {missing}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Every message that was taken is there once, in its order, with one answer; returns how many.
pub(crate) async fn check_talks(client: &Client, talks: &[Talk], seen: &Seen, failures: Failures) -> Ended {
    let (mut count, mut there) = (Ended::default(), BTreeMap::new());
    for talk in talks {
        let path = format!("/api/v1/sessions/{}/messages", talk.session);
        let rows = eventually("every message is answered", async || {
            let rows = client.all(&path, "messages", None).await;
            let is_from = |role: &str| rows.iter().filter(|row| row["role"] == role).count();
            let (asked, answered) = (is_from("user"), is_from("assistant"));
            if asked == answered { Ok(rows) } else { Err(format!("{path}: {answered} answers to {asked} messages")) }
        })
        .await;
        count.failed += check_talk(talk, &rows, failures);
        count.ended += rows.len() / 2;
        there.extend(rows.iter().map(|row| (text(&row["id"]), (talk.session.clone(), text(&row["content"])))));
    }
    for (id, message) in &seen.messages {
        assert_eq!(there.get(id), Some(message), "message {id} was seen");
    }
    count
}

/// Returns how many messages failed.
fn check_talk(talk: &Talk, rows: &[Value], failures: Failures) -> usize {
    let (asked, answers): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| row["role"] == "user");
    let ids: Vec<String> = asked.iter().map(|row| text(&row["id"])).collect();
    let of: Vec<String> = answers.iter().map(|row| text(&row["metadata"]["message_id"])).collect();
    assert_eq!(ids, of, "each message of {} has one answer, in order", talk.session);
    let failed: Vec<_> = answers.iter().filter(|row| row["content"] == "").collect();
    assert!(failures == Failures::Told || failed.is_empty(), "messages failed: {failed:#?}");
    failed.iter().for_each(|row| println!("a message failed: {}", row["metadata"]));

    let known: BTreeMap<&str, _> = talk.accepted.iter().map(|said| (said.text.as_str(), said)).collect();
    let mut texts = BTreeSet::new();
    let mut last = 0;
    for (asked, answer) in asked.iter().zip(&answers) {
        let text = asked["content"].as_str().expect("a text");
        assert!(texts.insert(text), "{text:?} was taken twice");
        let Some(said) = known.get(text) else {
            assert!(talk.uncertain.iter().any(|said| said == text), "nobody said {text:?}");
            continue;
        };
        assert_eq!(asked["id"], said.message_id.as_str(), "{text:?}");
        assert!(said.response.as_ref().is_none_or(|told| answer["content"] == told.as_str()), "{text:?}: {answer}");
        assert!(last <= said.burst, "{text:?} comes too late");
        last = said.burst;
    }
    let missing: Vec<_> = known.keys().filter(|text| !texts.contains(*text)).collect();
    assert!(missing.is_empty(), "session {} has lost {missing:?}", talk.session);
    failed.len()
}

/// Every document that was taken is there once, and ready; returns how many.
pub(crate) async fn check_documents(client: &Client, shelves: &[Shelf], seen: &Seen, failures: Failures) -> Ended {
    let documents = eventually("every document ends", async || {
        let documents = client.all("/api/v1/documents", "documents", None).await;
        let is_under_way = |document: &&Value| !["ready", "failed"].contains(&text(&document["status"]).as_str());
        match documents.iter().find(is_under_way) {
            Some(document) => Err(document.to_string()),
            None => Ok(documents),
        }
    })
    .await;
    let mut there = BTreeMap::new();
    for document in &documents {
        assert!(failures == Failures::Told || document["status"] == "ready", "{document}");
        let before = there.insert(text(&document["filename"]), text(&document["document_id"]));
        assert!(before.is_none(), "{} is there twice", document["filename"]);
    }
    for (name, id) in shelves.iter().flat_map(|shelf| &shelf.accepted) {
        assert_eq!(there.get(name), Some(id), "{name} was accepted");
    }
    for (id, name) in &seen.documents {
        assert_eq!(there.get(name), Some(id), "{name} was seen");
    }
    let sent = |name: &String| shelves.iter().any(|s| s.accepted.contains_key(name) || s.uncertain.contains(name));
    assert!(there.keys().all(sent), "nobody sent some of {there:?}");
    let failed = documents.iter().filter(|document| document["status"] == "failed").count();
    Ended { ended: documents.len(), failed }
}

/// In the log itself everything that began has ended once, also what nobody asked about.
pub(crate) async fn check_log(client: &Client) {
    let (mut begun, mut ended) = (BTreeSet::new(), BTreeMap::new());
    for record in records(client).await {
        let stream = text(&record["stream"]);
        if !["session/", "document/", "tool-call/"].iter().any(|category| stream.starts_with(category)) {
            continue;
        }
        for event in record["events"].as_array().expect("nobody was erased") {
            let of = event["data"]["message_id"].as_str().unwrap_or(&stream).to_owned();
            match event["type"].as_str().expect("a name").rsplit('.').next() {
                Some("MessageReceived" | "Uploaded" | "Requested") => {
                    assert!(begun.insert(of), "begun twice: {record}");
                }
                Some("ReplyCompleted" | "ReplyFailed" | "Indexed" | "Failed" | "Finished") => {
                    *ended.entry(of).or_insert(0) += 1;
                }
                _ => {}
            }
        }
    }
    assert!(!begun.is_empty(), "the log knows nothing of it all");
    let expected = begun.into_iter().map(|name| (name, 1)).collect::<BTreeMap<_, _>>();
    assert_eq!(ended, expected, "everything ends once");
}

/// Each stream has all its records, each of which continues the one before, and nothing is left to do; returns how many records
/// there are.
pub(crate) async fn check_chains(client: &Client) -> usize {
    eventually("nothing is owed any more", async || {
        let records = records(client).await;
        let mut heads = BTreeMap::<String, &Value>::new();
        for record in &records {
            let before = heads.insert(text(&record["stream"]), record);
            let expected = before.map_or(1, |before| before["version"].as_u64().expect("a version") + 1);
            assert_eq!(record["version"], expected, "a gap: {record}");
            assert!(before.is_none_or(|before| record["prev"] == before["hash"]), "a broken chain: {record}");
        }
        let owing = heads.into_values().find(|head| head["owes"] == "now");
        owing.map_or(Ok(records.len()), |head| Err(head.to_string()))
    })
    .await
}

/// The whole log.
async fn records(client: &Client) -> Vec<Value> {
    let mut records: Vec<Value> = vec![];
    loop {
        let after = records.last().map_or(0, |last| last["position"].as_u64().expect("a position"));
        let read = client.get(&format!("/admin/events?after={after}&limit=10000")).await.expect("an answer");
        assert_eq!(read.status, 200, "{}", read.body);
        let before = records.len();
        let lines = read.body.as_str().unwrap_or_default().lines().filter(|line| !line.is_empty());
        records.extend(lines.map(|line| serde_json::from_str::<Value>(line).expect("a record")));
        if records.len() == before {
            return records;
        }
    }
}
