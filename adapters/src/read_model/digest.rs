//! The digest of the content: BLAKE3 of every field of every row of the eight tables, rows in the order of their ids. Equal for
//! equal rows, whatever store they are in: that is how a move from one to the other is checked.

use std::borrow::Cow;

use lmao_events::Hash;
use lmao_ports::Digest;
use serde_json::Value;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Id,
    Text,
    Integer,
    Time,
    Flag,
    Real,
    Json,
}

/// A field of a row. Ids are hyphenated text, times are microseconds since 1970, flags are 0 or 1.
#[derive(Debug)]
pub(crate) enum Field<'a> {
    Null,
    Text(Cow<'a, str>),
    Integer(i64),
    Real(f64),
    Json(Value),
}

/// A table and its columns. Its ids sort as their bytes do.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
}

impl Table {
    /// Reads every row, in order.
    pub(crate) fn query(&self) -> String {
        let columns: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        format!("SELECT {} FROM {} ORDER BY id", columns.join(", "), self.name)
    }
}

/// The eight tables, whole.
pub(crate) const CONTENT: [Table; 8] = {
    use Kind::{Flag, Id, Integer, Json, Real, Text, Time};
    [
        Table {
            name: "users",
            columns: &[
                ("id", Id),
                ("username", Text),
                ("email", Text),
                ("password_hash", Text),
                ("role", Text),
                ("created_at", Time),
                ("updated_at", Time),
                ("last_login", Time),
                ("is_active", Flag),
            ],
        },
        Table {
            name: "sessions",
            columns: &[
                ("id", Id),
                ("user_id", Id),
                ("session_token", Text),
                ("created_at", Time),
                ("expires_at", Time),
                ("last_activity", Time),
                ("metadata", Json),
            ],
        },
        Table {
            name: "conversations",
            columns: &[
                ("id", Id),
                ("session_id", Id),
                ("user_id", Id),
                ("created_at", Time),
                ("updated_at", Time),
                ("title", Text),
                ("metadata", Json),
            ],
        },
        Table {
            name: "messages",
            columns: &[
                ("id", Id),
                ("conversation_id", Id),
                ("role", Text),
                ("content", Text),
                ("created_at", Time),
                ("metadata", Json),
                ("tokens_used", Integer),
                ("model_used", Text),
                ("ordinal", Integer),
            ],
        },
        Table {
            name: "tool_executions",
            columns: &[
                ("id", Id),
                ("session_id", Id),
                ("tool_name", Text),
                ("parameters", Json),
                ("result", Json),
                ("status", Text),
                ("execution_time", Real),
                ("created_at", Time),
                ("error_message", Text),
            ],
        },
        Table {
            name: "documents",
            columns: &[
                ("id", Id),
                ("user_id", Id),
                ("filename", Text),
                ("file_type", Text),
                ("file_size", Integer),
                ("content_hash", Text),
                ("uploaded_at", Time),
                ("processed_at", Time),
                ("status", Text),
                ("metadata", Json),
                ("chunks_count", Integer),
                ("embedding_model", Text),
            ],
        },
        Table {
            name: "feedback",
            columns: &[
                ("id", Id),
                ("user_id", Id),
                ("session_id", Id),
                ("message_id", Id),
                ("rating", Integer),
                ("feedback_text", Text),
                ("category", Text),
                ("created_at", Time),
            ],
        },
        Table {
            name: "system_metrics",
            columns: &[
                ("id", Id),
                ("metric_name", Text),
                ("metric_value", Real),
                ("metric_type", Text),
                ("timestamp", Time),
                ("metadata", Json),
            ],
        },
    ]
};

/// The digest as it grows. Every table has its own number of fields to a row, so that rows need no mark between them.
#[derive(Debug, Default)]
pub(crate) struct Content(blake3::Hasher);

impl Content {
    /// The rows of this table follow.
    pub(crate) fn table(&mut self, table: &Table) {
        self.add(b'#', table.name.as_bytes());
    }

    pub(crate) fn field(&mut self, field: &Field<'_>) {
        match field {
            Field::Null => self.add(b'n', &[]),
            Field::Text(text) => self.add(b't', text.as_bytes()),
            Field::Integer(number) => self.add(b'i', &number.to_be_bytes()),
            Field::Real(number) => self.add(b'r', &number.to_bits().to_be_bytes()),
            // Objects have their keys in order.
            Field::Json(value) => self.add(b'j', value.to_string().as_bytes()),
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        Hash(*self.0.finalize().as_bytes())
    }

    /// With its kind and length, so that no two lists of fields are one.
    fn add(&mut self, kind: u8, bytes: &[u8]) {
        self.0.update(&[kind]).update(&(bytes.len() as u64).to_be_bytes()).update(bytes);
    }
}
