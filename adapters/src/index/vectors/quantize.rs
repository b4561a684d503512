//! Symmetric int8 quantization of one row, and its sketch.

use serde::{Deserialize, Serialize};

use super::sketch::{Sketch, sketch};

/// What the scan knows of a row beside its codes and its sketch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::index) struct Metric {
    /// The value of code 1.
    pub scale: f32,
    /// Length of the difference between the row and its codes' value, rounded up.
    pub error: f32,
    /// What the sketch's product with a query is multiplied by, to estimate the row's.
    pub gain: f32,
    /// Standard deviation of that estimate for a query at a right angle to the row.
    pub spread: f32,
}

/// A row, quantized.
#[derive(Debug)]
pub(in crate::index) struct Encoded {
    pub codes: Vec<i8>,
    /// [`super::sketch_width`] bytes.
    pub sketch: Vec<u8>,
    pub metric: Metric,
}

/// The codes and the sketch of a row of length 1.
pub(in crate::index) fn encode(row: &[f32]) -> Encoded {
    let (codes, scale, error) = quantize(row);
    let Sketch { bytes, gain, spread } = sketch(row);
    Encoded { codes, sketch: bytes, metric: Metric { scale, error, gain, spread } }
}

/// Codes, scale and error.
fn quantize(row: &[f32]) -> (Vec<i8>, f32, f32) {
    let largest = row.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let scale = largest / 127.0;
    // A row of subnormal values would divide by zero: it is as good as zero.
    if !scale.is_normal() {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        return (vec![0; row.len()], 0.0, length);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the quotient is within [-127, 127] by the choice of the scale"
    )]
    let codes: Vec<i8> = row.iter().map(|x| (x / scale).round() as i8).collect();
    let lost = row.iter().zip(&codes).map(|(x, code)| f64::from(*x) - f64::from(*code) * f64::from(scale));
    #[expect(clippy::cast_possible_truncation, reason = "rounded up by the factor")]
    let error = (lost.map(|x| x * x).sum::<f64>().sqrt() * 1.000_001) as f32;
    (codes, scale, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passages::content::unit;

    #[test]
    fn codes_are_near_and_their_error_is_known() {
        let row = unit(&(0..384).map(|n| ((n * 37 % 101) as f32 - 50.0) / 7.0).collect::<Vec<_>>()).unwrap();
        let encoded = encode(&row);
        let value: Vec<f32> = encoded.codes.iter().map(|c| f32::from(*c) * encoded.metric.scale).collect();
        let distance = row.iter().zip(&value).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
        assert!(distance <= encoded.metric.error * 1.000_1 && encoded.metric.error < 0.01);
    }

    #[test]
    fn odd_vectors_have_codes_too() {
        assert_eq!(encode(&[0.0, 0.0]).metric, Metric::default());
        assert_eq!(encode(&[1e-40, 0.0]).codes, [0, 0]);
        assert_eq!(encode(&[1.0, -1.0]).codes, [127, -127]);
    }
}
