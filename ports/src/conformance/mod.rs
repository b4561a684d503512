//! One suite per port: plain async functions that every adapter runs against the real thing.
//!
//! A suite states in code what the port's documentation promises. It panics on the first broken promise, so it belongs into tests
//! only. It knows ports and events, no driver.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a suite that meets a broken promise fails the test that runs it"
)]

pub mod blobs;
pub mod cache;
pub mod embedding_cache;
pub mod fixtures;
pub mod live;
pub mod log;
pub mod placement;
pub mod rate;
pub mod read_model;
pub mod search;
pub mod snapshots;
pub mod vault;
