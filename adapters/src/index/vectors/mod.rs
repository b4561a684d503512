//! Vectors: int8 codes for the scan, f32 originals for the exact score, and the proof that nothing nearer was missed.
//!
//! A row is quantized symmetrically with a scale of its own, and the length of what rounding took away is kept beside it.
//! That length bounds the error of every approximate score (Cauchy-Schwarz), so the scan is exact by construction: it
//! keeps each row whose score *may* reach the best k, and rescores those in f32. This module knows rows and numbers, no
//! documents and no files.

mod quantize;
mod scan;
mod simd;

pub(super) use quantize::{Metric, encode};
pub(super) use scan::{Altered, Rows, nearest};
