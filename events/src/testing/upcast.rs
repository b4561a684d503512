//! Upcasting, shown by an event that had two shapes before its present one.

#![expect(unreachable_pub, reason = "the macro makes public sets, and this one is for tests")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::id;
use crate::{
    DecodeError, EventData,
    event::{EventSet, Upcaster, encode, event_set},
};

/// Version 1 had `name`, version 2 `first` and `last`, version 3 adds `title`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Renamed {
    holder: Uuid,
    first: String,
    last: String,
    title: Option<String>,
}

#[derive(Serialize)]
struct RenamedV1 {
    holder: Uuid,
    name: String,
}

#[derive(Serialize)]
struct RenamedV2 {
    holder: Uuid,
    first: String,
    last: String,
}

fn split_name(mut old: Value) -> Value {
    let name = old["name"].as_str().unwrap_or_default().to_owned();
    let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
    old["first"] = json!(first);
    old["last"] = json!(last);
    old
}

fn add_title(mut old: Value) -> Value {
    old["title"] = Value::Null;
    old
}

const UPCASTERS: &[Upcaster] = &[("Renamed", 1, split_name), ("Renamed", 2, add_title)];

event_set! {
    /// A set with a history.
    Claim { Renamed = 3 } upcasters UPCASTERS
}

fn present() -> Event {
    Renamed { holder: id(1), first: "Ada".to_owned(), last: "Lovelace".to_owned(), title: None }.into()
}

#[test]
fn every_old_version_is_read_as_the_present_one() {
    let v1 = encode("Renamed", 1, &RenamedV1 { holder: id(1), name: "Ada Lovelace".to_owned() });
    let v2 = encode("Renamed", 2, &RenamedV2 { holder: id(1), first: "Ada".to_owned(), last: "Lovelace".to_owned() });
    for stored in [v1, v2, present().encode()] {
        assert_eq!(Event::decode(&stored).expect("decodes"), present());
    }
    assert_eq!(present().encode().version, 3);
}

#[test]
fn what_a_newer_build_wrote_is_told_from_damage() {
    let newer = EventData { version: 4, ..present().encode() };
    let unknown = EventData { name: "Invented".to_owned(), ..present().encode() };
    for stored in [newer, unknown] {
        let refused = Event::decode(&stored).expect_err("this build does not know it");
        assert!(matches!(refused, DecodeError::Newer { .. }), "{refused}");
    }
    let damaged = EventData { data: vec![0xc1], ..present().encode() };
    let unversioned = EventData { version: 0, ..present().encode() };
    let shapeless = EventData { version: 2, ..encode("Renamed", 2, &json!({"holder": id(1)})) };
    for stored in [damaged, unversioned, shapeless] {
        let refused = Event::decode(&stored).expect_err("it has no known shape");
        assert!(matches!(refused, DecodeError::Data { .. }), "{refused}");
    }
}
