//! The retrieval pipeline: from a file to passages that can be found, and from a question to the passages that answer it.
//!
//! It knows the facts (`lmao-events`) and the contracts (`lmao-ports`), never a driver: models, indexes and blob stores
//! are handed in. [`ingest`] writes what [`search`] reads; [`text`] is the form of a document that both speak of.

pub mod answer;
pub mod ingest;
pub mod search;
pub mod text;
