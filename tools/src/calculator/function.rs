//! The functions of the calculator. Angles are in radians.

/// What a sine that should be zero comes out as, at most: the error of pi as a 64-bit float.
const ANGLE_ERROR: f64 = 1e-15;

/// Decimal places that rounding accepts, to both sides of the point.
const MAX_PLACES: f64 = 15.0;

/// A function.
#[derive(Debug, Clone, Copy)]
pub(super) enum Function {
    One(fn(f64) -> f64),
    Many(fn(f64, f64) -> f64),
    Round,
}

impl Function {
    /// By its name in lower case.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sqrt" => Self::One(f64::sqrt),
            "abs" => Self::One(f64::abs),
            "floor" => Self::One(f64::floor),
            "ceil" => Self::One(f64::ceil),
            "ln" => Self::One(f64::ln),
            "log10" => Self::One(f64::log10),
            "exp" => Self::One(f64::exp),
            "sin" => Self::One(|x| zeroed(x.sin())),
            "cos" => Self::One(|x| zeroed(x.cos())),
            "tan" => Self::One(|x| zeroed(x.tan())),
            "min" => Self::Many(f64::min),
            "max" => Self::Many(f64::max),
            "round" => Self::Round,
            _ => return None,
        })
    }

    /// How many values it takes, at least and at most.
    pub(super) const fn arguments(self) -> (usize, usize) {
        match self {
            Self::One(_) => (1, 1),
            Self::Many(_) => (1, usize::MAX),
            Self::Round => (1, 2),
        }
    }

    /// Its value; NaN when there is none, also for a number of values that it does not take.
    pub(super) fn apply(self, values: &[f64]) -> f64 {
        match (self, values) {
            (Self::One(function), [x]) => function(*x),
            (Self::Many(function), values) => values.iter().copied().reduce(function).unwrap_or(f64::NAN),
            (Self::Round, [x]) => x.round(),
            (Self::Round, [x, places]) => round(*x, *places),
            _ => f64::NAN,
        }
    }
}

fn zeroed(x: f64) -> f64 {
    if x.abs() < ANGLE_ERROR { 0.0 } else { x }
}

/// To decimal places; half a unit goes away from zero. Larger numbers have no digits there.
fn round(x: f64, places: f64) -> f64 {
    let unit = 10_f64.powf(places.round().clamp(-MAX_PLACES, MAX_PLACES));
    let scaled = x * unit;
    if scaled.is_finite() { scaled.round() / unit } else { x }
}
