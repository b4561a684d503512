//! The ports' keys as keys of a bucket: parts become tokens of a subject, and what no token may hold is written as `=XX`.

use std::fmt::Write as _;

use lmao_ports::Unavailable;

use super::STORE;

/// The longest key, in bytes.
const MAX: usize = 200;

/// The key of a bucket for `key`.
pub(super) fn encode(key: &str) -> Result<String, Unavailable> {
    let fits = key.is_ascii() && key.len() <= MAX && key.split('/').all(|part| !part.is_empty());
    if !fits {
        let message = format!("{key:?} is no key: at most {MAX} ASCII characters, no part between slashes empty");
        return Err(Unavailable::plain(STORE, message));
    }
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'/' => encoded.push('.'),
            b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => _ = write!(encoded, "={byte:02X}"),
        }
    }
    Ok(encoded)
}

/// The inverse; `None` for what no key becomes.
pub(super) fn decode(encoded: &str) -> Option<String> {
    let mut key = String::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'.' => key.push('/'),
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                key.push(char::from(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?));
            }
            _ => key.push(char::from(byte)),
        }
    }
    Some(key)
}

/// What matches all keys with this prefix, and perhaps others.
pub(super) fn filter(prefix: &str) -> Result<String, Unavailable> {
    match prefix.rsplit_once('/') {
        Some((parts, _)) => Ok(format!("{}.>", encode(parts)?)),
        None => Ok(">".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_tokens_and_the_rest_is_escaped() {
        assert_eq!(encode("state/session/0-1_a").unwrap(), "state.session.0-1_a");
        assert_eq!(encode("a.b/c =*>").unwrap(), "a=2Eb.c=20=3D=2A=3E");
        for wrong in ["", "/a", "a/", "a//b", "ä", &"a".repeat(MAX + 1)] {
            assert!(encode(wrong).is_err(), "{wrong}");
        }
        assert_eq!(filter("parked/a").unwrap(), "parked.>");
        assert_eq!(filter("park").unwrap(), ">");
    }

    proptest! {
        #[test]
        fn every_key_comes_back(key in "[ -~]{1,40}(/[ -.0-~]{1,20}){0,3}") {
            if let Ok(encoded) = encode(&key) {
                prop_assert_eq!(decode(&encoded), Some(key));
            }
        }
    }
}
