//! Vectors: sketches for the first pass, int8 codes for the second, f32 originals for the exact score, and the reason why nothing
//! nearer was missed.
//!
//! A row is quantized symmetrically with a scale of its own, and the length of what rounding took away is kept beside it.
//! That length bounds the error of every approximate score (Cauchy-Schwarz), so the scan of codes is exact by construction: it
//! keeps each row whose score *may* reach the best k, and rescores those in f32. Among thousands of rows, two bits for each
//! dimension tell beforehand which codes to read; there a row among the best is missed with a probability below one in a
//! million. This module knows rows and numbers, no documents and no files.

mod narrow;
mod quantize;
mod scan;
mod simd;
mod sketch;

pub(super) use quantize::{Metric, encode};
pub(super) use scan::{Altered, Rows, nearest};
pub(super) use sketch::sketch_width;
