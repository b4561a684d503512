//! What no single crate can test: the shape of the workspace, and the running system as its users see it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets what it did not expect fails"
)]

mod bad_input;
mod chaos;
mod cli;
mod crash;
mod damage;
mod data_dir;
// What extracts is seen in /proc.
#[cfg(target_os = "linux")]
mod deadly;
mod degradation;
mod deploy;
mod distributed;
mod ends;
mod equal;
mod files;
mod formats;
mod library;
mod main_job;
mod models;
mod promises;
mod replaced;
mod retrieval;
mod serve;
mod support;
mod telemetry;
mod tidy;
mod tls;
mod tools;
mod upgrade;
mod users;
