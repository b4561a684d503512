//! The gateway over ports in memory: what it promises by itself, whatever stands behind it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets what it did not expect fails"
)]

mod access;
mod chat;
mod core;
mod described;
mod files;
mod index;
mod openapi;
mod ports;
mod refusals;
mod search;
mod socket;
mod trace;
mod world;
