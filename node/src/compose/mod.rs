//! The composition root: the one place where adapters are chosen, core and gateway are put together, and all of it is ended
//! in order.

mod admin;
mod duties;
mod gauges;
mod health;
mod local;
mod node;
mod parts;
mod reachable;
mod reader;
mod recent;
mod scratch;
mod servers;
mod stores;
#[cfg(test)]
mod tests;
mod witness;

pub(crate) use admin::{ADMIN, FirstStart, random_password};
pub(crate) use local::LocalAdmin;
pub(crate) use node::{Node, base_url, refuse_beside_nodes};
pub(crate) use parts::{DamagedIndex, Parts, WORKER};
pub(crate) use reader::{Reader, existing};
pub(crate) use scratch::Scratch;
pub(crate) use stores::elasticsearch;
