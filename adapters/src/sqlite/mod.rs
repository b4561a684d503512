//! The embedded stores on SQLite: the event log, the vault, snapshots, the read model and the cache of embeddings.
//!
//! Each store is a file of its own with the durability that it needs; no transaction spans two. What is common to them lives in
//! `file` (opening, schema versions, connections) and `error` (what SQLite's result codes mean to people).

mod embedding_cache;
mod error;
mod file;
mod ladder;
mod log;
mod read_model;
mod snapshots;
mod vault;

pub use embedding_cache::SqliteEmbeddingCache;
pub use file::merge_wal;
pub use log::{Access, SqliteLog};
pub use read_model::SqliteReadModel;
pub use snapshots::SqliteSnapshots;
#[cfg(test)]
pub(crate) use vault::MAX_SECRET;
pub use vault::{MasterKey, SqliteVault};
pub(crate) use vault::{PROBE, probe};
