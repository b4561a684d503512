//! Values as Postgres takes them: times in its own epoch, and text and JSON with what it cannot hold put in other words.
//!
//! Neither `text` nor `jsonb` has a zero character, and `jsonb` spells `1e300` and `-0.0` anew. What was said comes back as it
//! was said all the same: such things are stored behind [`MARK`], which no Unicode text needs.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use lmao_events::Timestamp;
use serde_json::{Map, Number, Value};
use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef},
};

/// A noncharacter: valid in UTF-8, and in no text on purpose.
const MARK: char = '\u{10FFFF}';

/// A moment, as `timestamptz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) Timestamp);

/// 2000-01-01T00:00:00Z in microseconds since 1970: the server's zero.
const EPOCH: i64 = 946_684_800_000_000;
/// The earliest moment that it knows, 4714 BC; what is before becomes its `-infinity`.
const EARLIEST: i64 = -211_813_488_000_000_000;

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Time {
    fn array_type_info() -> PgTypeInfo {
        <DateTime<Utc> as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self.0.0.saturating_sub(EPOCH);
        Encode::<Postgres>::encode(if micros < EARLIEST { i64::MIN } else { micros }, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Time {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let micros: i64 = Decode::<Postgres>::decode(value)?;
        Ok(Self(Timestamp(micros.saturating_add(EPOCH))))
    }
}

/// Text as it is stored.
pub(super) fn text(said: &str) -> Cow<'_, str> {
    if !said.contains(['\0', MARK]) {
        return Cow::Borrowed(said);
    }
    let mut stored = String::with_capacity(said.len() + 16);
    for char in said.chars() {
        match char {
            '\0' => stored.extend([MARK, '0']),
            MARK => stored.extend([MARK, '1']),
            char => stored.push(char),
        }
    }
    Cow::Owned(stored)
}

/// Stored text as it was said.
pub(super) fn said(stored: &str) -> Cow<'_, str> {
    if !stored.contains(MARK) {
        return Cow::Borrowed(stored);
    }
    let mut said = String::with_capacity(stored.len());
    let mut chars = stored.chars();
    while let Some(char) = chars.next() {
        said.push(match char {
            MARK if chars.next() == Some('0') => '\0',
            char => char,
        });
    }
    Cow::Owned(said)
}

/// JSON as it is stored, in text.
pub(super) fn json(said: &Value) -> String {
    if is_plain(said) { said.to_string() } else { marked(said).to_string() }
}

/// An object as it is stored, in text.
pub(super) fn object(said: &Map<String, Value>) -> String {
    let plain = said.iter().all(|(name, value)| is_plain_text(name) && is_plain(value));
    let encoded = if plain { serde_json::to_string(said) } else { serde_json::to_string(&marked_object(said)) };
    encoded.unwrap_or_else(|error| unreachable!("JSON encodes: {error}"))
}

/// Stored JSON as it was said.
pub(super) fn json_said(stored: Value) -> Value {
    match stored {
        Value::String(text) if text.contains(MARK) => number(&text).unwrap_or_else(|| said(&text).into_owned().into()),
        Value::Array(items) => items.into_iter().map(json_said).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (said(&name).into_owned(), json_said(value))).collect()
        }
        plain => plain,
    }
}

/// About as many bytes as it takes in text.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 3,
        Value::Array(items) => 2 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => 2 + fields.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>(),
    }
}

fn is_plain_text(text: &str) -> bool {
    !text.contains(['\0', MARK])
}

/// Whether `jsonb` gives it back as it is.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::Number(number) => is_plain_number(number),
        Value::String(text) => is_plain_text(text),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(fields) => fields.iter().all(|(name, value)| is_plain_text(name) && is_plain(value)),
    }
}

/// Digits without an exponent stay as they are.
fn is_plain_number(number: &Number) -> bool {
    !number.is_f64() || {
        let digits = number.to_string();
        digits != "-0.0" && !digits.contains('e')
    }
}

fn marked(value: &Value) -> Value {
    match value {
        Value::Number(number) if !is_plain_number(number) => format!("{MARK}n{number}").into(),
        Value::String(said) => text(said).into_owned().into(),
        Value::Array(items) => items.iter().map(marked).collect(),
        Value::Object(fields) => Value::Object(marked_object(fields)),
        plain => plain.clone(),
    }
}

fn marked_object(fields: &Map<String, Value>) -> Map<String, Value> {
    fields.iter().map(|(name, value)| (text(name).into_owned(), marked(value))).collect()
}

fn number(stored: &str) -> Option<Value> {
    let digits = stored.strip_prefix(MARK)?.strip_prefix('n')?;
    serde_json::from_str(digits).ok().map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_comes_back() {
        for text_said in
            ["", "plain", "zero \0 inside", "\u{10FFFF}", "\u{10FFFF}0", "\u{10FFFF}n1e5", "\0\u{10FFFF}\0"]
        {
            let stored = text(text_said);
            assert!(!stored.contains('\0'));
            assert_eq!(said(&stored), text_said);
            let value =
                json!({ text_said: [text_said, 1, null, { "x": text_said }], "n": [1e300, -0.0, 1e16, 0.1, 7] });
            let stored: Value = serde_json::from_str(&json(&value)).unwrap();
            assert!(!stored.to_string().contains("\\u0000"));
            let back = json_said(stored);
            assert_eq!((back.to_string(), &back), (value.to_string(), &value));
        }
        assert!(matches!(text("plain"), Cow::Borrowed(_)));
    }
}
