//! The canonical record: sealed, parsed and opened; altered anywhere, it is noticed.

use expect_test::expect;
use proptest::prelude::*;

use super::{header, id, time};
use crate::{
    Category, CommandRef, DataKey, EventData, Hash, Head, Header, MAX_RECORD_BYTES, OpenError, Owes, Payload, Record,
    RecordError, StreamId, Timestamp,
};

fn key() -> DataKey {
    DataKey::new([7; 32])
}

fn sample() -> (Header, Payload) {
    let event = |name: &str, data: &[u8]| EventData { name: name.to_owned(), version: 1, data: data.to_vec() };
    let events = vec![event("First", b"\x81\xa1n\x01"), event("Second", b"\x80")];
    let command = Some(CommandRef { id: id(5), body: Hash::of(b"body") });
    let mut header = header(StreamId::new(Category::Session, id(10)), Head::default(), Owes::Now);
    header.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    (header, Payload { command, events })
}

fn record() -> Record {
    let (header, payload) = sample();
    Record::seal(header, &payload, &key(), [3; 24]).expect("small")
}

/// Bytes with this header part in front of the sample's sealed part.
fn with_clear(encoded: &[u8]) -> Vec<u8> {
    let original = record();
    let length = u32::from_be_bytes(original.bytes()[4..8].try_into().expect("four bytes")) as usize;
    let mut bytes = b"LMR1".to_vec();
    bytes.extend_from_slice(&u32::try_from(encoded.len()).expect("small").to_be_bytes());
    bytes.extend_from_slice(encoded);
    bytes.extend_from_slice(&original.bytes()[8 + length..]);
    bytes
}

#[test]
fn a_record_says_what_was_sealed() {
    let (header, payload) = sample();
    let stored = Record::parse(record().bytes().to_vec()).expect("parses");
    assert_eq!(stored, record());
    assert_eq!(*stored.header(), header);
    assert_eq!(stored.open(&key()).expect("opens"), payload);
    assert_eq!(stored.hash(), Hash::of(stored.bytes()));
}

