//! Golden files: what every version of every event looks like in the log, for ever.
//!
//! A file is written once, by `UPDATE=1 cargo test -p lmao-events golden`, and never edited: a change of an event's shape
//! is a new version with a file of its own, and the old file must still be read, through the upcasters.

use std::{fmt::Write, fs, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::samples::every_event;
use crate::{AnyEvent, Category, EventData, decode_any, schema, set_of};

#[derive(Serialize, Deserialize)]
struct Golden {
    category: Category,
    name: String,
    version: u16,
    /// The stored bytes, in hexadecimal.
    data: String,
    /// What they say.
    event: Value,
}

impl Golden {
    fn of(event: &AnyEvent) -> Self {
        let EventData { name, version, data } = event.encode();
        let data = data.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("strings take text");
            text
        });
        Self { category: event.category(), name, version, data, event: event.to_json() }
    }

    fn file(&self) -> String {
        format!("{}.{}.v{}.json", self.category, self.name, self.version)
    }

    fn stored(&self) -> EventData {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
        let data = self.data.as_bytes().chunks_exact(2).map(byte).collect();
        EventData { name: self.name.clone(), version: self.version, data }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

#[test]
fn every_event_has_its_golden_file_and_reads_it() {
    for event in every_event() {
        let golden = Golden::of(&event);
        let path = folder().join(golden.file());
        if !path.exists() && std::env::var_os("UPDATE").is_some() {
            let text = serde_json::to_string_pretty(&golden).expect("goldens encode");
            fs::write(&path, text + "\n").expect("the folder can be written");
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let kept: Golden = serde_json::from_str(&text).expect("goldens parse");
        assert_eq!(kept.data, golden.data, "{} is stored differently: make it a new version", golden.file());
        assert_eq!(kept.event, golden.event, "{}", golden.file());
    }
}

#[test]
fn every_golden_file_of_any_version_is_still_read() {
    let mut files = 0;
    for entry in fs::read_dir(folder()).expect("the folder exists") {
        let path = entry.expect("listed").path();
        let text = fs::read_to_string(&path).expect("readable");
        let golden: Golden = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(golden.file().as_str()));
        let event = decode_any(golden.category, &golden.stored()).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(event.name(), golden.name);
        let current = event.encode();
        assert_eq!(decode_any(golden.category, &current).expect("decodes"), event);
        if current.version == golden.version {
            assert_eq!(event.to_json(), golden.event);
        }
        files += 1;
    }
    assert!(files >= schema::all().len(), "every event has a file");
}

#[test]
fn every_event_has_a_sample() {
    let samples: Vec<String> = every_event().iter().map(|event| Golden::of(event).file()).collect();
    for (file, _) in schema::all() {
        assert!(samples.contains(&file), "{file}: add a sample to samples.rs");
    }
}

#[test]
fn the_committed_schemas_are_those_of_the_code() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/events");
    let mut committed: Vec<String> = fs::read_dir(&folder)
        .expect("the folder exists")
        .map(|entry| entry.expect("listed").file_name().into_string().expect("ASCII"))
        .collect();
    committed.sort();
    let mut wanted: Vec<String> = schema::all().into_iter().map(|(file, _)| file).collect();
    wanted.sort();
    assert_eq!(committed, wanted, "run `cargo xtask schemas`");
    for (file, schema) in schema::all() {
        let text = fs::read_to_string(folder.join(&file)).expect("readable");
        let committed: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(committed, schema.to_value(), "{file}: run `cargo xtask schemas`");
    }
}

/// The first set of events: what no build is without. Never longer than this.
const FIRST_SET: &str = "claim.Claimed.v1 claim.Released.v1 document.BlobsRemoved.v1 document.Chunked.v1 document.Deleted.v1 \
    document.Embedded.v1 document.EmbeddingSkipped.v1 document.Extracted.v1 document.Failed.v1 document.Indexed.v1 \
    document.Published.v2 document.ReembedRequested.v1 document.RetryRequested.v1 document.StepFailed.v1 \
    document.Uploaded.v2 session.MessageReceived.v1 session.Opened.v1 session.ReplyCompleted.v1 \
    session.ReplyFailed.v1 tool-call.AttemptFailed.v1 tool-call.AttemptStarted.v1 tool-call.Finished.v1 \
    tool-call.Requested.v1 user.Activated.v1 user.ClaimGranted.v1 user.ClaimReleased.v1 user.LoggedIn.v1 \
    user.Registered.v1 user.RegistrationRefused.v1 workflow.AnswerSynthesized.v1 workflow.Planned.v1 \
    workflow.ReplyDelivered.v1 workflow.Started.v1 workflow.TaskCompleted.v1 workflow.TaskFailed.v1 \
    workflow.WorkflowFailed.v1";

#[test]
fn what_came_after_the_first_set_says_so() {
    for event in every_event() {
        let EventData { name, version, .. } = event.encode();
        let known = FIRST_SET.split(' ').any(|known| known == format!("{}.{name}.v{version}", event.category()));
        assert_eq!(set_of(&event.encode()) == 1, known, "{name} version {version}: give it an entry in `SINCE`");
    }
}
