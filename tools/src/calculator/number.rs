//! Numbers as people write them: `0.1 + 0.2` is `0.3`.
//!
//! A 64-bit float is right to 15 decimal digits; the digits behind them are artefacts of its binary form and are not shown.
//! Whole numbers up to 2^53 are exact and shown in full.

use serde_json::{Value, json};

/// The largest magnitude up to which every whole number is a 64-bit float: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The number as JSON: an integer where it is exactly one.
pub(super) fn json(value: f64) -> Value {
    let rounded = rounded(value);
    #[expect(clippy::cast_possible_truncation, reason = "whole and at most 2^53")]
    if is_exact_integer(rounded) { json!(rounded as i64) } else { json!(rounded) }
}

/// The number as text, in scientific notation below a millionth and from 10^15 on unless it is exact.
pub(super) fn text(value: f64) -> String {
    let value = rounded(value);
    let plain = (1e-6..1e15).contains(&value.abs()) || is_exact_integer(value);
    if plain { format!("{value}") } else { format!("{value:e}") }
}

fn is_exact_integer(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() <= EXACT
}

/// To 15 significant digits, without a negative zero.
fn rounded(value: f64) -> f64 {
    if is_exact_integer(value) {
        return value + 0.0;
    }
    format!("{value:.14e}").parse().unwrap_or(value)
}
