//! The distributed stores on NATS: the event log, snapshots, the vault and blobs on JetStream, live frames and
//! requests from node to node on core NATS.
//!
//! The streams that they need are data in the folder `nats/` and are made by [`migrate`], never by the way. One connection
//! serves all stores of a process. A namespace keeps several systems apart on one server.

mod blobs;
mod connect;
mod keys;
mod leases;
mod live;
mod log;
mod migrate;
mod patience;
mod router;
mod snapshots;
mod stream;
#[cfg(test)]
mod testing;
mod url;
mod vault;

pub use blobs::NatsBlobs;
pub use connect::Nats;
pub use leases::NatsMembership;
pub use live::NatsLive;
pub use log::NatsLog;
pub use migrate::{Change, Replicas, migrate};
pub use patience::Limits;
pub use router::NatsRouter;
pub use snapshots::NatsSnapshots;
pub use vault::NatsVault;

/// The stores' name in errors.
const STORE: &str = "NATS";
