//! Placement: which node works for which streams, and how a command gets there.
//!
//! Every stream lies in one of 256 buckets, for ever. Each node computes from the live leases, by rendezvous hashing, which
//! worker owns which bucket; nobody assigns anything, and no two views need to agree. Ownership is a convenience: it
//! keeps one actor for one stream, so that conflicts are rare. What keeps the system correct is the log's fence.

mod buckets;
mod cluster;
mod commands;
mod desk;
mod hub;
mod owned;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use buckets::Buckets;
pub use cluster::Cluster;
pub use hub::Hub;
pub(crate) use owned::{Owned, follow};
pub use table::Table;
