//! Identifiers and places: what a stream is called, where a commit stands.
//!
//! Identifiers are UUIDs, never names: they appear in clear headers and in subjects, outside any seal.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// The kind of thing that a stream tells the history of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// A conversation.
    Session,
    /// One planned and executed answer to one message.
    Workflow,
    /// One call of one tool.
    ToolCall,
    /// One document of one owner, from upload to deletion.
    Document,
    /// An account.
    User,
    /// The exclusive use of one value (a user name, an e-mail address) by one holder.
    Claim,
}

impl Category {
    /// Every category, in the order of its stored byte.
    pub const ALL: [Self; 6] = [Self::Session, Self::Workflow, Self::ToolCall, Self::Document, Self::User, Self::Claim];

    /// The name used in stream ids and subjects.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Workflow => "workflow",
            Self::ToolCall => "tool-call",
            Self::Document => "document",
            Self::User => "user",
            Self::Claim => "claim",
        }
    }
}

/// Text that is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {expected}")]
pub struct ParseError {
    /// What was given.
    pub text: String,
    /// What was expected, with an example.
    pub expected: &'static str,
}

impl FromStr for Category {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::ALL.into_iter().find(|category| category.as_str() == text).ok_or_else(|| ParseError {
            text: text.to_owned(),
            expected: "category (session, workflow, tool-call, document, user or claim)",
        })
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All events of one thing: `session/0190…`. Written as text everywhere, also when serialized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The kind of thing.
    pub category: Category,
    /// Which one.
    pub id: Uuid,
}

impl StreamId {
    /// A stream's name from its parts.
    #[must_use]
    pub const fn new(category: Category, id: Uuid) -> Self {
        Self { category, id }
    }

    /// The stream's place in the fixed set of 256 buckets: the first byte of BLAKE3 of the UUID's bytes. Stored in
    /// subjects, so it never changes.
    #[must_use]
    pub fn bucket(&self) -> u8 {
        blake3::hash(self.id.as_bytes()).as_bytes()[0]
    }

    /// The 17 bytes under which storage keys the stream: category byte, then the UUID.
    #[must_use]
    pub fn key(&self) -> [u8; 17] {
        let mut key = [0; 17];
        key[0] = Category::ALL
            .iter()
            .position(|c| *c == self.category)
            .and_then(|i| u8::try_from(i).ok())
            .unwrap_or(u8::MAX);
        key[1..].copy_from_slice(self.id.as_bytes());
        key
    }

    /// The inverse of [`StreamId::key`]; `None` for bytes that no key has.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (category, id) = key.split_first()?;
        let category = *Category::ALL.get(usize::from(*category))?;
        Some(Self { category, id: Uuid::from_slice(id).ok()? })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.category, self.id)
    }
}

impl FromStr for StreamId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError { text: text.to_owned(), expected: "stream (for example session/0190a9c2-…)" };
        let (category, id) = text.split_once('/').ok_or_else(error)?;
        Ok(Self { category: category.parse()?, id: id.parse().map_err(|_| error())? })
    }
}

impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A commit's identity, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(pub Uuid);

/// A commit's place in its stream: 1 is the first; 0 is the state of a stream that does not exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A commit's place in the whole log. Grows, has gaps in some adapters, and starts above 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// BLAKE3 of a record's canonical bytes; zero before the first record.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: serde_bytes::ByteArray<32> = Deserialize::deserialize(deserializer)?;
        Ok(Self(bytes.into_array()))
    }
}

/// The id that follows from `parent` and `name`, the same on every node and in every replay (UUIDv5, RFC 9562).
#[must_use]
pub fn derive_id(parent: Uuid, name: &str) -> Uuid {
    Uuid::new_v5(&parent, name.as_bytes())
}

/// The id that follows from a secret `key`, a `scope` and a `value`: equal values meet in one stream, and nobody without
/// the key can tell which value it is (BLAKE3 keyed hash, shaped as a UUIDv8).
#[must_use]
pub fn keyed_id(key: &[u8; 32], scope: &str, value: &[u8]) -> Uuid {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(scope.len() as u64).to_be_bytes()).update(scope.as_bytes()).update(value);
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_ids_survive_text_and_bytes() {
        for category in Category::ALL {
            let stream = StreamId::new(category, Uuid::from_u128(7));
            assert_eq!(stream.to_string().parse(), Ok(stream));
            assert_eq!(StreamId::from_key(&stream.key()), Some(stream));
        }
        assert!("session".parse::<StreamId>().is_err());
        assert!("sessions/00000000-0000-0000-0000-000000000007".parse::<StreamId>().is_err());
        assert_eq!(StreamId::from_key(&[9; 17]), None);
    }

    #[test]
    fn buckets_are_fixed_for_ever() {
        let bucket = |n| StreamId::new(Category::Session, Uuid::from_u128(n)).bucket();
        assert_eq!([bucket(0), bucket(1), bucket(2)], BUCKETS);
    }

    /// Computed once; a change here would move every stored stream.
    const BUCKETS: [u8; 3] = [229, 7, 2];
}