/// The layout is stored data: this hash changes only with a new magic number.
#[test]
fn the_layout_is_fixed_for_ever() {
    expect!["196379197d8d77856474dbde5791fe37706689ae085179568ec2a378f9502834"].assert_eq(&record().hash().to_string());
    let (header, _) = sample();
    let encoded = rmp_serde::to_vec(&header).expect("encodes");
    let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    expect!["9cc41000000000000000000000000000000001d92c73657373696f6e2f30303030303030302d303030302d303030302d303030302d3030303030303030303030610101ce000f4240c41000000000000000000000000000000001c41000000000000000000000000000000001c41000000000000000000000000000000002c41000000000000000000000000000000003d93730302d30616637363531393136636434336464383434386562323131633830333139632d623761643662373136393230333333312d3031c4200000000000000000000000000000000000000000000000000000000000000000a177"].assert_eq(&hex);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let original = record();
    for at in 0..original.bytes().len() {
        for bit in 0..8 {
            let mut bytes = original.bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let noticed = match Record::parse(bytes) {
                Err(_) => true,
                Ok(record) => record.open(&key()).is_err() && record.hash() != original.hash(),
            };
            assert!(noticed, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_noticed() {
    let original = record();
    for length in 0..original.bytes().len() {
        let cut = original.bytes()[..length].to_vec();
        assert!(
            Record::parse(cut).is_err()
                || Record::parse(original.bytes()[..length].to_vec()).is_ok_and(|r| r.open(&key()).is_err())
        );
    }
    let longer = [original.bytes(), &[0]].concat();
    let opened = Record::parse(longer).expect("the header is whole").open(&key());
    assert!(matches!(opened, Err(OpenError::Altered)), "{opened:?}");
}

#[test]
fn another_key_does_not_open_it() {
    let opened = record().open(&DataKey::new([8; 32]));
    assert!(matches!(opened, Err(OpenError::Altered)), "{opened:?}");
}

#[test]
fn a_payload_is_bound_to_its_header() {
    let (mut header, _) = sample();
    header.who = None;
    let moved = with_clear(&rmp_serde::to_vec(&header).expect("encodes"));
    let opened = Record::parse(moved).expect("a proper header").open(&key());
    assert!(matches!(opened, Err(OpenError::Altered)), "{opened:?}");
}

#[test]
fn a_header_in_another_form_is_refused() {
    let (header, _) = sample();
    let named = with_clear(&rmp_serde::to_vec_named(&header).expect("encodes"));
    let refused = Record::parse(named).expect_err("structs are arrays");
    assert!(matches!(refused, RecordError::Malformed(_)), "{refused}");

    let mut trailing = rmp_serde::to_vec(&header).expect("encodes");
    trailing.push(0xc0);
    let refused = Record::parse(with_clear(&trailing)).expect_err("nothing follows the header");
    assert!(matches!(refused, RecordError::Malformed(_)), "{refused}");

    let refused = Record::parse(with_clear(&[0xc1])).expect_err("no MessagePack");
    assert!(matches!(refused, RecordError::Header(_)), "{refused}");
}

#[test]
fn a_newer_codec_is_told_from_damage() {
    let (mut header, payload) = sample();
    header.codec = 2;
    let newer = Record::seal(header, &payload, &key(), [3; 24]).expect("small");
    let opened = Record::parse(newer.bytes().to_vec()).expect("headers keep their form").open(&key());
    assert!(matches!(opened, Err(OpenError::Codec(2))), "{opened:?}");
}

#[test]
fn one_decision_is_one_record_of_limited_size() {
    let (header, mut payload) = sample();
    payload.events[0].data = vec![0; MAX_RECORD_BYTES];
    let refused = Record::seal(header, &payload, &key(), [3; 24]).expect_err("too large");
    assert!(matches!(refused, RecordError::TooLarge { size } if size > MAX_RECORD_BYTES), "{refused}");

    let padded = [record().bytes(), &vec![0; MAX_RECORD_BYTES]].concat();
    let refused = Record::parse(padded).expect_err("too large");
    assert!(matches!(refused, RecordError::TooLarge { .. }), "{refused}");
}

fn owes() -> impl Strategy<Value = Owes> {
    prop_oneof![Just(Owes::Nothing), Just(Owes::Now), any::<i64>().prop_map(|time| Owes::At(Timestamp(time)))]
}

proptest! {
    #[test]
    fn any_header_and_payload_survive(
        numbers in any::<[u128; 5]>(),
        version in 1..1_u64 << 40,
        at in any::<i64>(),
        who in any::<Option<u128>>(),
        traceparent in any::<Option<String>>(),
        prev in any::<[u8; 32]>(),
        owes in owes(),
        category in 0..Category::ALL.len(),
        data in proptest::collection::vec(any::<Vec<u8>>(), 0..4),
        nonce in any::<[u8; 24]>(),
    ) {
        let head = Head { version: crate::Version(version - 1), hash: Hash(prev), ..Head::default() };
        let mut header = header(StreamId::new(Category::ALL[category], id(numbers[0])), head, owes);
        header.id = crate::CommitId(id(numbers[1]));
        header.time = Timestamp(at);
        header.who = who.map(id);
        header.key = id(numbers[2]);
        header.causation = id(numbers[3]);
        header.correlation = id(numbers[4]);
        header.traceparent = traceparent;
        let event = |data| EventData { name: "Sample".to_owned(), version: 1, data };
        let payload = Payload { command: None, events: data.into_iter().map(event).collect() };
        let record = Record::seal(header.clone(), &payload, &key(), nonce).expect("small");
        let stored = Record::parse(record.bytes().to_vec()).expect("parses");
        prop_assert_eq!(stored.header(), &header);
        prop_assert_eq!(stored.open(&key()).expect("opens"), payload);
    }

    #[test]
    fn no_bytes_bring_the_parser_down(bytes in any::<Vec<u8>>(), length in any::<u32>()) {
        let _ = Record::parse(bytes.clone());
        let framed = [b"LMR1".as_slice(), &length.to_be_bytes(), &bytes].concat();
        let _ = Record::parse(framed);
        let _ = Payload::decode(&bytes);
    }
}

#[test]
fn times_are_whole_microseconds() {
    assert_eq!(time(2).since(time(1)).as_micros(), 1_000_000);
    assert_eq!(time(1).since(time(2)).as_micros(), 0);
    assert_eq!(Timestamp(i64::MAX).after(std::time::Duration::from_secs(1)), Timestamp(i64::MAX));
}
