//! Everything that names a driver: SQLite, NATS, Postgres, Elasticsearch, Redis, tantivy, memory maps, ONNX Runtime, LLM
//! and tool endpoints.
//!
//! Each module implements ports of `lmao_ports` and knows nothing of actors, HTTP or configuration; the `node` picks and joins
//! them.

pub mod blobs;
mod breaker;
pub mod cache;
pub mod clock;
pub mod data_dir;
pub mod elastic;
mod heads;
mod http;
pub mod index;
pub mod live;
pub mod llm;
mod metrics;
pub mod models;
pub mod nats;
mod passages;
pub mod postgres;
mod read_model;
pub mod redis;
pub mod sqlite;
mod tls;
pub mod tools;

pub use breaker::Standing;
pub use tls::CertificatesError;
