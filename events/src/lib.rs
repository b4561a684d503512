//! The facts and the decisions of LMA-o.
//!
//! This crate is pure: it knows no clock, no randomness, no async runtime, no file and no network. Whatever time, id or
//! random number a decision needs arrives inside the command. Everything that is stored for ever is defined here: the
//! identifiers, the canonical commit record, the events with their versions, and the deciders that fold and produce them.

pub mod claim;
mod decider;
mod digest;
pub mod document;
mod event;
mod id;
mod payload;
mod record;
pub mod schema;
mod seal;
pub mod session;
#[cfg(test)]
mod testing;
mod time;
pub mod tool_call;
pub mod user;
mod value;
pub mod workflow;

pub use decider::{Decider, Due, EffectId, IllegalHistory, Pending, Place, Rejection, RejectionKind, owes};
pub use digest::{BlobRef, ContentHash};
#[cfg(debug_assertions)]
pub use event::pretend_next_build;
pub use event::{
    AnyCommand, AnyEvent, DecodeError, EVENT_SET, EventData, EventSet, Upcaster, decode_any, readable_set, set_of,
    upcast,
};
pub use id::{Category, CommitId, Hash, ParseError, Position, StreamId, Version, derive_id, keyed_id};
pub use payload::{CommandRef, Payload};
pub use record::{CODEC, Head, Header, MAX_RECORD_BYTES, Owes, Record, RecordError};
pub use seal::{DataKey, NONCE_BYTES, OpenError, SYSTEM_KEY};
pub use time::Timestamp;
pub use value::{Answer, Citation, Failure, MAX_FAILURE_BYTES, TokenUsage};
