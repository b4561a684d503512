//! Metrics: what the process counts and measures, in the form that scrapers read.

use std::fmt::Debug;

/// The metrics of this process.
pub trait Metrics: Debug + Send + Sync {
    /// All of them as they are now, in the Prometheus text format (version 0.0.4).
    fn render(&self) -> String;
}
