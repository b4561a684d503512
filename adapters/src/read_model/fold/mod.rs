//! From events to rows: what a batch of commits changes in the eight tables. Pure; knows no SQL.
//!
//! New rows are listed; changes of one row within a batch become one change. Documents alone are folded on the row that is
//! stored, because a step's outcome depends on the steps before it.

mod document;
mod session;
mod tool_call;
mod user;

use std::collections::BTreeMap;

use lmao_events::{AnyEvent, Category, Timestamp, Version, document::Event as DocumentEvent};
use lmao_ports::Committed;
use uuid::Uuid;

pub(crate) use document::{DocumentRecord, status_name};
pub(crate) use session::{MessageRecord, OpenedRecord, Touch};
pub(crate) use tool_call::{ExecutionRecord, FinishedExecution};
pub(crate) use user::{AccountChange, UserRecord};

/// What a batch changes. A row serializes as an array, in the order that its type names.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) registered: Vec<UserRecord>,
    pub(crate) accounts: BTreeMap<Uuid, AccountChange>,
    pub(crate) refused: Vec<Uuid>,
    pub(crate) opened: Vec<OpenedRecord>,
    pub(crate) touched: BTreeMap<Uuid, Touch>,
    pub(crate) messages: Vec<MessageRecord>,
    pub(crate) executions: Vec<ExecutionRecord>,
    pub(crate) finished: Vec<FinishedExecution>,
    /// Every document of the batch as it is, then as it becomes; `None` when there is none.
    pub(crate) documents: BTreeMap<Uuid, Option<DocumentRecord>>,
}

/// Where and when an event happened.
#[derive(Debug, Clone, Copy)]
struct At {
    /// The stream's id.
    id: Uuid,
    version: Version,
    index: u16,
    time: Timestamp,
}

impl At {
    /// The event's place in its stream's history, as one number that grows.
    fn ordinal(self) -> i64 {
        (self.version.0.cast_signed() << 16) | i64::from(self.index)
    }
}

/// An event that fits no row that is there.
#[derive(Debug, thiserror::Error)]
#[error("{event} of a {what} that has no row")]
pub(crate) struct Misfit {
    event: &'static str,
    what: &'static str,
}

impl Changes {
    /// The documents whose stored rows [`Changes::take`] has to know of.
    pub(crate) fn documents_of<'a>(batch: impl IntoIterator<Item = &'a Committed>) -> Vec<Uuid> {
        let mut first: BTreeMap<Uuid, bool> = BTreeMap::new();
        for commit in batch.into_iter().filter(|commit| commit.header.stream.category == Category::Document) {
            let Ok(events) = &commit.events else { continue };
            let uploaded = matches!(events.first(), Some(AnyEvent::Document(DocumentEvent::Uploaded(_))));
            first.entry(commit.header.stream.id).or_insert(!uploaded);
        }
        first.into_iter().filter_map(|(id, stored)| stored.then_some(id)).collect()
    }

    /// Takes in one commit. One whose person was erased changes nothing.
    pub(crate) fn take(&mut self, commit: &Committed) -> Result<(), Misfit> {
        let Ok(events) = &commit.events else { return Ok(()) };
        let header = &commit.header;
        for (index, event) in (0..).zip(events) {
            let at = At { id: header.stream.id, version: header.version, index, time: header.time };
            match event {
                AnyEvent::Session(event) => session::take(self, at, event),
                AnyEvent::ToolCall(event) => tool_call::take(self, at, event),
                AnyEvent::User(event) => user::take(self, at, event),
                AnyEvent::Document(event) => document::take(self, at, event)?,
                // Neither has rows of its own.
                AnyEvent::Workflow(_) | AnyEvent::Claim(_) => {}
            }
        }
        Ok(())
    }

    /// Whether only sessions and messages change.
    pub(crate) fn only_chat(&self) -> bool {
        self.registered.is_empty()
            && self.accounts.is_empty()
            && self.refused.is_empty()
            && self.executions.is_empty()
            && self.finished.is_empty()
            && self.documents.is_empty()
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.only_chat() && self.opened.is_empty() && self.touched.is_empty() && self.messages.is_empty()
    }
}
