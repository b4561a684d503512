//! Events as stored: a name, a version, MessagePack data; and the upcasting of old versions at the log's edge.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod set;

#[cfg(debug_assertions)]
pub use set::pretend_next_build;
pub use set::{EVENT_SET, readable_set, set_of};

use crate::{Category, claim, document, session, tool_call, user, workflow};

/// One event as stored in a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventData {
    /// Its name, for example `MessageReceived`.
    pub name: String,
    /// The version of its shape; 1 is the first.
    pub version: u16,
    /// MessagePack of its fields, by name, in the form for people (UUIDs as text): what JSON can say, so that old
    /// versions can be upcast as JSON and the schemas describe what is stored.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
}

/// Why a stored event cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// This build does not know the event: a newer node wrote it.
    #[error("{category} event {name:?} version {version} is newer than this build")]
    Newer {
        /// The stream's category.
        category: Category,
        /// The event's name.
        name: String,
        /// The stored version.
        version: u16,
    },
    /// Its data does not have the shape that its version promises.
    #[error("the data of {name} version {version} does not parse")]
    Data {
        /// The event's name.
        name: String,
        /// The stored version.
        version: u16,
        /// What the decoder says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// One step from an old shape to the next: `(event name, version it reads, the change)`.
pub type Upcaster = (&'static str, u16, fn(Value) -> Value);

/// Brings stored data of `version` to `current` by `steps`.
///
/// # Errors
/// [`DecodeError::Data`] when a step is missing.
pub fn upcast(
    name: &str,
    mut version: u16,
    current: u16,
    mut data: Value,
    steps: &[Upcaster],
) -> Result<Value, DecodeError> {
    while version < current {
        let step = steps.iter().find(|(n, from, _)| *n == name && *from == version);
        let Some((_, _, change)) = step else {
            let source = format!("no upcaster from version {version} to {}", version + 1).into();
            return Err(DecodeError::Data { name: name.to_owned(), version, source });
        };
        data = change(data);
        version += 1;
    }
    Ok(data)
}

/// All events of one category: a closed, versioned set.
pub trait EventSet: Clone + Debug + PartialEq + Send + Sync + Sized + 'static {
    /// The category.
    const CATEGORY: Category;

    /// The event's name.
    fn name(&self) -> &'static str;

    /// The event in its current version, as stored.
    fn encode(&self) -> EventData;

    /// Reads a stored event of any version up to the current one.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn decode(stored: &EventData) -> Result<Self, DecodeError>;

    /// Name, current version and JSON Schema (2020-12) of every event.
    fn schemas() -> Vec<(&'static str, u16, schemars::Schema)>;
}

/// Declares a category's events: `Name = current version` each, a struct of the same name each.
macro_rules! event_set {
    ($(#[$meta:meta])* $category:ident { $($name:ident = $version:literal),* $(,)? } upcasters $upcasters:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)*
        }

        $(impl From<$name> for Event {
            fn from(event: $name) -> Self {
                Self::$name(event)
            }
        })*

        impl $crate::event::EventSet for Event {
            const CATEGORY: $crate::Category = $crate::Category::$category;

            fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            fn encode(&self) -> $crate::EventData {
                match self {
                    $(Self::$name(event) => $crate::event::encode(stringify!($name), $version, event),)*
                }
            }

            fn decode(stored: &$crate::EventData) -> Result<Self, $crate::DecodeError> {
                match stored.name.as_str() {
                    $(stringify!($name) => {
                        $crate::event::decode(Self::CATEGORY, stored, $version, $upcasters).map(Self::$name)
                    })*
                    _ => Err($crate::event::newer(Self::CATEGORY, stored)),
                }
            }

            fn schemas() -> Vec<(&'static str, u16, schemars::Schema)> {
                vec![$((stringify!($name), $version, schemars::schema_for!($name)),)*]
            }
        }
    };
}
pub(crate) use event_set;

pub(crate) fn encode(name: &str, version: u16, event: &impl Serialize) -> EventData {
    let mut data = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut data).with_struct_map().with_human_readable();
    event.serialize(&mut serializer).unwrap_or_else(|error| unreachable!("events encode: {error}"));
    EventData { name: name.to_owned(), version: version + set::bump(name), data }
}

pub(crate) fn newer(category: Category, stored: &EventData) -> DecodeError {
    DecodeError::Newer { category, name: stored.name.clone(), version: stored.version }
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(
    category: Category,
    stored: &EventData,
    current: u16,
    upcasters: &[Upcaster],
) -> Result<T, DecodeError> {
    let bump = set::bump(&stored.name);
    if stored.version > current + bump {
        return Err(newer(category, stored));
    }
    // The version after the current one has the same fields.
    let version = stored.version.min(current);
    let data = |source: Box<dyn std::error::Error + Send + Sync>| DecodeError::Data {
        name: stored.name.clone(),
        version: stored.version,
        source,
    };
    if version == current {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(&stored.data).with_human_readable();
        return T::deserialize(&mut deserializer).map_err(|error| data(error.into()));
    }
    let old: Value = rmp_serde::from_slice(&stored.data).map_err(|error| data(error.into()))?;
    let new = upcast(&stored.name, version, current, old, upcasters)?;
    serde_json::from_value(new).map_err(|error| data(error.into()))
}

macro_rules! any {
    ($($category:ident => $module:ident),* $(,)?) => {
        /// An event of any category, for readers of the whole log.
        #[derive(Debug, Clone, PartialEq)]
        pub enum AnyEvent {
            $(#[doc = concat!("Of a ", stringify!($module), ".")] $category($module::Event),)*
        }

        /// A command to a stream of any category. Its serialized form goes from node to node, and is never stored.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum AnyCommand {
            $(#[doc = concat!("To a ", stringify!($module), ".")] $category($module::Command),)*
        }

        $(impl From<$module::Command> for AnyCommand {
            fn from(command: $module::Command) -> Self {
                Self::$category(command)
            }
        })*

        impl AnyCommand {
            /// The category of the streams that this command can be sent to.
            #[must_use]
            pub const fn category(&self) -> Category {
                match self {
                    $(Self::$category(_) => Category::$category,)*
                }
            }
        }

        impl AnyEvent {
            /// The event's name.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$category(event) => event.name(),)*
                }
            }

            /// The category of the stream that it happened in.
            #[must_use]
            pub const fn category(&self) -> Category {
                match self {
                    $(Self::$category(_) => Category::$category,)*
                }
            }

            /// The event in its current version, as stored.
            #[must_use]
            pub fn encode(&self) -> EventData {
                match self {
                    $(Self::$category(event) => event.encode(),)*
                }
            }

            /// The event's fields as JSON, for people and tools that read the log.
            #[must_use]
            pub fn to_json(&self) -> Value {
                rmp_serde::from_slice(&self.encode().data).unwrap_or(Value::Null)
            }
        }

        /// Reads a stored event of a stream of `category`.
        ///
        /// # Errors
        /// [`DecodeError`].
        pub fn decode_any(category: Category, stored: &EventData) -> Result<AnyEvent, DecodeError> {
            match category {
                $(Category::$category => $module::Event::decode(stored).map(AnyEvent::$category),)*
            }
        }
    };
}

any! {
    Session => session,
    Workflow => workflow,
    ToolCall => tool_call,
    Document => document,
    User => user,
    Claim => claim,
}
