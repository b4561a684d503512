//! The shells around the deciders: supervised ractor actors that load, decide, append, evolve and perform effects; the
//! waker that knows who owes what; the projectors that feed read model and search index.
//!
//! An actor holds no truth: all of it can be killed at any line and is rebuilt from snapshot, log and `pending`. This
//! crate is the only one that knows ractor; it knows ports, never drivers.

pub mod archive;
pub mod audit;
mod dispatch;
mod journal;
mod keyring;
mod leisure;
mod metrics;
mod orphans;
mod perform;
pub mod placement;
mod projector;
mod runtime;
mod search_projection;
mod shell;
mod waker;

pub use journal::OpenedLog;
pub use keyring::{KEYED_IDS, Keyring, KeyringError};
pub use leisure::at_leisure;
pub use orphans::{Orphans, OrphansError};
pub use perform::World;
pub use placement::Cluster;
pub use projector::{Projector, ProjectorHandle, ProjectorStatus, catch_up};
pub use runtime::{Limits, Runtime, Stores};
pub use search_projection::{Feeder, SearchProjection};
