//! The gateway over ports in memory: what it promises by itself, whatever stands behind it.

mod access;
mod chat;
mod core;
mod files;
mod openapi;
mod ports;
mod refusals;
mod socket;
mod world;
